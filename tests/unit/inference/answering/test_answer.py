from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generator import GenerationRequest
from fti.pipelines.inference.answering.answer_events import AnswerEvent
from fti.store.errors import (
    AnswerNotFound,
    ContractError,
    EmbedderMismatch,
    EmptyQuestion,
    GenerationFailed,
    QuestionTooLong,
    StoreEmpty,
)
from fti.store.store import Store
from fti.store.types import Message
from tests.unit.inference.conftest import World

ASKED = "When does the workshop open in the morning?"


def text_of(events: Sequence[AnswerEvent]) -> str:
    return "".join(e.text for e in events)


def test_an_answer_cites_the_passage_it_rests_on(world: World) -> None:
    answer = world.assistant().answer("When is the kiln fired?")
    (citation,) = answer.citations
    assert "Thursdays" in answer.text
    assert citation.source == "/docs/workshop/kiln.md"
    assert answer.text[citation.start : citation.end] == f"[{citation.marker}]"
    assert answer.passages[citation.marker - 1].chunk_id == citation.chunk_id
    assert citation.quote in answer.passages[citation.marker - 1].text
    assert "fired on Thursdays" in citation.quote


@pytest.mark.parametrize(
    "pieces",
    [
        ["At nine", " [1]"],
        ["At nine in the morning"],
        ["The passages do not", " answer this question."],
        [" At ", "nine ", "[7]", " sharp. ", "[2", "]"],
        [""],
        ["[1]"],
    ],
)
def test_the_streamed_text_is_the_answers_text(world: World, pieces: list[str]) -> None:
    events = list(world.assistant(world.scripted(*pieces)).stream(ASKED))
    assert [events[0].kind, events[-1].kind] == ["passages", "done"]
    assert {e.kind for e in events[1:-1]} <= {"text"}
    assert events[-1].answer is not None
    assert text_of(events) == events[-1].answer.text
    assert {e.answer_id for e in events} == {events[-1].answer.id}


def test_the_first_event_shows_passages_and_all_that_was_retrieved(world: World) -> None:
    first = next(iter(world.assistant(world.scripted()).stream(ASKED)))
    assert len(first.passages) == 3
    assert [p.chunk_id for p in first.passages] == [p.chunk_id for p in first.retrieved[:3]]
    assert len(first.retrieved) == 6


def test_an_unmarked_answer_is_attributed_to_the_passage_that_says_it(world: World) -> None:
    answer = world.assistant(world.scripted("nine in the", " morning")).answer(ASKED)
    (citation,) = answer.citations
    assert answer.text == f"nine in the morning [{citation.marker}]"
    assert "nine in the morning" in answer.passages[citation.marker - 1].text


def test_an_unmarked_answer_that_no_passage_says_gets_no_citation(world: World) -> None:
    answer = world.assistant(world.scripted("At half past eight")).answer(ASKED)
    assert (answer.text, answer.citations) == ("At half past eight", ())


def test_markers_of_passages_that_were_not_shown_are_removed(world: World) -> None:
    answer = world.assistant(world.scripted("At nine [9]. Or ten [1][55].")).answer(ASKED)
    assert answer.text == "At nine. Or ten [1]."
    assert [c.marker for c in answer.citations] == [1]


def test_the_model_is_not_asked_when_nothing_is_relevant(world: World) -> None:
    generator = world.scripted()
    assistant = world.assistant(generator, min_similarity=0.99)
    answer = assistant.answer("When is the kiln fired?")
    assert answer.abstained
    assert answer.abstention_reason == "nothing_relevant"
    assert answer.text == assistant.contract.form.abstention
    assert answer.citations == ()
    assert len(answer.passages) == 3  # what was looked at
    assert generator.requests == []


def test_the_model_may_abstain(world: World) -> None:
    answer = world.assistant(
        world.scripted("The passages do not answer this question. [1]")
    ).answer(ASKED)
    assert answer.abstained
    assert answer.abstention_reason == "model"
    assert answer.citations == ()


def test_nothing_retrieved_is_a_reason_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant = world.assistant(world.scripted())
    monkeypatch.setattr(assistant.retriever, "search", lambda *a, **k: [])
    answer = assistant.answer(ASKED)
    assert answer.abstention_reason == "nothing_retrieved"
    assert answer.passages == ()


def test_without_retrieval_the_model_answers_alone(world: World) -> None:
    generator = world.scripted("At nine [1]")
    answer = world.assistant(generator, use_retrieval=False).answer(ASKED)
    assert (answer.text, answer.passages, answer.citations) == ("At nine", (), ())
    assert generator.requests[0].passages == ()
    assert answer.features_version == 0


def test_without_retrieval_an_empty_store_does_not_matter(tmp_path: Path, world: World) -> None:
    generator = world.scripted("At nine")
    closed = world.assistant(generator, use_retrieval=False)
    closed.store = Store(tmp_path / "empty")
    assert closed.answer(ASKED).text == "At nine"


@pytest.mark.parametrize("question", ["", " \n\t", "\x00"])
def test_an_empty_question_is_refused_at_the_first_event(world: World, question: str) -> None:
    stream = world.assistant().stream(question)
    with pytest.raises(EmptyQuestion):
        next(stream)


def test_a_question_longer_than_the_prompt_is_refused_before_any_search(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant = world.assistant()
    monkeypatch.setattr(assistant.retriever, "search", lambda *a, **k: pytest.fail("searched"))
    with pytest.raises(QuestionTooLong, match="400"):
        assistant.answer("kiln " * 500)


def test_an_empty_store_says_so(tmp_path: Path, world: World) -> None:
    world.store = Store(tmp_path / "empty")
    with pytest.raises(StoreEmpty):
        world.assistant().answer(ASKED)


def test_every_answer_is_logged_with_its_lineage(world: World) -> None:
    assistant = world.assistant(model="reader/3")
    answer = assistant.answer("When is the kiln fired?", run_id="r-1")
    logged = world.store.answers.get(answer.id)
    assert logged == answer
    assert logged.model == "reader/3"
    assert logged.base == assistant.generator.identity
    assert logged.contract_digest == assistant.contract.digest
    assert logged.features_version == world.store.features.version()
    assert logged.run_id == "r-1"
    assert logged.usage.prompt_tokens > 0
    assert {"retrieve_s", "first_token_s", "generate_s", "total_s"} <= set(logged.timings)
    assert logged.timings["total_s"] >= logged.timings["generate_s"]


def test_the_answer_is_logged_before_it_is_done(world: World) -> None:
    for event in world.assistant().stream("When is the kiln fired?"):
        if event.kind == "done":
            assert world.store.answers.get(event.answer_id) == event.answer
        else:
            with pytest.raises(AnswerNotFound):
                world.store.answers.get(event.answer_id)


def test_a_broken_generation_raises_and_is_no_answer(world: World) -> None:
    stream = world.assistant(world.scripted("At ", "nine", fails_after=1)).stream(ASKED)
    assert next(stream).kind == "passages"
    assert next(stream).text == "At"
    with pytest.raises(GenerationFailed):
        next(stream)
    assert world.store.answers.list() == []


def test_closing_the_stream_stops_the_model_and_logs_what_was_shown(world: World) -> None:
    generator = world.scripted("At", " nine", " sharp", " in", " the", " morning")
    stream = world.assistant(generator).stream(ASKED)
    assert next(stream).kind == "passages"
    assert next(stream).text + next(stream).text == "At nine"
    stream.close()
    stream.close()
    assert generator.requests[0].cancel.is_set()
    (logged,) = world.store.answers.list()
    assert (logged.text, logged.finish_reason, logged.abstained) == ("At nine", "cancelled", False)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_stream_closed_before_any_text_is_no_refusal(world: World) -> None:
    stream = world.assistant(world.scripted()).stream(ASKED)
    next(stream)
    stream.close()
    (logged,) = world.store.answers.list()
    assert (logged.text, logged.abstained, logged.finish_reason) == ("", False, "cancelled")


def test_closing_from_another_thread_ends_a_generation_in_progress(world: World) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def pieces(request: GenerationRequest) -> Any:
        yield "At"
        inside.set()
        go_on.wait(10)
        yield " nine"
        yield " sharp"

    generator = world.scripted(pieces=lambda request: list(pieces(request)))
    generator.pieces = pieces  # type: ignore[assignment]
    stream = world.assistant(generator).stream(ASKED)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(lambda: list(stream))
        assert inside.wait(10)
        stream.close()
        go_on.set()
        events = rest.result(10)
    assert events[-1].answer is not None
    assert events[-1].answer.finish_reason == "cancelled"
    assert events[-1].answer.text == "At"


def test_history_reaches_the_prompt_and_the_search(world: World) -> None:
    generator = world.scripted("Only a steward [1]")
    history = [
        Message(role="user", content="When is the kiln fired?"),
        Message(role="assistant", content="On Thursdays."),
    ]
    answer = world.assistant(generator).answer("And who may open it?", history)
    (request,) = generator.requests
    assert [m.content for m in request.messages[-3:-1]] == [m.content for m in history]
    assert answer.question == "And who may open it?"
    assert request.question == answer.asked == "Who may open the kiln?"
    assert answer.passages[0].source == "/docs/workshop/kiln.md"


def test_a_reader_of_sentences_is_asked_what_the_follow_up_means(world: World) -> None:
    generator = world.scripted("At noon [1]")
    assistant = world.assistant(
        generator, contract=world.contract(generator, evidence_sentences=2), min_similarity=-1
    )
    history = [
        Message(role="user", content="When is the workshop open on Saturdays?"),
        Message(role="assistant", content="from nine to six [1]"),
    ]
    answer = assistant.answer("And on Sundays?", history)
    (request,) = generator.requests
    asked = [m.content for m in request.messages if m.role == "user"]
    assert len(asked) == 1
    assert asked[0].endswith("Question: When is the workshop open on Sundays?")
    assert all(m.role != "assistant" for m in request.messages)
    assert answer.question == "And on Sundays?"


def test_a_generator_other_than_the_contracts_is_refused(world: World) -> None:
    generator = world.scripted()
    contract = world.contract(generator)
    other = generator.identity.model_copy(
        update={"weights_sha256": "7" * 64, "tokenizer_sha256": "8" * 64}
    )
    with pytest.raises(ContractError) as caught:
        world.assistant(world.scripted(identity=other), contract=contract, model="reader/2")
    for part in ("'reader/2'", "weights_sha256", "tokenizer_sha256", "7777", "8888"):
        assert part in str(caught.value)


def test_a_server_without_digests_is_compared_by_name(world: World) -> None:
    generator = world.scripted()
    contract = world.contract(generator)
    named = {"weights_sha256": "", "tokenizer_sha256": ""}
    same = generator.identity.model_copy(update=named)
    world.assistant(world.scripted(identity=same), contract=contract)
    other = same.model_copy(update={"id": "other"})
    with pytest.raises(ContractError, match="'other'"):
        world.assistant(world.scripted(identity=other), contract=contract)


def test_an_embedder_other_than_the_contracts_is_refused(world: World) -> None:
    generator = world.scripted()
    contract = world.contract(generator, embedder=HashingEmbedder(64).identity)
    with pytest.raises(ContractError, match="dimension: the contract says 64, serving has 256"):
        world.assistant(generator, contract=contract)


def test_an_embedder_other_than_the_stores_is_refused(world: World) -> None:
    world.embedder = HashingEmbedder(64)
    with pytest.raises(EmbedderMismatch):
        world.assistant()


def test_a_context_smaller_than_the_contracts_budget_is_refused(world: World) -> None:
    with pytest.raises(ContractError, match="432 tokens, the generator holds 100"):
        world.assistant(world.scripted(context_tokens=100))


def test_concurrent_questions_do_not_mix(world: World) -> None:
    assistant = world.assistant()
    questions = ["When is the kiln fired?", "For how long are books lent?", ASKED] * 4
    expected = {q: assistant.answer(q).text for q in questions[:3]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(assistant.answer, questions))
    assert [a.text for a in answers] == [expected[q] for q in questions]
    assert len({a.id for a in answers}) == len(questions)
    assert {a.id for a in answers} <= {a.id for a in world.store.answers.list()}
