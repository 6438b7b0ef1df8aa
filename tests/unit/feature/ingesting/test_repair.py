"""Damage of every kind: found, named, and put right from the stored texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.ingesting.repair import repair
from fti.store.errors import EmbedderMismatch
from fti.store.features.health import Diagnosis
from fti.store.lance.shapes import CHUNKS, DOCUMENTS
from fti.store.store import Store

EMBEDDER, CONFIG = HashingEmbedder(64), FeatureConfig()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("anvil", "bellows"):
        (docs / f"{name}.md").write_text(f"# {name}\n\nThe {name} is kept in the hall.\n", "utf-8")
    store = Store(tmp_path / "store")
    ingest([str(docs)], store=store, embedder=EMBEDDER, config=CONFIG)
    return store


def table(store: Store, name: str = CHUNKS) -> Any:
    return store.features._lance.open(name)


def state(store: Store) -> list[tuple[Any, ...]]:
    rows = table(store).search().to_arrow().to_pylist()
    return sorted((r["id"], r["document_hash"], r["text"], tuple(r["vector"])) for r in rows)


def double_a_row(store: Store) -> None:
    row = table(store).search().limit(1).to_arrow().cast(table(store).schema)
    table(store).add(row)


def lose_a_vector(store: Store) -> None:
    row = table(store).search().limit(1).to_arrow().to_pylist()[0]
    zero = pa.Table.from_pylist([{**row, "vector": np.zeros(64)}], schema=table(store).schema)
    table(store).merge_insert("id").when_matched_update_all().execute(zero)


def lose_chunks(store: Store) -> None:
    table(store).delete(f"document_id = '{store.features.records()[0].id}'")


def forget_a_document(store: Store) -> None:
    table(store, DOCUMENTS).delete(f"id = '{store.features.records()[0].id}'")


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (double_a_row, "duplicated"),
        (lose_a_vector, "without_vector"),
        (lose_chunks, "broken"),
    ],
)
def test_damaged_chunks_are_found_and_made_anew(
    store: Store, damage: Callable[[Store], None], name: str
) -> None:
    before = state(store)
    damage(store)
    assert len(getattr(store.features.diagnose(), name)) == 1

    report = repair(store=store, embedder=EMBEDDER, config=CONFIG)

    assert (report.documents_remade, report.left) == (1, ())
    assert state(store) == before
    assert store.features.diagnose() == Diagnosis()


def test_chunks_of_a_document_that_is_gone_are_removed(store: Store) -> None:
    forget_a_document(store)
    assert len(store.features.diagnose().orphans) == 1
    report = repair(store=store, embedder=EMBEDDER, config=CONFIG)
    assert report.orphans_removed == 1
    assert store.features.diagnose() == Diagnosis()
    assert len(store.features.chunks()) == 1


def test_a_stale_or_missing_index_is_brought_up_to_date(store: Store) -> None:
    repair(store=store, embedder=EMBEDDER, config=CONFIG)
    (index,) = [i.name for i in table(store).list_indices() if list(i.columns) == ["search_text"]]
    table(store).drop_index(index)
    assert store.features.diagnose().stale_index
    repair(store=store, embedder=EMBEDDER, config=CONFIG)
    assert not store.features.diagnose().stale_index
    assert [p.title for p in store.features.search_text("anvil", 3)] == ["anvil"]


def test_a_sound_store_is_left_as_it_is(store: Store) -> None:
    repair(store=store, embedder=EMBEDDER, config=CONFIG)
    version = store.features.version()
    report = repair(store=store, embedder=EMBEDDER, config=CONFIG)
    assert (report.orphans_removed, report.documents_remade) == (0, 0)
    assert store.features.version() == version


def test_another_embedder_repairs_nothing(store: Store) -> None:
    with pytest.raises(EmbedderMismatch):
        repair(store=store, embedder=HashingEmbedder(32), config=CONFIG)


def test_an_empty_store_has_nothing_wrong(tmp_path: Path) -> None:
    assert Store(tmp_path / "empty").features.diagnose() == Diagnosis()
