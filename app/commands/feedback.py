"""``fti feedback``: what people said of answers, and which corrections may teach a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fti.app.operations.corrections import correction_json
from fti.app.options import Commands, CommonOptions

if TYPE_CHECKING:
    pass

State = Literal["pending", "accepted", "rejected", "all"]

group = Commands(
    "feedback", "List corrections of answers, and accept or reject them as rows for datasets."
)


AnswerArgument = Annotated[str, typer.Argument(help="The answer that was corrected.")]
NumberOption = Annotated[
    int | None,
    typer.Option(
        "--number", min=1, help="Which of its corrections, from 1.", show_default="the newest"
    ),
]


@group.command("list")
def list_(
    common: CommonOptions,
    state: Annotated[State, typer.Option("--state", help="Only those in this state.")] = "pending",
) -> None:
    """List corrections that people gave, oldest first. Example: fti feedback list --state all"""
    session = common.open()
    log = session.store.answers
    found = log.corrections(None if state == "all" else state)
    session.report.result({"corrections": [correction_json(c) for c in found]})
    if not found:
        session.report.say(
            "No answer was corrected yet." if state == "all" else f"No correction is {state}."
        )
        return
    session.report.table(
        ["answer", "state", "question", "answered", "correction"],
        [
            [c.answer.id, c.state, c.answer.question, c.answer.text, c.feedback.correction]
            for c in found
        ],
    )


@group.command("accept")
def accept(
    common: CommonOptions,
    answer_id: AnswerArgument,
    number: NumberOption = None,
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer",
            help='The answer to teach; "" where the documents hold none.',
            show_default="the correction",
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the decision.")] = "",
) -> None:
    """Let a correction teach: the next dataset that takes feedback has a row of it.

    Example: fti feedback accept a-20260301-0123456789ab --answer "at nine"
    """
    session = common.open()
    done = session.store.answers.review(
        answer_id, "accepted", number=number, answer=answer, reason=reason
    )
    session.report.result(correction_json(done))
    session.report.say(f"accepted: {done.answer.question} → {done.text or '(no answer)'}")


@group.command("reject")
def reject(
    common: CommonOptions,
    answer_id: AnswerArgument,
    number: NumberOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the decision.")] = "",
) -> None:
    """Keep a correction out of datasets. Example: fti feedback reject ANSWER_ID --reason spam"""
    session = common.open()
    done = session.store.answers.review(answer_id, "rejected", number=number, reason=reason)
    session.report.result(correction_json(done))
    session.report.say(f"rejected: {done.answer.question}")
