"""A causal LM of this process, and a LoRA adapter on it, as a generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from fti.pipelines.engines.causal_lm.batching import Batcher
from fti.pipelines.engines.causal_lm.decoding import Job, TextStream
from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.refusals import DECISIVE, Refusal
from fti.pipelines.engines.encoding import PromptEncoder, encode_text
from fti.pipelines.engines.generator import Delta, Generation, GenerationRequest, GeneratorConfig
from fti.pipelines.engines.weights import has_bfloat16
from fti.store.answer_types import Usage
from fti.store.errors import ConfigError, QuestionTooLong
from fti.store.types import ModelIdentity


def serve_here(
    loaded: LoadedModel, config: GeneratorConfig, adapter: Path | None = None
) -> TransformersGenerator:
    """A model in memory as a generator, set up to answer as a configuration says.

    Raises:
        ConfigError: this machine cannot multiply as configured.
        ContractError: the adapter was made for another model.
    """
    if config.precision == "bfloat16" and not has_bfloat16("cpu"):
        raise ConfigError(
            "generator.precision 'bfloat16' is not something that this CPU multiplies in.",
            hint="Set generator.precision=auto.",
        )
    if config.packed:
        with loaded.lock:
            short = None if config.precision == "auto" else config.precision == "bfloat16"
            loaded.pack(bfloat16=short)
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
