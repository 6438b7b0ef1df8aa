"""What failed: when it is tried again, and when it is left alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting import ledger_view
from fti.pipelines.feature.ingesting.ingest import ingest, retry_failed
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.feature.reading.readers import READERS, Extracted, Reader, SourcesConfig
from fti.store.errors import ExtractionError
from fti.store.store import Store
from fti.store.types import SourceRecord, now
from tests.support.documents import zipped


class Moody:
    """A reader that refuses what says "bad", and takes moods from outside."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.mood = ""

    def __call__(self, data: bytes, config: SourcesConfig) -> list[Extracted]:
        self.read.append(data)
        if self.mood or b"bad" in data:
            raise ExtractionError(self.mood or "it is bad", transient=bool(self.mood))
        return [Extracted(data.decode())]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Moody:
    moody = Moody()
    monkeypatch.setitem(READERS, ".log", Reader("text/plain", moody))  # type: ignore[arg-type]
    return moody


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "docs" / "page.log"
    page.parent.mkdir()
    page.write_text("a bad page")
    return page


def run(store: Store, page: Path, **options: Any) -> IngestReport:
    options = {"config": FeatureConfig()} | options
    return ingest([str(page.parent)], store=store, embedder=HashingEmbedder(64), **options)


def letter(store: Store) -> SourceRecord:
    (entry,) = store.features.failed()
    return entry.record


def test_a_file_that_is_bad_for_good_is_read_again_only_when_it_changes(
    store: Store, page: Path, reader: Moody
) -> None:
    for waiting in (0, 1, 1):
        report = run(store, page)
        assert [(f.source, f.reason) for f in report.failed] == [(str(page), "it is bad")]
        assert report.waiting == waiting
    assert len(reader.read) == 1
    assert (letter(store).attempts, letter(store).retry_at) == (1, None)

    page.write_text("still a bad page")
    assert run(store, page).waiting == 0
    assert letter(store).attempts == 1, "of these bytes"
    page.write_text("a good page")
    assert run(store, page).added == 1
    assert store.features.failed() == []
    assert run(store, page).unchanged == 1
    assert len(reader.read) == 3


def test_another_way_of_reading_is_another_try(store: Store, page: Path, reader: Moody) -> None:
    run(store, page)
    config = FeatureConfig(sources=SourcesConfig(timeout_s=600))
    assert run(store, page, config=config).waiting == 0
    assert run(store, page, config=config).waiting == 1
    assert len(reader.read) == 2


def test_what_may_pass_is_tried_again_later_and_later(
    store: Store, page: Path, reader: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.write_text("a page")
    reader.mood = "the machine was busy"
    clock = now()
    monkeypatch.setattr(ledger_view, "now", lambda: clock)
    pauses = []
    for _ in range(14):
        run(store, page)
        assert run(store, page).waiting == 1, "not yet"
        due = letter(store).retry_at
        assert due is not None
        pauses.append(due - clock)
        clock = due
    assert len(reader.read) == 14
    assert pauses[:3] == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert pauses[-1] == timedelta(days=1)
    assert letter(store).attempts == 14

    reader.mood = ""
    assert run(store, page).added == 1
    assert store.features.records()[0].attempts == 0


def test_a_retry_can_be_asked_for(store: Store, page: Path, reader: Moody) -> None:
    page.write_text("a page")
    reader.mood = "the machine was busy"
    run(store, page)
    assert run(store, page, retry_failed=True).waiting == 0
    reader.mood = ""
    report = retry_failed(store=store, embedder=HashingEmbedder(64), config=FeatureConfig())
    assert (report.added, report.failed) == (1, ())


def test_the_letter_of_a_file_that_is_gone_goes_with_a_retry(
    store: Store, page: Path, reader: Moody
) -> None:
    run(store, page)
    page.unlink()
    report = retry_failed(store=store, embedder=HashingEmbedder(64), config=FeatureConfig())
    assert report.failed == ()
    assert store.features.failed() == []


def test_a_bad_member_does_not_make_its_archive_be_read_again(
    store: Store, page: Path, reader: Moody
) -> None:
    page.unlink()
    archive = page.with_suffix(".zip")
    archive.write_bytes(zipped({"good.log": b"fine", "worse.log": b"bad"}))
    first = run(store, page)
    assert (first.added, len(first.failed)) == (1, 1)
    again = run(store, page)
    assert (again.unchanged, len(again.failed), again.waiting) == (1, 1, 1)
    assert len(reader.read) == 2

    archive.write_bytes(zipped({"good.log": b"fine", "worse.log": b"better"}))
    mended = run(store, page)
    assert (mended.added, mended.unchanged, mended.failed) == (1, 1, ())
    assert run(store, page).unchanged == 2
