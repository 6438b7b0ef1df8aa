"""An answer with how it came to be, and what people said of it: frozen, validated, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from fti.store.types import (
    Message,
    ModelIdentity,
    Passage,
    RetrievalContract,
    Value,
    now,
    sha256_hex,
)

AbstentionReason = Literal["nothing_retrieved", "nothing_relevant", "model"]
FinishReason = Literal["stop", "length", "cancelled"]


class Citation(Value):
    """A marker in an answer and the passage it points at.

    ``start``/``end`` are offsets of the marker in ``Answer.text``; ``quote`` is the stretch of the
    passage that the answer repeats word for word, empty when there is none.
    """

    marker: int = Field(ge=1)
    chunk_id: str
    document_id: str
    source: str
    title: str
    start: int
    end: int
    quote: str = ""


class Usage(Value):
    """Token counts of one generation, as the generator's tokenizer counts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Sampling(Value):
    """How the tokens of one answer are chosen.

    ``temperature`` 0 always takes the likeliest token; ``top_p`` and ``seed`` matter above it. The
    answer ends before the first of ``stop``, and after ``max_tokens`` at the latest, which can only
    shorten what the contract allows; None leaves the contract's.
    """

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: tuple[str, ...] = ()


class Thresholds(Value):
    """What decided on a refusal, as it applied to one answer.

    ``abstain_below``: the cosine of question and nearest passage below which the model is not
    asked. ``refuse_above``: how likely the model must think its own refusal for it to stand.
    """

    abstain_below: float
    refuse_above: float


class Answer(Value):
    """An answer with everything needed to say how it came to be. Timings are seconds.

    ``asked`` is the question as it was understood without the conversation around it; empty where
    that is the question itself. ``key`` is the id of the API key that asked; empty where none did.
    ``user`` stands for the person that the client said it asks for, by a digest (``user_digest``).
    ``history`` is what was said before, after the answer ``previous`` if it goes on from one; None
    where that was not to be kept, so that none can go on from this one.
    ``collections`` and the conditions ``where`` are what it was kept within; none: the whole store.
    ``retrieval`` is how
    passages were found (None: they were not), ``engine`` how the generator ran, ``code_version``
    which fti it was; all are empty in what earlier ones logged. ``warnings`` say in words what was
    otherwise than the model's contract says.
    """

    id: str
    created_at: datetime
    question: str
    asked: str = ""
    key: str = ""
    user: str = ""
    previous: str = ""
    history: tuple[Message, ...] | None = None
    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    abstained: bool
    abstention_reason: AbstentionReason | None = None
    finish_reason: FinishReason = "stop"
    model: str
    base: ModelIdentity
    contract_digest: str
    features_version: int
    run_id: str = ""
    collections: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    retrieval: RetrievalContract | None = None
    thresholds: Thresholds | None = None
    engine: Mapping[str, Any] = Field(default_factory=dict)
    code_version: str = ""
    sampling: Sampling = Sampling()
    usage: Usage = Usage()
    timings: Mapping[str, float] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def user_digest(user: str) -> str:
    """What is kept of a person whom a client names: enough to find what they asked; "" for none."""
    return sha256_hex(user)[:32] if user else ""


class Feedback(Value):
    """A person's verdict on an answer; ``correction`` is what it should have been, if they say."""

    answer_id: str
    rating: Literal["up", "down"]
    comment: str = ""
    correction: str = ""
    created_at: datetime = Field(default_factory=now)


class Review(Value):
    """A decision on a correction that somebody gave: whether it may teach a model.

    ``given_at`` is when the feedback was given, which tells several on one answer apart.
    ``answer`` is the answer as accepted, perhaps edited; empty where the documents hold none.
    """

    answer_id: str
    given_at: datetime
    decision: Literal["accepted", "rejected"]
    answer: str = ""
    reason: str = ""
    created_at: datetime = Field(default_factory=now)


class Correction(Value):
    """A correction with the answer that it corrects, and what was decided on it, if anything.

    Only accepted ones may become rows of a dataset: question and passages are the answer's, and
    ``text`` is what should have been said.
    """

    answer: Answer
    feedback: Feedback
    review: Review | None = None

    @property
    def state(self) -> Literal["pending", "accepted", "rejected"]:
        """Where it stands."""
        return self.review.decision if self.review else "pending"

    @property
    def text(self) -> str:
        """What the answer should have been: as accepted, else as given."""
        return self.review.answer if self.review else self.feedback.correction
