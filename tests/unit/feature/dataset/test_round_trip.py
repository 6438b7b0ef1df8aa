"""Written questions asked of a reader, and what of them stays."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generation import load_generator
from fti.pipelines.engines.generator import GeneratorConfig
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.round_trip import RoundTrip
from fti.store.contracts.prompt_contract import BUILTIN_FORM, Contract
from fti.store.files.layout import Layout
from fti.store.logs.results import CaseResults
from fti.store.progress import ProgressEvent, quiet
from fti.store.types import ModelIdentity, Passage
from tests.support.chat_server import Server, says, serving

HEAT = "At what heat is the kiln fired?"
DAY = "On which day is the kiln fired?"
WHO = "Who fires the kiln in the yard?"
REPLIES = {HEAT: "1220 degrees [1]", DAY: "Monday [1]", WHO: BUILTIN_FORM.abstention}
KILN = Passage(
    rank=1, chunk_id="c1", document_id="d1", title="Kiln", source="",
    text="The kiln is fired at 1220 degrees on Thursdays by Rosa.",
)  # fmt: skip


def reply(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    asked = body["messages"][-1]["content"]
    says(next(r for q, r in REPLIES.items() if q in asked))(server, handler, body)


@pytest.fixture
def server() -> Any:
    with serving() as state:
        state.responses, state.repeats = [reply], True
        yield state


def a_question(question: str, answer: str, kind: Any = "written") -> Asked:
    return Asked(kind, question, answer, "d1", ("c1",), "train", kind)


ASKED = [
    a_question(HEAT, "1220 degrees"),
    a_question(DAY, "Thursdays"),
    a_question(WHO, "Rosa"),
    a_question("Which kiln is hot?", "Ember", "question"),
]


def trip(server: Server, root: Path) -> RoundTrip:
    config = GeneratorConfig.model_validate(
        {"engine": "openai", "id": "r", "server": {"base_url": server.url}}
    )
    embedder = HashingEmbedder()
    contract = Contract(
        form=BUILTIN_FORM,
        max_prompt_tokens=400,
        max_new_tokens=40,
        max_passages=2,
        evidence_sentences=2,
        max_passage_tokens=200,
        base=ModelIdentity(id="r"),
        embedder=embedder.identity,
    )
    return RoundTrip(
        load_generator(config, embedder=embedder), contract, embedder,
        CaseResults(Layout(root / "store")), batch=2,
    )  # fmt: skip


def test_questions_that_are_answered_otherwise_are_left_out(server: Server, tmp_path: Path) -> None:
    tally, told = Tally(), list[ProgressEvent]()

    kept = trip(server, tmp_path).consistent(ASKED, lambda one: [KILN], tally, told.append)

    assert kept == [ASKED[0], ASKED[3]]  # what a rule wrote is not asked again
    assert tally.filters == [{"filter": "round_trip", "considered": 3, "kept": 1, "share": 0.3333}]
    assert (told[-1].done, told[-1].total) == (3, 3)
    assert all("[1] Kiln" in body["messages"][-1]["content"] for body in server.bodies)


def test_answers_are_kept_for_the_next_build(server: Server, tmp_path: Path) -> None:
    first = trip(server, tmp_path).consistent(ASKED, lambda one: [KILN], Tally(), quiet)
    asked = len(server.bodies)

    assert trip(server, tmp_path).consistent(ASKED, lambda one: [KILN], Tally(), quiet) == first
    assert len(server.bodies) == asked == 3


def test_a_question_without_passages_is_left_out(server: Server, tmp_path: Path) -> None:
    server.responses = [says(BUILTIN_FORM.abstention)]

    assert trip(server, tmp_path).consistent(ASKED[:1], lambda one: [], Tally(), quiet) == []
