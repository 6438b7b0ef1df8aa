"""How an embedder is trained."""

from __future__ import annotations

from pydantic import Field

from fti.store.types import Value


class EmbedderTrainingConfig(Value):
    """How an embedder is trained."""

    epochs: float = Field(default=1.0, gt=0, le=100, description="Passes over the training rows.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps instead of epochs; None: by epochs."
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Time to train for; the learning rate comes down in time. None: no limit. "
        "Results then depend on the machine's speed.",
    )
    max_rows: int | None = Field(
        default=None, ge=1, description="Most training rows, drawn by the seed; None: all."
    )
    batch_size: int = Field(
        default=32,
        ge=2,
        le=4096,
        description="Questions in a batch; the passages of the others are negatives of each.",
    )
    negatives: int = Field(
        default=1, ge=0, le=20, description="Hard negatives of each question that are used."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Tokens of a passage that training sees; fewer are quicker. None: as many as "
        "the embedder. What is served sees as many as ever.",
    )
    learning_rate: float = Field(default=2e-5, gt=0, le=1, description="At its highest.")
    warmup: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the training in which the rate goes up."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Longer gradients are cut to it.")
    scale: float = Field(
        default=20.0,
        gt=0,
        description="Factor of the cosines before the softmax: one over the temperature.",
    )
    max_validation_rows: int = Field(
        default=256, ge=0, description="Most validation rows that are measured before and after."
    )
    checkpoint_s: float = Field(
        default=120.0, ge=0, description="Seconds between checkpoints: what a kill can cost."
    )
    seed: int = Field(default=7, ge=0, lt=2**32, description="Of the order and of dropout.")
