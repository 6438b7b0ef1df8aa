"""Written questions asked of a reader, and what of them stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.generation import load_generator
from fti.pipelines.engines.generator import GeneratorConfig
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.round_trip import AskedOfReader, RoundTrip, ShownThere
from fti.pipelines.feature.dataset.rows import RowBuilder, passage_of
from fti.store.contracts.prompt_contract import BUILTIN_FORM, Contract
from fti.store.files.layout import Layout
from fti.store.logs.results import CaseResults
from fti.store.progress import ProgressEvent, quiet
from fti.store.types import Fusion, ModelIdentity, Passage, RetrievalContract
from tests.support.chat_server import Server, says, serving
from tests.support.features import an_update

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


class Shows:
    """What of a builder of rows the round trip asks: the same passages for every question."""

    config = DatasetConfig()
    split_of: Mapping[str, Any] = {"d1": "train"}

    def __init__(self, *passages: Passage) -> None:
        self.passages = passages
        self.noted: dict[str, Sequence[Passage]] = {}

    def shown(self, one: Asked) -> Sequence[Passage]:
        return self.passages

    def remember(self, one: Asked, found: Sequence[Passage]) -> None:
        self.noted[one.question] = found


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

    builder = Shows(KILN)
    kept = trip(server, tmp_path).consistent(ASKED, builder, tally, told.append)

    assert builder.noted == dict.fromkeys((HEAT, DAY, WHO), (KILN,))
    assert kept == [ASKED[0], ASKED[3]]  # what a rule wrote is not asked again
    assert tally.filters == [{"filter": "round_trip", "considered": 3, "kept": 1, "share": 0.3333}]
    assert (told[-1].done, told[-1].total) == (3, 3)
    assert all("[1] Kiln" in body["messages"][-1]["content"] for body in server.bodies)


def test_replicas_search_for_the_rows_that_nobody_reads_again(
    server: Server, tmp_path: Path
) -> None:
    builder, opened = Shows(KILN), list[ShownThere]()
    here = trip(server, tmp_path)

    def replicas(there: ShownThere) -> Any:
        opened.append(there)
        ask = AskedOfReader(
            here._generator, here._contract, HashingEmbedder(), lambda key: None, builder.shown
        )

        class Backwards:
            def each(self, batches: Any) -> Any:
                return reversed([(n, ask(batch)) for n, batch in enumerate(batches)])

        return Backwards()

    here._executor = replicas
    given = Asked("chat", "Hello?", "Hello.", "", (), "train", "chat", shown=())
    kept = here.consistent([*ASKED, given], builder, Tally(), quiet, at=7)

    assert kept == [ASKED[0], ASKED[3], given]
    assert opened == [ShownThere(7, builder.config, builder.split_of)]
    assert set(builder.noted) == {HEAT, DAY, WHO, "Which kiln is hot?"}
    assert len(server.bodies) == 3
    again = trip(server, tmp_path).consistent(ASKED, Shows(KILN), Tally(), quiet)
    assert again == [ASKED[0], ASKED[3]]
    assert len(server.bodies) == 3, "what replicas were told is kept"


def test_answers_are_kept_for_the_next_build(server: Server, tmp_path: Path) -> None:
    first = trip(server, tmp_path).consistent(ASKED, Shows(KILN), Tally(), quiet)
    asked = len(server.bodies)

    assert trip(server, tmp_path).consistent(ASKED, Shows(KILN), Tally(), quiet) == first
    assert len(server.bodies) == asked == 3


def test_a_question_without_passages_is_left_out(server: Server, tmp_path: Path) -> None:
    server.responses = [says(BUILTIN_FORM.abstention)]

    assert trip(server, tmp_path).consistent(ASKED[:1], Shows(), Tally(), quiet) == []


def test_what_is_retrieved_for_the_reader_is_not_retrieved_again_for_the_row() -> None:
    update = an_update("/docs/kiln.md", [KILN.text])
    (chunk,) = update.chunks
    document = update.document
    asked: list[str] = []

    class Counting:
        contract = RetrievalContract(
            mode="hybrid", k=5, candidates=20, fusion=Fusion(), near_copies=1.0, diversity=0.0,
            context="chunk", section_characters=0, reranker=None, min_similarity=0.0,
        )  # fmt: skip

        def embed(self, queries: Any) -> Any:
            return [None for _ in queries]

        def retrieve(self, query: str, k: int | None = None, **how: Any) -> Any:
            asked.append(query)
            return SimpleNamespace(passages=(passage_of(chunk, {document.id: document}),))

        def in_context(self, passages: Any) -> Any:
            return tuple(passages)

    one = Asked(
        "written", HEAT, "1220 degrees", document.id, (chunk.id,), "train", "written",
        evidence=KILN.text,
    )  # fmt: skip
    builder = RowBuilder(
        Counting(), DatasetConfig(unanswerable=0.0), BUILTIN_FORM, {document.id: "train"},
        {chunk.id: chunk}, [document], Tally(),
    )  # fmt: skip

    shown = builder.shown(one)
    builder.remember(one, shown)
    (row,) = builder.build([one], quiet)["train"]

    assert asked == [HEAT]
    assert [p.chunk_id for p in row.passages] == [p.chunk_id for p in shown] == [chunk.id]
    builder.build([one], quiet)
    assert asked == [HEAT, HEAT]  # kept for one row, not for ever
