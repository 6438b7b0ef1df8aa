"""Settings of retrieval and answering. The wording and budgets of prompts are the contract's."""

from __future__ import annotations

from pydantic import Field

from store.types import SearchMode, Value


class RetrievalConfig(Value):
    """How passages are found for a question.

    The list for a smaller ``k`` is always the beginning of the list for a larger one, as long as
    neither exceeds ``candidates``.
    """

    mode: SearchMode = Field(
        default="hybrid", description="Vectors, words (BM25), or both fused by rank."
    )
    k: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Passages found per question; the contract's max_passages enter the prompt.",
    )
    candidates: int = Field(
        default=40,
        ge=1,
        le=10_000,
        description="Passages fetched before copies are dropped and the rest is reranked.",
    )
    min_similarity: float = Field(
        default=0.25,
        ge=-1,
        le=1,
        description=(
            "Cosine of question and nearest shown passage below which nothing counts as relevant "
            "and the model is not asked. Depends on the embedder: with all-MiniLM-L6-v2 over 931 "
            "passages, 0.25 refused 0 of 500 SQuAD questions about them and 28 % of 300 about "
            "other articles; 0.3 refused 2 % and 49 %."
        ),
    )


class InferenceConfig(Value):
    """How questions are answered."""

    retrieval: RetrievalConfig = RetrievalConfig()
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="0 always takes the likeliest token."
    )
    seed: int = Field(default=0, ge=0, description="Seed of sampling; unused at temperature 0.")
