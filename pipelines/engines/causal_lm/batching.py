"""Answers to whoever asks, generated together: a prompt joins the running batch at its next step.

Continuous batching, as Orca does it (Yu et al., OSDI 2022): prompts that wait are read together,
those of like length in one pass, and every step of all answers is one forward pass. An answer that
ends leaves its row at once, and the next one takes it. Between two passes over prompts those that
are answered already go on by a step, so that nobody's answer stands still while many wait (chunked
prefill: Agrawal et al., "Sarathi-Serve", OSDI 2024).

One thread per model does the work while there is any; those who ask read their own queue. So a
reader that is slow, or gone, holds up nobody.
"""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fti.pipelines.engines.causal_lm.decoding import Job, forward, pick_each
from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.prefixes import Prefixes, mergeable
from fti.store.errors import FtiError

_IDLE_S = 5.0  # a thread costs little, but a new one for every answer would start torch's anew
_ENDING_S = 10.0  # for the pass that runs when the program ends
_TRIM = 64  # columns of padding that all rows share are cut off when they are this many
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

    def pieces(self) -> Iterator[str]:
        """What is given out, until the job has ended; raises what broke it off."""
        while (item := self.out.get()) is not _END:
            if isinstance(item, FtiError):
                # An error of its own for each reader: a shared one would mix their tracebacks.
                raise type(item)(item.message, hint=item.hint) from item
            if isinstance(item, BaseException):
                raise item
            yield item


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
        self._prefixes = Prefixes(loaded)  # only the thread's
        self._ending = False
        _batchers.add(self)

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
        (asked,) = self._submit([(job, push)], adapter)
        try:
            yield from asked.pieces()
        finally:
            job.finish_reason = job.finish_reason or "cancelled"

    def finish(self, jobs: Sequence[tuple[Job, Callable[[int], str]]], adapter: str | None) -> None:
        """Run jobs to their ends, each with its ``push``; see ``run``.

        Raises:
            GenerationFailed: the model broke off; the other jobs end as cancelled.
        """
        submitted = self._submit(jobs, adapter)
        try:
            for asked in submitted:
                for _ in asked.pieces():
                    pass
        finally:
            for job, _ in jobs:
                job.finish_reason = job.finish_reason or "cancelled"

    def _submit(
        self, jobs: Sequence[tuple[Job, Callable[[int], str]]], adapter: str | None
    ) -> list[_Asked]:
        submitted = [_Asked(job, adapter, push) for job, push in jobs]
        with self._changed:
            self._waiting.extend(submitted)
            if self._thread is None and submitted:
                self._thread = threading.Thread(target=self._work, name="generate", daemon=True)
                self._thread.start()
            self._changed.notify()
        return submitted

    def end(self) -> None:
        """Cancel what runs and wait for the thread: nothing is generated any more.

        A thread that still lives when the interpreter ends is killed wherever it is, and torch ends
        the whole program with an abort for that.
        """
        with self._changed:
            self._ending = True
            thread = self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_ENDING_S)

    # The thread

    def _work(self) -> None:
        rows = _Rows(self._loaded)
        try:
            while self._has_work(rows):
                if self._ending:
                    self._cancel(rows)
                if joining := self._joining(rows):
                    self._put_back(rows.join(joining, self._prefixes))
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
            self._changed.wait_for(lambda: self._waiting or self._ending, _IDLE_S)
            if not self._waiting:
                self._thread = None
                return False
        return True

    def _cancel(self, rows: _Rows) -> None:
        with self._changed:
            for asked in (*rows.asked, *self._waiting):
                asked.job.cancel.set()

    def _joining(self, rows: _Rows) -> list[_Asked]:
        """Those that may join now, in the order asked: one adapter at a time acts on the model."""
        joining: list[_Asked] = []
        with self._changed:
            room = self._size - len(rows.asked) if rows.open else 0
            while self._waiting and len(joining) < room:
                first = next(iter((*rows.asked, *joining)), self._waiting[0])
                if first.adapter != self._waiting[0].adapter:
                    break
                joining.append(self._waiting.popleft())
        return joining

    def _put_back(self, asked: Sequence[_Asked]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(asked))


_batchers: weakref.WeakSet[Batcher] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for batcher in list(_batchers):
        batcher.end()


class _Rows:
    """The running batch: a row per answer, padded on the left to one length."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.asked: list[_Asked] = []
        self.mergeable = True
        self._cache: Any = None
        self._mask: Any = None  # 1 where a token is; the cache's columns
        self._last: list[int] = []  # the id that each row goes on from

    @property
    def open(self) -> bool:
        """Whether more may join: caches that cannot be put together are left to end first."""
        return self.mergeable or not self.asked

    def join(self, asking: Sequence[_Asked], prefixes: Prefixes) -> list[_Asked]:
        """Read the prompt that waits longest, and those that are read with it in one pass; give out
        their first ids, and take in those that go on.

        Returns:
            The others, unread, in their order.
        """
        for asked in asking:
            if asked.job.cancel.is_set() or asked.job.finish_reason is not None:
                asked.job.finish_reason = asked.job.finish_reason or "cancelled"
                asked.out.put(_END)
        asking = [asked for asked in asking if asked.job.finish_reason is None]
        if not asking:
            return []
        places = next(g for g in prefixes.groups([asked.job for asked in asking]) if 0 in g)
        groups = deque([[asking[place] for place in places]])
        others = [asked for place, asked in enumerate(asking) if place not in places]
        while groups and self.open:
            group = groups.popleft()
            try:
                self._read(group, prefixes)
            except FtiError as error:
                if len(group) > 1:  # each by itself, so that only the culprit fails
                    groups.extendleft([asked] for asked in reversed(group))
                else:
                    group[0].out.put(error)
            except BaseException as error:
                # They stand in no list any more, where the thread's end would find them.
                for asked in (*group, *(asked for later in groups for asked in later), *others):
                    asked.out.put(error)
                raise
        return [*(asked for group in groups for asked in group), *others]

    def _read(self, group: list[_Asked], prefixes: Prefixes) -> None:
        jobs = [asked.job for asked in group]
        logits, cache, mask = prefixes.read(jobs, group[0].adapter, between=self.step)
        if logits is None:
            group[0].job.finish_reason = group[0].job.finish_reason or "cancelled"
            group[0].out.put(_END)
            return
        picked = pick_each(jobs, logits)
        self.mergeable = mergeable(cache)
        if self._cache is None:
            self._cache, self._mask = cache, mask
        else:
            self._cache, self._mask = _merged(self._cache, self._mask, cache, mask)
        self.asked += group
        self._last += picked
        self._give_out(group, picked)
        self._drop_ended()

    def _give_out(self, asked: Sequence[_Asked], picked: Sequence[int]) -> None:
        for each, index in zip(asked, picked, strict=True):
            each.take(index, self._loaded.stop_ids)

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
            self._last = pick_each([asked.job for asked in self.asked], logits)
        except FtiError as error:
            for asked in self.asked:
                asked.out.put(error)
            self._clear()
            return
        self._mask = mask
        self._give_out(self.asked, self._last)
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
