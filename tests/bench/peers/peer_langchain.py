"""LangChain with Chroma: the indexing API with a record manager, BM25 and vectors in an ensemble.

As its pages "How to use the LangChain indexing API", "BM25" and "How to combine results from
multiple retrievers" have it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_chroma import Chroma
from langchain_classic.indexes import SQLRecordManager
from langchain_classic.retrievers import EnsembleRetriever
from langchain_community.retrievers import BM25Retriever
from langchain_core.documents import Document
from langchain_core.indexing import index
from langchain_huggingface import HuggingFaceEmbeddings
from langchain_text_splitters import RecursiveCharacterTextSplitter
from peer_protocol import Hit, Job, Peer, run
from transformers import AutoTokenizer


def words(text: str) -> list[str]:
    """Words in lower case, where BM25Retriever would split at white space alone."""
    return re.findall(r"\w+", text.lower())


class LangChain(Peer):
    packages = ("langchain-core", "langchain-classic", "langchain-chroma", "chromadb")
    sync_removes = True

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.embeddings = HuggingFaceEmbeddings(model_name=job.model)
        self.vectors = Chroma(
            "corpus", self.embeddings, persist_directory=str(self.store / "chroma")
        )
        self.records = SQLRecordManager(
            "chroma/corpus", db_url=f"sqlite:///{self.store / 'records.sql'}"
        )
        self.records.create_schema()

    def ready(self) -> None:
        self.embeddings.embed_query("Ready?")

    def sync(self, corpus: dict[str, str]) -> None:
        splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
            AutoTokenizer.from_pretrained(self.job.model),
            chunk_size=self.job.max_tokens,
            chunk_overlap=self.job.overlap_tokens,
        )
        documents = [Document(text, metadata={"source": name}) for name, text in corpus.items()]
        index(
            splitter.split_documents(documents),
            self.records,
            self.vectors,
            cleanup="full",
            source_id_key="source",
        )

    def chunks(self) -> list[Hit]:
        held = self.vectors.get()
        pairs = zip(held["metadatas"], held["documents"], strict=True)
        return [(metadata["source"], text) for metadata, text in pairs]

    def settings(self) -> dict[str, dict[str, Any]]:
        grid: dict[str, dict[str, Any]] = {
            "vector": {"vectors": 1.0},
            "text": {"vectors": 0.0},
            "hybrid": {"vectors": 0.5},
        }
        for deep in (10, 50):
            for tenths in (3, 5, 7):
                grid[f"lower-case words, {deep} of each, {tenths / 10} vectors"] = {
                    "vectors": tenths / 10,
                    "folded": True,
                    "deep": deep,
                }
        return grid

    def searcher(
        self, vectors: float, folded: bool = False, deep: int = 0
    ) -> Callable[[str], Sequence[Hit]]:
        near = self.vectors.as_retriever(search_kwargs={"k": deep or self.job.k})
        worded = BM25Retriever.from_documents(
            [Document(text, metadata={"source": name}) for name, text in self.chunks()],
            k=deep or self.job.k,
            **({"preprocess_func": words} if folded else {}),
        )
        both = EnsembleRetriever(retrievers=[near, worded], weights=[vectors, 1 - vectors])
        retriever = {1.0: near, 0.0: worded}.get(vectors, both)
        return lambda question: [
            (found.metadata["source"], found.page_content) for found in retriever.invoke(question)
        ]


if __name__ == "__main__":
    run(LangChain)
