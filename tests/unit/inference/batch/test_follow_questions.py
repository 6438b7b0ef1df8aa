"""A stream of questions, answered once each: what is counted, kept, passed over and refused."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.batch.answer_sinks import (
    AnswerSink,
    LinesSink,
    PipeSink,
    RedisSink,
    TableSink,
)
from fti.pipelines.inference.batch.follow_questions import follow_questions
from fti.pipelines.inference.batch.outputs import JsonLines
from fti.pipelines.inference.batch.question_records import parse_question
from fti.pipelines.inference.batch.question_report import AnsweredGroup, QuestionsReport
from fti.pipelines.inference.inference_config import BatchConfig
from fti.store.errors import InvalidCases, ServerUnavailable, StoreLocked
from fti.store.streams.keyed_stream import KeyedStream
from fti.store.streams.record_streams import Delivery, LineStream, RedisStream
from fti.store.streams.stream_config import StreamConfig
from fti.store.types import now
from tests.support.redis import redis_server
from tests.unit.inference.conftest import World

QUICK = StreamConfig(linger_s=0, reconnect_s=0)


class Given:
    """A stream of these lines, once or again."""

    name = "given"

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines
        self.acknowledged: list[str] = []

    def deliveries(self, stop: threading.Event) -> Iterator[Delivery]:
        for number, line in enumerate(self.lines, start=1):
            yield Delivery(str(number), line, now())

    def acknowledge(self, positions: Sequence[str]) -> None:
        self.acknowledged += positions


def line(key: str, question: str = "When is the kiln fired?", **more: Any) -> bytes:
    return json.dumps({"id": key, "question": question, **more}).encode()


def follow(
    world: World,
    lines: Sequence[bytes],
    out: AnswerSink,
    *,
    assistant: Assistant | None = None,
    **how: Any,
) -> QuestionsReport:
    given = Given(lines)
    report = follow_questions(
        given,
        assistant=assistant or world.assistant(),
        store=world.store,
        out=out,
        config=BatchConfig(group=4, stream=QUICK),
        stop=threading.Event(),
        **how,
    )
    assert given.acknowledged == [str(n) for n in range(1, len(lines) + 1)]
    return report


def table(world: World) -> TableSink:
    return TableSink(world.store.tables, "asked")


def test_every_record_is_counted_once_and_every_question_has_its_row(world: World) -> None:
    groups: list[AnsweredGroup] = []
    lines = [
        line("1"), line("2", "How long are books lent?"), b"nonsense", line("3", "  "),
        line("1"), line("2", "Who may open the kiln?"), line("2", "Who may open the kiln?"),
    ]  # fmt: skip
    report = follow(world, lines, table(world), on_group=groups.append)
    assert (report.records, report.answered, report.failed, report.skipped) == (7, 3, 1, 2)
    assert report.rejected_records == 1
    assert report.groups == len(groups)
    assert sum(group.records for group in groups) == 7
    assert groups[-1].position == "7"
    rows = {row.id: row for row in world.store.tables.rows("asked")}
    assert set(rows) == {"1", "2", "3"}
    assert rows["2"].question == "Who may open the kiln?"
    assert "Thursdays" in (rows["1"].answer or "")
    assert rows["3"].error is not None
    assert world.store.answers.get(rows["1"].answer_id or "").run_id == report.run
    run = world.store.runs.get(report.run)
    assert (run.kind, run.status, run.inputs["stream"]) == ("batch", "partial", "given")
    assert [kept.record for kept in world.store.rejected.list()] == ["nonsense"]


def test_words_that_change_within_a_group_are_asked_as_they_were_last(world: World) -> None:
    report = follow(world, [line("1"), line("1", "How long are books lent?")], table(world))
    assert (report.answered, report.superseded) == (1, 1)
    assert next(world.store.tables.rows("asked")).question == "How long are books lent?"


@pytest.mark.parametrize("kind", ["lines", "table"])
def test_a_question_that_comes_again_is_not_asked_again(
    world: World, tmp_path: Path, kind: str
) -> None:
    def out() -> AnswerSink:
        return table(world) if kind == "table" else LinesSink(JsonLines(tmp_path / "a.jsonl"))

    lines = [line("1"), line("2", "How long are books lent?"), line("3", "")]
    assert follow(world, lines, out()).answered == 2
    logged = len(world.store.answers.list())
    again = follow(world, [*lines, line("2", "Who may open the kiln?")], out())
    # What failed is asked again, and what is another question under the same id.
    assert (again.skipped, again.failed, again.answered) == (1, 1, 1)
    assert again.superseded == 1
    assert len(world.store.answers.list()) == logged + 1
    if kind == "lines":
        rows = [json.loads(text) for text in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
        assert sorted(row["id"] for row in rows) == ["1", "2", "3"]


def test_a_line_that_a_crash_cut_is_answered_again(world: World, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    follow(world, [line("1"), line("2")], LinesSink(JsonLines(path)))
    path.write_bytes(path.read_bytes()[:-20])
    report = follow(world, [line("1"), line("2")], LinesSink(JsonLines(path)))
    assert (report.skipped, report.answered) == (1, 1)
    assert [json.loads(text)["id"] for text in path.read_text("utf-8").splitlines()] == ["1", "2"]


def test_freshness_is_from_when_it_was_asked(world: World) -> None:
    asked = (now() - timedelta(seconds=100)).isoformat()
    report = follow(world, [line("1", at=asked), line("2", at=asked)], table(world))
    assert report.freshness is not None
    assert report.freshness.n == 2
    assert 100 <= report.freshness.p50_s <= report.freshness.p99_s <= report.freshness.max_s
    assert follow(world, [line("1")], table(world)).freshness is None  # nothing was answered


def test_answers_go_to_a_pipe_line_by_line(world: World) -> None:
    written: list[str] = []
    follow(world, [line("1"), line("2")], PipeSink(written.append))
    rows = [json.loads(text) for text in "".join(written).splitlines()]
    assert [row["id"] for row in rows] == ["1", "2"]


def test_lines_of_standard_input_are_followed_to_their_end(world: World) -> None:
    reading, writing = os.pipe()
    os.write(writing, line("1") + b"\n\n" + line("2"))
    os.close(writing)
    report = follow_questions(
        LineStream(reading, QUICK), assistant=world.assistant(), store=world.store,
        out=table(world), config=BatchConfig(stream=QUICK), stop=threading.Event(),
    )  # fmt: skip
    os.close(reading)
    assert (report.answered, report.ended) == (2, "stream")


def test_two_cannot_write_to_one_file(world: World, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def while_open(group: AnsweredGroup) -> None:
        with pytest.raises(StoreLocked):
            follow(world, [line("2")], LinesSink(JsonLines(path)))

    follow(world, [line("1")], LinesSink(JsonLines(path)), on_group=while_open)


class Unreachable:
    """A generator behind a server that is away for the first so many calls."""

    def __init__(self, inner: Any, calls: int) -> None:
        self.inner, self.calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def generate(self, requests: Any) -> Any:
        self.calls -= 1
        if self.calls >= 0:
            raise ServerUnavailable("The server is away.")
        return self.inner.generate(requests)


def test_where_the_model_is_away_nothing_is_acknowledged(world: World) -> None:
    given = Given([line("1"), line("2", " ")])
    assistant = world.assistant()
    assistant.generator = Unreachable(assistant.generator, 99)  # type: ignore[assignment]
    with pytest.raises(ServerUnavailable, match=r"1 questions were not answered: .*away"):
        follow_questions(
            given, assistant=assistant, store=world.store, out=table(world),
            config=BatchConfig(stream=QUICK), stop=threading.Event(),
        )  # fmt: skip
    assert given.acknowledged == []
    assert [row.id for row in world.store.tables.rows("asked")] == ["2"]  # needs no model
    # It is back: the question comes again, and has its answer.
    assert follow(world, [line("1")], table(world)).answered == 1


def test_a_model_that_comes_back_is_waited_for(world: World) -> None:
    assistant = world.assistant()
    assistant.generator = Unreachable(assistant.generator, 2)  # type: ignore[assignment]
    waits: list[str] = []
    report = follow_questions(
        Given([line("1")]), assistant=assistant, store=world.store, out=table(world),
        config=BatchConfig(stream=StreamConfig(linger_s=0, reconnect_s=60)),
        stop=threading.Event(), progress=lambda event: waits.append(event.stage),
    )  # fmt: skip
    assert report.answered == 1
    assert waits[0] == "wait"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "JSON list, not an object"),
        (b'{"question": "Why?"}', "id: Field required"),
        (b'{"id": "", "question": "Why?"}', "id: "),
        (b'{"id": 3, "question": "Why?"}', "id: "),
        (b'{"id": " 3", "question": "Why?"}', "spaces around it"),
        (b'{"id": "3"}', "question: Field required"),
        (b'{"id": "3", "question": null}', "question: "),
        (b'{"id": "3", "question": "Why?", "at": "2026-03-01T12:00"}', "has no time zone"),
        (b'{"id": "3", "question": "' + b"x" * 200 + b'"}', "larger than 100 bytes"),
        (b'{"id": "3", "question": "\xff"}', "not JSON"),
    ],
)
def test_what_is_no_question_is_refused_with_a_reason(text: bytes, why: str) -> None:
    with pytest.raises(InvalidCases, match=why):
        parse_question(text, max_bytes=100)


def test_a_record_may_say_more_and_go_by_its_place() -> None:
    found = parse_question(b'{"question": "Why?", "user": 7}', max_bytes=100, name="17-0")
    assert (found.id, found.question, found.at) == ("17-0", "Why?", None)
    named = parse_question(
        b'{"id": "a", "question": "?", "at": "2026-03-01T13:00:00+01:00"}', max_bytes=100,
        name="17-0",
    )  # fmt: skip
    assert (named.id, named.at) == ("a", datetime(2026, 3, 1, 12, tzinfo=UTC))


def test_questions_and_answers_in_redis(world: World) -> None:
    import redis

    with redis_server() as url, redis.Redis.from_url(url) as client:
        client.xadd("questions", {"record": line("1")})
        unnamed = client.xadd("questions", {"question": "How long are books lent?"})

        def out() -> RedisSink:
            return RedisSink(KeyedStream(url, stream="answers", config=QUICK, remember_s=60))

        def session(consumer: str) -> QuestionsReport:
            stop = threading.Event()
            stream = RedisStream(
                url, stream="questions", group="fti", consumer=consumer, config=QUICK
            )
            return follow_questions(
                stream, assistant=world.assistant(), store=world.store, out=out(),
                config=BatchConfig(stream=QUICK), stop=stop, on_group=lambda group: stop.set(),
            )  # fmt: skip

        assert session("one").answered == 2
        entries = [fields for _, fields in client.xrange("answers")]
        assert {entry[b"id"] for entry in entries} == {b"1", unnamed}
        assert "three weeks" in json.loads(entries[1][b"record"])["answer"]

        # As a crash between keeping and acknowledging leaves it: the question comes again.
        client.xadd("questions", {"record": line("1")})
        assert (again := session("two")).skipped == 1
        assert again.answered == 0
        assert client.xlen("answers") == 2
        assert client.xpending("questions", "fti")["pending"] == 0
