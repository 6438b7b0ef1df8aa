"""Which causal language model, and how it is held in memory, as settings say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fti.store.types import Value

GgufType = Literal["f16", "q8_0"]
"""Weights in a GGUF file: half precision; or in eight bits, of which 32 share a scale."""


class ModelConfig(Value):
    """Which causal language model, and how it is held in memory."""

    id: str = Field(
        default="builtin",
        min_length=1,
        description="``builtin``, a local folder, or a Hub model OWNER/NAME.",
    )
    revision: str = Field(default="", description="Full commit of a Hub model.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="Where it runs; ``auto`` takes an accelerator when there is one.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Format of the weights; ``auto``: float32 on a CPU, else bfloat16 or float16.",
    )
    quantization: Literal["none", "int8", "4bit"] = Field(
        default="none",
        description="``int8`` answers faster on a CPU, a little otherwise, and carries no adapter; "
        "``4bit`` (NF4) needs a CUDA device and the extra ``fti-llm[gpu]``.",
    )
    context_tokens: int | None = Field(
        default=None,
        ge=32,
        description="Use less of the model's context, to bound memory; None: all of it.",
    )
    allow_download: bool = Field(
        default=False, description="Fetch a Hub model that is not on this machine."
    )
