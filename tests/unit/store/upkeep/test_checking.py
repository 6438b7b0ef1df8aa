"""Looking a store over: each kind of damage is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.store.lance.shapes import DocumentUpdate
from fti.store.store import Store
from fti.store.upkeep.checking import check_store
from tests.support.features import an_update
from tests.unit.store.upkeep.test_backup import fill


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fill(tmp_path / "store")


def test_a_whole_store_has_no_problems(store: Store) -> None:
    found = check_store(store)
    assert not found.problems
    assert found.checked == {
        "documents": 2, "chunks": 3, "models": 1, "aliases": 1, "runs": 1, "answers": 1,
    }  # fmt: skip


def test_an_empty_store_is_whole(tmp_path: Path) -> None:
    assert not check_store(Store(tmp_path / "new")).problems


def an_adapter_changed(store: Store) -> None:
    (store.models.path("reader/1") / "card.md").write_text("another card", "utf-8")


def an_alias_left_over(store: Store) -> None:
    import shutil

    files = store.layout.root.parent / "files"
    from tests.support.values import a_contract, publish_adapter

    publish_adapter(store, files, a_contract())
    store.models.promote("reader", 2, "challenger", reason="newer")
    shutil.rmtree(store.models.path("reader/2"))


def a_broken_answer(store: Store) -> None:
    with next(store.layout.answers.glob("2026-*.jsonl")).open("a", encoding="utf-8") as log:
        log.write("{\n")


def a_chunk_that_is_not_in_the_text(store: Store) -> None:
    update = an_update("/c.md", ["four"])
    wrong = update.document.model_copy(update={"text": "five"})
    store.features.replace([replaced(update, document=wrong)])


def a_chunk_that_differs_from_its_digest(store: Store) -> None:
    update = an_update("/c.md", ["four"])
    wrong = (update.chunks[0].model_copy(update={"content_hash": "0" * 64}),)
    store.features.replace([replaced(update, chunks=wrong)])


def an_interrupted_ingest(store: Store) -> None:
    from fti.store.lance import shapes

    table = store.features._lance.open(shapes.CHUNKS)
    update = an_update("/c.md", ["four"])
    table.add(shapes.chunks_table([update], table.schema))


def a_run_that_cannot_be_read(store: Store) -> None:
    (store.layout.runs / store.runs.list()[0].id / "run.json").write_text("{", "utf-8")


def replaced(update: DocumentUpdate, **changes: Any) -> DocumentUpdate:
    from dataclasses import replace

    return replace(update, **changes)


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        (an_adapter_changed, "model reader/1", "card.md: differs from the manifest"),
        (an_alias_left_over, "model reader@challenger", "reader/2, which is gone"),
        (a_broken_answer, "answers", "1 lines cannot be read"),
        (a_chunk_that_is_not_in_the_text, "/c.md", "is not what stands in the document"),
        (a_chunk_that_differs_from_its_digest, "/c.md", "differs from its digest"),
        (an_interrupted_ingest, "features", "have chunks and no line in the ledger"),
        (a_run_that_cannot_be_read, "runs", "cannot be read"),
    ],
)
def test_damage_is_found(
    store: Store, damage: Callable[[Store], None], where: str, what: str
) -> None:
    damage(store)
    problems = check_store(Store(store.layout.root)).problems
    assert [p.where for p in problems] == [where], problems
    assert what in problems[0].problem


def test_vectors_that_are_no_numbers_are_found(store: Store) -> None:
    import pyarrow as pa

    from fti.store.lance import shapes

    table = store.features._lance.open(shapes.CHUNKS)
    rows = table.search().where("text = 'one'").to_arrow()
    vector = np.full(rows.schema.field("vector").type.list_size, np.inf, np.float32)
    at = rows.schema.get_field_index("vector")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vector), len(vector))
    changed = rows.set_column(at, table.schema.field("vector"), column)
    table.merge_insert("id").when_matched_update_all().execute(changed.cast(table.schema))
    (problem,) = check_store(store).problems
    assert (problem.where, problem.problem[:22]) == ("/a.md", "a vector of it is none")
