"""``fti ingest --follow`` and ``fti batch --follow``: a stream until it ends or is stopped."""

from __future__ import annotations

import json
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fti.store.errors import InputError
from fti.store.streams.redis_connection import ADDRESSES

if TYPE_CHECKING:
    from fti.app.options import Session
    from fti.pipelines.feature.streaming.follow_report import FollowReport
    from fti.pipelines.inference.batch.answer_sinks import AnswerSink
    from fti.pipelines.inference.batch.question_report import QuestionsReport
    from fti.pipelines.inference.inference_config import BatchConfig
    from fti.store.streams.record_streams import RecordStream
    from fti.store.streams.stream_config import StreamConfig
    from fti.store.types import Value


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

    records = open_stream(
        session.settings.features.stream, sources, stream, group, consumer,
        hint="Follow files with fti watch; a Redis is named like redis://localhost:6379/0",
    )  # fmt: skip
    stop = stop_by_signal()
    session.report.note(f"following {records.name}; stop with Ctrl-C")
    report = follow(
        records,
        store=session.store,
        embedder=build_embedder(session.settings),
        config=session.settings.features,
        stop=stop,
        collection=collection,
        on_batch=lambda batch: show(session, batch),
    )
    session.report.result(report.model_dump(mode="json"))
    session.report.note(_summary(report))
    if not report.failed_records:
        return 0
    return 3 if report.failed_records < report.records else 1


def follow_for_answers(
    session: Session,
    source: str | None,
    stream: str,
    group: str,
    consumer: str | None,
    *,
    out: str | None,
    table: str | None,
    answers: str,
    model: str | None,
) -> int:
    """Answer a stream of questions, print a line per group and the figures; gives the exit code.

    Raises:
        InputError: ``source`` is neither nothing, ``-`` nor an address of a Redis; or ``out`` and
            ``table`` name no place for the answers.
        InvalidName: the table's name is not plain.
    """
    from fti.app.build import build_assistant
    from fti.pipelines.inference.batch.follow_questions import follow_questions

    config = session.settings.batch
    questions = open_stream(
        config.stream, [source] if source else [], stream, group, consumer,
        hint="Ask a file of questions without --follow; a Redis is named like "
        "redis://localhost:6379/0",
    )  # fmt: skip
    sink = _open_sink(session, config, out, table, answers)
    stop = stop_by_signal()
    assistant = build_assistant(session.settings, session.store, model=model)
    session.report.note(f"answering {questions.name} into {sink.name}; stop with Ctrl-C")
    report = follow_questions(
        questions,
        assistant=assistant,
        store=session.store,
        out=sink,
        config=config,
        stop=stop,
        # Lines of answers and lines of groups on one pipe would be told apart by nobody.
        on_group=lambda group: show(session, group) if out != "-" else None,
    )
    if out != "-":
        session.report.result(report.model_dump(mode="json"))
    session.report.note(_answered(report))
    bad = report.failed + report.rejected_records
    if not bad:
        return 0
    return 3 if bad < report.records else 1


def _open_sink(
    session: Session, config: BatchConfig, out: str | None, table: str | None, answers: str
) -> AnswerSink:
    from fti.pipelines.inference.batch.answer_sinks import LinesSink, PipeSink, RedisSink, TableSink
    from fti.pipelines.inference.batch.outputs import JsonLines
    from fti.store.streams.keyed_stream import KeyedStream

    if (out is None) == (table is None):
        raise InputError(
            "Say where the answers go: one place.",
            hint="Add --out ANSWERS.jsonl, --out -, --out redis://HOST:6379/0 or --table NAME.",
        )
    if table is not None:
        return TableSink(session.store.tables, table)
    assert out is not None  # one of the two is there
    if out == "-":
        if session.report.json:
            raise InputError(
                "--json prints one object, and --out - a line per answer.",
                hint="Leave out --json, or name another place with --out.",
            )
        return PipeSink(_print)
    if out.startswith(ADDRESSES):
        keyed = KeyedStream(out, stream=answers, config=config.stream, remember_s=config.remember_s)
        return RedisSink(keyed)
    if Path(out).suffix.lower() in (".jsonl", ".ndjson"):
        return LinesSink(JsonLines(Path(out)))
    raise InputError(
        f"Answers to a stream cannot be written to {out!r}.",
        hint="They go to a .jsonl or .ndjson file, to - (standard output), to a Redis such as "
        "redis://localhost:6379/0, or with --table NAME to a table of the store.",
    )


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def stop_by_signal() -> threading.Event:
    """Set by Ctrl-C and SIGTERM, after which what was read is still taken."""
    stop = threading.Event()

    def end(signum: int, frame: object) -> None:
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end)
    return stop


def show(session: Session, done: Value) -> None:
    """A line about what was done just now, unless one object is asked for."""
    if not session.report.json:
        _print(json.dumps(done.model_dump(mode="json"), ensure_ascii=False) + "\n")


def open_stream(
    config: StreamConfig,
    sources: Sequence[str],
    stream: str,
    group: str,
    consumer: str | None,
    *,
    hint: str,
) -> RecordStream:
    """Standard input, or the Redis that is named."""
    from fti.store.streams.record_streams import LineStream, RedisStream

    if list(sources) in ([], ["-"]):
        return LineStream(sys.stdin.fileno(), config)
    if len(sources) == 1 and sources[0].startswith(ADDRESSES):
        name = consumer or platform.node() or "fti"
        return RedisStream(sources[0], stream=stream, group=group, consumer=name, config=config)
    raise InputError(
        f"--follow reads standard input or one Redis, not {' '.join(sources)!r}.", hint=hint
    )


def _answered(report: QuestionsReport) -> str:
    fresh = report.freshness
    cost = f", {report.cost:.4g} {report.currency}" if report.cost is not None else ""
    return (
        f"{report.records} records in {report.groups} groups: {report.answered} answered, "
        f"{report.failed} failed, {report.skipped} answered before, "
        f"{report.superseded} outdated, {report.rejected_records} rejected; "
        + (f"kept after {fresh.p50_s:.2f} s (p50), {fresh.p99_s:.2f} s (p99); " if fresh else "")
        + f"{report.prompt_tokens + report.completion_tokens} tokens{cost}"
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
