"""Corrections of answers wait for a person's decision before they may teach a model."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.store.answer_types import Answer, Feedback
from fti.store.errors import AnswerNotFound
from fti.store.files.layout import Layout
from fti.store.logs.answers import AnswerLog, new_answer_id
from tests.support.values import an_answer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def log(tmp_path: Path) -> AnswerLog:
    return AnswerLog(Layout(tmp_path))


def corrected(log: AnswerLog, *corrections: str, day: int = 0) -> Answer:
    at = NOON + timedelta(days=day)
    answer = an_answer(new_answer_id(at), created_at=at)
    log.append(answer)
    for n, text in enumerate(corrections):
        given_at = at + timedelta(minutes=n)
        log.feedback(
            Feedback(answer_id=answer.id, rating="down", correction=text, created_at=given_at)
        )
    return answer


def test_a_correction_is_pending_until_it_is_decided_on(log: AnswerLog) -> None:
    first, second = corrected(log, "At ten."), corrected(log, "At eight.", day=1)
    log.feedback(Feedback(answer_id=first.id, rating="up"))  # a verdict without a correction
    assert [c.answer.id for c in log.corrections("pending")] == [first.id, second.id]
    log.review(first.id, "accepted")
    log.review(second.id, "rejected", reason="spam")
    assert log.corrections("pending") == []
    (accepted,) = log.corrections("accepted")
    assert (accepted.answer, accepted.text) == (first, "At ten.")
    assert accepted.answer.passages, "what a row is made of"
    (rejected,) = log.corrections("rejected")
    assert rejected.review is not None
    assert rejected.review.reason == "spam"
    assert log.broken_lines() == 0


def test_the_newest_decision_holds_and_an_answer_may_be_edited(log: AnswerLog) -> None:
    answer = corrected(log, "It opens at ten o'clock, silly!")
    log.review(answer.id, "rejected")
    log.review(answer.id, "accepted", answer=" at ten ")
    (accepted,) = log.corrections("accepted")
    assert accepted.text == "at ten"
    log.review(answer.id, "accepted", answer="")
    assert log.corrections("accepted")[0].text == "", "the documents hold no answer"


def test_several_corrections_of_one_answer_are_told_apart(log: AnswerLog) -> None:
    answer = corrected(log, "At ten.", "At eleven.")
    assert log.review(answer.id, "accepted").text == "At eleven."
    assert [c.text for c in log.corrections("pending")] == ["At ten."]
    log.review(answer.id, "rejected", number=1)
    assert log.corrections("pending") == []
    with pytest.raises(AnswerNotFound, match="no correction number 3; it has 2"):
        log.review(answer.id, "accepted", number=3)


def test_what_was_not_corrected_cannot_be_reviewed(log: AnswerLog) -> None:
    answer = corrected(log)
    with pytest.raises(AnswerNotFound, match="has no correction"):
        log.review(answer.id, "accepted")
    with pytest.raises(AnswerNotFound, match="There is no answer"):
        log.review("a-20260301-0123456789ab", "accepted")


def test_corrections_are_decided_on_by_the_command(tmp_path: Path) -> None:
    log = AnswerLog(Layout(tmp_path))
    answer = corrected(log, "At ten.")

    def fti(*args: str, code: int = 0) -> dict[str, object]:
        done = CliRunner().invoke(app, ["feedback", *args, "--store", str(tmp_path), "--json"])
        if code:
            assert isinstance(done.exception, AnswerNotFound), done.output
            return {}
        assert done.exit_code == 0, done.output
        found: dict[str, object] = json.loads(done.stdout)
        return found

    (listed,) = fti("list")["corrections"]  # type: ignore[misc]
    assert (listed["answer_id"], listed["state"]) == (answer.id, "pending")
    assert listed["sources"] == ["/docs/hours.md"]
    accepted = fti("accept", answer.id, "--answer", "at ten")
    assert (accepted["state"], accepted["answer"]) == ("accepted", "at ten")
    assert fti("list")["corrections"] == []
    fti("reject", answer.id, "--reason", "not so")
    (rejected,) = fti("list", "--state", "rejected")["corrections"]  # type: ignore[misc]
    assert rejected["reason"] == "not so"
    fti("accept", "a-20260301-0123456789ab", code=1)
