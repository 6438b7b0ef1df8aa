"""``fti store``: backups of the shared storage, and whether it is whole."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fti.app.options import Commands, CommonOptions

group = Commands("store", "Back up, restore, verify, migrate and place the shared storage.")
PlaceArgument = Annotated[
    str, typer.Argument(help="A folder, or a URL such as s3://bucket/prefix.", metavar="PLACE")
]
_SHOWN = 20


@group.command("backup")
def backup(
    common: CommonOptions,
    place: PlaceArgument,
) -> None:
    """Copy the store to a place; what an earlier backup there holds is not copied again.

    Example: fti store backup /mnt/backups/fti
    """
    from fti.store.files.places import Place
    from fti.store.upkeep.backup import back_up

    session = common.open()
    with session.report.progress() as progress:
        done = back_up(session.store.layout, Place(place), progress=progress)
    session.report.result(done.model_dump(mode="json"))
    session.report.say(
        f"{done.backup}: {done.files} files, {_mb(done.bytes)}; {done.new_files} were new, "
        f"{_mb(done.new_bytes)}; {done.seconds:.1f} s"
    )


@group.command("backups")
def backups(
    common: CommonOptions,
    place: PlaceArgument,
) -> None:
    """List the backups at a place."""
    from fti.store.files.places import Place
    from fti.store.upkeep.backup import backups as there

    report = common.reporter()
    found = there(Place(place))
    rows = [{**b.model_dump(mode="json", exclude={"files"}), "files": len(b.files),
             "bytes": b.size} for b in found]  # fmt: skip
    report.result({"backups": rows})
    if not found:
        report.say("There is no backup yet. Make one with: fti store backup PLACE")
        return
    report.table(
        ["backup", "made", "files", "size", "of"],
        [[b.id, f"{b.created_at:%Y-%m-%d %H:%M}", len(b.files), _mb(b.size), b.root]
         for b in found],
    )  # fmt: skip


@group.command("restore")
def restore(
    common: CommonOptions,
    place: PlaceArgument,
    backup: Annotated[
        str | None, typer.Option("--backup", help="Which one.", show_default="the newest")
    ] = None,
) -> None:
    """Make a store of a backup, at --store, which must be new or an empty folder.

    Every file is compared with its digest. Example: fti store restore /mnt/backups/fti --store new
    """
    from fti.store.files.places import Place
    from fti.store.store import Store
    from fti.store.upkeep.backup import restore as run
    from fti.store.upkeep.moving import settle

    settings = common.settings()
    report = common.reporter()
    with report.progress() as progress:
        restored = run(Place(place), settings.store, identifier=backup, progress=progress)
    opened = Store(settings.store, migrating=True)
    formats = opened.layout.migrate()
    settle(opened)
    report.result(
        {
            "backup": restored.id,
            "store": str(opened.layout.root),
            "files": len(restored.files),
            "bytes": restored.size,
            "formats": formats,
        }
    )
    report.say(f"{restored.id} is restored to {opened.layout.root}: {len(restored.files)} files")


@group.command("verify")
def verify(
    common: CommonOptions,
    place: Annotated[
        str | None,
        typer.Argument(
            help="Verify the backups there instead of the store.",
            metavar="[PLACE]",
            show_default=False,
        ),
    ] = None,
    backup: Annotated[
        str | None, typer.Option("--backup", help="Which one of the backups.", show_default="all")
    ] = None,
) -> None:
    """Compare all that is stored with its digests, and its parts with one another.

    Changes nothing; exits with 1 when something is wrong. Examples: fti store verify    fti store
    verify s3://bucket/backups
    """

    if place is not None:
        report = common.reporter()
        checked, problems = _check_place(place, backup, report)
    else:
        from fti.store.upkeep.checking import check_store

        session = common.open()
        report = session.report
        with report.progress() as progress:
            found = check_store(session.store, progress=progress)
        checked, problems = found.checked, [p.model_dump() for p in found.problems]
    report.result({"ok": not problems, "checked": checked, "problems": problems})
    for problem in problems[:_SHOWN]:
        report.say(f"{problem['where']}: {problem['problem']}", style="red")
    if len(problems) > _SHOWN:
        report.say(f"and {len(problems) - _SHOWN} more; --json lists them", style="red")
    looked = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in checked.items())
    report.say(f"looked at {looked or 'an empty store'}: " + (
        f"{len(problems)} problems" if problems else "all as it should be"
    ))  # fmt: skip
    if problems:
        raise typer.Exit(1)


def _check_place(
    place: str, identifier: str | None, report: Any
) -> tuple[dict[str, int], list[dict[str, str]]]:
    from fti.store.files.places import Place
    from fti.store.upkeep.backup import backups as there
    from fti.store.upkeep.backup import check, find_backup

    at = Place(place)
    chosen = [find_backup(at, identifier)]
    if identifier is None:
        chosen = there(at)
    problems: list[dict[str, str]] = []
    with report.progress() as progress:
        for one in chosen:
            found = check(at, one, progress=progress)
            problems += [{"where": one.id, "problem": line} for line in found]
    files = len({file.sha256 for one in chosen for file in one.files})
    return {"backups": len(chosen), "files": files}, problems


@group.command("migrate")
def migrate(common: CommonOptions) -> None:
    """Bring a store of an older fti, or one that was moved, up to date.

    Run it after copying a store to another path or machine. An older fti that still runs refuses
    to write to a store whose format was raised.
    """
    from fti.store.store import Store
    from fti.store.upkeep.moving import settle

    settings = common.settings()
    report = common.reporter()
    opened = Store(settings.store, migrating=True)
    formats = opened.layout.migrate()
    was_moved = opened.layout.moved()
    brought = settle(opened) if was_moved else []
    report.result(
        {
            "format": opened.layout.format(),
            "formats": formats,
            "moved": was_moved,
            "uploads": brought,
        }
    )
    report.say(
        f"format {opened.layout.format()}"
        + (f", reached over {', '.join(map(str, formats))}" if formats else ", as it was")
    )
    if was_moved:
        report.say(f"the store lies here now; {len(brought)} uploaded documents came along")


@group.command("place")
def place(
    common: CommonOptions,
    url: Annotated[
        str, typer.Argument(help="A URL such as s3://bucket/prefix or gs://bucket/prefix.")
    ],
) -> None:
    """Let the store lie in an object store, where several machines share it.

    All of it is copied, then the store is there and no longer in the folder --store, which keeps
    copies of what this machine uses, uploaded files and jobs. On another machine, run it for a new
    store. Stop what else uses the store first, a service too. Killed at any point, run it again.
    Example: fti store place s3://bucket/prefix --store new
    """
    from fti.store.upkeep.placing import place_store

    session = common.open()
    with session.report.progress() as progress:
        done = place_store(session.store, url, progress=progress)
    session.report.result(done.model_dump(mode="json"))
    session.report.say(
        f"the store lies at {done.store} now: "
        + ("the one that was there" if done.joined else f"{done.files} files, {_mb(done.bytes)}")
        + (", with the features that were there" if done.shared else "")
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
