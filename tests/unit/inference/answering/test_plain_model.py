"""The language model by itself: what the caller sends is what it is told, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.inference.answering.plain_model import PlainAssistant
from fti.pipelines.inference.inference_config import InferenceConfig
from fti.store.answer_types import Answer
from fti.store.contracts.prompt_contract import DEFAULT_ABSTENTION
from fti.store.errors import EmptyQuestion, InvalidName, QuestionTooLong
from fti.store.store import Store
from fti.store.types import Message
from tests.support.service import Scripted


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store without any document."""
    return Store(tmp_path / "store")


def plain(store: Store, *pieces: str, context_tokens: int = 8192) -> PlainAssistant:
    generator = Scripted(pieces=pieces or ("Saturday", " Hours"))
    generator.context_tokens = context_tokens
    return PlainAssistant(store, HashingEmbedder(), generator, InferenceConfig())


def ask(
    assistant: PlainAssistant, question: str, history: tuple[Message, ...] = (), system: str = ""
) -> Answer:
    with assistant.stream(question, history, system=system) as events:
        *_, last = events
    assert last.answer is not None
    return last.answer


def told(assistant: PlainAssistant) -> list[tuple[str, str]]:
    assert isinstance(assistant.generator, Scripted)
    return [(m.role, m.content) for m in assistant.generator.requests[-1].messages]


def test_the_model_is_told_what_the_caller_sends_word_for_word(store: Store) -> None:
    assistant = plain(store)
    history = (Message(role="user", content="Hello"), Message(role="assistant", content="Hi [1]"))
    answer = ask(assistant, "Name this chat.", history, system="You write titles.")
    assert told(assistant) == [
        ("system", "You write titles."),
        ("user", "Hello"),
        ("assistant", "Hi [1]"),
        ("user", "Name this chat."),
    ]
    assert (answer.text, answer.model, answer.passages) == ("Saturday Hours", "plain", ())
    assert store.answers.get(answer.id).question == "Name this chat."
    ask(assistant, "Again.")
    assert told(assistant) == [("user", "Again.")], "nothing of another caller stays"


@pytest.mark.parametrize("said", ['{"tags": ["a"]} [1]', DEFAULT_ABSTENTION, "see [99] and m[0]"])
def test_what_the_model_says_is_the_answer_as_it_is(store: Store, said: str) -> None:
    answer = ask(plain(store, *said), "Tags?")
    assert (answer.text, answer.citations, answer.abstained) == (said, (), False)


def test_old_turns_go_before_the_question_does_and_the_rest_may_fill_the_context(
    store: Store,
) -> None:
    turns = tuple(
        Message(role="user" if n % 2 == 0 else "assistant", content=f"turn {n} " + "word " * 30)
        for n in range(40)
    )
    assistant = plain(store, context_tokens=512)
    ask(assistant, "Name this chat.", turns, system="You write titles.")
    said = told(assistant)
    assert (said[0][0], said[-1][1]) == ("system", "Name this chat.")
    kept = said[1:-1]
    assert kept[0][0] == "user"
    assert kept[-1][1].startswith("turn 39")
    tokens = assistant.generator.counter.count([Message(role="user", content=t) for _, t in said])
    assert 256 < tokens <= 384, "more than half of what the prompt holds, and not more than all"


def test_what_cannot_be_asked_is_refused(store: Store) -> None:
    with pytest.raises(QuestionTooLong):
        ask(plain(store, context_tokens=512), "word " * 600)
    with pytest.raises(EmptyQuestion):
        ask(plain(store), "  ")


def test_no_version_can_take_its_name(store: Store) -> None:
    with pytest.raises(InvalidName, match="'plain'"):
        store.models.check_name("plain")
