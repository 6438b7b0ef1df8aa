"""``fti trace``: from an answer back to what made it, and from a document to what came of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("trace")(trace)


def trace(
    answer: Annotated[str | None, typer.Argument(help="Id of an answer.")] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="Source (or its end) of a document.")
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Print the lineage of an answer, or of a document in the other direction.

    Examples: fti trace a-20261124-3f9c1b7e02aa    fti trace --document handbook/hours.md
    """
    from pipelines.inference.trace import trace_answer, trace_document
    from store.errors import InputError

    if (answer is None) == (document is None):
        raise InputError(
            "Trace one thing: an answer id, or --document SOURCE.",
            hint="Every answer prints its id; fti ask shows it last.",
        )
    session = open_session(store, config, set_, json)
    lineage = (
        trace_answer(session.store, answer)
        if answer is not None
        else trace_document(session.store, str(document))
    )
    body = lineage.model_dump(mode="json")
    session.report.result(body)
    show_tree(session.report, body)


def show_tree(report: Any, value: Any, depth: int = 0) -> None:
    """Nested values as an indented outline."""
    pad = "  " * depth
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner in (None, "", [], {}):
                continue
            if isinstance(inner, dict | list):
                report.say(f"{pad}{key}:", style="bold")
                show_tree(report, inner, depth + 1)
            else:
                report.say(f"{pad}{key}: {_short(inner)}")
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                head, *rest = inner.items()
                report.say(f"{pad}- {head[0]}: {_short(head[1])}")
                show_tree(report, dict(rest), depth + 1)
            else:
                report.say(f"{pad}- {_short(inner)}")


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 160 else text[:159] + "…"
