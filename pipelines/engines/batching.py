"""Answers to whoever asks, generated together: a prompt joins the running batch at its next step.

Continuous batching, as Orca does it (Yu et al., OSDI 2022): what waits is read prompt by prompt,
exactly as if it were alone, and then every step of all answers is one forward pass. An answer that
ends leaves its row at once, and the next one takes it.

One thread per model does the work while there is any; those who ask read their own queue. So a
reader that is slow, or gone, holds up nobody.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from pipelines.engines.causal import LoadedModel
from pipelines.engines.decoding import Job, forward, read_prompt
from store.errors import FtiError

_IDLE_S = 5.0  # a thread costs little, but a new one for every answer would start torch's anew
_TRIM = 64  # columns of padding that all rows share are cut off when they are this many
_LEAST_PREFIX = 16  # ids; copying a cache costs about as much as reading fewer
_PREFIXES = 4  # kept: one per contract and adapter in use
_END = object()


@dataclass(eq=False, slots=True)
class _Asked:
    """One job, who runs it, and where its pieces of text go."""

    job: Job
    adapter: str | None
    push: Callable[[int], str]
    out: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def take(self, index: int, stop_ids: frozenset[int]) -> None:
        """Give out what a new id adds to the text; note whether the job has ended."""
        job = self.job
        if index in stop_ids:
            job.finish_reason = "stop"
            return
        job.ids.append(index)
        piece = self.push(index)
        if piece:
            self.out.put(piece)
        if job.finish_reason is None and len(job.ids) >= job.max_new_tokens:
            job.finish_reason = "length"


class Batcher:
    """Runs the jobs of all threads on one model, at most ``batch_size`` at a time.

    Args:
        loaded: the model.
        batch_size: rows of a step.
    """

    def __init__(self, loaded: LoadedModel, *, batch_size: int) -> None:
        self._loaded = loaded
        self._size = batch_size
        self._waiting: deque[_Asked] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def run(
        self, job: Job, adapter: str | None, push: Callable[[int], str]
    ) -> Generator[str, None, None]:
        """The pieces of one job's text as they come; closing it ends the job.

        Args:
            job: what to continue; its ``finish_reason`` is set when this ends.
            adapter: under which adapter.
            push: what an id adds to the text; may set the job's ``finish_reason``. Called by the
                thread that generates.

        Raises:
            GenerationFailed: the model broke off.
        """
        asked = _Asked(job, adapter, push)
        with self._changed:
            self._waiting.append(asked)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="generate", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            while (item := asked.out.get()) is not _END:
                if isinstance(item, FtiError):
                    # An error of its own for each reader: a shared one would mix their tracebacks.
                    raise type(item)(item.message, hint=item.hint) from item
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            job.finish_reason = job.finish_reason or "cancelled"

    # The thread

    def _work(self) -> None:
        rows = _Rows(self._loaded)
        prefixes = _Prefixes(self._loaded)
        try:
            while self._has_work(rows):
                for asked in self._joining(rows):
                    rows.join(asked, prefixes)
                rows.step()
        except BaseException as error:  # whatever happens here, nobody waits for ever
            with self._changed:
                left = [*rows.asked, *self._waiting]
                self._waiting.clear()
                self._thread = None
            for asked in left:
                asked.out.put(error)

    def _has_work(self, rows: _Rows) -> bool:
        if rows.asked:
            return True
        with self._changed:
            if not self._waiting and not self._changed.wait_for(lambda: self._waiting, _IDLE_S):
                self._thread = None
                return False
        return True

    def _joining(self, rows: _Rows) -> Iterator[_Asked]:
        """Those that may join now, in the order asked: one adapter at a time acts on the model."""
        while True:
            size = self._size if rows.mergeable else 1
            with self._changed:
                if not self._waiting or len(rows.asked) >= size:
                    return
                if rows.asked and rows.asked[0].adapter != self._waiting[0].adapter:
                    return
                asked = self._waiting.popleft()
            yield asked


class _Rows:
    """The running batch: a row per answer, padded on the left to one length."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.asked: list[_Asked] = []
        self.mergeable = True
        self._cache: Any = None
        self._mask: Any = None  # 1 where a token is; the cache's columns
        self._last: list[int] = []  # the id that each row goes on from

    def join(self, asked: _Asked, prefixes: _Prefixes) -> None:
        """Read a prompt, give out its first id, and put it into the batch unless that was all."""
        import torch

        job = asked.job
        try:
            logits, cache = prefixes.read(job, asked.adapter)
            if logits is None:
                job.finish_reason = job.finish_reason or "cancelled"
            else:
                index = job.pick(logits[0])
                asked.take(index, self._loaded.stop_ids)
        except FtiError as error:
            asked.out.put(error)
            return
        except BaseException as error:  # it stands in no list any more: the thread's end skips it
            asked.out.put(error)
            raise
        if job.finish_reason is not None:
            asked.out.put(_END)
            return
        self.mergeable = _mergeable(cache)
        mask = torch.ones((1, len(job.prompt)), dtype=torch.long)
        if self._cache is None:
            self._cache, self._mask = cache, mask
        else:
            self._cache, self._mask = _merged(self._cache, self._mask, cache, mask)
        self.asked.append(asked)
        self._last.append(index)

    def step(self) -> None:
        """One id more for every row."""
        import torch

        self._drop_ended()
        if not self.asked:
            return
        mask = torch.cat([self._mask, self._mask.new_ones((len(self.asked), 1))], dim=1)
        ids = torch.tensor(self._last).unsqueeze(1)
        adapter = self.asked[0].adapter
        try:
            shown = None if bool(mask.all()) else mask
            logits, self._cache = forward(self._loaded, adapter, ids, shown, self._cache)
            self._last = [a.job.pick(row) for a, row in zip(self.asked, logits, strict=True)]
        except FtiError as error:
            for asked in self.asked:
                asked.out.put(error)
            self._clear()
            return
        self._mask = mask
        for asked, index in zip(self.asked, self._last, strict=True):
            asked.take(index, self._loaded.stop_ids)
        self._drop_ended()

    def _drop_ended(self) -> None:
        """Let go of the rows that have ended, or whose reader has left."""
        import torch

        for asked in self.asked:
            if asked.job.cancel.is_set() and asked.job.finish_reason is None:
                asked.job.finish_reason = "cancelled"
        keep = [row for row, asked in enumerate(self.asked) if asked.job.finish_reason is None]
        if len(keep) == len(self.asked):
            return
        for asked in self.asked:
            if asked.job.finish_reason is not None:
                asked.out.put(_END)
        if not keep:
            self._clear()
            return
        rows = torch.tensor(keep)
        with torch.inference_mode():
            self._cache.batch_select_indices(rows.to(self._loaded.device))
        self._mask = self._mask[rows]
        self.asked = [self.asked[row] for row in keep]
        self._last = [self._last[row] for row in keep]
        # Rows come and go without end; without this they would be padded to all that ever ran.
        unused = int(self._mask.argmax(dim=1).min())
        if self.mergeable and (unused >= _TRIM or (unused and len(keep) == 1)):
            self._mask = self._mask[:, unused:]
            for layer in self._cache.layers:
                layer.keys = layer.keys[..., unused:, :].clone()
                layer.values = layer.values[..., unused:, :].clone()

    def _clear(self) -> None:
        self.asked, self._last = [], []
        self._cache = self._mask = None


class _Prefixes:
    """Caches of the ids that prompts begin with again and again: the system turn of a contract.

    A prompt is read in two pieces, its fixed part and the rest, whether the first was kept or not:
    so what is reused is bit for bit what would be computed.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._kept: OrderedDict[tuple[str | None, tuple[int, ...]], Any] = OrderedDict()

    def read(self, job: Job, adapter: str | None) -> tuple[Any, Any]:
        """The logits after a job's prompt, None where it was cancelled, and its cache."""
        at = job.fixed
        if at < _LEAST_PREFIX or at >= len(job.prompt):
            return read_prompt(self._loaded, adapter, job.prompt, job.cancel)
        key = (adapter, tuple(job.prompt[:at]))
        if key not in self._kept:
            logits, cache = read_prompt(self._loaded, adapter, job.prompt[:at], job.cancel)
            if logits is None:
                return None, cache
            if not _mergeable(cache):
                return read_prompt(self._loaded, adapter, job.prompt[at:], job.cancel, cache)
            self._kept[key] = cache
            while len(self._kept) > _PREFIXES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        begun = _copied(self._kept[key])
        return read_prompt(self._loaded, adapter, job.prompt[at:], job.cancel, begun)


def _mergeable(cache: Any) -> bool:
    """Whether every layer keeps the keys and values of all tokens, and nothing else."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _copied(cache: Any) -> Any:
    """A cache that grows by itself: layers make new tensors and never write into old ones."""
    other = copy(cache)
    other.layers = [copy(layer) for layer in cache.layers]
    return other


def _merged(cache: Any, mask: Any, other: Any, other_mask: Any) -> tuple[Any, Any]:
    """Both batches in one, padded on the left."""
    import torch
    from torch.nn.functional import pad

    width = max(mask.shape[1], other_mask.shape[1])

    def padded(tensor: Any) -> Any:
        return pad(tensor, (0, 0, width - tensor.shape[-2], 0))

    with torch.inference_mode():
        for layer, joining in zip(cache.layers, other.layers, strict=True):
            layer.keys = torch.cat([padded(layer.keys), padded(joining.keys)])
            layer.values = torch.cat([padded(layer.values), padded(joining.values)])
    masks = [pad(m, (width - m.shape[1], 0)) for m in (mask, other_mask)]
    return cache, torch.cat(masks)
