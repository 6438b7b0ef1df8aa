from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from fti.pipelines.engines.cross_encoders.reranking import LexicalReranker
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.inference_config import InferenceConfig, RetrievalConfig
from fti.pipelines.inference.tracing.answer_lineage import trace_answer
from fti.pipelines.inference.tracing.document_lineage import trace_document
from fti.store.answer_types import Answer, Feedback
from fti.store.errors import AnswerNotFound, DocumentNotFound
from fti.store.files.atomic import open_line
from fti.store.types import document_id
from tests.unit.inference.conftest import DOCUMENTS, World
from tests.unit.inference.evaluating.test_evaluation import trained_on

KILN = "/docs/workshop/kiln.md"
ASKED = "When is the kiln fired?"


def test_an_answer_leads_back_to_model_dataset_and_passages(world: World, tmp_path: Path) -> None:
    ref = trained_on(world, tmp_path, "/docs/library/loans.md")
    assistant = world.assistant(model=ref)
    answer = assistant.answer(ASKED)
    world.store.answers.feedback(Feedback(answer_id=answer.id, rating="up"))
    lineage = trace_answer(world.store, answer.id)
    assert lineage.model.ref == ref
    assert lineage.model.contract_digest == assistant.contract.digest
    assert lineage.model.dataset is not None
    assert lineage.model.dataset.ref == "rows/1"
    assert lineage.model.dataset.documents == 2
    assert lineage.features_version == lineage.features_now == world.store.features.version()
    (cited,) = [p for p in lineage.passages if p.cited]
    assert (cited.source, cited.standing) == (KILN, "stands")
    assert cited.quote == answer.citations[0].quote
    assert [f.rating for f in lineage.feedback] == ["up"]


def test_an_answer_is_traced_to_the_settings_that_made_it(world: World) -> None:
    generator = world.extractive()
    contract = world.contract(generator, abstain_below=0.05, refuse_above=0.5)
    engine = {"engine": "extractive", "min_similarity": 0.2}
    retrieval = RetrievalConfig(mode="vector", near_copies=0.7)
    reranked = Assistant(
        world.store, world.embedder, LexicalReranker(), generator, contract,
        InferenceConfig(retrieval=retrieval), engine=engine,
    )  # fmt: skip
    with reranked.stream(ASKED, key="k-7f", collections=["workshop"]) as events:
        (asked,) = [e.answer for e in events if e.answer is not None]
    lineage = trace_answer(world.store, asked.id)
    assert lineage.retrieval == reranked.retriever.contract
    assert lineage.retrieval is not None
    assert lineage.retrieval.reranker == LexicalReranker().identity
    assert lineage.thresholds is not None
    assert (lineage.thresholds.abstain_below, lineage.thresholds.refuse_above) == (0.05, 0.5)
    assert lineage.engine == engine
    assert lineage.code_version == importlib.metadata.version("fti-llm")
    assert (lineage.key, lineage.collections) == ("k-7f", ("workshop",))
    # Without a calibrated contract the profile's own threshold is the one that applied.
    plain = world.assistant(min_similarity=0.11).answer(ASKED)
    assert plain.thresholds is not None
    assert plain.thresholds.abstain_below == 0.11
    assert world.assistant(use_retrieval=False).answer(ASKED).retrieval is None


def test_many_answers_at_once_say_what_made_them_too(world: World) -> None:
    (one,) = world.assistant().answer_many([ASKED])
    assert isinstance(one, Answer)
    assert one.retrieval == world.assistant().retriever.contract
    assert one.code_version


def test_an_answer_of_an_earlier_fti_is_traced_without_them(world: World) -> None:
    answer = world.assistant().answer(ASKED)
    (day,) = world.store.layout.answers.glob("20*.jsonl")
    line = dict(open_line(day.read_bytes()))
    for field in ("retrieval", "thresholds", "engine", "code_version", "collections", "warnings"):
        del line[field]
    day.write_text(json.dumps(line) + "\n", "utf-8")
    lineage = trace_answer(world.store, answer.id)
    assert (lineage.retrieval, lineage.thresholds, lineage.code_version) == (None, None, "")


def test_the_base_has_no_training_behind_it(world: World) -> None:
    lineage = trace_answer(world.store, world.assistant().answer(ASKED).id)
    assert (lineage.model.ref, lineage.model.dataset, lineage.model.missing) == ("base", None, "")


def test_a_model_that_was_removed_is_named_as_missing(world: World) -> None:
    lineage = trace_answer(world.store, world.assistant(model="gone/1").answer(ASKED).id)
    assert "gone" in lineage.model.missing


def test_a_passage_says_whether_its_text_still_stands(world: World) -> None:
    answer = world.assistant().answer(ASKED)

    def standing() -> set[str]:
        lineage = trace_answer(world.store, answer.id)
        return {p.standing for p in lineage.passages if p.source == KILN}

    assert standing() == {"stands"}
    world.put({KILN: "# Kiln\n\nThe kiln was sold.\n\nIt was blue."})
    assert standing() == {"changed"}
    world.store.features.delete([document_id(KILN)])
    assert standing() == {"deleted"}


def test_an_unknown_answer_is_an_error(world: World) -> None:
    with pytest.raises(AnswerNotFound):
        trace_answer(world.store, "a-20260101-000000000000")


def test_a_document_leads_to_what_came_of_it(world: World, tmp_path: Path) -> None:
    first = trained_on(world, tmp_path, KILN)
    second = trained_on(world, tmp_path, "/docs/library/loans.md", parent=first)
    answer = world.assistant().answer(ASKED)
    lineage = trace_document(world.store, "workshop/kiln.md")
    assert (lineage.source, lineage.state) == (KILN, "indexed")
    assert len(lineage.chunks) == 2
    text = DOCUMENTS[KILN]
    assert text[lineage.chunks[0].start : lineage.chunks[0].end].startswith("The kiln is fired")
    assert [(d.ref, d.split) for d in lineage.datasets] == [("rows/1", "train")]
    assert [(m.ref, m.dataset) for m in lineage.models] == [(first, "rows/1"), (second, "rows/1")]
    assert [(a.answer, a.cited) for a in lineage.answers] == [(answer.id, True)]


@pytest.mark.parametrize("reference", [KILN, document_id(KILN), "workshop/kiln.md"])
def test_a_deleted_document_is_still_traced(world: World, reference: str) -> None:
    answer = world.assistant().answer(ASKED)
    world.store.features.delete([document_id(KILN)])
    lineage = trace_document(world.store, reference)
    assert (lineage.source, lineage.state, lineage.chunks) == (KILN, "deleted", ())
    assert [a.answer for a in lineage.answers] == [answer.id]


@pytest.mark.parametrize("typed", ["Bücher/Öfen.md", "Bu\u0308cher/O\u0308fen.md"])
@pytest.mark.parametrize("stored", ["/docs/Bücher/Öfen.md", "/docs/Bu\u0308cher/O\u0308fen.md"])
def test_a_name_is_known_in_either_form_of_unicode_also_once_it_is_deleted(
    world: World, stored: str, typed: str
) -> None:
    world.put({stored: DOCUMENTS[KILN].replace("kiln", "furnace")})
    world.assistant().answer("When is the furnace fired?")
    assert trace_document(world.store, typed).source == stored
    world.store.features.delete([document_id(stored)])
    for name in (typed, f"/docs/{typed}"):
        lineage = trace_document(world.store, name)
        assert (lineage.source, lineage.state) == (stored, "deleted")


def test_an_unknown_or_ambiguous_document_is_an_error(world: World) -> None:
    with pytest.raises(DocumentNotFound, match=r"kiln\.md"):
        trace_document(world.store, "kilm.md")
    world.put({"/a/same.md": "# Same\n\nOne text.", "/b/same.md": "# Same\n\nOther text."})
    with pytest.raises(DocumentNotFound, match="means 2 documents"):
        trace_document(world.store, "same.md")
