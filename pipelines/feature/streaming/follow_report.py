"""What following a stream did: a commit at a time, and in all."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fti.pipelines.feature.ingesting.ingest_report import NotTaken
from fti.store.streams.freshness import Freshness
from fti.store.types import Value


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
    """A whole session; ``failed`` lists the first of ``failed_records``.

    ``busy_s`` are the seconds spent on batches: the others were waited for records.
    """

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
    busy_s: float = 0.0
    seconds: float = 0.0
    run: str = ""
    features_version: int = 0
