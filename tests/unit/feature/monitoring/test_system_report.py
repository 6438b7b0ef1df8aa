"""Monitoring: documents against the disk, answers in numbers, drift of retrieval."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.monitoring.system_report import monitor
from fti.store.answer_types import Feedback
from fti.store.errors import InputError
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.types import now
from tests.support.documents import zipped
from tests.support.values import a_passage, an_answer


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def answered(store: Store, days_ago: float, similarity: float | None, **changes: object) -> str:
    at = now() - timedelta(days=days_ago)
    passages = () if similarity is None else (
        a_passage(similarity=similarity - 0.2), a_passage(similarity=similarity)
    )  # fmt: skip
    answer = an_answer(new_answer_id(at), created_at=at, passages=passages, **changes)
    store.answers.append(answer)
    return answer.id


def test_an_unused_store_is_reported_without_numbers_that_mean_nothing(store: Store) -> None:
    report = monitor(store)
    assert report.documents.served == 0
    assert report.documents.last_ingest is None
    assert report.answers.count == 0
    assert report.answers.abstention_rate is None
    assert report.answers.mean_similarity is None
    assert report.drift.change is None
    assert report.features.version == 0


def test_documents_are_compared_with_the_disk(store: Store, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("same", "changed", "gone", "turned bad"):
        (docs / f"{name}.txt").write_text(f"This is {name}.", "utf-8")
    (docs / "bad.pdf").write_bytes(b"no")
    (docs / "white.txt").write_text("  \n ", "utf-8")

    def take() -> None:
        ingest([str(docs)], store=store, embedder=HashingEmbedder(64), config=FeatureConfig())

    take()
    (docs / "turned bad.txt").write_bytes(b"")
    take()
    (docs / "changed.txt").write_text("This is no longer what it was.", "utf-8")
    (docs / "gone.txt").unlink()
    seen = monitor(store).documents
    assert (seen.served, seen.empty, seen.failed) == (4, 1, 2)
    assert seen.stale_sources == (str(docs / "changed.txt"), str(docs / "turned bad.txt"))
    assert seen.missing_sources == (str(docs / "gone.txt"),)
    assert seen.failures[str(docs / "turned bad.txt")] == "the file is empty"
    assert seen.last_ingest is not None


def test_a_bad_member_makes_the_others_of_its_archive_neither_stale_nor_missing(
    store: Store, tmp_path: Path
) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"a-bad.pdf": b"no", "good.md": "Good.", "fine.md": "Fine."}))
    ingest([str(archive)], store=store, embedder=HashingEmbedder(64), config=FeatureConfig())

    seen = monitor(store).documents
    assert (seen.served, seen.failed, seen.stale, seen.missing) == (2, 1, 0, 0)

    archive.write_bytes(zipped({"good.md": "Better.", "fine.md": "Fine."}))
    assert monitor(store).documents.stale == 2


def test_answers_are_counted_in_their_window(store: Store) -> None:
    good = answered(store, 1, 0.8, model="reader/1", timings={"total": 1.0, "retrieve": 0.1})
    answered(store, 2, 0.6, timings={"total": 3.0}, model="reader/1")
    answered(store, 3, None, abstained=True, abstention_reason="nothing_retrieved", model="base")
    answered(store, 30, 0.1)
    store.answers.feedback(Feedback(answer_id=good, rating="up"))
    store.answers.feedback(Feedback(answer_id=good, rating="down", comment="no"))
    seen = monitor(store, days=7).answers
    assert seen.count == 3
    assert seen.by_model == {"reader/1": 2, "base": 1}
    assert seen.abstention_rate == pytest.approx(1 / 3)
    assert seen.abstentions == {"nothing_retrieved": 1}
    assert seen.mean_similarity == pytest.approx(0.7), "the best passage of each answer counts"
    assert (seen.feedback_up, seen.feedback_down) == (1, 1)
    assert seen.seconds["total"].p50 == pytest.approx(2.0)
    assert seen.seconds["total"].p99 == pytest.approx(2.98)


def test_drift_compares_with_as_many_days_before(store: Store) -> None:
    answered(store, 1, 0.4)
    answered(store, 2, 0.5)
    answered(store, 9, 0.8)
    answered(store, 40, 0.1)
    drift = monitor(store, days=7).drift
    assert (drift.recent_answers, drift.earlier_answers) == (2, 1)
    assert drift.recent == pytest.approx(0.45)
    assert drift.earlier == pytest.approx(0.8)
    assert drift.change == pytest.approx(-0.35)


@pytest.mark.parametrize("days", [0, 36_501, 10**12])
def test_nobody_looks_back_beyond_the_calendar(store: Store, days: int) -> None:
    with pytest.raises(InputError, match=f"{days} days cannot be looked back"):
        monitor(store, days=days)
    monitor(store, days=36_500)


def test_the_report_is_plain_json(store: Store) -> None:
    answered(store, 1, 0.4)
    body = monitor(store).model_dump(mode="json")
    assert {"at", "documents", "features", "answers", "drift", "alerts"} <= set(body)
