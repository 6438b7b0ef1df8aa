"""Pieces of work side by side, one on each core.

torch spreads every operation over all cores and waits for the slowest of them each time; a batch of
a few hundred tokens has some hundred operations, so much of that is waiting. A batch on each core
waits for nobody. Where other work wants the cores too, each wait lasts until that work is
interrupted: a short question then takes many times as long on all cores as on one.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")

#: More threads than this would mostly wait for each other's Python; each then has several cores.
_MOST = 16


class Cores:
    """Threads that share this process's cores for torch among them.

    Args:
        cores: how many cores there are.

    Attributes:
        workers: how many pieces are worked on at a time.
    """

    def __init__(self, cores: int) -> None:
        self.workers = max(1, min(cores, _MOST))
        self._cores = cores
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def map(
        self,
        work: Callable[[_Piece], _Result],
        pieces: Sequence[_Piece],
        *,
        small: bool = False,
    ) -> Sequence[_Result]:
        """The result of each piece, in their order.

        No more than ``workers`` pieces of one call wait in the threads, so that several calls get
        on side by side.

        Args:
            work: done for each piece.
            pieces: what it is done for. A lone one is done here, with all cores.
            small: a lone one is done on one core like the others.
        """
        if self.workers == 1 or (len(pieces) < 2 and not small):
            return [work(piece) for piece in pieces]
        pool = self._started()
        results: list[_Result] = []
        waiting: deque[Future[_Result]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) > self.workers:
                    results.append(waiting.popleft().result())
            while waiting:
                results.append(waiting.popleft().result())
        finally:
            for future in waiting:  # something failed: what has not begun need not
                future.cancel()
        return results

    def _started(self) -> ThreadPoolExecutor:
        import torch

        with self._lock:
            if self._pool is None:
                threads = torch.get_num_threads()
                ready = threading.Barrier(self.workers + 1)

                def begin() -> None:
                    torch.set_num_threads(max(1, self._cores // self.workers))
                    ready.wait()

                pool = ThreadPoolExecutor(self.workers, thread_name_prefix="fti-core")
                for _ in range(self.workers):
                    pool.submit(begin)
                ready.wait()
                # The number holds for the thread that sets it, and for threads that come later.
                torch.set_num_threads(threads)
                self._pool = pool
            return self._pool


@functools.cache
def shared_cores() -> Cores:
    """The cores that torch may use in this process, shared by all who embed here."""
    import torch

    return Cores(torch.get_num_threads())


def limit_threads(threads: int) -> None:
    """Let torch use so many of this process's cores, where the embedder has brought it in."""
    if "torch" in sys.modules:  # an embedder without weights needs none, and loading it takes long
        import torch

        torch.set_num_threads(threads)
