"""Following a stream: at least once in, as if once and in order in the store."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.streaming import follow as module
from fti.pipelines.feature.streaming.follow import follow
from fti.pipelines.feature.streaming.follow_report import FollowReport, StreamBatch
from fti.store.errors import EmbedderMismatch, InvalidName, SourceNotFound, StoreLocked
from fti.store.features import history
from fti.store.store import Store
from fti.store.streams.freshness import Lags
from fti.store.streams.record_streams import Delivery, LineStream
from fti.store.streams.stream_config import StreamConfig
from fti.store.types import now

WAIT_S = 30.0


def record(source: str, text: str = "", **fields: Any) -> bytes:
    said = {"source": source, **({"text": text} if text else {}), **fields}
    return json.dumps(said).encode()


class Given:
    """A stream of records that are there; remembers what was read and acknowledged."""

    name = "given"

    def __init__(self, *records: bytes, fails: Exception | None = None) -> None:
        self.records = records
        self.fails = fails
        self.read: list[str] = []
        self.acknowledged: list[str] = []

    def deliveries(self, stop: threading.Event) -> Iterator[Delivery]:
        for number, data in enumerate(self.records, start=1):
            if stop.is_set():
                return
            self.read.append(str(number))
            yield Delivery(str(number), data, now())
        if self.fails:
            raise self.fails

    def acknowledge(self, positions: Sequence[str]) -> None:
        self.acknowledged += positions


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(
    store: Store,
    stream: Any,
    *,
    stop: threading.Event | None = None,
    batches: list[StreamBatch] | None = None,
    dimension: int = 64,
    **settings: Any,
) -> FollowReport:
    config = FeatureConfig(stream=StreamConfig(**({"linger_s": 0} | settings)))
    return follow(
        stream,
        store=store,
        embedder=HashingEmbedder(dimension),
        config=config,
        stop=stop or threading.Event(),
        on_batch=(batches if batches is not None else []).append,
    )


def texts(store: Store) -> dict[str, str]:
    return {d.source: d.text for d in store.features.documents()}


def test_records_become_documents_that_searches_find(store: Store) -> None:
    stream = Given(record("t/1", "The kiln fires on Fridays."), record("t/2", "The hall is open."))
    report = run(store, stream)
    assert (report.records, report.added, report.failed_records) == (2, 2, 0)
    assert stream.acknowledged == ["1", "2"]
    assert store.features.search_text("kiln", 1)[0].source == "t/1"
    assert report.freshness is not None
    assert report.freshness.n == 2
    assert 0 <= report.freshness.p50_s <= report.freshness.p99_s <= report.freshness.max_s


def test_records_come_into_the_collection_that_is_named(store: Store) -> None:
    follow(
        Given(record("t/1", "The kiln fires on Fridays."), b"no record"),
        store=store, embedder=HashingEmbedder(64), config=FeatureConfig(), collection="tickets",
        stop=threading.Event(),
    )  # fmt: skip
    assert store.features.collections() == {"tickets": (1, 1)}
    (run_,) = store.runs.list("ingest")
    assert run_.settings["collection"] == "tickets"
    run(store, Given(record("t/1", "The kiln fires on Mondays."), record("t/2", "Open.")))
    assert store.features.collections() == {"tickets": (1, 1)}, "without one a document stays"
    with pytest.raises(InvalidName):
        follow(
            Given(), store=store, embedder=HashingEmbedder(64), config=FeatureConfig(),
            collection="Tick/ets", stop=threading.Event(),
        )  # fmt: skip


def test_a_stream_does_not_keep_every_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SHORTEST_AGE", timedelta(milliseconds=1))
    monkeypatch.setattr(module, "_MAINTAIN_S", 0.0)
    config = FeatureConfig(
        stream=StreamConfig(linger_s=0),
        batch_documents=1,
        retention=history.RetentionConfig(versions=5, hours=0),
    )
    follow(
        Given(*(record(f"t/{n % 3}", f"Note number {n}.") for n in range(20))),
        store=store,
        embedder=HashingEmbedder(64),
        config=config,
        stop=threading.Event(),
    )
    kept, _ = store.features.history.extent()
    assert kept < 10 < store.features.version()
    assert texts(store) == {f"t/{n % 3}": f"Note number {n}." for n in (17, 18, 19)}


def test_a_session_is_one_run(store: Store) -> None:
    batches: list[StreamBatch] = []
    stream = Given(*(record(f"t/{n}", f"Note number {n}.") for n in range(200)))
    report = run(store, stream, batches=batches)
    assert len(batches) == report.batches >= 200 // FeatureConfig().batch_documents
    (logged,) = store.runs.list()
    assert (logged.id, logged.status, logged.metrics["added"]) == (report.run, "done", 200)
    assert sum(b.records for b in batches) == 200


def test_the_same_stream_again_changes_nothing(store: Store) -> None:
    lines = [record(f"t/{n}", f"Note number {n}.") for n in range(5)]
    run(store, Given(*lines))
    before = texts(store)
    again = run(store, Given(*lines, *lines))
    assert (again.added, again.updated, again.embedded_chunks) == (0, 0, 0)
    assert texts(store) == before
    assert again.freshness is None


def test_a_later_record_replaces_and_an_older_one_does_not(store: Store) -> None:
    old = record("t/1", "Open on Mondays.", at="2026-03-01T12:00:00Z")
    new = record("t/1", "Open on Fridays.", at="2026-03-02T12:00:00Z")
    assert run(store, Given(old)).added == 1
    assert run(store, Given(new)).updated == 1
    late = run(store, Given(old))
    assert (late.superseded, late.updated) == (1, 0)
    assert texts(store) == {"t/1": "Open on Fridays."}
    both = run(store, Given(record("t/2", "b", at="2026-03-02T12:00:00Z"),
                            record("t/2", "a", at="2026-03-01T12:00:00Z")))  # fmt: skip
    assert (both.added, both.superseded) == (1, 1)
    assert texts(store)["t/2"] == "b"


def test_a_deletion_removes_the_text_and_an_older_record_does_not_bring_it_back(
    store: Store,
) -> None:
    old = record("t/1", "Open on Mondays.", at="2026-03-01T12:00:00Z")
    run(store, Given(old, record("t/2", "The hall.")))
    gone = run(store, Given(record("t/1", deleted=True, at="2026-03-02T12:00:00Z")))
    assert (gone.deleted, gone.empty_records) == (1, 0)
    assert set(texts(store)) == {"t/2"}
    assert store.features.search_text("Mondays", 1) == []
    assert run(store, Given(old)).superseded == 1
    assert run(store, Given(record("t/1", deleted=True))).deleted == 0
    assert set(texts(store)) == {"t/2"}


def test_bad_records_are_kept_and_hold_nothing_up(store: Store) -> None:
    bad = b'{"source": "t/2", "colour": "red"}'
    stream = Given(record("t/1", "Good."), b"no json", bad, record("t/3", "Good too."))
    report = run(store, stream)
    assert (report.added, report.failed_records) == (2, 2)
    assert stream.acknowledged == ["1", "2", "3", "4"]
    assert [(r.position, r.record) for r in store.rejected.list()] == [
        ("2", "no json"), ("3", bad.decode()),
    ]  # fmt: skip
    line = store.features.record("t/2")
    assert line is not None
    assert (line.state, line.cause) == ("failed", "colour: Extra inputs are not permitted")
    assert store.features.stats().failed == 2
    again = run(store, Given(b"no json", bad))
    assert again.failed_records == 2
    assert len(list(store.rejected.list())) == 2, "what comes again is kept once"


def test_the_same_bad_record_twice_in_one_batch_is_one_line(store: Store) -> None:
    bad, other = b'{"source": "t/2", "colour": "red"}', b'{"source": "t/2", "colour": "blue"}'
    stream = Given(b"no json", b"no json", bad, bad, other)
    report = run(store, stream, linger_s=0.5)
    assert (report.failed_records, report.batches) == (5, 1)
    assert [r.position for r in store.rejected.list()] == ["1", "3", "5"]
    assert store.features.stats().failed == 2
    assert stream.acknowledged == ["1", "2", "3", "4", "5"]


def test_a_bad_record_keeps_the_last_good_version(store: Store) -> None:
    run(store, Given(record("t/1", "Open on Mondays.")))
    run(store, Given(b'{"source": "t/1", "text": ""}'))
    line = store.features.record("t/1")
    assert line is not None
    assert (line.state, line.chunks) == ("failed", 1)
    assert texts(store) == {"t/1": "Open on Mondays."}


@pytest.mark.parametrize("good_first", [True, False])
def test_good_and_bad_of_one_source_in_one_batch(store: Store, good_first: bool) -> None:
    good, bad = record("t/1", "Open on Mondays."), b'{"source": "t/1"}'
    run(store, Given(*((good, bad) if good_first else (bad, good))), linger_s=0.2)
    line = store.features.record("t/1")
    assert line is not None
    assert line.state == ("failed" if good_first else "indexed")
    assert line.chunks == 1


def test_what_was_committed_and_not_acknowledged_changes_nothing_when_it_comes_again(
    store: Store,
) -> None:
    class Lost(Given):
        def acknowledge(self, positions: Sequence[str]) -> None:
            raise SourceNotFound("The connection is lost.")

    with pytest.raises(SourceNotFound):
        run(store, Lost(record("t/1", "The kiln fires.")))
    again = run(store, Given(record("t/1", "The kiln fires.")))
    assert (again.added, again.unchanged) == (0, 1)


def test_a_stream_that_breaks_keeps_what_came_and_fails_the_run(store: Store) -> None:
    stream = Given(record("t/1", "The kiln fires."), fails=SourceNotFound("Gone."))
    with pytest.raises(SourceNotFound, match="Gone"):
        run(store, stream)
    assert stream.acknowledged == ["1"]
    assert set(texts(store)) == {"t/1"}
    assert store.runs.list()[0].status == "failed"


def test_nothing_more_is_read_than_the_buffer_holds(store: Store) -> None:
    store.features.create(HashingEmbedder(64).identity)
    stream = Given(*(record(f"t/{n}", f"Note {n}.") for n in range(50)))
    held = threading.Event()
    real = store.layout.writing
    tried = threading.Event()

    def hasty(what: str, *, timeout_s: float = 10.0) -> Any:
        tried.set() if held.is_set() else None
        return real(what, timeout_s=0.05)

    store.layout.writing = hasty  # type: ignore[method-assign]
    config = FeatureConfig(batch_documents=4, stream=StreamConfig(buffer_records=8, linger_s=0))
    reports: list[FollowReport] = []
    reading, first = threading.Event(), threading.Event()

    class Slow(Given):
        def deliveries(self, stop: threading.Event) -> Iterator[Delivery]:
            reading.set()
            assert first.wait(WAIT_S)
            return super().deliveries(stop)

    slow = Slow(*stream.records)
    thread = threading.Thread(
        target=lambda: reports.append(
            follow(slow, store=store, embedder=HashingEmbedder(64), config=config,
                   stop=threading.Event(), on_batch=lambda b: None)
        )
    )  # fmt: skip
    thread.start()
    assert reading.wait(WAIT_S), "the beginning needs the lock too"
    with real("another writer", timeout_s=WAIT_S):
        held.set()
        first.set()
        assert tried.wait(WAIT_S)
        for _ in range(3):  # the reader has had the time of several attempts
            tried.clear()
            assert tried.wait(WAIT_S)
        assert len(slow.read) <= 4 + 8 + 1, "a batch in hand, the buffer, one in the reader's hand"
    thread.join(WAIT_S)
    assert reports[0].added == 50


def test_a_store_that_stays_busy_is_an_error_once_it_is_to_stop(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    real = store.layout.writing

    def busy(what: str, **how: Any) -> Any:
        if store.features.exists():
            stop.set()
            raise StoreLocked("Another process is writing.")
        return real(what, **how)

    monkeypatch.setattr(store.layout, "writing", busy)
    stream = Given(record("t/1", "The kiln fires."))
    with pytest.raises(StoreLocked):
        run(store, stream, stop=stop)
    assert stream.acknowledged == []


def test_lines_of_a_pipe_are_followed_until_it_ends_or_to_the_stop(store: Store) -> None:
    reading, writing = os.pipe()
    stop = threading.Event()
    seen = threading.Event()
    reports: list[FollowReport] = []
    thread = threading.Thread(
        target=lambda: reports.append(
            follow(LineStream(reading, StreamConfig()), store=store, stop=stop,
                   embedder=HashingEmbedder(64), config=FeatureConfig(),
                   on_batch=lambda b: seen.set())
        )
    )  # fmt: skip
    thread.start()
    os.write(writing, record("t/1", "The kiln fires.") + b"\n\n" + b'{"source": "t/2", "te')
    assert seen.wait(WAIT_S)
    stop.set()
    thread.join(WAIT_S)
    os.close(writing)
    assert (reports[0].records, reports[0].ended) == (1, "stop"), "half a line is no record"

    reading, writing = os.pipe()
    os.write(writing, record("t/2", "One line.") + b"\n" + record("t/3", "No end of line."))
    os.close(writing)
    report = run(store, LineStream(reading, StreamConfig()))
    assert (report.added, report.ended) == (2, "stream")


def test_a_line_that_is_too_long_is_rejected_and_the_next_one_is_read(store: Store) -> None:
    reading, writing = os.pipe()
    os.write(writing, record("t/1", "x" * 3000) + b"\n" + record("t/2", "Short.") + b"\n")
    os.close(writing)
    config = StreamConfig(max_record_bytes=1000)
    report = run(store, LineStream(reading, config), max_record_bytes=1000)
    assert (report.added, report.failed_records) == (1, 1)
    assert "larger than 1000 bytes" in report.failed[0].reason


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00"])
def test_a_record_at_the_edge_of_time_is_rejected_and_the_next_one_is_taken(
    store: Store, at: str
) -> None:
    edge = record("t/1", "The kiln fires.", at=at)
    report = run(store, Given(edge, record("t/2", "The hall is open.")))
    assert (report.added, report.failed_records, report.ended) == (1, 1, "stream")
    assert texts(store) == {"t/2": "The hall is open."}
    (line,) = store.features.failed()
    assert (line.record.source, line.record.state) == ("t/1", "failed")
    assert "before the year 1 or after the year 9999" in line.record.cause
    (kept,) = store.rejected.list()
    assert kept.source == "t/1"
    assert edge.decode() in str(kept)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_moment_are_moments(store: Store, at: str) -> None:
    report = run(store, Given(record("t/1", "The kiln fires.", at=at)))
    assert (report.added, report.failed_records) == (1, 0)


def test_another_embedder_is_refused_before_anything_is_read(store: Store) -> None:
    run(store, Given(record("t/1", "The kiln fires.")))
    stream = Given(record("t/2", "More."))
    with pytest.raises(EmbedderMismatch):
        run(store, stream, dimension=32)
    assert stream.read == []


def test_files_and_records_leave_each_other_alone(store: Store, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "hours.txt").write_text("The hall opens at nine.", "utf-8")
    embedder, config = HashingEmbedder(64), FeatureConfig()
    run(store, Given(record("tickets/1", "The kiln fires.")))
    ingest([str(docs)], store=store, embedder=embedder, config=config, delete_missing=True)
    ingest([str(docs)], store=store, embedder=embedder, config=config, re_embed=True)
    assert set(texts(store)) == {"tickets/1", str(docs / "hours.txt")}
    assert store.features.search_text("kiln", 1)


def test_a_record_named_like_a_file_is_not_read_from_disk_when_all_is_embedded_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("The password is swordfish.", "utf-8")
    run(store, Given(record("secret.txt", "The kiln fires.")))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "hours.txt").write_text("The hall opens at nine.", "utf-8")
    ingest([str(tmp_path / "docs")], store=store, embedder=HashingEmbedder(64),
           config=FeatureConfig(), re_embed=True)  # fmt: skip
    assert texts(store)["secret.txt"] == "The kiln fires."


def test_quantiles_of_a_long_session_are_right_to_two_percent() -> None:
    lags = Lags()
    for n in range(1, 1001):
        lags.add(n / 1000)
    found = lags.summary()
    assert found is not None
    assert found.n == 1000
    assert found.p50_s == pytest.approx(0.5, rel=0.021)
    assert found.p99_s == pytest.approx(0.99, rel=0.021)
    assert found.max_s == 1.0
