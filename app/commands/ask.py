"""``fti ask``: a question answered from the documents, with citations."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import CommonOptions, ModelOption, WithinOptions

if TYPE_CHECKING:
    from fti.app.reporting import Reporter
    from fti.store.answer_types import Answer


def ask(
    within: WithinOptions,
    common: CommonOptions,
    question: Annotated[str | None, typer.Argument(help="The question.")] = None,
    conversation: Annotated[
        bool,
        typer.Option(
            "--conversation",
            help="Go on asking, a line each; earlier turns count. /help lists the commands.",
        ),
    ] = False,
    model: ModelOption = None,
    no_retrieval: Annotated[
        bool, typer.Option("--no-retrieval", help="Answer from the model alone, without passages.")
    ] = False,
) -> None:
    """Answer from the documents, or say that they do not hold the answer.

    Examples: fti ask "When is the workshop open on Sundays?"    fti ask --conversation
    """
    from fti.app.build import build_assistant
    from fti.app.operations.conversing import converse, typed
    from fti.store.errors import InputError

    if question is None and not conversation:
        raise InputError(
            "There is no question.",
            hint='Write one: fti ask "When is it open?", or begin a chat: fti ask --conversation',
        )
    session = common.open(within.overrides())
    assistant = build_assistant(
        session.settings, session.store, model=model, use_retrieval=not no_retrieval
    )
    if conversation:
        begun = [] if question is None else [question]
        answers = converse(
            assistant, session.report, itertools.chain(begun, typed()), show=show_answer
        )
        session.report.result({"turns": [answer_json(each) for each in answers]})
        return
    answer = assistant.answer(str(question))
    session.report.result(answer_json(answer))
    show_answer(session.report, answer)


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as ``fti ask --json`` and batch files carry it."""
    from fti.app.commands.search import passage_json

    return {
        "id": answer.id,
        "question": answer.question,
        "answer": answer.text,
        "abstained": answer.abstained,
        "abstention_reason": answer.abstention_reason,
        "citations": [
            {
                "marker": c.marker,
                "document": c.source,
                "title": c.title,
                "chunk_id": c.chunk_id,
                "quote": c.quote,
                "start": c.start,
                "end": c.end,
            }
            for c in answer.citations
        ],
        "passages": [passage_json(p) for p in answer.passages],
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage.model_dump(),
        "timings": dict(answer.timings),
        "warnings": list(answer.warnings),
    }


def show_answer(report: Reporter, answer: Answer) -> None:
    """An answer for people: the text, then what it cites."""
    report.say(answer.text, style="yellow" if answer.abstained else "bold")
    shown: set[int] = set()
    for citation in answer.citations:
        if citation.marker not in shown:
            shown.add(citation.marker)
            report.say(f"  [{citation.marker}] {citation.title}  {citation.source}", style="cyan")
    if answer.abstained and answer.passages:
        report.say(
            f"  {len(answer.passages)} passages were looked at, the nearest from "
            f"{answer.passages[0].source}",
            style="dim",
        )
    for warning in answer.warnings:
        report.note(f"otherwise than the model was trained: {warning}")
    seconds = answer.timings.get("total_s", 0.0)
    report.note(f"answer {answer.id}, model {answer.model}, {seconds:.1f} s; fti trace {answer.id}")
