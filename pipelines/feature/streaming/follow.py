"""Documents searchable moments after a record of them came: a stream into the feature store.

Records may come twice and late; the store ends up as if each had come once and in order. What was
committed is acknowledged after its commit, never before. A record with the content that the store
has changes nothing; one that is older than what the store has is passed over. One that cannot be
taken becomes a line in the ledger, is kept as it was given, and is acknowledged: it must not hold
up the others. While the store is busy nothing more is read than the buffer holds.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.executors import InProcess
from fti.pipelines.feature.ingesting.ingest import Ingest, NotTaken
from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.streaming.gathering import gather
from fti.pipelines.feature.streaming.stream_records import (
    AT,
    Record,
    named_source,
    parse_record,
    raw_document,
)
from fti.pipelines.feature.streaming.streams import Delivery, RecordStream
from fti.store.contracts.conditions import PipelineContract
from fti.store.errors import EmbedderMismatch, ExtractionError, PostconditionFailed, StoreLocked
from fti.store.lance.shapes import STREAM, Held
from fti.store.moments import read_moment
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Value, now, sha256_hex

_WAIT_S = 0.2
_MAINTAIN_S = 10.0  # rows that no index covers yet are found all the same
_SHOWN = 100  # failures that the report of a whole session lists


class Freshness(Value):
    """Seconds from when a record happened until a search could find it, over ``n`` changes.

    They rest on two clocks: whoever dates the records, and this machine.
    """

    n: int
    p50_s: float
    p99_s: float
    max_s: float


class StreamBatch(Value):
    """One commit. Every record is counted once, apart from ``embedded_chunks``.

    ``superseded`` records were older than what the store, or a later record of the same batch, had.
    ``position`` is that of the last record: everything up to it is in the store.
    """

    at: datetime
    position: str
    records: int
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    superseded: int = 0
    empty: tuple[NotTaken, ...] = ()
    failed: tuple[NotTaken, ...] = ()
    embedded_chunks: int = 0
    freshness: Freshness | None = None
    seconds: float = 0.0


class FollowReport(Value):
    """A whole session; ``failed`` lists the first of ``failed_records``."""

    records: int = 0
    batches: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    superseded: int = 0
    empty_records: int = 0
    failed_records: int = 0
    failed: tuple[NotTaken, ...] = ()
    chunks: int = 0
    embedded_chunks: int = 0
    freshness: Freshness | None = None
    ended: Literal["stream", "stop"] = "stream"
    seconds: float = 0.0
    run: str = ""
    features_version: int = 0


FOLLOW = PipelineContract("follow")


@FOLLOW.precondition("The store's vectors are this embedder's", raises=EmbedderMismatch)
def same_embedder(store: Store, embedder: Embedder) -> None:
    """Vectors of two embedders do not compare."""
    store.features.require_identity(embedder.identity)


@FOLLOW.postcondition("Each record that was read is counted once")
def records_add_up(result: FollowReport) -> None:
    """Taken, passed over, or refused with its reason; none disappears."""
    counted = sum(
        (
            result.added, result.updated, result.unchanged, result.deleted, result.superseded,
            result.empty_records, result.failed_records,
        )
    )  # fmt: skip
    if counted != result.records:
        raise PostconditionFailed(
            f"{result.records} records were read, and {counted} are accounted for."
        )


@FOLLOW.postcondition("What the report counts can be found")
def can_be_found(store: Store, result: FollowReport) -> None:
    """Readers see the version that the report names, or a later one."""
    store.features.require_version(result.features_version)


@FOLLOW.enforced
def follow(
    stream: RecordStream,
    *,
    store: Store,
    embedder: Embedder,
    config: FeatureConfig,
    stop: threading.Event,
    on_batch: Callable[[StreamBatch], None] = lambda batch: None,
    progress: Progress = quiet,
) -> FollowReport:
    """Take records until the stream ends or ``stop`` is set; what was read by then is committed.

    Args:
        stream: where they come from.
        store: where to.
        embedder: makes the vectors; must be the one that made those in the store.
        config: how.
        stop: ends the session.
        on_batch: told after each commit, once it is acknowledged.
        progress: as in ``ingest``.

    Raises:
        StoreLocked: another process writes to the store at the beginning, or still at the end.
        StoreFull, EmbedderMismatch: as ``ingest``.
        SourceNotFound: the stream is lost. What was not acknowledged comes again.
    """
    session = _Session(stream, store, embedder, config, stop, progress)
    settings = {
        **config.model_dump(mode="json"),
        "embedder": embedder.identity.model_dump(mode="json"),
    }
    with (
        store.runs.running("ingest", inputs={"stream": stream.name}, settings=settings) as run,
        Parser(config.sources) as parser,
    ):
        report = session.run(parser, on_batch).model_copy(update={"run": run.id})
        run.outputs["features_version"] = str(report.features_version)
        run.metrics.update(report.model_dump(mode="json", exclude={"failed", "run"}))
        run.status = "partial" if report.failed_records else "done"
    return report


class _Session:
    """One call of ``follow``."""

    def __init__(
        self,
        stream: RecordStream,
        store: Store,
        embedder: Embedder,
        config: FeatureConfig,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self.stream = stream
        self.store = store
        self.embedder = embedder
        self.config = config
        self.stop = stop
        self.progress = progress
        self.broken: frozenset[str] = frozenset()
        self.counts: Counter[str] = Counter()
        self.failed: list[NotTaken] = []
        self.lags = _Lags()

    def run(self, parser: Parser, on_batch: Callable[[StreamBatch], None]) -> FollowReport:
        began = maintained = time.monotonic()
        with self.store.layout.writing("ingest --follow"):
            self.store.features.create(self.embedder.identity)
            self.broken = self.store.features.heal().broken
        items: queue.Queue[Delivery | Exception | None] = queue.Queue(
            self.config.stream.buffer_records
        )
        abandoned = threading.Event()
        reader = threading.Thread(
            target=self._read, args=(items, abandoned), name="fti-stream", daemon=True
        )
        reader.start()
        ended, dirty = False, False
        try:
            while not ended:
                taken = gather(
                    items,
                    wait_s=_WAIT_S,
                    linger_s=self.config.stream.linger_s,
                    limit=self.config.batch_documents,
                )
                deliveries = [item for item in taken if isinstance(item, Delivery)]
                if deliveries:
                    batch = self._store_batch(deliveries, parser)
                    self.stream.acknowledge([d.position for d in deliveries])
                    self._count(batch)
                    on_batch(batch)
                    dirty = True
                for item in taken:
                    if isinstance(item, Exception):
                        raise item
                    ended = ended or item is None
                if dirty and (ended or time.monotonic() - maintained > _MAINTAIN_S):
                    self._maintain(last=ended)
                    maintained, dirty = time.monotonic(), False
        finally:
            abandoned.set()
        reader.join()
        return self._report(began)

    def _read(
        self, items: queue.Queue[Delivery | Exception | None], abandoned: threading.Event
    ) -> None:
        """Into the buffer, which makes us wait when it is full; last None, or what went wrong."""
        last: Exception | None = None
        try:
            for delivery in self.stream.deliveries(self.stop):
                if not _put(items, delivery, abandoned):
                    return
        except Exception as error:  # raised where somebody listens
            last = error
        _put(items, last, abandoned)

    def _store_batch(self, deliveries: Sequence[Delivery], parser: Parser) -> StreamBatch:
        while True:
            try:
                with self.store.layout.writing("ingest --follow"):
                    executor = InProcess(self.embedder, self.config, parser)
                    with _Taking(
                        self.store, self.embedder, self.config, self.progress, executor
                    ) as taking:
                        taking.broken = self.broken
                        batch = taking.take(deliveries, self.stream.name, parser)
            except StoreLocked:  # an ingest is at work; each wait is bounded by the lock
                if self.stop.is_set():
                    raise
            else:
                self.broken -= taking.mended
                for lag in taking.lags:
                    self.lags.add(lag)
                return batch

    def _maintain(self, *, last: bool) -> None:
        try:
            with self.store.layout.writing("ingest --follow", timeout_s=10.0 if last else 0.0):
                self.store.features.maintain(
                    ann_threshold=self.config.ann_threshold, progress=self.progress
                )
                self.store.features.record_version()
                self.store.expire_features(self.config.retention)
        except StoreLocked:  # whoever holds the lock maintains too, or the next one does
            return

    def _count(self, batch: StreamBatch) -> None:
        for name in (
            "records", "added", "updated", "unchanged", "deleted", "superseded", "embedded_chunks",
        ):  # fmt: skip
            self.counts[name] += getattr(batch, name)
        self.counts["batches"] += 1
        self.counts["empty_records"] += len(batch.empty)
        self.counts["failed_records"] += len(batch.failed)
        self.failed += batch.failed[: _SHOWN - len(self.failed)]
        self.progress(ProgressEvent("records", self.counts["records"]))

    def _report(self, began: float) -> FollowReport:
        stats = self.store.features.stats()
        return FollowReport(
            **self.counts,
            failed=tuple(self.failed),
            chunks=stats.chunks,
            freshness=self.lags.summary(),
            ended="stop" if self.stop.is_set() else "stream",
            seconds=round(time.monotonic() - began, 3),
            features_version=stats.version,
        )


class _Taking(Ingest):
    """One batch of records, committed as an ingest commits files."""

    lags: list[float]
    mended: frozenset[str]

    def take(self, deliveries: Sequence[Delivery], stream: str, parser: Parser) -> StreamBatch:
        began = time.monotonic()
        newest, bad, counts = self._sort(deliveries)
        held = self.features.held(newest)
        changed: list[Record] = []
        ended: set[str] = set()
        for source, (delivery, record) in newest.items():
            before = held.get(source)
            if before and _at(before) > _moment(record):
                counts["superseded"] += 1
                continue
            try:
                raw = raw_document(record, parser)
            except ExtractionError as error:
                bad.append((delivery, source, error.message))
                continue
            done = self.added + self.updated
            entry = before.entry if before else None
            self._take_record(raw, record.digest, entry)
            gone = record.deleted and entry is not None and entry.record.chunks > 0
            if record.deleted:
                ended.add(source)
                counts["deleted" if gone else "unchanged"] += 1
            if gone or self.added + self.updated > done:
                changed.append(record)
            self._commit(when_full=True)
        self._finish()
        committed = now()
        self.lags = [max(0.0, (committed - _moment(r)).total_seconds()) for r in changed]
        self.mended = frozenset(h.entry.record.id for h in held.values())
        order = {d.position: n for n, d in enumerate(deliveries)}
        last = {source: order[d.position] for source, (d, _) in newest.items()}
        # What a later record of the same source has mended needs no line.
        self._reject(
            [(d, s, why, last.get(s, -1) <= order[d.position]) for d, s, why in bad], stream
        )
        return StreamBatch(
            at=committed,
            position=deliveries[-1].position,
            records=len(deliveries),
            added=self.added,
            updated=self.updated,
            unchanged=self.unchanged + counts["unchanged"],
            deleted=counts["deleted"],
            superseded=counts["superseded"],
            empty=tuple(e for e in self.empty if e.source not in ended),
            failed=tuple(self.failed),
            embedded_chunks=self.executor.embedded,
            freshness=_summary(self.lags),
            seconds=round(time.monotonic() - began, 3),
        )

    def _sort(
        self, deliveries: Sequence[Delivery]
    ) -> tuple[dict[str, tuple[Delivery, Record]], list[tuple[Delivery, str, str]], Counter[str]]:
        """The newest record of each source, those that are none, and how many are outdated."""
        newest: dict[str, tuple[Delivery, Record]] = {}
        bad: list[tuple[Delivery, str, str]] = []
        counts: Counter[str] = Counter()
        longest = self.config.stream.max_record_bytes
        for delivery in deliveries:
            try:
                record = parse_record(delivery.data, max_bytes=longest)
            except ExtractionError as error:
                bad.append((delivery, named_source(delivery.data), error.message))
                continue
            record = record.model_copy(update={"at": record.at or delivery.at})
            other = newest.get(record.source)
            counts["superseded"] += other is not None
            if other is None or _moment(other[1]) <= _moment(record):
                newest[record.source] = (delivery, record)
        return newest, bad, counts

    def _reject(
        self,
        bad: Sequence[tuple[Delivery, str, str, bool]],
        stream: str,
    ) -> None:
        """Keep what cannot be taken, with a line in the ledger; the last good version stays.

        Args:
            bad: the delivery, its source where it names one, the reason, and whether the ledger is
                to say so.
            stream: what it came from.
        """
        named = [
            (delivery, source or f"rejected:{sha256_hex(delivery.data)[:16]}", reason, line)
            for delivery, source, reason, line in bad
        ]
        held = self.features.held(source for _, source, _, _ in named)
        kept: set[tuple[str, str]] = set()
        for delivery, source, reason, line in named:
            digest = sha256_hex(delivery.data)
            entry = held[source].entry if source in held else None
            again = entry is not None and (entry.record.state, entry.record.attempted_hash) == (
                "failed",
                digest,
            )
            if not again and (source, digest) not in kept:  # one that comes again is kept once
                kept.add((source, digest))
                self.store.rejected.append(
                    stream=stream,
                    position=delivery.position,
                    source=source,
                    reason=reason,
                    record=delivery.data,
                )
            self._note_failure(
                source, [entry] if entry else [], digest, reason, line=line, file=STREAM
            )
        # A source has one line, that of its last record: a commit may name it once.
        self.batch.lines = list({line.record.id: line for line in self.batch.lines}.values())
        self._finish()


class _Lags:
    """Quantiles of lags without keeping them: counts in steps of 2 %, from 1 ms on."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, lag_s: float) -> None:
        self._counts[max(0, math.ceil(math.log(max(lag_s, 1e-9) / 1e-3, 1.02)))] += 1
        self._max = max(self._max, lag_s)

    def summary(self) -> Freshness | None:
        total = sum(self._counts.values())
        if not total:
            return None
        return Freshness(
            n=total, p50_s=self._at(0.5, total), p99_s=self._at(0.99, total),
            max_s=round(self._max, 4),
        )  # fmt: skip

    def _at(self, share: float, total: int) -> float:
        seen = 0
        for step in sorted(self._counts):
            seen += self._counts[step]
            if seen >= share * total:
                return round(min(self._max, 1e-3 * 1.02**step), 4)
        return round(self._max, 4)


def _summary(lags: Sequence[float]) -> Freshness | None:
    if not lags:
        return None
    p50, p99 = np.quantile(lags, [0.5, 0.99])
    return Freshness(
        n=len(lags), p50_s=round(float(p50), 4), p99_s=round(float(p99), 4),
        max_s=round(max(lags), 4),
    )  # fmt: skip


def _moment(record: Record) -> datetime:
    assert record.at is not None, "every record is dated when it is sorted"
    return record.at


def _at(held: Held) -> datetime:
    """When what the store has happened."""
    return read_moment(held.metadata.get(AT, "")) or datetime.min.replace(tzinfo=UTC)


def _put(
    items: queue.Queue[Delivery | Exception | None],
    item: Delivery | Exception | None,
    abandoned: threading.Event,
) -> bool:
    """Wait for room, unless nobody will make any."""
    while not abandoned.is_set():
        try:
            items.put(item, timeout=_WAIT_S)
        except queue.Full:
            continue
        return True
    return False
