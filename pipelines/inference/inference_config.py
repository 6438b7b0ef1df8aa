"""Settings of retrieval and answering. The wording and budgets of prompts are the contract's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fti.pipelines.engines.cross_encoders.entailment import EntailmentConfig
from fti.pipelines.inference.evaluating.judge_config import JudgeConfig
from fti.store.streams.stream_config import StreamConfig
from fti.store.types import Fusion, SearchMode, Value


class RetrievalConfig(Value):
    """How passages are found for a question.

    The list for a smaller ``k`` is always the beginning of the list for a larger one, as long as
    neither exceeds ``candidates``.
    """

    mode: SearchMode = Field(
        default="hybrid", description="Vectors, words (BM25), or both fused (see fusion)."
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
    # Measured beside the other ways in docs/measured.md, "Searching". Scaled by the best of its own
    # list ("weighted"), a word in common with the question outweighed all that the vectors knew.
    fusion: Fusion = Fusion(method="bounded", vector_weight=0.2)
    near_copies: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="A passage is dropped when it shares such a part of its runs of words with a "
        "better one (Jaccard resemblance); 1: only whole copies are.",
    )
    diversity: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="How much likeness to better passages counts against one: maximal marginal "
        "relevance (Carbonell and Goldstein 1998) with lambda = 1 - diversity; 0: not at all.",
    )
    context: Literal["chunk", "section"] = Field(
        default="chunk",
        description="What a model is given of each passage: itself, or the section around it.",
    )
    section_characters: int = Field(
        default=4000,
        ge=100,
        le=100_000,
        description="A section is given around the passage up to so many characters. What a model "
        "reads of it is up to the contract (prompt.max_passage_tokens).",
    )
    collection: str = Field(
        default="", description="Only passages of this collection; empty: of every one and none."
    )
    where: tuple[str, ...] = Field(
        default=(),
        description="Only passages for which all of these conditions hold, such as lang=en.",
    )
    at: str = Field(
        default="",
        description="An earlier version of the features to answer from, a number or a tag; empty: "
        "what the store holds now.",
    )
    min_similarity: float = Field(
        default=0.25,
        ge=-1,
        le=1,
        description=(
            "Cosine of question and nearest shown passage below which nothing counts as relevant "
            "and the model is not asked, unless its contract was calibrated. Depends on the "
            "embedder: with all-MiniLM-L6-v2 over 931 passages, 0.25 refused 0 of 500 SQuAD "
            "questions about them and 28 % of 300 about other articles; 0.3 refused 2 % and 49 %."
        ),
    )


class InferenceConfig(Value):
    """How questions are answered."""

    retrieval: RetrievalConfig = RetrievalConfig()
    other_retrieval: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="What to do where passages are found otherwise than a model version's contract "
        "says: refuse to serve it, or warn in the log and in every answer.",
    )
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="0 always takes the likeliest token."
    )
    seed: int = Field(default=0, ge=0, description="Seed of sampling; unused at temperature 0.")


class BatchConfig(Value):
    """How tables of questions are answered, and what that costs."""

    group: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="Questions answered together, and at most lost when the process is killed. The "
        "model takes generator.batch_size of them at a time.",
    )
    prompt_price: float = Field(
        default=0.0, ge=0, description="Price of a million prompt tokens; 0: none."
    )
    completion_price: float = Field(
        default=0.0, ge=0, description="Price of a million generated tokens; 0: none."
    )
    hour_price: float = Field(
        default=0.0, ge=0, description="Price of an hour of the machine; 0: none."
    )
    currency: str = Field(default="USD", description="Of the prices, for people.")
    stream: StreamConfig = StreamConfig()
    remember_s: int = Field(
        default=7 * 86_400,
        ge=60,
        description="How long a Redis stream of answers remembers which questions it has answers "
        "to; a question that comes again later is answered again.",
    )

    @property
    def priced(self) -> bool:
        """Whether anything has a price."""
        return bool(self.prompt_price or self.completion_price or self.hour_price)

    def cost(
        self, prompt_tokens: float, completion_tokens: float, *, seconds: float
    ) -> float | None:
        """What so much work costs; None where nothing has a price."""
        if not self.priced:
            return None
        tokens = prompt_tokens * self.prompt_price + completion_tokens * self.completion_price
        return tokens / 1e6 + seconds / 3600 * self.hour_price


class EvaluationConfig(Value):
    """How cases are asked, and models that take part in evaluations only: none unless named."""

    group: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Cases asked together. More take less time; a latency is then a case's share "
        "of it, and no first token is timed.",
    )

    judge: JudgeConfig = JudgeConfig()
    entailment: EntailmentConfig = EntailmentConfig()
