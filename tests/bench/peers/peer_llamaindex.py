"""LlamaIndex with LanceDB: an ingestion pipeline with a document store that upserts and deletes.

As its pages "Ingestion Pipeline + Document Management", "LanceDB Vector Store" and "Reciprocal
Rerank Fusion Retriever" have it, without a language model that writes queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import MetadataMode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.retrievers.bm25 import BM25Retriever
from llama_index.vector_stores.lancedb import LanceDBVectorStore
from peer_protocol import Hit, Job, Peer, run
from transformers import AutoTokenizer


class LlamaIndex(Peer):
    packages = ("llama-index-core", "llama-index-vector-stores-lancedb", "lancedb")
    sync_removes = True

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.embedder = HuggingFaceEmbedding(model_name=job.model)
        self.state = str(self.store / "pipeline")
        self.vectors = LanceDBVectorStore(uri=str(self.store / "lancedb"))

    def ready(self) -> None:
        self.embedder.get_query_embedding("Ready?")

    def sync(self, corpus: dict[str, str]) -> None:
        pipeline = self.pipeline()
        pipeline.run(
            documents=[
                Document(text=text, id_=name, metadata={"file_name": name})
                for name, text in corpus.items()
            ]
        )
        pipeline.persist(self.state)

    def remove(self, name: str) -> None:
        # ``LanceDBVectorStore.delete`` puts the id into double quotes, which LanceDB takes for the
        # name of a column.
        pipeline = self.pipeline()
        pipeline.docstore.delete_document(name)
        pipeline.persist(self.state)
        self.vectors.table.delete("doc_id = '" + name.replace("'", "''") + "'")

    def pipeline(self) -> IngestionPipeline:
        """As it was when it was last persisted."""
        tokenizer = AutoTokenizer.from_pretrained(self.job.model)
        pipeline = IngestionPipeline(
            transformations=[
                SentenceSplitter(
                    chunk_size=self.job.max_tokens,
                    chunk_overlap=self.job.overlap_tokens,
                    tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False),
                ),
                self.embedder,
            ],
            docstore=SimpleDocumentStore(),
            vector_store=self.vectors,
            docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        )
        if Path(self.state).is_dir():
            pipeline.load(self.state)
        return pipeline

    def chunks(self) -> list[Hit]:
        return [
            (node.metadata["file_name"], node.get_content(MetadataMode.NONE))
            for node in self.vectors.get_nodes()
        ]

    def settings(self) -> dict[str, dict[str, Any]]:
        grid: dict[str, dict[str, Any]] = {
            "vector": {"query_type": "vector"},
            "text": {"query_type": "fts"},
            "hybrid": {"query_type": "hybrid"},
            "LanceDB's hybrid, 5 times as deep": {"query_type": "hybrid", "deeper": 5},
        }
        for mode in ("reciprocal_rerank", "relative_score", "dist_based_score"):
            for tenths in (3, 5) if mode != "reciprocal_rerank" else (5,):
                grid[f"fusion by {mode}, {tenths / 10} vectors"] = {
                    "query_type": "vector",
                    "fusion": mode,
                    "weight": tenths / 10,
                }
        return grid

    def searcher(
        self, query_type: str, deeper: int = 1, fusion: str = "", weight: float = 0.5
    ) -> Callable[[str], Sequence[Hit]]:
        k = self.job.k
        index = VectorStoreIndex.from_vector_store(self.vectors, embed_model=self.embedder)
        self.vectors.overfetch_factor = deeper
        if fusion:
            both = [
                index.as_retriever(similarity_top_k=50),
                BM25Retriever.from_defaults(nodes=self.vectors.get_nodes(), similarity_top_k=50),
            ]
            retriever: Any = QueryFusionRetriever(
                both,
                mode=fusion,
                similarity_top_k=k,
                num_queries=1,
                use_async=False,
                retriever_weights=[weight, 1 - weight],
                llm=_no_model(),
            )
        else:
            retriever = index.as_retriever(
                similarity_top_k=k, vector_store_kwargs={"query_type": query_type}
            )
        return lambda question: [
            (found.node.metadata["file_name"], found.node.get_content(MetadataMode.NONE))
            for found in retriever.retrieve(question)
        ]


def _no_model() -> Any:
    """A stand-in: fusion of one query asks no language model, but wants to be given one."""
    from llama_index.core.llms import MockLLM

    return MockLLM()


if __name__ == "__main__":
    run(LlamaIndex)
