"""What the built-in question writer is asked, and what of its replies becomes rows."""

from __future__ import annotations

from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generation import load_generator
from fti.pipelines.engines.generator import GeneratorConfig
from fti.pipelines.engines.question_prompts import (
    NAME_ANSWERS,
    answers_prompt,
    named_answers,
    question_prompt,
    stands_in,
)
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import WriterConfig
from fti.pipelines.feature.dataset.sources.trained_writer import TrainedWriter
from fti.store.errors import InputError
from fti.store.files.layout import Layout
from fti.store.logs.results import CaseResults
from fti.store.progress import quiet
from tests.support.chat_server import Server, says, serving
from tests.support.features import an_update

KILN = (
    "The kiln in the yard is fired at 1220 degrees on Thursdays. Wear the silver gloves at the "
    "kiln, because its door stays hot for hours.\n\n| Kiln | Shelf |\n|---|---|\n| Ember | 4 |\n"
)
REPLIES = {
    NAME_ANSWERS: "1220 degrees\nThursdays\nEmber\n122\nsilver goats",
    "Answer: 1220 degrees\n": "At what temperature is the kiln in the yard fired?\nAnd more.",
    "Answer: Thursdays\n": "The kiln is fired on Thursdays",
    "Answer: Wear the silver gloves": "Why should silver gloves be worn at the kiln?",
}


def answer(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    asked = body["messages"][-1]["content"]
    says(next(reply for part, reply in REPLIES.items() if part in asked))(server, handler, body)


class World:
    def __init__(self, server: Server, root: Path) -> None:
        self.server = server
        update = an_update("/docs/kiln.md", [KILN])
        self.documents = {update.document.id: update.document}
        self.chunks = list(update.chunks)
        self.results = CaseResults(Layout(root / "store"))
        self.tally = Tally()

    def writer(self, **settings: Any) -> TrainedWriter:
        config = GeneratorConfig.model_validate(
            {"engine": "openai", "id": "w", "server": {"base_url": self.server.url}}
        )
        generator = load_generator(config, embedder=HashingEmbedder())
        return TrainedWriter(generator, WriterConfig(**settings), self.results)

    def write(self, writer: TrainedWriter) -> Sequence[Asked]:
        self.tally = Tally()
        splits = dict.fromkeys(self.documents, "train")
        return writer.write(self.chunks, self.documents, splits, self.tally, quiet)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> Any:
    with serving() as server:
        server.responses, server.repeats = [answer], True
        yield World(server, tmp_path)


def test_answers_are_named_and_asked_for(world: World) -> None:
    asked = world.write(world.writer())

    assert [(a.question, a.answer) for a in asked] == [
        ("At what temperature is the kiln in the yard fired?", "1220 degrees"),
        (
            "Why should silver gloves be worn at the kiln?",
            "Wear the silver gloves at the kiln, because its door stays hot for hours.",
        ),
    ]
    for one in asked:
        assert (one.kind, one.chunks) == ("written", (world.chunks[0].id,))
        assert one.answer in one.evidence


def test_what_is_no_question_or_asks_otherwise_is_left_out(world: World) -> None:
    world.write(world.writer())

    considered = next(f for f in world.tally.filters if f["filter"] == "written_asked_otherwise")
    assert (considered["considered"], considered["kept"]) == (3, 2)


def test_tables_are_not_shown_to_it(world: World) -> None:
    world.write(world.writer())

    prompts = [body["messages"][-1]["content"] for body in world.server.bodies]
    assert prompts
    assert not any("Ember" in prompt for prompt in prompts)


def test_a_second_build_asks_nothing_again(world: World) -> None:
    first = world.write(world.writer())
    asked = len(world.server.bodies)

    assert world.write(world.writer()) == first
    assert len(world.server.bodies) == asked
    assert world.tally.written["kept"] == 1


def test_the_estimate_bounds_what_it_takes(world: World) -> None:
    writer = world.writer()
    before = writer.estimate(world.chunks, world.documents)
    world.write(writer)

    assert (before.passages, before.kept) == (1, 0)
    assert before.reply_tokens >= world.tally.written["reply_tokens"]
    after = writer.estimate(world.chunks, world.documents)
    assert (after.kept, after.tokens) == (1, 0)


def test_a_budget_refuses_before_anything_is_asked(world: World) -> None:
    with pytest.raises(InputError, match="budget is 10"):
        world.write(world.writer(budget_tokens=10))

    assert world.server.bodies == []


def test_without_a_budget_nothing_is_estimated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(self: TrainedWriter, *_: Any) -> Any:
        raise AssertionError("every prompt would be counted for nothing")

    monkeypatch.setattr(TrainedWriter, "estimate", unwanted)

    assert len(world.write(world.writer())) == 2


def test_the_passage_comes_first_so_that_it_is_read_once() -> None:
    listing = answers_prompt("Kiln", KILN)[-1].content
    asking = question_prompt("Kiln", KILN, "Thursdays")[-1].content

    assert listing.startswith(f"Kiln\n{KILN}\n\n")
    assert asking.startswith(f"Kiln\n{KILN}\n\nAnswer: Thursdays\n")


def test_only_whole_words_of_the_passage_are_answers() -> None:
    assert named_answers("1220\nThursday\n\n1220\nyard", KILN) == ["1220", "yard"]
    assert stands_in("122", "122 of 1220")
    assert not stands_in("122", "1220")
