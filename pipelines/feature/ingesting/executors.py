"""Where the work of an ingest is done: files read and split, texts embedded.

``InProcess`` does it where it is asked; ``Processes`` on processes of this machine, each with the
embedder's weights; ``ray_workers`` on the machines of a cluster. What is committed, and in which
order, is the same for all of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Literal, Protocol, Self

from fti.pipelines.engines.embedders.cores import limit_threads
from fti.pipelines.engines.embedders.embedding import Embedder, Vectors
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.preparing import Job, Prepared, prepare
from fti.pipelines.feature.reading.parsing import Parser
from fti.store.errors import EngineError
from fti.store.features.feature_store import FeatureStore
from fti.store.progress import Progress

ExecutorName = Literal["local", "process", "ray"]


class Executor(Protocol):
    """Does the work of an ingest that needs no store.

    ``embedded`` counts the texts that it was the first to embed.
    """

    embedded: int

    def prepare(self, jobs: Iterable[Job]) -> Iterator[Prepared]:
        """Read and split files, in their order; ``jobs`` may be asked for more than was given."""
        ...

    def embed(self, slices: Sequence[Sequence[str]]) -> Iterator[Vectors]:
        """The vectors of each slice of texts, in their order. May be called on another thread."""
        ...


class InProcess:
    """All of it here, with a parser that stays open."""

    def __init__(self, embedder: Embedder, config: FeatureConfig, parser: Parser) -> None:
        self._embedder = embedder
        self._config = config
        self._parser = parser
        self.embedded = 0

    def prepare(self, jobs: Iterable[Job]) -> Iterator[Prepared]:
        """One file after the other, each when it is asked for."""
        for job in jobs:
            yield _prepare(job, self._embedder, self._config, self._parser)

    def embed(self, slices: Sequence[Sequence[str]]) -> Iterator[Vectors]:
        """One slice after the other."""
        for texts in slices:
            self.embedded += len(texts)
            yield self._embedder.embed_documents(texts)


class Processes:
    """Processes of this machine, started for the first file or text and ended with the block.

    Every one holds the embedder and has its share of the processor's cores. They end with this
    process, however it ends.

    Args:
        embedder: which; it is loaded anew in each process.
        config: how files are read and split.
        workers: how many; None: one for each core.
    """

    def __init__(
        self, embedder: Embedder, config: FeatureConfig, *, workers: int | None = None
    ) -> None:
        self._embedder = embedder
        self._config = config
        self._workers = workers or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None
        self.embedded = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def prepare(self, jobs: Iterable[Job]) -> Iterator[Prepared]:
        """As many files at once as there are processes, and as many again ready."""
        waiting: deque[Future[Prepared]] = deque()
        with _whole_pool():
            for job in jobs:
                waiting.append(self._started().submit(_prepare_there, job))
                if len(waiting) > 2 * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def embed(self, slices: Sequence[Sequence[str]]) -> Iterator[Vectors]:
        """The slices of a batch shared out; a batch is no longer than ``batch_chunks``."""
        if not slices:
            return
        with _whole_pool():
            for vectors in self._started().map(_embed_there, [list(texts) for texts in slices]):
                self.embedded += len(vectors)
                yield vectors

    def _started(self) -> ProcessPoolExecutor:
        with self._lock:  # files are prepared on one thread, texts embedded on another
            if self._pool is None:
                cores = os.cpu_count() or 1
                self._pool = ProcessPoolExecutor(
                    self._workers,
                    # A fork of a process whose threads hold locks may never wake up.
                    mp_context=get_context("spawn"),
                    initializer=_begin,
                    initargs=(self._embedder, self._config, max(1, cores // self._workers)),
                )
            return self._pool


def open_executor(
    name: ExecutorName,
    *,
    embedder: Embedder,
    config: FeatureConfig,
    features: FeatureStore,
    workers: int | None,
    progress: Progress,
    stack: contextlib.ExitStack,
) -> Executor | None:
    """The executor of that name, closed with the stack; None for the one that each ingest makes."""
    if name == "process":
        return stack.enter_context(Processes(embedder, config, workers=workers))
    if name == "ray":
        from fti.pipelines.engines.replicas.cluster import cluster
        from fti.pipelines.feature.ingesting.ray_workers import RayWorkers

        there = RayWorkers(embedder, config, features, workers=workers, progress=progress)
        stack.enter_context(cluster())
        return there
    return None


@contextlib.contextmanager
def _whole_pool() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise EngineError(
            "A process that reads and embeds documents ended before its time.",
            hint="If memory ran out, use fewer: --workers N. What was committed stays; run the "
            "same command again.",
        ) from error


def _prepare(job: Job, embedder: Embedder, config: FeatureConfig, parser: Parser) -> Prepared:
    return prepare(
        job, embedder=embedder, sources=config.sources, chunking=config.chunking, parser=parser
    )


# In the other processes

_there: tuple[Embedder, FeatureConfig, Parser] | None = None


def _begin(embedder: Embedder, config: FeatureConfig, threads: int) -> None:
    global _there
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is interrupted ends this process too
    parent = parent_process()
    if parent is not None:
        # One that is killed cannot say so.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    limit_threads(threads)
    _there = (embedder, config, Parser(config.sources))


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _prepare_there(job: Job) -> Prepared:
    assert _there is not None
    embedder, config, parser = _there
    return _prepare(job, embedder, config, parser)


def _embed_there(texts: Sequence[str]) -> Vectors:
    assert _there is not None
    return _there[0].embed_documents(texts)
