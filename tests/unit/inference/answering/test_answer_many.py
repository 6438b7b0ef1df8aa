"""Several questions at once: the same answers as one by one, and one failure costs no other."""

from __future__ import annotations

from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generator import GenerationRequest
from fti.store.answer_types import Answer
from fti.store.errors import GenerationFailed
from fti.store.types import Message
from tests.unit.inference.conftest import World

ASKED = [
    "When is the kiln fired?",
    "For how long are books lent?",
    "Where are maps from before 1900 read?",
    "Who may open the kiln while it is hot?",
    "What does the moon weigh?",
]


def said(answer: Any) -> tuple[Any, ...]:
    assert isinstance(answer, Answer), answer
    return (
        answer.question,
        answer.text,
        answer.citations,
        answer.passages,
        answer.abstention_reason,
        answer.finish_reason,
        answer.usage,
    )


@pytest.mark.parametrize("evidence", [0, 2])
def test_answers_together_are_the_answers_one_by_one(
    world: World, loaded_lm: Any, evidence: int
) -> None:
    generator = TransformersGenerator(loaded_lm, batch_size=3)
    contract = world.contract(
        generator, max_prompt_tokens=600, max_new_tokens=12, evidence_sentences=evidence
    )
    assistant = world.assistant(generator, contract=contract, min_similarity=0.2)
    together = assistant.answer_many(ASKED, run_id="r-1")
    alone = [assistant.answer(question) for question in ASKED]
    assert [said(answer) for answer in together] == [said(answer) for answer in alone]
    assert any(answer.abstention_reason for answer in alone), "an abstention is among them"
    assert any(answer.usage.completion_tokens for answer in alone)
    for answer in (*together, *alone):  # the time of choosing sentences is in the answer's record
        assert isinstance(answer, Answer)
        chosen = bool(evidence) and "generate_s" in answer.timings
        assert (answer.timings.get("select_s", 0.0) > 0) == chosen


def test_each_is_logged_with_its_run_and_its_share_of_the_time(world: World) -> None:
    for answer in world.assistant().answer_many(ASKED, run_id="r-1"):
        assert isinstance(answer, Answer)
        assert world.store.answers.get(answer.id) == answer
        assert answer.run_id == "r-1"
        parts = [v for name, v in answer.timings.items() if name != "total_s"]
        assert answer.timings["total_s"] == pytest.approx(sum(parts))


def test_what_cannot_be_answered_is_its_error_and_costs_the_others_nothing(world: World) -> None:
    def pieces(request: GenerationRequest) -> list[str]:
        if "maps" in request.question:
            raise GenerationFailed("The model broke off.")
        return ["On Thursdays [1]"]

    assistant = world.assistant(world.scripted(pieces=pieces))
    found = assistant.answer_many([" ", *ASKED[:3], "kiln " * 999])
    codes = [each.code if not isinstance(each, Answer) else each.text for each in found]
    assert codes == [
        "empty_question",
        "On Thursdays [1]",
        "On Thursdays [1]",
        "generation_failed",
        "question_too_long",
    ]


def test_no_question_is_no_answer(world: World) -> None:
    assert world.assistant().answer_many([]) == []


def test_without_retrieval_nothing_is_searched(world: World) -> None:
    assistant = world.assistant(world.scripted("Six"), use_retrieval=False)
    (answer,) = assistant.answer_many(["How many?"])
    assert isinstance(answer, Answer)
    assert (answer.text, answer.passages) == ("Six", ())


class Counting(HashingEmbedder):
    """Notes what it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def embed_query(self, text: str) -> Any:
        self.seen.append(text)
        return super().embed_query(text)


@pytest.mark.parametrize("together", [False, True])
def test_a_question_is_embedded_once_for_search_and_evidence(world: World, together: bool) -> None:
    world.embedder = embedder = Counting()
    generator = world.scripted()
    assistant = world.assistant(
        generator, contract=world.contract(generator, evidence_sentences=1), min_similarity=-1
    )
    if together:
        assistant.answer_many(ASKED)
    else:
        for question in ASKED:
            assistant.answer(question)
    assert [embedder.seen.count(question) for question in ASKED] == [1] * len(ASKED)


def test_a_follow_up_is_searched_and_compared_under_its_own_wordings(world: World) -> None:
    """The search is told the questions that it leans on, the evidence what it means alone."""
    world.embedder = embedder = Counting()
    generator = world.scripted()
    assistant = world.assistant(
        generator, contract=world.contract(generator, evidence_sentences=1), min_similarity=-1
    )
    history = [Message(role="user", content="When is the workshop open on Saturdays?")]
    assistant.answer("And on Sundays?", history)
    asked = [text for text in embedder.seen if "open on" in text]
    assert asked == [
        "When is the workshop open on Saturdays? And on Sundays?",
        "When is the workshop open on Sundays?",
    ]
