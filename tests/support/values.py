"""Small valid values for tests: say what matters, leave the rest."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fti.store.answer_types import Answer
from fti.store.contracts.prompt_contract import Contract
from fti.store.store import Store
from fti.store.types import (
    DatasetVersion,
    EmbedderIdentity,
    Fusion,
    InstructionExample,
    ModelIdentity,
    Passage,
    PreferenceExample,
    RetrievalContract,
    Split,
)
from fti.store.versioned.model_version import ModelVersion

EMBEDDER = EmbedderIdentity(id="hashing", weights_sha256="0" * 64, dimension=4, max_tokens=64)
BASE = ModelIdentity(id="tiny", weights_sha256="1" * 64, tokenizer_sha256="2" * 64)


def a_passage(text: str = "The hall opens at nine.", **changes: Any) -> Passage:
    fields = {
        "rank": 1,
        "chunk_id": "c1",
        "document_id": "d1",
        "title": "Hours",
        "source": "/docs/hours.md",
        "text": text,
        "end": len(text),
    }
    return Passage(**(fields | changes))


def a_row(row_id: str = "r1", split: Split = "train", **changes: Any) -> InstructionExample:
    fields = {
        "id": row_id,
        "kind": "cloze",
        "question": "When does the hall open?",
        "answer": "at nine",
        "passages": (a_passage(),),
        "citations": (1,),
        "response": "at nine [1]",
        "split": split,
        "documents": (f"d-{split}",),
        "chunk_ids": ("c1",),
    }
    return InstructionExample(**(fields | changes))


def a_pair(row_id: str = "p1", split: Split = "train", **changes: Any) -> PreferenceExample:
    fields = {
        "id": row_id,
        "kind": "wrong_passage",
        "question": "When does the hall open?",
        "passages": (a_passage(), a_passage("The shop opens at ten.", chunk_id="c2")),
        "chosen": "at nine",
        "chosen_citations": (1,),
        "chosen_response": "at nine [1]",
        "rejected": "at ten",
        "rejected_citations": (2,),
        "rejected_response": "at ten [2]",
        "split": split,
        "documents": (f"d-{split}",),
    }
    return PreferenceExample(**(fields | changes))


def a_contract(**changes: Any) -> Contract:
    fields = {
        "base": BASE,
        "embedder": EMBEDDER,
        "max_prompt_tokens": 200,
        "max_new_tokens": 32,
        "max_passages": 5,
        "max_passage_tokens": 60,
    }
    return Contract(**(fields | changes))


def a_retrieval(**changes: Any) -> RetrievalContract:
    fields = {
        "mode": "hybrid", "k": 10, "candidates": 40, "near_copies": 0.8, "diversity": 0.0,
        "fusion": Fusion(method="weighted", vector_weight=0.4), "context": "chunk",
        "section_characters": 4000, "reranker": None, "min_similarity": 0.25,
    }  # fmt: skip
    return RetrievalContract(**(fields | changes))


def an_answer(answer_id: str, **changes: Any) -> Answer:
    fields = {
        "id": answer_id,
        "created_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "question": "When does the hall open?",
        "text": "At nine. [1]",
        "citations": (),
        "passages": (a_passage(),),
        "abstained": False,
        "model": "reader/1",
        "base": BASE,
        "contract_digest": "3" * 64,
        "features_version": 7,
    }
    return Answer(**(fields | changes))


def publish_adapter(
    store: Store, adapter: Path, contract: Contract, name: str = "reader"
) -> ModelVersion:
    """Register a LoRA adapter's folder as the next version of a model."""
    dataset = DatasetVersion(
        name="faq",
        version=1,
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        rows={"train": 1},
        documents={},
        digest="4" * 64,
        features_version=1,
        embedder=contract.embedder,
        prompt_digest="5" * 64,
        run_id="r-20260301-120000-0123ab",
        files=(),
    )
    return store.models.publish(
        name, adapter, contract=contract, dataset=dataset, run_id=dataset.run_id, metrics={}
    )


def publish_files(store: Store, contract: Contract, name: str = "reader") -> ModelVersion:
    """Register a version that holds a card and no weights, for tests that load none."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "README.md").write_text("# A card\n", "utf-8")
        return publish_adapter(store, Path(folder), contract, name)
