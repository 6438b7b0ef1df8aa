"""Documents that say nearly the same: found, marked, and not shown twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.store.store import Store

WORDS = [f"word{n}" for n in range(120)]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "first.md").write_text("# Saw\n\n" + " ".join(WORDS), "utf-8")
    changed = [*WORDS[:60], "another", *WORDS[61:]]
    (docs / "second.md").write_text("# Saw\n\n" + " ".join(changed), "utf-8")
    (docs / "third.md").write_text("# Lathe\n\nword1 word2 and nothing else here.", "utf-8")
    return docs


def run(store: Store, docs: Path, **options: bool) -> IngestReport:
    return ingest([str(docs)], store=store, embedder=HashingEmbedder(64), config=FeatureConfig(),
                  **options)  # fmt: skip


def marked(store: Store) -> dict[str, str]:
    found = store.features.near_duplicates().items()
    return {Path(one).name: Path(other).name for one, other in found}


def test_documents_that_say_nearly_the_same_are_marked_and_shown_once(
    docs: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    assert run(store, docs).near_duplicates == 1
    assert marked(store) == {"second.md": "first.md"}
    found = Retriever(store.features, HashingEmbedder(64)).search("word5 word6 word7", 9)
    assert sum(p.title == "Saw" for p in found) == 1

    (docs / "another.md").write_text((docs / "first.md").read_text("utf-8"), "utf-8")
    assert run(store, docs).near_duplicates == 2
    assert marked(store) == {"second.md": "first.md", "another.md": "first.md"}, "the first stays"
    assert run(store, docs).near_duplicates == 2, "also when nothing has changed"

    (docs / "first.md").unlink()
    assert run(store, docs, delete_missing=True).near_duplicates == 1
    (docs / "second.md").write_text("# Saw\n\nIt was rewritten.", "utf-8")
    assert run(store, docs).near_duplicates == 0
    assert marked(store) == {}
