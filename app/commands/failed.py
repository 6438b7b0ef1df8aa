"""``fti failed``: the dead letters, sources that could not be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from fti.store.types import SourceRecord


def failed(
    common: CommonOptions,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try them again now, although nothing has changed.")
    ] = False,
) -> None:
    """List the sources that could not be taken, why, and when they are tried again.

    A file that is bad for good is tried again when it changes; what may pass (a process that was
    killed, a slow machine) after a minute, then after twice as long each time, up to a day.
    Example: fti failed --retry
    """
    session = common.open()
    letters = session.store.features.failed()
    if retry and letters:
        from fti.app.build import build_embedder
        from fti.app.commands.ingest import show_ingest
        from fti.pipelines.feature.ingesting.ingest import retry_failed

        with session.report.progress() as progress:
            result = retry_failed(
                store=session.store,
                embedder=build_embedder(session.settings),
                config=session.settings.features,
                progress=progress,
            )
        session.report.result(result.model_dump(mode="json"))
        show_ingest(session.report, result)
        if result.failed:
            raise typer.Exit(3 if result.succeeded else 1)
        return
    session.report.result({"failed": [_letter(entry.record) for entry in letters]})
    if not letters:
        session.report.say("Nothing has failed.")
        return
    session.report.table(
        ["source", "attempts", "tried again", "why"],
        [[e.record.source, e.record.attempts, _when(e.record), e.record.cause] for e in letters],
    )


def _letter(record: SourceRecord) -> dict[str, Any]:
    return {
        "source": record.source,
        "reason": record.cause,
        "attempts": record.attempts,
        "attempted_at": record.attempted_at.isoformat(),
        "retry_at": record.retry_at.isoformat() if record.retry_at else None,
        "still_served": record.chunks > 0,
    }


def _when(record: SourceRecord) -> str:
    return f"{record.retry_at:%Y-%m-%d %H:%M}" if record.retry_at else "when it changes"
