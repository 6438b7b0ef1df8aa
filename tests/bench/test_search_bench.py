"""What a search costs: each mode against the others, over a few thousand chunks."""

from __future__ import annotations

from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.store.store import Store


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """A store of about two thousand chunks."""
    root = tmp_path_factory.mktemp("search")
    folder = root / "pages"
    folder.mkdir()
    for n in range(400):
        body = "\n\n".join(
            f"## Part {p}\n\n" + " ".join(f"bolt{n + i} fits nut{p * i}." for i in range(50))
            for p in range(5)
        )
        (folder / f"{n:03}.md").write_text(f"# Page {n}\n\n{body}\n", "utf-8")
    store = Store(root / "store")
    embedder = HashingEmbedder()
    ingest([str(folder)], store=store, embedder=embedder, config=FeatureConfig())
    return Retriever(store.features, embedder)


@pytest.mark.benchmark(group="search modes")
@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_search_mode(benchmark: Any, retriever: Retriever, mode: Any) -> None:
    found = benchmark(lambda: retriever.search("which nut does bolt17 fit", 10, mode))
    assert len(found) == 10
