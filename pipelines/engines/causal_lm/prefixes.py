"""Prompts read, those that wait together, with what they all begin with read only once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

from fti.pipelines.engines.causal_lm.decoding import PREFILL_TOKENS, Job, read_prompt, read_together
from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.plain_llama import KeysValues

_LEAST_PREFIX = 16  # ids; copying a cache costs about as much as reading fewer
_PREFIXES = 4  # kept: one per contract and adapter in use
_PADDING = 64  # ids of padding that a pass may compute in vain: it costs about as much by itself


class Prefixes:
    """Reads prompts, and keeps the caches of what they begin with again and again.

    That is the system turn of a contract. A lone prompt is read in two pieces, its fixed part and
    the rest, whether the first was kept or not: so what is reused is bit for bit what would be
    computed.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._kept: OrderedDict[tuple[str | None, tuple[int, ...]], Any] = OrderedDict()
        self._useful = True  # caches can be kept: each layer holds every token

    def groups(self, jobs: Sequence[Job]) -> list[list[int]]:
        """Places of the jobs whose prompts are read together: of one beginning and like length."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for place, job in enumerate(jobs):
            alike.setdefault(tuple(job.prompt[: self._shared(job)]), []).append(place)
        return [
            group
            for beginning, places in alike.items()
            for group in _like_lengths(
                {place: len(jobs[place].prompt) - len(beginning) for place in places}
            )
        ]

    def read(
        self,
        jobs: Sequence[Job],
        adapter: str | None,
        between: Callable[[], None] = lambda: None,
    ) -> tuple[Any, Any, Any]:
        """The logits after the jobs' prompts, their cache, and the mask of its columns.

        Args:
            jobs: one of ``groups``. The logits of a lone one are None where it was cancelled.
            adapter: under which adapter.
            between: called between two pieces of a long prompt.

        Raises:
            GenerationFailed: the forward pass broke off.
        """
        import torch

        begun = self._begun(jobs[0], adapter)
        at = self._shared(jobs[0])  # after the above: it may have found that nothing can be kept
        rests = [job.prompt[at:] for job in jobs]
        if len(jobs) == 1:
            logits, cache = read_prompt(
                self._loaded, adapter, rests[0], jobs[0].cancel, begun, between
            )
            return logits, cache, torch.ones((1, at + len(rests[0])), dtype=torch.long)
        if begun is not None:
            with torch.inference_mode():
                begun.batch_repeat_interleave(len(jobs))
        return read_together(self._loaded, adapter, rests, at, begun)

    def _begun(self, job: Job, adapter: str | None) -> Any:
        """A cache of the job's fixed part, to go on from; None where it has none to keep."""
        at = self._shared(job)
        if not at:
            return None
        key = (adapter, tuple(job.prompt[:at]))
        if key not in self._kept:
            # Whoever asks first may leave: the others need it all the same.
            _, cache = read_prompt(self._loaded, adapter, job.prompt[:at], threading.Event())
            if not mergeable(cache):
                self._useful = False
                return None
            self._kept[key] = cache
            while len(self._kept) > _PREFIXES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return _copied(self._kept[key])

    def _shared(self, job: Job) -> int:
        worth = self._useful and _LEAST_PREFIX <= job.fixed < len(job.prompt)
        return job.fixed if worth else 0


def _like_lengths(lengths: dict[int, int]) -> Iterator[list[int]]:
    """The keys in groups, shortest first, that have little padding and are read in one piece."""
    group: list[int] = []
    padding = longest = 0
    for key in sorted(lengths, key=lambda k: lengths[k]):
        padding += len(group) * (lengths[key] - longest)
        longest = lengths[key]
        if group and (padding > _PADDING or (len(group) + 1) * longest > 2 * PREFILL_TOKENS):
            yield group
            group, padding = [], 0
        group.append(key)
    if group:
        yield group


def mergeable(cache: Any) -> bool:
    """Whether every layer keeps the keys and values of all tokens, and nothing else."""
    if isinstance(cache, KeysValues):
        return True
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)


def _copied(cache: Any) -> Any:
    """A cache that grows by itself: layers make new tensors and never write into old ones."""
    other = copy(cache)
    other.layers = [copy(layer) for layer in cache.layers]
    return other
