"""Monitoring: whose questions count, what they and new documents are compared with, what alerts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fti.app.reports.monitoring_report import as_html
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig, MonitoringConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.monitoring.monitor_report import MonitorReport
from fti.pipelines.feature.monitoring.system_report import monitor
from fti.store.errors import CaseSetNotFound
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.types import Case, now
from tests.support.values import a_passage, an_answer

EMBEDDER = HashingEmbedder(256)
KILN = [f"When is kiln number {n} fired on Thursdays?" for n in range(40)]
BEES = [f"Does hive {n} make honey from heather blossom in the long warm weeks?" for n in range(40)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def ask(
    store: Store,
    questions: list[str],
    *,
    days_ago: float = 1,
    similarity: float = 0.6,
    refused: int = 0,
    run_id: str = "",
) -> None:
    at = now() - timedelta(days=days_ago)
    for n, question in enumerate(questions):
        store.answers.append(
            an_answer(
                new_answer_id(at),
                created_at=at,
                question=question,
                passages=(a_passage(similarity=similarity + n / 400),),
                abstained=n < refused,
                run_id=run_id,
            )
        )


def watched(store: Store, **how: object) -> MonitorReport:
    return monitor(store, embedder=lambda: EMBEDDER, **how)  # type: ignore[arg-type]


def what(report: MonitorReport) -> list[str]:
    return [alert.what for alert in report.alerts]


def test_answers_that_evaluations_asked_for_are_nobodys_questions(store: Store) -> None:
    with store.runs.running("evaluate") as evaluation:
        ask(store, BEES, run_id=evaluation.id, refused=40)
    with store.runs.running("batch") as batch:
        ask(store, KILN[:2], run_id=batch.id)
    ask(store, KILN[:3])
    ask(store, KILN[:1], run_id="r-20260101-000000-abcdef")
    report = watched(store)
    assert report.answers.count == 6
    assert report.answers.abstention_rate == 0.0
    assert report.alerts == ()


def test_questions_like_those_of_the_case_set_are_no_drift(store: Store) -> None:
    store.cases.freeze("kiln", [Case(id=str(n), question=q) for n, q in enumerate(KILN)])
    ask(store, KILN[5:])
    report = watched(store)
    assert report.questions is not None
    assert (report.questions.cases, report.questions.questions) == ("kiln/1", 35)
    assert report.questions.embedding is not None
    assert report.questions.embedding.p > 0.05
    assert what(report) == []


def test_questions_about_something_else_alert(store: Store) -> None:
    store.cases.freeze("kiln", [Case(id=str(n), question=q) for n, q in enumerate(KILN)])
    ask(store, BEES)
    report = watched(store)
    assert what(report) == ["questions_embedding", "questions_length"]
    assert "other things than the case set kiln/1" in report.alerts[0].message
    assert watched(store, config=MonitoringConfig(distance=1.9, psi=99)).alerts == ()


def test_questions_in_another_language_alert(store: Store) -> None:
    store.cases.freeze("kiln", [Case(id=str(n), question=q) for n, q in enumerate(KILN)])
    ask(store, KILN[:30] + ["Wann wird der Ofen am Donnerstag befeuert?"] * 10)
    config = MonitoringConfig(distance=1.9)
    report = watched(store, config=config)
    assert report.questions is not None
    assert report.questions.language is not None
    assert dict(report.questions.language.recent) == {"en": 0.75, "de": 0.25}
    assert dict(report.questions.language.expected) == {"en": 1.0}
    assert what(report) == ["questions_language"]
    assert "25% are de, 0% were" in report.alerts[0].message
    assert "en 75%, de 25% against en 100%" in as_html(report, store="/data")
    assert watched(store, config=MonitoringConfig(distance=1.9, psi=2)).alerts == ()


def test_too_few_questions_say_nothing_and_load_no_model(store: Store) -> None:
    store.cases.freeze("kiln", [Case(id=str(n), question=q) for n, q in enumerate(KILN)])
    ask(store, BEES[:29])

    def never() -> HashingEmbedder:
        raise AssertionError("there is nothing to embed")

    report = monitor(store, embedder=never)
    assert report.questions is not None
    assert report.questions.embedding is None
    assert report.alerts == ()


def test_the_case_set_is_the_only_one_or_named(store: Store) -> None:
    assert watched(store).questions is None
    for name in ("one", "two"):
        store.cases.freeze(name, [Case(id=name, question="When?")])
    assert watched(store).questions is None
    found = watched(store, cases="two").questions
    assert found is not None
    assert found.cases == "two/1"
    with pytest.raises(CaseSetNotFound):
        watched(store, cases="three")


def test_more_refusals_than_before_alert(store: Store) -> None:
    ask(store, KILN, days_ago=9, refused=4)
    ask(store, KILN, refused=24)
    report = watched(store)
    assert what(report) == ["unanswered", "unanswered_rise"]
    assert "60%" in report.alerts[0].message
    assert "from 10% to 60%" in report.alerts[1].message


def test_passages_that_are_less_near_than_before_alert(store: Store) -> None:
    ask(store, KILN, days_ago=9, similarity=0.6)
    ask(store, KILN, similarity=0.3)
    report = watched(store)
    assert what(report) == ["similarity"]
    assert [round(v, 2) for v in report.answer_drift.similarity] == [0.31, 0.35, 0.39]
    assert [round(v, 2) for v in report.answer_drift.similarity_before] == [0.61, 0.65, 0.69]
    assert "0.31, 0.35, 0.39" in as_html(report, store="/data")


def test_new_documents_are_compared_with_a_version_of_the_features(
    store: Store, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()

    def write(name: str, sentence: str) -> None:
        text = "\n\n".join(f"# Part {n}\n\n{sentence} Number {n}." for n in range(8))
        (docs / f"{name}.md").write_text(text, "utf-8")

    def take() -> int:
        ingest([str(docs)], store=store, embedder=EMBEDDER, config=FeatureConfig())
        return store.features.version()

    for n in range(10):
        write(f"kiln{n}", f"The kiln {n} is fired on Thursdays and cools until Saturday.")
    reference = take()
    config = MonitoringConfig(min_sample=5)
    same = watched(store, reference=reference, config=config).new_documents
    assert same is not None
    assert (same.documents, same.embedding) == (0, None)
    assert watched(store).new_documents is None, "no dataset: nothing to compare with"
    write("kiln99", "The kiln nine is fired on Thursdays and cools until Saturday.")
    take()
    like = watched(store, reference=reference, config=config)
    assert like.new_documents is not None
    assert like.new_documents.documents == 1
    assert "documents_embedding" not in what(like)
    for n in range(10):
        write(f"bees{n}", "Honey from heather blossom flows into the combs of hives in August.")
    take()
    other = watched(store, reference=reference, config=config)
    assert other.new_documents is not None
    assert other.new_documents.documents == 11
    assert other.new_documents.embedding is not None
    assert other.new_documents.embedding.p < 0.01
    assert "documents_embedding" in what(other)
    assert other.new_documents.language is not None
    assert other.new_documents.language.psi < 0.25
    for n in range(10):
        write(f"ofen{n}", "Der Ofen wird am Donnerstag befeuert und ist am Samstag kalt.")
    take()
    german = watched(store, reference=reference, config=config)
    assert "documents_language" in what(german)


def test_the_page_shows_alerts_and_figures_with_text_escaped(store: Store) -> None:
    ask(store, KILN, refused=39)
    page = as_html(watched(store), store="/data/<store>")
    assert "98% of 40 questions were refused" in page
    assert "/data/&lt;store&gt;" in page
    quiet = as_html(watched(Store(store.layout.root.parent / "empty")), store="/data")
    assert "Nothing is beyond its threshold." in quiet
