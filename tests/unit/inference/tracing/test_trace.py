from __future__ import annotations

from pathlib import Path

import pytest

from fti.pipelines.inference.tracing.answer_lineage import trace_answer
from fti.pipelines.inference.tracing.document_lineage import trace_document
from fti.store.errors import AnswerNotFound, DocumentNotFound
from fti.store.types import Feedback, document_id
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
