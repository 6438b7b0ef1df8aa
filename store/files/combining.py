"""Calls that several threads make meanwhile, done as one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(eq=False, slots=True)
class _Call(Generic[_Item, _Result]):
    item: _Item
    result: _Result | None = None
    done: bool = False


class Combining(Generic[_Item, _Result]):
    """Does one call at a time; those that come meanwhile are done together by the next one.

    What databases know as group commit, and Hendler et al. as flat combining (SPAA 2010). Nobody
    waits for others to come: a lone call is done at once.

    Args:
        work: gives the results of items, in their order; called by one thread at a time. Where it
            fails for several items, each is tried again by itself, so that every caller gets its
            own result or its own error.
    """

    def __init__(self, work: Callable[[Sequence[_Item]], Sequence[_Result]]) -> None:
        self._work = work
        self._turn = threading.Lock()
        self._mutex = threading.Lock()
        self._waiting: list[_Call[_Item, _Result]] = []

    def __call__(self, item: _Item) -> _Result:
        """The result for one item; raises what ``work`` raises for it."""
        mine = _Call[_Item, _Result](item)
        with self._mutex:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                self._do(self._taken(mine))
            if not mine.done:
                self._do([mine])
        return mine.result  # type: ignore[return-value]  # done, so it is one

    def _taken(self, mine: _Call[_Item, _Result]) -> list[_Call[_Item, _Result]]:
        """All that wait; ``mine`` alone where it was tried with others before."""
        with self._mutex:
            if mine not in self._waiting:
                return [mine]
            taken, self._waiting = self._waiting, []
        return taken

    def _do(self, calls: Sequence[_Call[_Item, _Result]]) -> None:
        try:
            results = self._work([call.item for call in calls])
        except Exception:
            if len(calls) == 1:
                raise
            return
        for call, result in zip(calls, results, strict=True):
            call.result, call.done = result, True
