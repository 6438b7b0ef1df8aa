"""How an adapter is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fti.pipelines.training.choices import Method, Tracker
from fti.store.types import Value


class TrainingConfig(Value):
    """Settings of one fine-tuning; the defaults suit a small model on a CPU."""

    epochs: float = Field(default=2.0, gt=0, le=1000, description="Passes over the training rows.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps instead of epochs; None: by epochs."
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Time to train for, a check against the validation rows included; the learning "
        "rate comes down in time and what was learned is registered. None: no limit. Results then "
        "depend on the machine's speed.",
    )
    max_rows: int | None = Field(
        default=None, ge=1, description="Most training rows, drawn by the seed; None: all."
    )
    batch_size: int = Field(
        default=8,
        ge=1,
        description="Rows whose gradients are taken together; as many of them are computed at once "
        "as memory holds.",
    )
    gradient_accumulation: int = Field(
        default=1, ge=1, description="Batches per optimizer step; more of them cost no memory."
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="At its highest; None: 5e-4 for adapters, 5e-5 for a full fine-tune, and a "
        "tenth of that for preferences.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate comes down after the warm-up."
    )
    warmup: float = Field(
        default=0.06, ge=0, lt=1, description="Share of the training in which the rate goes up."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Longer gradients are cut to it.")
    method: Method = Field(
        default="lora",
        description="lora; rslora: scaled by the root of the rank (Kalajdzievski 2023), worth it "
        "from about rank 64; dora: directions and lengths apart (Liu et al. 2024); qlora: lora on "
        "a base in 4 bit (Dettmers et al. 2023), on a GPU; full: all weights, a whole model.",
    )
    rank: int = Field(default=16, ge=1, le=1024, description="Of the LoRA matrices.")
    alpha: float = Field(
        default=32.0,
        gt=0,
        description="Scale of the adapter: alpha / rank, or alpha / sqrt(rank) of rslora.",
    )
    dropout: float = Field(default=0.05, ge=0, lt=1, description="Before the LoRA matrices.")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        default="all-linear",
        description="Layers that get an adapter: all linear ones but the output head, or names.",
    )
    last_layers: int | None = Field(
        default=None,
        ge=1,
        description="Only so many of the last layers get an adapter; gradients stop below them, so "
        "that a step takes less time and memory. None: every layer. Not for method full.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations twice to hold fewer in memory."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="What products are computed in; auto: bfloat16 where the GPU or CPU has it.",
    )
    max_memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="Refuse what needs more memory beside the model; None: than is free.",
    )
    neftune_alpha: float | None = Field(
        default=None,
        gt=0,
        description="Noise on the embeddings of tokens in training (Jain et al. 2023): 5 to 15; "
        "None: none.",
    )
    beta: float = Field(
        default=0.1,
        gt=0,
        description="Of preferences: the larger, the nearer the model stays to what it was.",
    )
    evaluations: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="How often the validation loss is measured; the best adapter of these is kept.",
    )
    max_validation_rows: int = Field(
        default=64, ge=1, description="Most validation rows measured each time."
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Stop after this many measurements without a lower validation loss; 0: never.",
    )
    checkpoint_s: float = Field(
        default=30.0, ge=0, description="Seconds between checkpoints: what a kill can cost."
    )
    log_to: tuple[Tracker, ...] = Field(
        default=(),
        description="Also log steps to TensorBoard (under the store's runs) or MLflow.",
    )
    seed: int = Field(default=7, ge=0, lt=2**32, description="Of the adapter, order and dropout.")

    def peak_rate(self, *, preferences: bool = False) -> float:
        """The learning rate at its highest, for responses or for preferences between them."""
        if self.learning_rate is not None:
            return self.learning_rate
        return (5e-5 if self.method == "full" else 5e-4) / (10 if preferences else 1)
