"""What is split becomes vectors and rows, while the files after it are read.

Two threads, one that embeds and one that writes, take batches in the order in which they come, so
that the embedder hardly ever waits for a file to be read or a commit to be made. At most two
batches are on their way: an ingest's memory does not grow with its sources.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import numpy as np

from fti.pipelines.engines.embedders.embedding import Embedder, Vectors
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.preparing import Split
from fti.pipelines.feature.ingesting.resemblance import document_signature
from fti.store.features.feature_store import FeatureStore
from fti.store.features.validation import StatisticsCounter, violation
from fti.store.lance import memory
from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.progress import Progress, ProgressEvent
from fti.store.types import SourceRecord

_REMEMBER_EVERY = 256  # embedded chunks; what a kill can cost
_ON_THEIR_WAY = 2  # batches

Embed = Callable[[Sequence[Sequence[str]]], Iterator[Vectors]]
"""The vectors of texts, slice by slice."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A document that is split and not embedded yet, its line, and the line it had before."""

    split: Split
    entry: LedgerEntry
    counted: Literal["added", "updated", "empty", ""] = ""
    before: LedgerEntry | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A document whose features break the contract of ``store.validation``, and how."""

    pending: Pending
    reason: str


@dataclass(slots=True)
class Batch:
    """What one commit holds."""

    documents: list[Pending] = field(default_factory=list)
    lines: list[LedgerEntry] = field(default_factory=list)
    dropped: list[SourceRecord] = field(default_factory=list)
    chunks: int = 0


class _Stopped(Exception):
    """Nobody waits for this batch any more."""


class Committing:
    """Embeds and writes batches in their order. Use ``with``: what is not written yet is dropped
    when an error leaves the block.

    Args:
        embedder: makes the vectors.
        embed: how it is asked; see ``executors``.
        config: lengths of slices, and the bounds that features must keep.
        progress: told after each embedded slice; called from other threads.
    """

    def __init__(
        self, embedder: Embedder, embed: Embed, config: FeatureConfig, progress: Progress
    ) -> None:
        self.statistics = StatisticsCounter()
        self._embedded = 0
        self._embedder = embedder
        self._embed = embed
        self._config = config
        self._progress = progress
        self._refused: deque[Refused] = deque()  # one thread adds while another takes
        self._stop = threading.Event()
        self._room = threading.Semaphore(_ON_THEIR_WAY)
        self._embedding = ThreadPoolExecutor(1, thread_name_prefix="fti-embed")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="fti-write")
        self._last: Future[None] | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stop.set()
        self._embedding.shutdown(cancel_futures=error is not None)
        self._writing.shutdown(cancel_futures=error is not None)

    def submit(self, features: FeatureStore, batch: Batch) -> None:
        """Hand a batch over; waits while two others are on their way.

        Raises:
            Whatever went wrong with a batch before it.
        """
        self._room.acquire()
        self._raise()
        embedding = self._embedding.submit(self._make, features, batch)
        self._last = self._writing.submit(self._write, features, batch, embedding)

    def drain(self) -> None:
        """Wait until everything is written.

        Raises:
            Whatever went wrong with a batch.
        """
        if self._last is not None:
            self._last.result()
        self._raise()

    def refused(self) -> list[Refused]:
        """What was not stored, since this was last asked."""
        return [self._refused.popleft() for _ in range(len(self._refused))]

    # On the threads

    def _make(self, features: FeatureStore, batch: Batch) -> dict[str, Vectors]:
        self._go_on()
        return self._vectors(features, batch.documents)

    def _write(
        self, features: FeatureStore, batch: Batch, embedding: Future[dict[str, Vectors]]
    ) -> None:
        try:
            vectors = embedding.result()
            self._go_on()
            updates = [self._valid(p, vectors) for p in batch.documents]
            if good := [u for u in updates if u is not None]:
                features.replace(good)
            if batch.lines:
                features.note(batch.lines)
            if batch.dropped:
                features.delete([r.id for r in batch.dropped])
            memory.give_back()
        except BaseException as error:  # raised where somebody listens; nothing is written after it
            self._error = self._error or error
            self._stop.set()
        finally:
            self._room.release()

    def _valid(self, pending: Pending, vectors: Mapping[str, Vectors]) -> DocumentUpdate | None:
        """What is to be committed of a document; None where it breaks the contract."""
        split = pending.split
        update = DocumentUpdate(
            document=split.document,
            entry=pending.entry,
            chunks=split.chunks,
            vectors=_stack([vectors[key] for key in split.keys], self._embedder),
            search_texts=split.texts,
            signature=document_signature(split.document.text) if split.chunks else b"",
        )
        wrong = violation(update, self._embedder.identity, self._config.validation)
        if wrong is None:
            self.statistics.add(c.text for c in split.chunks)
            return update
        self._refused.append(Refused(pending, f"its features are not stored: {wrong}"))
        return None

    def _vectors(self, features: FeatureStore, documents: Sequence[Pending]) -> dict[str, Vectors]:
        """A vector for every key: remembered ones, and the others embedded now."""
        texts = {
            key: text
            for p in documents
            for key, text in zip(p.split.keys, p.split.texts, strict=True)
        }
        identity = self._embedder.identity
        found: dict[str, Vectors] = dict(features.known_vectors(list(texts), identity))
        # Texts of like length together: a batch is padded to its longest.
        wanted = sorted((k for k in texts if k not in found), key=lambda k: (-len(texts[k]), k))
        size = self._config.embed_batch
        slices = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        new: list[str] = []
        made = self._embed([[texts[key] for key in keys] for keys in slices])
        try:
            for keys, vectors in zip(slices, made, strict=True):
                found.update(zip(keys, vectors, strict=True))
                new += keys
                self._embedded += len(keys)
                self._progress(ProgressEvent("embed", self._embedded, None, f"{len(keys)} chunks"))
                if len(new) >= _REMEMBER_EVERY:
                    self._remember(features, new, found)
                    new = []
                self._go_on()
        finally:
            # Also of what is broken off: whoever begins it again goes on from here.
            self._remember(features, new, found)
        return found

    def _remember(
        self, features: FeatureStore, keys: Sequence[str], vectors: Mapping[str, Vectors]
    ) -> None:
        if keys:
            stacked = _stack([vectors[key] for key in keys], self._embedder)
            features.remember_vectors(keys, stacked, self._embedder.identity)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _stack(vectors: Sequence[Vectors], embedder: Embedder) -> Vectors:
    if not vectors:
        return np.zeros((0, embedder.identity.dimension), np.float32)
    return np.stack(vectors).astype(np.float32, copy=False)
