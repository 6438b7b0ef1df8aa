"""Groundedness by inference: claims, the passages that count, and what is judged once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fti.pipelines.engines.cross_encoders.entailment import (
    EntailmentConfig,
    Probabilities,
    load_entailment,
)
from fti.pipelines.inference.evaluating.evaluation import case_rows, evaluate
from fti.pipelines.inference.evaluating.grounding import claims, evidence, groundedness
from fti.store.types import Case, ModelIdentity
from tests.support.tiny_model import make_cross_encoder
from tests.unit.inference.conftest import World

CASES = [
    Case(id="kiln", question="When is the kiln fired?", answers=("on Thursdays",),
         document="workshop/kiln.md"),
    Case(id="books", question="For how long are books lent?", answers=("three weeks",),
         document="library/loans.md"),
    Case(id="colour", question="What colour is the kiln?", document="workshop/kiln.md"),
]  # fmt: skip
SAID = {
    "kiln": "The kiln is fired on Thursdays [1]. It was bought in Delft [1].",
    "books": "ten days",
    "colour": "The passages do not answer this question.",
}


class WordsInside:
    """A premise entails what has no other capitalised or numeric words; counts what it is asked."""

    identity = ModelIdentity(id="words", weights_sha256="7" * 64)

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> Probabilities:
        self.asked += pairs
        return np.asarray(
            [
                float(all(w.strip(".'") in premise for w in claim.split() if w[0].isupper()))
                for premise, claim in pairs
            ],
            dtype=np.float32,
        )


@pytest.fixture
def said(world: World) -> World:
    """A world whose model says ``SAID``."""
    by_question = {case.question: SAID[case.id] for case in CASES}
    world.model = world.assistant(  # type: ignore[attr-defined]
        world.scripted(pieces=lambda request: [by_question[request.question]])
    )
    return world


def test_a_longer_answer_claims_its_sentences_and_a_short_one_is_read_with_its_question() -> None:
    assert claims("When?", "It opens at nine. It closes at six.") == [
        "It opens at nine.", "It closes at six.",
    ]  # fmt: skip
    assert claims("When does it open?", "at nine") == [
        "The answer to the question 'When does it open?' is 'at nine'"
    ]


def test_groundedness_is_the_share_of_claims_that_a_cited_passage_entails(said: World) -> None:
    model = WordsInside()
    report = evaluate(said.model, CASES, store=said.store, entailment=model)  # type: ignore[attr-defined]
    rows = {row["id"]: row for row in case_rows(said.store, report.run)}
    assert rows["kiln"]["groundedness"] == 0.5, "Delft stands in no passage"
    assert rows["books"]["groundedness"] == 0.0, "nothing is cited"
    assert rows["colour"]["groundedness"] is None, "a refusal claims nothing"
    assert report.answers is not None
    assert (report.answers["groundedness"].mean, report.answers["groundedness"].n) == (0.25, 2)
    assert report.grounding is not None
    assert (report.grounding.model, report.grounding.answers) == ("words", 2)
    assert all("[1]" not in claim for _, claim in model.asked), "markers are no words"


def test_without_a_model_there_is_no_such_score(said: World) -> None:
    report = evaluate(said.model, CASES, store=said.store)  # type: ignore[attr-defined]
    assert report.answers is not None
    assert "groundedness" not in report.answers
    assert report.answers["faithfulness"].n == 2
    assert report.grounding is None


def test_what_was_judged_before_is_not_judged_again(said: World) -> None:
    first, second, other = WordsInside(), WordsInside(), WordsInside()
    how = {"store": said.store, "resume": True}
    evaluate(said.model, CASES, entailment=first, **how)  # type: ignore[attr-defined, arg-type]
    again = evaluate(said.model, CASES, entailment=second, **how)  # type: ignore[attr-defined, arg-type]
    assert first.asked
    assert second.asked == []
    assert again.grounding is not None
    assert again.grounding.reused == 2
    other.identity = ModelIdentity(id="words", weights_sha256="8" * 64)
    evaluate(said.model, CASES, entailment=other, **how)  # type: ignore[attr-defined, arg-type]
    assert other.asked == first.asked, "another model judges for itself"


def test_an_answer_that_left_the_log_has_no_score_and_is_counted(said: World) -> None:
    how = {"store": said.store, "resume": True}
    evaluate(said.model, CASES, **how)  # type: ignore[attr-defined, arg-type]
    for file in said.store.layout.answers.iterdir():
        file.unlink()
    report = evaluate(said.model, CASES, entailment=WordsInside(), **how)  # type: ignore[attr-defined, arg-type]
    assert (report.reused, report.grounding and report.grounding.lost) == (3, 2)


def test_a_real_model_gives_each_answer_its_share(said: World, tmp_path: Path) -> None:
    folder = make_cross_encoder(tmp_path / "nli", labels=("entailment", "not_entailment"))
    model = load_entailment(EntailmentConfig(id=str(folder), device="cpu"))
    assert model is not None
    report = evaluate(said.model, CASES, store=said.store, entailment=model)  # type: ignore[attr-defined]
    row = next(r for r in case_rows(said.store, report.run) if r["id"] == "kiln")
    said_claims, premises = evidence(said.store.answers.get(row["answer_id"]))
    assert (len(said_claims), len(premises)) == (2, 1)
    likely = model.probabilities([(premises[0], claim) for claim in said_claims])
    assert row["groundedness"] == (likely >= 0.5).mean()
    assert groundedness(model, [(said_claims, premises), (said_claims, [])])[1] == 0.0
