"""What every model that reads two texts together (a cross-encoder) is configured by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.weights import find_model
from fti.store.types import Value


class CrossEncoderConfig(Value):
    """Which weights, where they come from and how they run."""

    id: str = Field(default="", description="Local folder or Hub model of a cross-encoder.")
    revision: str = Field(default="", description="Full commit of a Hub model.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="Where it runs; ``auto`` takes an accelerator when there is one.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Pairs per forward pass; None: 8 on a CPU, else 64.",
    )
    max_tokens: int = Field(
        default=512, ge=16, description="Tokens of both texts together; what is over is cut."
    )
    allow_download: bool = Field(
        default=False, description="Fetch a Hub model that is not on this machine."
    )

    def files(self) -> ModelFolder:
        """The model's files on this machine.

        Raises:
            ModelUnavailable: they are not here and may not, or cannot, be fetched.
        """
        return find_model(self.id, revision=self.revision, allow_download=self.allow_download)
