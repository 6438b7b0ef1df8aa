"""``fti keys``: who may use the service."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fti.app.options import Commands, CommonOptions

group = Commands(
    "keys", "Make, list and revoke API keys. Once one was made, fti serve asks for a key."
)


@group.command("create")
def create(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="Whose it is, or what for.")],
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute",
            min=1,
            help="How often it may be used.",
            show_default="service.requests_per_minute",
        ),
    ] = None,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="May not add or delete documents, nor give feedback."),
    ] = False,
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            help="Answered from this collection alone, and sees nothing else. Repeatable.",
            show_default="the whole store",
        ),
    ] = None,
    jobs: Annotated[
        bool,
        typer.Option("--jobs", help="May start and stop jobs: datasets, training, promotions."),
    ] = False,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            help="All that it may do, in place of --read-only and --jobs: ask; write (documents); "
            "review (see all answers, decide on corrections); operate (jobs, everybody's usage, "
            "erasure). Repeatable.",
            show_default="ask, write and review",
        ),
    ] = None,
    tokens_per_day: Annotated[
        int | None,
        typer.Option(
            "--tokens-per-day",
            min=1,
            help="Tokens it may use a day (UTC), read and written.",
            show_default="service.tokens_per_day",
        ),
    ] = None,
) -> None:
    """Make a key and print it: the only time, as the store keeps its digest alone.

    Example: fti keys create "web team" --role ask --tokens-per-day 200000
    """
    session = common.open()
    key, text = session.store.keys.create(
        name,
        requests_per_minute=requests_per_minute,
        read_only=read_only,
        collections=collection or (),
        jobs=jobs,
        roles=role or (),
        tokens_per_day=tokens_per_day,
    )
    session.report.result(_shown(key) | {"key": text})
    session.report.say(text)
    session.report.note(f"This is {key.id} for {key.name}; it is not shown again.")


@group.command("list")
def list_(common: CommonOptions) -> None:
    """List the keys that were made, revoked ones included."""
    session = common.open()
    keys = session.store.keys.list()
    session.report.result({"keys": [_shown(key) for key in keys]})
    if not keys:
        session.report.say("No key was made yet. Make one with: fti keys create NAME")
        return
    session.report.table(
        ["key", "name", "made", "a minute", "tokens a day", "may"],
        [
            [
                key.id,
                key.name,
                f"{key.created_at:%Y-%m-%d %H:%M}",
                str(key.requests_per_minute or ""),
                str(key.tokens_per_day or ""),
                _may(key),
            ]
            for key in keys
        ],
    )


@group.command("revoke")
def revoke(
    common: CommonOptions,
    key: Annotated[str, typer.Argument(help="Its id, as fti keys list shows it.")],
) -> None:
    """Let a key in no more; running services notice at the next request."""
    session = common.open()
    revoked = session.store.keys.revoke(key)
    session.report.result(_shown(revoked))
    session.report.say(f"{revoked.id} ({revoked.name}) is revoked")


@group.command("usage")
def usage(
    common: CommonOptions,
    key: Annotated[
        str | None,
        typer.Argument(help="Its id, as fti keys list shows it.", show_default="every key"),
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=366, help="How far back; today is one.")
    ] = 30,
) -> None:
    """Say how many requests each key made, and how many tokens it used.

    Example: fti keys usage --days 7
    """
    from fti.app.operations.usage_report import usage_json

    session = common.open()
    if key is not None:
        session.store.keys.get(key)
    body = usage_json(session.store, days=days, keys=None if key is None else [key])
    session.report.result(body)
    if not body["keys"]:
        session.report.say("Nothing was used through the service in these days.")
        return
    session.report.table(
        ["key", "name", "requests", "tokens read", "tokens written", "today", "a day"],
        [
            [
                each["key"] or "without a key",
                each["name"],
                str(each["requests"]),
                str(each["prompt_tokens"]),
                str(each["completion_tokens"]),
                str(each["tokens_today"]),
                str(each["tokens_per_day"] or ""),
            ]
            for each in body["keys"]
        ],
    )


def _may(key: Any) -> str:
    if not key.active:
        return "nothing: revoked"
    if key.collections:
        return f"ask {', '.join(key.collections)}"
    if key.roles is not None:
        return ", ".join(key.roles)
    if key.jobs:
        return "all, and jobs"
    return "read" if key.read_only else "all"


def _shown(key: Any) -> dict[str, Any]:
    shown: dict[str, Any] = key.model_dump(mode="json", exclude={"digest"})
    return shown
