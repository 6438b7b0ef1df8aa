"""Documents searchable moments after a record of them came: a stream into the feature store.

Records may come twice and late; the store ends up as if each had come once and in order. What was
committed is acknowledged after its commit, never before. A record with the content that the store
has changes nothing; one that is older than what the store has is passed over. One that cannot be
taken becomes a line in the ledger, is kept as it was given, and is acknowledged: it must not hold
up the others. While the store is busy nothing more is read than the buffer holds.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.executors import InProcess
from fti.pipelines.feature.ingesting.ingest_report import NotTaken
from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.streaming.follow_report import FollowReport, StreamBatch
from fti.pipelines.feature.streaming.record_batch import RecordBatch
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import freshness, memory, rate, share
from fti.store.errors import EmbedderMismatch, PostconditionFailed, StoreLocked
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.streams.buffered import Buffered
from fti.store.streams.freshness import Lags
from fti.store.streams.record_streams import Delivery, RecordStream
from fti.store.versioned.versions import check_name

_MAINTAIN_S = 10.0  # rows that no index covers yet are found all the same
_SHOWN = 100  # failures that the report of a whole session lists


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


FOLLOW.requires("freshness_p99_s", "at most", "s", freshness("follow"))
FOLLOW.requires("records_per_s", "at least", "per s", rate("follow", "records", per="busy_s"))
FOLLOW.requires(
    "failed_share",
    "at most",
    "",
    share("follow", "failed_records", "added", "updated", "unchanged", "deleted"),
)
FOLLOW.requires("memory_mb", "at most", "MB", memory("follow"))


@FOLLOW.enforced
def follow(
    stream: RecordStream,
    *,
    store: Store,
    embedder: Embedder,
    config: FeatureConfig,
    stop: threading.Event,
    collection: str | None = None,
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
        collection: as in ``ingest``.
        on_batch: told after each commit, once it is acknowledged.
        progress: as in ``ingest``.

    Raises:
        InvalidName: the collection's name is not plain.
        StoreLocked: another process writes to the store at the beginning, or still at the end.
        StoreFull, EmbedderMismatch: as ``ingest``.
        SourceNotFound: the stream is lost. What was not acknowledged comes again.
    """
    if collection is not None:
        check_name(collection, "collection")
    session = _Session(stream, store, embedder, config, stop, progress, collection)
    settings = {
        **config.model_dump(mode="json"),
        "collection": collection,
        "embedder": embedder.identity.model_dump(mode="json"),
    }
    with (
        store.runs.running(
            "ingest", pipeline="follow", inputs={"stream": stream.name}, settings=settings
        ) as run,
        Parser(config.sources) as parser,
    ):
        session.run_id = run.id
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
        collection: str | None,
    ) -> None:
        self.collection = collection
        self.stream = stream
        self.store = store
        self.embedder = embedder
        self.config = config
        self.stop = stop
        self.progress = progress
        self.broken: frozenset[str] = frozenset()
        self.counts: Counter[str] = Counter()
        self.failed: list[NotTaken] = []
        self.lags = Lags()
        self.busy_s = 0.0
        self.run_id = ""

    def run(self, parser: Parser, on_batch: Callable[[StreamBatch], None]) -> FollowReport:
        began = maintained = time.monotonic()
        with self.store.layout.writing("ingest --follow"):
            self.store.features.create(self.embedder.identity)
            self.broken = self.store.features.heal().broken
        dirty = False
        with Buffered(self.stream, self.config.stream, self.stop) as buffered:
            for deliveries in buffered.groups(self.config.batch_documents):
                if deliveries:
                    batch = self._store_batch(deliveries, parser)
                    self.stream.acknowledge([d.position for d in deliveries])
                    self._count(batch)
                    on_batch(batch)
                    dirty = True
                if dirty and time.monotonic() - maintained > _MAINTAIN_S:
                    self._maintain(last=False)
                    # A session may go on for months: what it promises is measured meanwhile.
                    figures = self._report(began).model_dump(mode="json", exclude={"failed", "run"})
                    self.store.runs.amend(self.run_id, figures)
                    maintained, dirty = time.monotonic(), False
        if dirty:
            self._maintain(last=True)
        return self._report(began)

    def _store_batch(self, deliveries: Sequence[Delivery], parser: Parser) -> StreamBatch:
        while True:
            try:
                with self.store.layout.writing("ingest --follow"):
                    executor = InProcess(self.embedder, self.config, parser)
                    with RecordBatch(
                        self.store, self.embedder, self.config, self.progress, executor,
                        self.collection,
                    ) as taking:  # fmt: skip
                        taking.ledger.broken = self.broken
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
        self.busy_s += batch.seconds
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
            busy_s=round(self.busy_s, 3),
            ended="stop" if self.stop.is_set() else "stream",
            seconds=round(time.monotonic() - began, 3),
            features_version=stats.version,
        )
