"""A model on llama.cpp, in this process, as a generator.

The same contract as with transformers: prompts are encoded here, ids go in, and what ends an
answer, stop strings and refusals that do not stand are decided here.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.pipelines.engines.causal_lm.decoding import before_stop, undecided_tail
from fti.pipelines.engines.causal_lm.loading import load_tokenizer
from fti.pipelines.engines.causal_lm.refusals import DECISIVE
from fti.pipelines.engines.encoding import PromptEncoder, encode_text, stop_ids
from fti.pipelines.engines.generator import Delta, Generation, GenerationRequest, GeneratorConfig
from fti.pipelines.engines.llama_cpp.gguf_cache import cached_gguf, gguf_source, source_identity
from fti.pipelines.engines.llama_cpp.native_server import NativeServer, Seat, shared_server
from fti.store.answer_types import FinishReason, Usage
from fti.store.errors import ContractError, FtiError, QuestionTooLong
from fti.store.types import ModelIdentity

_POLL_S = 0.05  # how soon a cancel is noticed while a prompt is read
_CONTEXT = 2048  # of each answer, where nothing is set: memory is reserved for all of them
_LEAST_TEMPERATURE = 1e-4
_END = object()


class LlamaCppGenerator:
    """A GGUF model of this process.

    Args:
        native: llama.cpp with the model.
        tokenizer: the model's transformers tokenizer.
        identity: the base that the file was made of.
        context_tokens: prompt and answer together.
        ends: ids that end an answer.
        batch_size: answers that are made together.
    """

    def __init__(
        self,
        native: NativeServer,
        tokenizer: Any,
        identity: ModelIdentity,
        *,
        context_tokens: int,
        ends: frozenset[int],
        batch_size: int,
    ) -> None:
        self._native = native
        self._tokenizer = tokenizer
        self._encoder = PromptEncoder(tokenizer)
        self._identity = identity
        self._context = context_tokens
        self._ends = ends
        self._size = batch_size

    @property
    def identity(self) -> ModelIdentity:
        """The base weights and tokenizer."""
        return self._identity

    @property
    def counter(self) -> PromptEncoder:
        """Counts with the model's own tokenizer."""
        return self._encoder

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and answer may have together."""
        return self._context

    def close(self) -> None:
        """Let go of the model."""
        self._native.close()

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        """Generate piece by piece; once the request is cancelled, nothing but the end follows.

        Raises:
            QuestionTooLong: the prompt leaves no room in the context.
            GenerationFailed: llama.cpp broke off.
        """
        writing = self._writing(request)
        worker = threading.Thread(target=self._work, args=(writing,), daemon=True)
        worker.start()
        try:
            yield from self._pieces(writing, request.cancel)
        finally:
            writing.left.set()
        reason = "cancelled" if request.cancel.is_set() else writing.reason
        yield Delta("", reason, writing.usage())

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Generate whole answers, as many at a time as there are seats.

        Raises:
            QuestionTooLong: a prompt leaves no room in the context.
            GenerationFailed: llama.cpp broke off.
        """
        writings = [self._writing(request) for request in requests]
        with ThreadPoolExecutor(max_workers=self._size) as pool:
            list(pool.map(self._work, writings))
        made = []
        for writing in writings:
            text = "".join(delta.text for delta in self._pieces(writing))
            made.append(Generation(text, writing.reason, writing.usage()))
        return made

    def _writing(self, request: GenerationRequest) -> _Writing:
        prompt = self._encoder.encode(request.messages)
        room = self._context - len(prompt)
        if room < 1:
            raise QuestionTooLong(
                f"The prompt has {len(prompt)} tokens, and the context of {self._identity.id!r} "
                f"holds {self._context}.",
                hint="Ask a shorter question, show fewer passages, or set a larger "
                "generator.context_tokens.",
            )
        refusal: tuple[int, ...] = ()
        if request.refusal and request.refuse_above and request.temperature < _LEAST_TEMPERATURE:
            refusal = tuple(encode_text(self._tokenizer, request.refusal)[:DECISIVE])
        return _Writing(request, prompt, min(request.max_new_tokens, room), refusal)

    def _pieces(self, writing: _Writing, cancel: threading.Event | None = None) -> Iterator[Delta]:
        """What is written, until it is over or ``cancel`` is set, however far the worker is."""
        while cancel is None or not cancel.is_set():
            try:
                item = writing.out.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if item is _END:
                return
            if isinstance(item, FtiError):
                raise type(item)(item.message, hint=item.hint) from item
            if isinstance(item, BaseException):
                raise item
            yield Delta(item)

    # The worker's

    def _work(self, writing: _Writing) -> None:
        try:
            with self._native.seat(writing.prompt, writing.gone) as seat:
                if seat is None:
                    writing.reason = "cancelled"
                else:
                    self._write(writing, seat)
        except BaseException as error:  # whatever happens here, nobody waits for ever
            writing.out.put(error)
        finally:
            writing.out.put(_END)

    def _write(self, writing: _Writing, seat: Seat) -> None:
        begun = self._begin(writing, seat) if writing.refusal else ()
        for index in begun:
            if index in self._ends:
                writing.finish("stop")
                return
        writing.tokens = len(begun)
        if begun:
            text = self._tokenizer.decode(
                begun, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            if writing.take(text):
                return
        left = writing.room - len(begun)
        if left <= 0:
            writing.finish("length")
            return

        def take(text: str, index: int | None) -> bool:
            if index in self._ends:
                writing.finish("stop")
                return True
            writing.tokens += 1
            return writing.take(text)

        request = writing.request
        greedy = request.temperature < _LEAST_TEMPERATURE
        ended = self._native.write(
            seat,
            [*writing.prompt, *begun],
            take,
            max_new_tokens=left,
            temperature=0.0 if greedy else request.temperature,
            top_p=request.top_p,
            seed=request.seed,
        )
        if ended.reason is not None:
            writing.finish("length" if ended.reason == "length" else "stop")

    def _begin(self, writing: _Writing, seat: Seat) -> tuple[int, ...]:
        """The first ids of an answer, where it may be the refusal; see ``causal_lm.refusals``.

        An id whose probability is the least that counts, or more, is among so many of the
        likeliest as its inverse: nothing but those is asked for. Asking costs no pass of its own:
        the seat keeps what was read.
        """
        least, ids = writing.request.refuse_above, writing.refusal
        count = max(2, math.ceil(1 / least))
        first = self._native.likeliest(seat, writing.prompt, count)
        if not first:  # a part of a character, and so no refusal
            return ()
        picked, chances = first[0][0], dict(first)
        chance = math.exp(chances[ids[0]]) if ids[0] in chances else 0.0
        tried = picked != ids[0]
        if tried and chance < least:
            return (picked,)
        other = next(index for index, _ in first if index != ids[0])
        for at in range(1, len(ids)):
            if chance < least and tried:
                return (other,)
            following = self._native.likeliest(seat, [*writing.prompt, *ids[:at]], count)
            if not tried and (not following or following[0][0] != ids[at]):
                return ids[:at]  # it was never a refusal
            given = dict(following)
            chance *= math.exp(given[ids[at]]) if ids[at] in given else 0.0
        return ids if chance >= least else (other,)


@dataclass(eq=False, slots=True)
class _Writing:
    """One answer that is being written: what is asked, its text so far, and who reads it."""

    request: GenerationRequest
    prompt: list[int]
    room: int
    refusal: tuple[int, ...]
    reason: FinishReason = "cancelled"
    tokens: int = 0
    out: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    left: threading.Event = field(default_factory=threading.Event)
    _text: str = ""
    _given: int = 0

    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.left.is_set() or self.request.cancel.is_set()

    def take(self, piece: str) -> bool:
        """Give out what is certain of the text with a new piece; whether the answer is over."""
        if self.gone():
            return True
        self._text += piece
        text, stopped = before_stop(self._text, self.request.stop)
        if stopped:
            self._give(len(text))
            self.reason = "stop"
            return True
        self._give(len(text) - undecided_tail(text, self.request.stop))
        return False

    def finish(self, reason: FinishReason) -> None:
        """Give out the rest, when nothing will follow."""
        self._give(len(self._text))
        self.reason = reason

    def usage(self) -> Usage:
        """What was read and written."""
        return Usage(prompt_tokens=len(self.prompt), completion_tokens=self.tokens)

    def _give(self, until: int) -> None:
        if until > self._given:
            self.out.put(self._text[self._given : until])
            self._given = until


def load_llamacpp(
    config: GeneratorConfig,
    *,
    adapter: Path | None = None,
    whole: Path | None = None,
    base: ModelIdentity | None = None,
) -> LlamaCppGenerator:
    """Load a model on llama.cpp; its GGUF file is made first, where there is none yet.

    Args:
        config: which model, and how it runs.
        adapter: folder of an adapter to merge into it.
        whole: folder of a version that is a model by itself.
        base: what that version's contract names, which is then its identity.

    Raises:
        ModelUnavailable: llama.cpp or the weights are not on this machine.
        ContractError: the adapter or tokenizer is another's, or llama.cpp has no such model.
        IntegrityError: files are damaged.
        EngineError: the file cannot be made or loaded.
    """
    source = gguf_source(config, adapter=adapter, whole=whole)
    tokenizer = load_tokenizer(source.base)
    identity = source_identity(source, tokenizer)
    if base is not None:
        if identity.tokenizer_sha256 != base.tokenizer_sha256:
            raise ContractError(
                f"The tokenizer in {str(whole)!r} has sha256 {identity.tokenizer_sha256[:12]}, "
                f"and its contract says {base.tokenizer_sha256[:12]}.",
                hint="Train it again.",
            )
        identity = base
    if config.gguf != "f16":  # its answers are others than those of the whole weights
        revision = f"{identity.revision}+{config.gguf}"
        identity = identity.model_copy(update={"revision": revision})
    limit = source.shape().max_position_embeddings
    context = min(limit, config.context_tokens or _CONTEXT)
    native = shared_server(
        cached_gguf(source, config.gguf),
        context_tokens=context,
        seats=config.batch_size,
        on_cpu=config.device == "cpu",
    )
    return LlamaCppGenerator(
        native,
        tokenizer,
        identity,
        context_tokens=context,
        ends=stop_ids(tokenizer, source.base.ends()),
        batch_size=config.batch_size,
    )
