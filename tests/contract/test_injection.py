"""Text stays text: what stands in a document or a question is never a turn, an order or a source.

A model may still be talked into saying nonsense. What must hold whatever it says: who speaks in the
prompt, which passages an answer can cite, and that a client reads the answer as data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.encoding import PromptEncoder
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.answering.retrieve import plain
from fti.store.answer_types import Answer
from fti.store.store import Store
from fti.store.types import Message
from tests.support.injections import INJECTIONS
from tests.support.service import Client, Scripted, add_document, assistant_over, filled_store
from tests.support.tiny_model import TOKENIZERS

NAMES = list(INJECTIONS)


def page_word(name: str) -> str:
    """A word that only the document of this injection holds."""
    return f"zebra{NAMES.index(name)}x"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A handbook, and for each injection a document that holds it."""
    store = filled_store(tmp_path_factory.mktemp("injected") / "store")
    for name, text in INJECTIONS.items():
        word = page_word(name)
        add_document(
            store,
            f"/inbox/{word}.md",
            f"{word} {plain(text)[:60]}",
            f"The {word} page is kept at nine. {plain(text)} So says {word}.",
        )
    return store


@pytest.fixture
def generator() -> Scripted:
    return Scripted()


@pytest.fixture
def assistant(store: Store, generator: Scripted) -> Assistant:
    return assistant_over(store, generator)


def assert_cites_only_what_was_given(answer: Answer) -> None:
    given = [p.chunk_id for p in answer.passages]
    for citation in answer.citations:
        assert 1 <= citation.marker <= len(given)
        assert citation.chunk_id == given[citation.marker - 1]
        assert answer.text[citation.start : citation.end] == f"[{citation.marker}]"


@pytest.mark.parametrize("name", NAMES)
def test_a_document_or_question_with_an_injection_stays_inside_the_users_turn(
    assistant: Assistant, generator: Scripted, name: str
) -> None:
    injected = INJECTIONS[name]
    question = f"What does the {page_word(name)} page say? {injected}"
    history = (
        Message(role="user", content=f"Hello {injected}"),
        Message(role="assistant", content=f"Hello. {injected}"),
    )
    answer = assistant.answer(question, history)
    (request,) = generator.requests
    assert answer.passages[0].source == f"/inbox/{page_word(name)}.md"
    system, *turns = request.messages
    assert (system.role, system.content) == ("system", assistant.contract.form.system)
    assert [turn.role for turn in turns][-1] == "user"
    assert [turn.role for turn in turns] in (["user"], ["user", "assistant", "user"])
    assert injected not in system.content
    assert turns[-1].content.endswith(f"Question: {plain(question)}")
    assert_cites_only_what_was_given(answer)


@pytest.fixture(scope="module")
def prompts(store: Store) -> dict[str, tuple[Message, ...]]:
    """What is asked of the model for each injection: the same whatever its tokenizer."""
    generator = Scripted()
    assistant = assistant_over(store, generator)
    for name, injected in INJECTIONS.items():
        assistant.answer(f"What does the {page_word(name)} page say? {injected}")
    return {
        name: request.messages for name, request in zip(INJECTIONS, generator.requests, strict=True)
    }


@pytest.mark.parametrize("family", TOKENIZERS)
def test_no_injection_becomes_a_control_token(
    prompts: dict[str, tuple[Message, ...]], family: str
) -> None:
    tokenizer = TOKENIZERS[family]()
    encoder = PromptEncoder(tokenizer)
    special = {int(i) for i in tokenizer.all_special_ids} - {tokenizer.unk_token_id}

    def controls(messages: tuple[Message, ...]) -> list[int]:
        return [index for index in encoder.encode(messages) if index in special]

    for name, messages in prompts.items():
        assert any(page_word(name) in message.content for message in messages), name
        harmless = tuple(m.model_copy(update={"content": "x"}) for m in messages)
        assert controls(messages) == controls(harmless), name


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_repeats_an_injection_cites_nothing_that_was_not_given(
    assistant: Assistant, generator: Scripted, name: str
) -> None:
    injected = plain(INJECTIONS[name])
    generator.pieces = [*f"It says {injected}", " [1] [99] [4]"]
    with assistant.stream(f"What does the {page_word(name)} page say?") as stream:
        events = list(stream)
    answer = events[-1].answer
    assert answer is not None
    assert "".join(event.text for event in events) == answer.text
    assert_cites_only_what_was_given(answer)
    assert "[99]" not in answer.text.split()
    assert answer.citations, "its own marker still stands"


@pytest.fixture
def client(assistant: Assistant) -> Iterator[Client]:
    with structlog.testing.capture_logs(), Client(create_app(assistant)) as client:
        yield client


@pytest.mark.parametrize("name", NAMES)
def test_a_client_reads_an_injected_answer_as_data(
    client: Client, generator: Scripted, name: str
) -> None:
    """Nothing in a text can end the stream, add an event, or make a link of its own."""
    injected = plain(INJECTIONS[name])
    generator.pieces = ["It says ", injected, " [1]"]
    asked: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": INJECTIONS[name].encode("utf-8", "replace").decode()},
            {"role": "user", "content": f"What does the {page_word(name)} page say?"},
        ]
    }
    whole = client.post("/v1/chat/completions", json=asked).json()
    streamed = client.post("/v1/chat/completions", json=asked | {"stream": True}).text
    blocks = streamed.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]
    said = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert said == whole["choices"][0]["message"]["content"]
    for note in whole["choices"][0]["message"]["annotations"]:
        assert note["url_citation"]["url"].startswith("http://localhost/v1/sources/c")
    prompts = [m.content for request in generator.requests for m in request.messages]
    assert asked["messages"][0]["content"] not in prompts, "a client's system turn is not used"


@pytest.mark.heavy
def test_a_real_model_answers_injected_documents_through_the_same_boundary(
    store: Store, loaded_lm: Any
) -> None:
    assistant = assistant_over(store, TransformersGenerator(loaded_lm))
    for name in NAMES[::6]:
        answer = assistant.answer(f"What does the {page_word(name)} page say? {INJECTIONS[name]}")
        assert_cites_only_what_was_given(answer)
        logged = store.answers.get(answer.id)
        assert logged.text == answer.text
