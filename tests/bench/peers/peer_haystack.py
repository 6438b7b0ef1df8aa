"""Haystack with its in-memory store: a pipeline of splitter, embedder and writer, and a joiner.

As its tutorials "Build an Indexing Pipeline" and "Creating a Hybrid Retrieval Pipeline" have it,
without the cross-encoder, which the others could have as well. The store is written to a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from haystack import Document, Pipeline
from haystack.components.joiners import DocumentJoiner
from haystack.components.preprocessors import RecursiveDocumentSplitter
from haystack.components.retrievers.in_memory import (
    InMemoryBM25Retriever,
    InMemoryEmbeddingRetriever,
)
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from peer_protocol import Hit, Job, Peer, run

#: The splitter counts words; on the corpus a word has about so many tokens of the model.
TOKENS_PER_WORD = 1.31


class Haystack(Peer):
    packages = ("haystack-ai", "sentence-transformers-haystack")

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.file = self.store / "documents.json"
        if self.file.is_file():
            self.documents = InMemoryDocumentStore.load_from_disk(str(self.file))
        else:
            self.documents = InMemoryDocumentStore(embedding_similarity_function="cosine")
        self.embedder = SentenceTransformersTextEmbedder(model=job.model, progress_bar=False)
        self.embedder.warm_up()

    def ready(self) -> None:
        self.embedder.run("Ready?")

    def sync(self, corpus: dict[str, str]) -> None:
        pipeline = Pipeline()
        pipeline.add_component(
            "splitter",
            RecursiveDocumentSplitter(
                split_length=round(self.job.max_tokens / TOKENS_PER_WORD),
                split_overlap=round(self.job.overlap_tokens / TOKENS_PER_WORD),
                # Its default also has sentences, for which NLTK would fetch a model.
                separators=["\n\n", "\n", r"(?<=[.!?])\s+", " "],
            ),
        )
        pipeline.add_component(
            "embedder",
            SentenceTransformersDocumentEmbedder(model=self.job.model, progress_bar=False),
        )
        pipeline.add_component(
            "writer", DocumentWriter(self.documents, policy=DuplicatePolicy.OVERWRITE)
        )
        pipeline.connect("splitter", "embedder")
        pipeline.connect("embedder", "writer")
        documents = [
            Document(content=text, meta={"file_path": name}) for name, text in corpus.items()
        ]
        pipeline.run({"splitter": {"documents": documents}})
        self.documents.save_to_disk(str(self.file))

    def remove(self, name: str) -> None:
        self.documents.delete_by_filter(
            {"field": "meta.file_path", "operator": "==", "value": name}
        )
        self.documents.save_to_disk(str(self.file))

    def chunks(self) -> list[Hit]:
        return [(d.meta["file_path"], d.content) for d in self.documents.filter_documents()]

    def settings(self) -> dict[str, dict[str, Any]]:
        grid: dict[str, dict[str, Any]] = {
            "vector": {"only": "vector"},
            "text": {"only": "text"},
            "hybrid": {"join_mode": "concatenate"},
            "reciprocal_rank_fusion": {"join_mode": "reciprocal_rank_fusion", "deep": 50},
            "distribution_based_rank_fusion": {
                "join_mode": "distribution_based_rank_fusion",
                "deep": 50,
            },
        }
        for tenths in (3, 7):
            grid[f"reciprocal_rank_fusion, {tenths / 10} vectors"] = {
                "join_mode": "reciprocal_rank_fusion",
                "deep": 50,
                "weight": tenths / 10,
            }
        for tenths in (3, 5, 7):
            grid[f"merge of scaled scores, {tenths / 10} vectors"] = {
                "join_mode": "merge",
                "deep": 50,
                "weight": tenths / 10,
                "scaled": True,
            }
        return grid

    def searcher(
        self,
        only: str = "",
        join_mode: str = "",
        deep: int = 0,
        weight: float | None = None,
        scaled: bool = False,
    ) -> Callable[[str], Sequence[Hit]]:
        k = self.job.k
        near = InMemoryEmbeddingRetriever(
            self.documents, top_k=deep or k, scale_score=scaled, return_embedding=False
        )
        worded = InMemoryBM25Retriever(self.documents, top_k=deep or k, scale_score=scaled)
        pipeline = Pipeline()
        last = {"vector": "near", "text": "worded"}.get(only, "joiner")
        if only != "text":
            pipeline.add_component("embedder", self.embedder_of_questions())
            pipeline.add_component("near", near)
            pipeline.connect("embedder.embedding", "near.query_embedding")
        if only != "vector":
            pipeline.add_component("worded", worded)
        if not only:
            weights = None if weight is None else [weight, 1 - weight]
            pipeline.add_component(
                "joiner", DocumentJoiner(join_mode=join_mode, weights=weights, top_k=k)
            )
            pipeline.connect("near", "joiner")
            pipeline.connect("worded", "joiner")

        def search(question: str) -> list[Hit]:
            given: dict[str, Any] = {}
            if only != "text":
                given["embedder"] = {"text": question}
            if only != "vector":
                given["worded"] = {"query": question}
            found = pipeline.run(given)[last]["documents"]
            return [(d.meta["file_path"], d.content) for d in found]

        return search

    def embedder_of_questions(self) -> SentenceTransformersTextEmbedder:
        """One for each pipeline: a component belongs to one only."""
        made = SentenceTransformersTextEmbedder(model=self.job.model, progress_bar=False)
        made.warm_up()
        return made


if __name__ == "__main__":
    run(Haystack)
