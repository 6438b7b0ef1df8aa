"""Prompts in, text out.

``Generator`` is the interface; ``TransformersGenerator`` runs a causal LM (and a LoRA adapter) in
this process; ``openai_server.OpenAIGenerator`` asks an OpenAI-compatible server;
``ExtractiveGenerator`` is the deterministic one without a language model: it repeats the retrieved
sentence nearest to the question.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field, SecretStr, model_validator

from fti.pipelines.engines.causal_lm.batching import Batcher
from fti.pipelines.engines.causal_lm.decoding import Job, TextStream, before_stop
from fti.pipelines.engines.causal_lm.loading import LoadedModel, ModelConfig, load_causal_lm
from fti.pipelines.engines.causal_lm.refusals import DECISIVE, Refusal
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.encoding import PromptEncoder, encode_text
from fti.pipelines.engines.sentences import split_sentences
from fti.store.contracts.prompt_contract import TokenCounter
from fti.store.errors import ContractError, QuestionTooLong
from fti.store.types import FinishReason, Message, ModelIdentity, Passage, Usage, Value


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


class GeneratorConfig(ModelConfig):
    """Which generator, and how it runs.

    ``id`` and the fields beside it name the model of the ``transformers`` engine; for ``openai``,
    ``id`` is the name the server knows the model by, and ``server`` says where it is.
    """

    engine: Literal["transformers", "openai", "extractive"] = Field(
        default="transformers",
        description="``extractive`` needs no language model; it repeats the nearest sentence.",
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
        "for answers that are made together sooner.",
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
        return self


def load_generator(
    config: GeneratorConfig,
    *,
    embedder: Embedder,
    adapter: Path | None = None,
    loaded: LoadedModel | None = None,
) -> Generator:
    """Build the generator that a configuration names.

    Args:
        config: which engine and model.
        embedder: what the extractive engine compares sentences with.
        adapter: folder of a LoRA adapter to put on the model.
        loaded: the configuration's model, when it is in memory already.

    Raises:
        ModelUnavailable: the weights are not on this machine, or the server does not answer.
        ContractError: the adapter was made for another model, or the engine takes none.
    """
    if config.engine == "transformers":
        loaded = loaded if loaded is not None else load_causal_lm(config)
        return serve_here(loaded, config, adapter)
    if adapter is not None:
        raise ContractError(
            f"The engine {config.engine!r} cannot carry the adapter in {str(adapter)!r}.",
            hint="Use a profile with generator.engine: transformers, or let the server load the "
            "adapter and name it in generator.id.",
        )
    if config.engine == "extractive":
        return ExtractiveGenerator(embedder, min_similarity=config.min_similarity)
    from fti.pipelines.engines.remote.openai_server import OpenAIGenerator

    assert config.server is not None  # the configuration's own check
    return OpenAIGenerator(config.id, config.server)


def serve_here(
    loaded: LoadedModel, config: GeneratorConfig, adapter: Path | None = None
) -> TransformersGenerator:
    """A model in memory as a generator, set up to answer as a configuration says.

    Raises:
        ContractError: the adapter was made for another model.
    """
    if config.packed:
        from fti.pipelines.engines.causal_lm.packed import pack_linears

        with loaded.lock:
            pack_linears(loaded.model)
    return TransformersGenerator(loaded, adapter, batch_size=config.batch_size)


class TransformersGenerator:
    """A causal LM in this process, with a LoRA adapter or without.

    Generators may share one ``LoadedModel``: each forward pass runs under its own adapter, and
    what several threads ask for goes on together, a step of all in one pass (``engines.batching``).
    Decoding is greedy at temperature 0; the sampling settings that a model's files suggest are not
    used, because the contract decides.

    Args:
        loaded: the model.
        adapter: folder of a PEFT LoRA adapter, as safetensors.
        batch_size: answers that are made together; the first generator of a model decides.
    """

    def __init__(
        self, loaded: LoadedModel, adapter: Path | None = None, *, batch_size: int = 8
    ) -> None:
        self.loaded = loaded
        self._encoder = PromptEncoder(loaded.tokenizer)
        self._adapter = loaded.add_adapter(adapter) if adapter is not None else None
        with loaded.lock:
            if loaded.batcher is None:
                loaded.batcher = Batcher(loaded, batch_size=batch_size)
            self._batcher: Batcher = loaded.batcher

    @property
    def identity(self) -> ModelIdentity:
        """The base weights and tokenizer."""
        return self.loaded.identity

    @property
    def counter(self) -> PromptEncoder:
        """Counts with the model's own tokenizer."""
        return self._encoder

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and answer may have together."""
        return self.loaded.context_tokens

    def close(self) -> None:
        """Let go of the adapter; the base stays with whoever loaded it."""
        if self._adapter is not None:
            self.loaded.remove_adapter(self._adapter)
            self._adapter = None

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """Generate piece by piece.

        Raises:
            QuestionTooLong: the prompt leaves no room in the context.
            GenerationFailed: the model broke off.
        """
        writing = _Writing(self._job(request), self._text(request))
        while True:
            with closing(self._batcher.run(writing.job, self._adapter, writing.push)) as pieces:
                for piece in pieces:
                    yield Delta(piece)
            if not writing.begins_anew():
                break
        yield Delta(writing.finish(), writing.job.finish_reason, _usage(writing.job))

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Generate whole answers, in one batch with all others that are asked for meanwhile.

        Raises:
            QuestionTooLong: a prompt leaves no room in the context.
            GenerationFailed: the model broke off.
        """
        writings = [_Writing(self._job(request), self._text(request)) for request in requests]
        # Prompts of like length are read with little padding, and answers to them end alike.
        open_ones = sorted(writings, key=lambda writing: len(writing.job.prompt))
        while open_ones:
            self._batcher.finish([(w.job, w.push) for w in open_ones], self._adapter)
            open_ones = [writing for writing in open_ones if writing.begins_anew()]
        generations = []
        for writing in writings:
            writing.finish()
            job = writing.job
            assert job.finish_reason is not None  # every job is ended
            generations.append(Generation(writing.text.text, job.finish_reason, _usage(job)))
        return generations

    def _text(self, request: GenerationRequest) -> TextStream:
        return TextStream(self.loaded.tokenizer, request.stop)

    def _refusal(self, request: GenerationRequest) -> Refusal | None:
        if not (request.refusal and request.refuse_above):
            return None
        ids = encode_text(self.loaded.tokenizer, request.refusal)[:DECISIVE]
        return Refusal(tuple(ids), request.refuse_above)

    def _job(self, request: GenerationRequest) -> Job:
        prompt = self._encoder.encode(request.messages)
        room = self.context_tokens - len(prompt)
        if room < 1:
            raise QuestionTooLong(
                f"The prompt has {len(prompt)} tokens, and the context of {self.identity.id!r} "
                f"holds {self.context_tokens}.",
                hint="Ask a shorter question, show fewer passages, or use a model with a longer "
                "context.",
            )
        return Job(
            prompt=prompt,
            max_new_tokens=min(request.max_new_tokens, room),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            cancel=request.cancel,
            fixed=self._encoder.fixed(request.messages),
            refusal=self._refusal(request),
        )


class _Writing:
    """A job and its text; what may be a refusal that will not stand is held back."""

    def __init__(self, job: Job, text: TextStream) -> None:
        self.job = job
        self.text = text
        self._held: list[int] = []

    def push(self, index: int) -> str:
        """What a new id, the job's last, adds to the text; a stop string ends the job."""
        refusal = self.job.refusal
        if refusal is not None and refusal.dropped(self.job.ids):
            self.job.finish_reason = "stop"
            return ""
        self._held.append(index)
        return "" if refusal is not None and refusal.begun(self.job.ids) else self._release()

    def _release(self) -> str:
        piece = ""
        for index in self._held:
            if not self.text.stopped:
                piece += self.text.push(index)
        self._held.clear()
        if self.text.stopped:
            self.job.finish_reason = "stop"
        return piece

    def begins_anew(self) -> bool:
        """Whether the job ended as a refusal that does not stand; it is then one to run again."""
        job = self.job
        if job.finish_reason != "stop" or not (job.refusal and job.refusal.dropped(job.ids)):
            return False
        self._held.clear()
        self.job = replace(job, ids=[], finish_reason=None)
        return True

    def finish(self) -> str:
        """The rest of the text, when no id will follow."""
        return self._release() + self.text.finish()


def _usage(job: Job) -> Usage:
    return Usage(prompt_tokens=len(job.prompt), completion_tokens=len(job.ids))


class ExtractiveGenerator:
    """Repeats the sentence of the passages that lies nearest to the question, and cites it.

    Deterministic and without a language model: the baseline that any model should beat. Below
    ``min_similarity``, and without passages, its answer is empty, which a contract reads as
    abstaining.

    Args:
        embedder: compares sentences with the question.
        min_similarity: cosine below which it abstains.
    """

    def __init__(self, embedder: Embedder, *, min_similarity: float = 0.35) -> None:
        self._embedder = embedder
        self._min_similarity = min_similarity
        self._counter = EmbedderCounter(embedder)

    @property
    def identity(self) -> ModelIdentity:
        """The method, with the embedder's weights as its own."""
        embedder = self._embedder.identity
        return ModelIdentity(
            id="extractive", revision=embedder.id, weights_sha256=embedder.weights_sha256
        )

    @property
    def counter(self) -> TokenCounter:
        """Counts with the embedder's tokenizer."""
        return self._counter

    @property
    def context_tokens(self) -> int:
        """Sentences are compared one by one, so this is only a bound on the work."""
        return 8192

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """The whole answer in one piece."""
        answer = self._answer(request)
        yield Delta(answer.text, answer.finish_reason, answer.usage)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """One answer after the other."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: GenerationRequest) -> Generation:
        prompt_tokens = self._counter.count(request.messages)
        sentences = [
            (number, sentence)
            for number, passage in enumerate(request.passages, start=1)
            for sentence in split_sentences(passage.text)
        ]
        if request.cancel.is_set():
            return Generation("", "cancelled", Usage(prompt_tokens=prompt_tokens))
        text = ""
        finish: FinishReason = "stop"
        if sentences:
            question = self._embedder.embed_query(request.question)
            vectors = self._embedder.embed_documents([sentence for _, sentence in sentences])
            similarities = vectors @ question
            best = int(similarities.argmax())  # the first of equals
            if similarities[best] >= self._min_similarity:
                number, sentence = sentences[best]
                shown = self._counter.truncate(sentence, request.max_new_tokens)
                finish = "stop" if shown == sentence else "length"
                text, met = before_stop(f"{shown} [{number}]", request.stop)
                finish = "stop" if met else finish
        usage = Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=len(self._embedder.token_spans(text)),
        )
        return Generation(text, finish, usage)


class EmbedderCounter:
    """Counts in an embedder's tokens; a ``fti.store.contracts.prompt_contract.TokenCounter``."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of all contents together."""
        return sum(len(self._embedder.token_spans(message.content)) for message in messages)

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of ``text`` that has at most ``max_tokens`` tokens."""
        spans = self._embedder.token_spans(text)
        if len(spans) <= max_tokens:
            return text
        return text[: spans[max_tokens - 1][1]].rstrip() if max_tokens > 0 else ""
