"""A batch of records into the store, by the way that files go."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from fti.pipelines.feature.ingesting.ingest_run import Ingest
from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.streaming.follow_report import StreamBatch
from fti.pipelines.feature.streaming.stream_records import (
    AT,
    Record,
    named_source,
    parse_record,
    raw_document,
)
from fti.store.errors import ExtractionError
from fti.store.lance.shapes import STREAM, Held
from fti.store.moments import read_moment
from fti.store.streams.freshness import summary
from fti.store.streams.record_streams import Delivery
from fti.store.types import now, sha256_hex


class RecordBatch(Ingest):
    """One batch of records, committed as an ingest commits files.

    Bad records are kept in the log of rejected ones, and must not hold up the others.
    """

    lags: list[float]
    mended: frozenset[str]

    def take(self, deliveries: Sequence[Delivery], stream: str, parser: Parser) -> StreamBatch:
        """Commit the records that came, and keep those that are none.

        ``lags`` then holds the seconds since each change happened, and ``mended`` the documents
        whose line a crash had left behind and that were taken again.
        """
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
            freshness=summary(self.lags),
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


def _moment(record: Record) -> datetime:
    assert record.at is not None, "every record is dated when it is sorted"
    return record.at


def _at(held: Held) -> datetime:
    """When what the store has happened."""
    return read_moment(held.metadata.get(AT, "")) or datetime.min.replace(tzinfo=UTC)
