"""txtai: an embeddings database with content and a hybrid index; upsert and delete.

As its pages "Embeddings: index guide", "Embeddings: configuration" and "Segmentation" have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from peer_protocol import Hit, Job, Peer, run
from transformers import AutoTokenizer
from txtai import Embeddings
from txtai.pipeline import Segmentation


class Txtai(Peer):
    packages = ("txtai", "faiss-cpu")

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.folder = str(self.store / "txtai")
        self.database = Embeddings(
            path=job.model, method="sentence-transformers", content=True, hybrid=True
        )
        if self.database.exists(self.folder):
            self.database.load(self.folder)

    def ready(self) -> None:
        self.database.batchtransform(["Ready?"])

    def sync(self, corpus: dict[str, str]) -> None:
        segment = Segmentation(
            chunker="recursive",
            tokenizer=AutoTokenizer.from_pretrained(self.job.model).backend_tokenizer,
            chunk_size=self.job.max_tokens,
        )
        rows = [
            (f"{name}#{number}", {"text": text, "source": name}, None)
            for name, whole in corpus.items()
            for number, text in enumerate(segment(whole))
        ]
        self.database.upsert(rows)
        self.database.save(self.folder)

    def remove(self, name: str) -> None:
        rows = self.database.search(
            "select id from txtai where source = :name", limit=100_000, parameters={"name": name}
        )
        self.database.delete([row["id"] for row in rows])
        self.database.save(self.folder)

    def chunks(self) -> list[Hit]:
        rows = self.database.search("select source, text from txtai", limit=1_000_000)
        return [(row["source"], row["text"]) for row in rows]

    def settings(self) -> dict[str, dict[str, Any]]:
        # A hybrid index searches both at all weights, so that neither can be timed alone.
        grid: dict[str, dict[str, Any]] = {"hybrid": {}}
        return grid | {
            f"weights {t / 10} and {1 - t / 10}": {"weights": t / 10} for t in (2, 3, 4, 6, 7)
        }

    def searcher(self, weights: float | None = None) -> Callable[[str], Sequence[Hit]]:
        def search(question: str) -> list[Hit]:
            found = self.database.search(question, limit=self.job.k, weights=weights)
            return [(row["id"].rpartition("#")[0], row["text"]) for row in found]

        return search


if __name__ == "__main__":
    run(Txtai)
