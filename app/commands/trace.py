"""``fti trace``: from an answer back to what made it, and from a document to what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from fti.pipelines.inference.tracing.answer_lineage import AnswerLineage
    from fti.pipelines.inference.tracing.document_lineage import DocumentLineage

_MOST = 20  # of a list that people are shown


def trace(
    common: CommonOptions,
    answer: Annotated[str | None, typer.Argument(help="Id of an answer.")] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="Source (or its end) of a document.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", help="Also draw it into this file: .svg or .html.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Print the lineage of an answer, or of a document in the other direction.

    An answer leads to its passages, the settings that made it, its model, the dataset behind that
    and the documents and chunks behind the dataset; a document to the datasets, models and answers
    it is in, and to what would have to be made anew without it.

    Examples: fti trace a-20261124-3f9c1b7e02aa    fti trace --document handbook/hours.md --picture
    lineage.html
    """
    from fti.pipelines.inference.tracing.answer_lineage import trace_answer
    from fti.pipelines.inference.tracing.document_lineage import trace_document
    from fti.store.errors import InputError

    if (answer is None) == (document is None):
        raise InputError(
            "Trace one thing: an answer id, or --document SOURCE.",
            hint="Every answer prints its id; fti ask shows it last.",
        )
    if picture is not None and picture.suffix not in (".svg", ".html"):
        raise InputError(
            f"{str(picture)!r} is neither .svg nor .html.", hint="Write --picture lineage.svg"
        )
    session = common.open()
    lineage = (
        trace_answer(session.store, answer)
        if answer is not None
        else trace_document(session.store, str(document))
    )
    body = lineage.model_dump(mode="json")
    if picture is not None:
        _draw(lineage, picture)
        session.report.note(f"drawn into {picture}")
    session.report.result(body)
    if body.get("retrieval"):  # an outline leaves out what is None, and here that says something
        body["retrieval"]["reranker"] = body["retrieval"]["reranker"] or "none"
    show_tree(session.report, body)


def _draw(lineage: AnswerLineage | DocumentLineage, picture: Path) -> None:
    from fti.app.reports.lineage_report import as_html, as_svg, graph_of_answer, graph_of_document
    from fti.pipelines.inference.tracing.answer_lineage import AnswerLineage
    from fti.store.files.atomic import write_bytes

    if isinstance(lineage, AnswerLineage):
        graph, facts = graph_of_answer(lineage), []
        title = f"How answer {lineage.answer} came to be"
    else:
        graph = graph_of_document(lineage)
        title = f"What came of {lineage.source}"
        facts = [f"{step.ref}: {step.why}; anew with: {step.command}" for step in lineage.rebuild]
    drawn = as_html(graph, title, facts) if picture.suffix == ".html" else as_svg(graph, title)
    write_bytes(picture, drawn.encode("utf-8"))


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
        for number, inner in enumerate(value):
            if number == _MOST:
                report.say(f"{pad}… and {len(value) - _MOST} more; --json lists them")
                break
            if isinstance(inner, dict):
                head, *rest = inner.items()
                report.say(f"{pad}- {head[0]}: {_short(head[1])}")
                show_tree(report, dict(rest), depth + 1)
            else:
                report.say(f"{pad}- {_short(inner)}")


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 160 else text[:159] + "…"
