"""Prompts in, text out: what every generator is, and what one is asked and says.

``causal_lm.transformers_generator`` and ``llama_cpp.llamacpp_generator`` run a model in this
process, ``remote.openai_server`` asks an OpenAI-compatible server, ``extractive`` needs no language
model. ``generation`` chooses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import Field, SecretStr, model_validator

from fti.pipelines.engines.model_config import GgufType, ModelConfig
from fti.store.answer_types import FinishReason, Usage
from fti.store.contracts.prompt_contract import TokenCounter
from fti.store.types import Message, ModelIdentity, Passage, Value


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer to generate.

    ``messages`` is the fitted prompt. ``question`` and ``passages`` are its parts, for generators
    that do not read prompts. ``temperature`` 0 is greedy; ``top_p`` and ``seed`` matter above it.
    The text ends before the first of ``stop``. Setting ``cancel`` stops within a token or two.
    ``refusal`` is how the model would refuse to answer, and ``refuse_above`` how likely it must be
    for that to stand; generators that do not see probabilities let every refusal stand.
    """

    messages: tuple[Message, ...]
    question: str
    passages: tuple[Passage, ...] = ()
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    cancel: threading.Event = field(default_factory=threading.Event)
    refusal: str = ""
    refuse_above: float = 0.0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of generated text; the last one carries the reason and the token counts."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole generated text."""

    text: str
    finish_reason: FinishReason
    usage: Usage


class Generator(Protocol):
    """A language model ready to answer."""

    @property
    def identity(self) -> ModelIdentity:
        """Which base weights and tokenizer this is."""
        ...

    @property
    def counter(self) -> TokenCounter:
        """Counts tokens as this model's tokenizer does."""
        ...

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and answer may have together."""
        ...

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """Generate piece by piece; the concatenated pieces equal ``generate``'s text."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Generate whole answers, in the order asked, batched as the engine likes."""
        ...


class ServerConfig(Value):
    """An OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a provider's."""

    base_url: str = Field(
        pattern=r"^https?://[^\s/]", description="Where it is, with the version: http://HOST/v1."
    )
    api_key: SecretStr | None = Field(default=None, description="Sent as a bearer token.")
    timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds without a byte after which it is dead."
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, le=600, description="Seconds to wait for a connection."
    )
    retries: int = Field(
        default=3, ge=0, le=10, description="Tries again when it is unreachable or busy."
    )
    circuit_failures: int = Field(
        default=5, ge=1, description="Failures in a row after which it is not asked for a while."
    )
    circuit_open_s: float = Field(
        default=15.0, gt=0, le=3600, description="Seconds until one request tries it again."
    )
    concurrency: int = Field(
        default=4, ge=1, le=256, description="Requests in flight when answering many questions."
    )
    context_tokens: int = Field(
        default=4096, ge=128, description="Context of the model; the server does not tell."
    )
    tokenizer: str = Field(
        default="",
        description="Folder or Hub id of the model's tokenizer, to count exactly; empty: estimate.",
    )
    tokenizer_revision: str = Field(default="", description="Full commit of a Hub tokenizer.")
    versions_path: str = Field(
        default="",
        description="Where the server sees the folder ``models`` of the store, to load tuned "
        "versions from; empty: where it lies here.",
    )


class GeneratorConfig(ModelConfig):
    """Which generator, and how it runs.

    ``id`` and the fields beside it name the model of the engines ``transformers`` and ``llamacpp``;
    for ``openai``, ``id`` is the name the server knows the model by, and ``server`` says where it
    is.
    """

    engine: Literal["transformers", "llamacpp", "openai", "extractive"] = Field(
        default="transformers",
        description="``llamacpp`` runs the same model on llama.cpp and needs the extra "
        "``fti-llm[llamacpp]``; ``extractive`` needs no language model; it repeats the nearest "
        "sentence.",
    )
    gguf: GgufType = Field(
        default="f16",
        description="Weights of the engine ``llamacpp``: ``f16``, or ``q8_0`` of half the size, "
        "which answers a little otherwise.",
    )
    batch_size: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Answers generated together: in batches, and of those who ask at once.",
    )
    packed: bool = Field(
        default=True,
        description="On a CPU in float32: hold the weights a second time as its caches want them, "
        "which answers sooner.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="What packed weights are multiplied in; auto: bfloat16 where the CPU has it.",
    )
    server: ServerConfig | None = Field(
        default=None, description="The OpenAI-compatible server of the ``openai`` engine."
    )
    min_similarity: float = Field(
        default=0.35,
        ge=-1.0,
        le=1.0,
        description="Cosine below which the ``extractive`` engine abstains.",
    )

    @model_validator(mode="after")
    def _server_is_named(self) -> GeneratorConfig:
        if (self.engine == "openai") != (self.server is not None):
            raise ValueError("generator.server belongs to engine 'openai', which needs it")
        if self.engine == "llamacpp" and (self.quantization, self.dtype) != ("none", "auto"):
            raise ValueError(
                "generator.gguf is the format of engine 'llamacpp', whose dtype is "
                "'auto' and quantization 'none'"
            )
        if self.precision == "bfloat16" and not self.packed:
            raise ValueError("generator.precision 'bfloat16' needs generator.packed")
        return self
