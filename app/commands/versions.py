"""``fti versions``: the feature store as it was, by number and by tag."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import Commands, CommonOptions
from fti.store.moments import LONGEST

if TYPE_CHECKING:
    from fti.store.features.history import FeatureVersion

group = Commands("versions", "List, tag, go back to and remove versions of the feature store.")
VersionArgument = Annotated[str, typer.Argument(help="A version's number, or a tag.")]


def version_json(version: FeatureVersion) -> dict[str, Any]:
    """A version as commands print it."""
    return version.model_dump(mode="json", exclude={"documents_version"})


@group.command("list")
def list_(common: CommonOptions) -> None:
    """List the versions that ingests left, with their tags."""
    session = common.open()
    found = session.store.features.history.versions()
    session.report.result({"versions": [version_json(v) for v in found]})
    if not found:
        session.report.say("There is no version yet. Ingest documents with: fti ingest PATH")
        return
    session.report.table(
        ["version", "left", "documents", "chunks", "tags", "embedder"],
        [
            [
                v.version,
                f"{v.created_at:%Y-%m-%d %H:%M}",
                v.documents,
                v.chunks,
                ", ".join(v.tags),
                v.embedder,
            ]
            for v in found
        ],
    )


@group.command("tag")
def tag(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="The tag; a tag that exists is moved.")],
    version: Annotated[
        str, typer.Argument(help="A version's number, or another tag.", show_default="the latest")
    ] = "",
) -> None:
    """Give a version a name; a version with a tag is never removed.

    Example: fti versions tag before-move
    """
    from fti.app.build import require_documents

    session = common.open()
    require_documents(session.store)
    features = session.store.features
    number = features.history.resolve(version) if version else features.version()
    before = features.history.tag(name, number)
    session.report.result({"tag": name, "version": number, "before": before})
    moved = f"; it was {before}" if before not in (None, number) else ""
    session.report.say(f"{name} is version {number}{moved}")


@group.command("untag")
def untag(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="The tag.")],
) -> None:
    """Take a tag away; its version stays until it is pruned."""
    session = common.open()
    number = session.store.features.history.untag(name)
    session.report.result({"tag": name, "version": number})
    session.report.say(f"{name} was version {number}")


@group.command("rollback")
def rollback(
    common: CommonOptions,
    version: VersionArgument,
) -> None:
    """Make the store what it was at a version; that becomes the newest version.

    Nothing is lost: what was the latest can be rolled back to as well. The next ingest takes again
    what has changed in the files since then. Example: fti versions rollback before-move
    """
    session = common.open()
    with session.store.layout.writing("rollback"):
        number = session.store.features.history.resolve(version)
        before = session.store.features.version()
        made = session.store.features.rollback(number)
    session.report.result({"restored": number, "before": before, **version_json(made)})
    session.report.say(
        f"version {made.version} is as version {number} was: {made.documents} documents, "
        f"{made.chunks} chunks; what was there before is version {before}"
    )


@group.command("prune")
def prune(
    common: CommonOptions,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            min=0,
            max=LONGEST.days,
            help="Age in days from which versions may go.",
        ),
    ] = 30.0,
    keep_last: Annotated[
        int, typer.Option("--keep-last", min=1, help="How many of the last ingests stay anyway.")
    ] = 5,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; without it, only say what would go.")
    ] = False,
) -> None:
    """Remove old versions; never one with a tag, or that a dataset or model was made from.

    At least the last hour stays, for readers. Example: fti versions prune --older-than 30 --yes
    """
    session = common.open()
    with session.store.layout.writing("prune"):
        done = session.store.prune_features(
            older_than=timedelta(days=older_than), keep_last=keep_last, dry=not yes
        )
    session.report.result(done.model_dump(mode="json") | {"done": yes})
    verb = "removed" if yes else "would remove"
    freed = f", {done.freed_bytes / 1e6:.1f} MB freed" if yes else ""
    session.report.say(f"{verb} {len(done.removed)} versions{freed}")
    for number, why in done.kept.items():
        session.report.say(f"{number} stays: {why}")
    if done.removed and not yes:
        session.report.say("do so with: fti versions prune --yes")
