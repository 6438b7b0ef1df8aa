"""Hard negatives: near the question, not its answer, and never of a held-out document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fti.pipelines.feature.dataset.negatives import NegativesConfig, hard_negatives, mine_negatives
from fti.store.errors import InputError
from fti.store.store import Store
from fti.store.types import DatasetVersion, InstructionExample, Passage
from tests.support.tiny_embedder import FORM
from tests.support.values import EMBEDDER, a_passage, a_row

GOLD = a_passage("The hall opens at nine.", chunk_id="gold", document_id="d-train")


def near(text: str, similarity: float | None, **changes: str) -> Passage:
    fields = {"chunk_id": text[:12], "document_id": "d-train", **changes}
    return a_passage(text, similarity=similarity, **fields)


def row(**changes: object) -> InstructionExample:
    fields = {
        "kind": "case", "passages": (GOLD,), "chunk_ids": ("gold",), "answer": "at nine",
    } | changes  # fmt: skip
    return a_row(**fields)  # type: ignore[arg-type]


def test_negatives_do_not_hold_the_answer_and_lie_below_the_right_passage() -> None:
    found = [
        near("It closes early.", 0.79),  # as near as the right one: it may be right too
        GOLD.model_copy(update={"similarity": 0.8}),
        near("Doors are open at nine o'clock.", 0.7),  # holds the answer
        near("The hall was painted.", 0.6),
        near("The hall has words only.", None),
        near("The hall is old.", 0.5),
    ]
    chosen = hard_negatives(row(), found, NegativesConfig(count=2, margin=0.05))
    assert [p.text for p in chosen] == ["The hall was painted.", "The hall has words only."]
    assert len(hard_negatives(row(), found, NegativesConfig(count=9))) == 3
    assert hard_negatives(row(), found[1:3], NegativesConfig()) == []


def test_the_margin_needs_to_know_how_near_the_right_passage_is() -> None:
    found = [near("It closes early.", 0.79), near("The hall was painted.", 0.6)]
    assert len(hard_negatives(row(), found, NegativesConfig(count=5))) == 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def source(store: Store, rows: Sequence[InstructionExample]) -> DatasetVersion:
    return store.datasets.publish(
        "hours", rows={"train": list(rows)}, features_version=0, embedder=EMBEDDER,
        prompt_digest=FORM.digest, run_id="r-1",
        documents={"train": ["d-train"], "validation": [], "test": ["d-test"]},
    )  # fmt: skip


def pairs(store: Store, dataset: DatasetVersion, found: Sequence[Passage]) -> DatasetVersion:
    asked: list[int] = []

    def search(questions: Sequence[str], k: int) -> list[list[Passage]]:
        asked.append(k)
        return [list(found) for _ in questions]

    made = mine_negatives(
        "hours-pairs", dataset, store=store, search=search, embedder=EMBEDDER,
        retrieval={"mode": "hybrid"}, form=FORM, config=NegativesConfig(count=1, depth=7),
    )  # fmt: skip
    assert set(asked) <= {7}
    return made


def test_rows_are_the_right_passage_and_what_the_search_mistook_for_it(store: Store) -> None:
    held_out = near("The hall of the test.", 0.7, document_id="d-test")
    unknown = near("A later document.", 0.7, document_id="d-new")
    found = [held_out, unknown, near("The hall was painted.", 0.6)]
    dataset = source(store, [row(), a_row("u", answer="", citations=(), kind="unanswerable"),
                             row(id="c", kind="cloze")])  # fmt: skip
    made = pairs(store, dataset, found)
    (made_row,) = store.datasets.rows(made.ref, "train")
    assert [p.text for p in made_row.passages] == [GOLD.text, "The hall was painted."]
    assert made_row.citations == (1,)
    assert made.documents["test"] == ("d-test",)
    assert made.settings["from"] == dataset.ref
    run = store.runs.get(made.run_id)
    assert run.metrics["left_out"] == {"cloze": 1, "unanswerable": 1}


def test_the_same_again_is_the_version_that_is_there(store: Store) -> None:
    found = [near("The hall was painted.", 0.6)]
    dataset = source(store, [row()])
    first = pairs(store, dataset, found)
    assert pairs(store, dataset, found).ref == first.ref
    other = source(store, [row(), row(id="r2", question="When is it open?")])
    assert pairs(store, other, found).version == 2


def test_questions_without_a_negative_are_counted_and_none_left_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="no_hard_negative 1") as caught:
        pairs(store, source(store, [row()]), [GOLD])
    assert "fti dataset build hours --cases" in caught.value.hint
