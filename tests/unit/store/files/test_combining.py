"""Calls that come meanwhile are done together, and each caller gets its own result or error."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from fti.store.files.combining import Combining


class Held:
    """Doubles numbers; the first call is held until told, and negative numbers are refused."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        self.begun.set()
        assert self.go.wait(30)
        if min(items) < 0:
            raise ValueError(f"negative: {min(items)}")
        return [2 * item for item in items]


def meanwhile(work: Held, items: Sequence[int]) -> list[Future[int]]:
    """All of the items asked for in threads, the later ones while the first is worked on."""
    combining = Combining(work)
    with ThreadPoolExecutor(len(items)) as pool:
        futures = [pool.submit(combining, items[0])]
        assert work.begun.wait(30)
        futures += [pool.submit(combining, item) for item in items[1:]]
        while len(combining._waiting) < len(items) - 1:
            threading.Event().wait(0.001)
        work.go.set()
    return futures


def test_a_lone_call_is_done_at_once() -> None:
    work = Held()
    work.go.set()
    assert Combining(work)(21) == 42
    assert work.calls == [[21]]


def test_calls_that_come_meanwhile_are_done_together() -> None:
    work = Held()
    futures = meanwhile(work, [1, 2, 3, 4])
    assert [future.result() for future in futures] == [2, 4, 6, 8]
    assert [len(call) for call in work.calls] == [1, 3]


def test_one_that_fails_fails_no_other() -> None:
    futures = meanwhile(Held(), [1, 2, -3, 4])
    assert [f.result() for f in (futures[0], futures[1], futures[3])] == [2, 4, 8]
    with pytest.raises(ValueError, match="negative: -3"):
        futures[2].result()
