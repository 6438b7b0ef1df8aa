"""``fti batch``: answers for a table of questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.options import (
    ConfigOption,
    JsonOption,
    ModelOption,
    SetOption,
    StoreOption,
    open_session,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("batch")(batch)


def batch(
    questions: Annotated[
        Path, typer.Argument(help='Lines of {"id": ..., "question": ...} (JSONL).')
    ],
    out: Annotated[Path, typer.Option("--out", help="File the answers are appended to (JSONL).")],
    model: ModelOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Answer every question of a file; run again to go on where it stopped.

    Example: fti batch questions.jsonl --out answers.jsonl
    """
    from app.build import build_assistant
    from pipelines.inference.batch import answer_batch

    session = open_session(store, config, set_, json)
    assistant = build_assistant(session.settings, session.store, model=model)
    with session.report.progress() as progress:
        result = answer_batch(
            questions, assistant=assistant, store=session.store, out=out, progress=progress
        )
    session.report.result(result.model_dump(mode="json"))
    session.report.say(
        f"{result.done} answered, {result.failed} failed, {result.skipped} already there, "
        f"{result.seconds:.1f} s"
    )
    if result.failed:
        raise typer.Exit(3 if result.done or result.skipped else 1)
