"""``fti ingest --follow``: a stream of records followed until it ends or somebody says stop."""

from __future__ import annotations

import json
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fti.store.errors import InputError

if TYPE_CHECKING:
    from fti.app.options import Session
    from fti.pipelines.feature.streaming.follow_report import (
        FollowReport,
        StreamBatch,
    )
    from fti.pipelines.feature.streaming.streams import RecordStream

_ADDRESSES = ("redis://", "rediss://", "unix://")


def follow_stream(
    session: Session,
    sources: Sequence[str],
    stream: str,
    group: str,
    consumer: str | None,
    collection: str | None = None,
) -> int:
    """Follow it, print a line per commit and the session's figures; gives the exit code.

    Raises:
        InvalidName: the collection's name is not plain.
        InputError: ``sources`` is neither nothing, ``-`` nor one address of a Redis.
    """
    from fti.app.build import build_embedder
    from fti.pipelines.feature.streaming.follow import follow

    records = _open(session, sources, stream, group, consumer)
    stop = threading.Event()

    def end(signum: int, frame: object) -> None:
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end)

    def show(batch: StreamBatch) -> None:
        if not session.report.json:
            line = json.dumps(batch.model_dump(mode="json"), ensure_ascii=False)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    session.report.note(f"following {records.name}; stop with Ctrl-C")
    report = follow(
        records,
        store=session.store,
        embedder=build_embedder(session.settings),
        config=session.settings.features,
        stop=stop,
        collection=collection,
        on_batch=show,
    )
    session.report.result(report.model_dump(mode="json"))
    session.report.note(_summary(report))
    if not report.failed_records:
        return 0
    return 3 if report.failed_records < report.records else 1


def _open(
    session: Session, sources: Sequence[str], stream: str, group: str, consumer: str | None
) -> RecordStream:
    from fti.pipelines.feature.streaming.streams import LineStream, RedisStream

    config = session.settings.features.stream
    if list(sources) in ([], ["-"]):
        return LineStream(sys.stdin.fileno(), config)
    if len(sources) == 1 and sources[0].startswith(_ADDRESSES):
        name = consumer or platform.node() or "fti"
        return RedisStream(sources[0], stream=stream, group=group, consumer=name, config=config)
    raise InputError(
        f"--follow reads standard input or one Redis, not {' '.join(sources)!r}.",
        hint="Follow files with fti watch; a Redis is named like redis://localhost:6379/0",
    )


def _summary(report: FollowReport) -> str:
    fresh = report.freshness
    return (
        f"{report.records} records in {report.batches} commits: {report.added} added, "
        f"{report.updated} updated, {report.unchanged} unchanged, {report.deleted} deleted, "
        f"{report.superseded} outdated, {report.failed_records} failed; "
        + (
            f"searchable after {fresh.p50_s:.2f} s (p50), {fresh.p99_s:.2f} s (p99); "
            if fresh
            else ""
        )
        + f"{report.chunks} chunks in the store"
    )
