"""fti by its Python functions, as docs/python.md shows them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peer_protocol import Hit, Job, Peer, run

from fti.pipelines.engines.embedders.embedder_loading import load_embedder
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.inference_config import RetrievalConfig
from fti.store.store import Store
from fti.store.types import Fusion, Passage


class Fti(Peer):
    """The default profile: chunks of 200 tokens, LanceDB, both searches fused."""

    packages = ("fti-llm", "lancedb", "torch")
    sync_removes = True

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.embedder = load_embedder(EmbedderConfig())  # the same weights, by their package
        self.features = Store(self.store / "fti")

    def ready(self) -> None:
        self.embedder.embed_documents(["Ready?", "Yes."])
        if self.job.phase != "ask":
            self._practise()
        self.features.features.stats()  # opens what is there

    def _practise(self) -> None:
        """Import what an ingest imports when it first uses it; the others do so at their top."""
        with tempfile.TemporaryDirectory() as aside:
            page = Path(aside) / "ready.md"
            page.write_text("# Ready\n\n" + "Is everything ready to begin? It is. " * 40, "utf-8")
            self._ingest([str(page)], Store(Path(aside) / "store"))

    def _ingest(self, sources: Sequence[str], store: Store) -> None:
        report = ingest(
            sources,
            store=store,
            embedder=self.embedder,
            config=FeatureConfig(),
            delete_missing=True,
        )
        if report.failed:
            raise RuntimeError(f"Not ingested: {report.failed}")

    def sync(self, corpus: dict[str, str]) -> None:
        self._ingest(sorted({str(Path(file).parent) for file in self.job.files}), self.features)

    def remove(self, name: str) -> None:
        raise NotImplementedError  # a sync removes what is gone

    def chunks(self) -> list[Hit]:
        table = self.features.features.to_arrow(["source", "text"])
        pairs = zip(table["source"].to_pylist(), table["text"].to_pylist(), strict=True)
        return [(Path(source).name, text) for source, text in pairs]

    def settings(self) -> dict[str, dict[str, Any]]:
        grid: dict[str, dict[str, Any]] = {
            "vector": {"mode": "vector"},
            "text": {"mode": "text"},
            "hybrid": {},
        }
        for tenths in (3, 5, 6):
            grid[f"weighted scores, {tenths / 10} vectors"] = {
                "fusion": {"method": "weighted", "vector_weight": tenths / 10}
            }
        for tenths in (3, 5):
            grid[f"reciprocal ranks, {tenths / 10} vectors"] = {
                "fusion": {"method": "rrf", "vector_weight": tenths / 10}
            }
        return grid

    def searcher(self, **how: Any) -> Callable[[str], Sequence[Hit]]:
        if "fusion" in how:
            how["fusion"] = Fusion(**how["fusion"])
        config = RetrievalConfig(**how)
        retriever = Retriever(self.features.features, self.embedder, config=config)

        def hit(passage: Passage) -> Hit:
            return Path(passage.source).name, passage.text

        return lambda question: [hit(p) for p in retriever.search(question, self.job.k)]


if __name__ == "__main__":
    run(Fti)
