"""A piece of work on each core, and torch's number of threads as it was."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fti.pipelines.engines.embedders.cores import Cores


def test_results_come_in_the_order_of_the_pieces() -> None:
    def late(piece: int) -> int:
        time.sleep(0.002 * (piece % 3 == 0))
        return piece * piece

    assert Cores(3).map(late, list(range(40))) == [n * n for n in range(40)]
    assert Cores(3).map(late, []) == []


def test_pieces_meet_on_threads_with_a_core_each() -> None:
    cores = Cores(2)
    met = threading.Barrier(2, timeout=30)

    def meet(piece: int) -> tuple[int, int]:
        met.wait()
        return threading.get_ident(), torch.get_num_threads()

    found = cores.map(meet, [0, 1])
    assert len({thread for thread, _ in found}) == 2
    assert [threads for _, threads in found] == [1, 1]


def test_other_threads_keep_their_number_of_threads() -> None:
    before = torch.get_num_threads()
    Cores(2).map(lambda piece: torch.get_num_threads(), [0, 1, 2])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == before
    assert torch.get_num_threads() == before


def test_a_lone_piece_is_done_here_with_all_cores() -> None:
    here = threading.get_ident()
    assert Cores(2).map(lambda piece: threading.get_ident(), ["x"]) == [here]
    assert Cores(1).map(lambda piece: threading.get_ident(), ["x", "y"]) == [here, here]


def test_a_small_piece_is_done_on_one_core() -> None:
    def threads(piece: str) -> tuple[bool, int]:
        return threading.get_ident() == here, torch.get_num_threads()

    here = threading.get_ident()
    assert Cores(2).map(threads, ["x"], small=True) == [(False, 1)]


def test_a_failure_is_raised_and_what_has_not_begun_is_left() -> None:
    begun: list[int] = []

    def work(piece: int) -> None:
        begun.append(piece)
        if piece == 1:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Cores(2).map(work, list(range(100)))
    assert len(begun) < 10


def test_calls_get_on_side_by_side() -> None:
    """A long call does not fill the threads for a short one that comes after it."""
    cores, going = Cores(2), threading.Event()
    order: list[str] = []

    def long(piece: int) -> None:
        going.set()
        time.sleep(0.01)
        order.append("long")

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cores.map, long, list(range(60)))
        assert going.wait(30)
        cores.map(lambda piece: order.append("short"), [0, 1])
        assert order.count("long") < 30
        running.result()
