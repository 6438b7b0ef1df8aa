"""Collections: what comes into one, what moves, and what a search within one finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.inference_config import RetrievalConfig
from fti.store.errors import CollectionNotFound, InvalidName
from fti.store.features.filters import parse
from fti.store.lance.shapes import DOCUMENTS
from fti.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for name, text in {
        "law/rent.md": "---\ncollection: claimed\n---\n# Rent\n\nRent is due on the first.\n",
        "law/noise.md": "# Noise\n\nRent a drum, but be quiet after ten.\n",
        "food/pie.md": "# Pie\n\nPie is rent for the soul.\n",
    }.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path / "docs"


def run(store: Store, path: Path, **options: Any) -> IngestReport:
    return ingest([str(path)], store=store, embedder=HashingEmbedder(), config=FeatureConfig(),
                  **options)  # fmt: skip


def search(store: Store, collection: str = "", where: tuple[str, ...] = ()) -> set[str]:
    config = RetrievalConfig(collection=collection)
    found = Retriever(store.features, HashingEmbedder(), config=config).search(
        "rent", where=parse(where)
    )
    return {p.title for p in found}


def test_a_search_within_a_collection_finds_nothing_else(store: Store, docs: Path) -> None:
    run(store, docs / "law", collection="law")
    run(store, docs)
    assert search(store) == {"Rent", "Noise", "Pie"}
    assert search(store, "law") == {"Rent", "Noise"}
    assert search(store, "law", ("title=Noise",)) == {"Noise"}
    assert search(store, where=("collection!=law",)) == {"Pie"}
    assert store.features.collections() == {"law": (2, 2)}, "an ingest without a name moves nothing"


def test_documents_move_without_being_embedded_again(store: Store, docs: Path) -> None:
    run(store, docs, collection="all")
    moved = run(store, docs / "food", collection="food")
    assert (moved.updated, moved.embedded_chunks) == (1, 0)
    assert store.features.collections() == {"all": (2, 2), "food": (1, 1)}
    again = run(store, docs / "food", collection="food")
    assert (again.updated, again.unchanged) == (0, 1)


def test_a_changed_document_stays_in_its_collection(store: Store, docs: Path) -> None:
    run(store, docs / "food", collection="food")
    (docs / "food" / "pie.md").write_text("# Pie\n\nNo rent today.\n", "utf-8")
    assert run(store, docs / "food").updated == 1
    assert search(store, "food") == {"Pie"}


def test_a_document_cannot_claim_a_collection(store: Store, docs: Path) -> None:
    run(store, docs)
    assert store.features.collections() == {}
    with pytest.raises(CollectionNotFound, match="'claimed'"):
        search(store, "claimed")
    run(store, docs, collection="mine")
    assert search(store, where=("collection=claimed",)) == set()
    assert search(store, where=("own_collection=claimed",)) == {"Rent"}


def test_what_is_no_collection_is_refused(store: Store, docs: Path) -> None:
    with pytest.raises(InvalidName, match=r"'No/Name' is not a name for a collection"):
        run(store, docs, collection="No/Name")
    run(store, docs, collection="law")
    with pytest.raises(CollectionNotFound, match="'lore'") as refused:
        search(store, "lore")
    assert "law" in refused.value.hint


def test_a_failed_file_comes_into_the_collection_once_it_can_be_read(
    store: Store, docs: Path
) -> None:
    bad = docs / "law" / "bad.json"
    bad.write_text("{", "utf-8")
    assert len(run(store, docs / "law", collection="law").failed) == 1
    bad.write_text('{"title": "Bad", "text": "Rent went up."}', "utf-8")
    run(store, docs / "law")
    assert "Bad" in search(store, "law")


def test_a_store_from_before_there_were_collections_gets_the_column(
    store: Store, docs: Path
) -> None:
    run(store, docs)
    version = store.features.version()
    table = store.features._lance.open(DOCUMENTS)
    table.drop_columns(
        ["collection", "attempts", "retry_at", "attempted_settings", "duplicate_of", "signature"]
    )
    old = Store(store.layout.root)
    assert len(old.features.records()) == 3
    assert search(old) == {"Rent", "Noise", "Pie"}

    run(old, docs / "law", collection="law")

    assert search(old, "law") == {"Rent", "Noise"}
    assert len(list(old.features.checkout(version).documents())) == 3
