"""What the profile promises against what the store shows, and monitoring as a run that is kept."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import typer

from fti.app.commands.contracts import contracts as command
from fti.app.operations.observing.monitor_run import history, newest, run_monitor
from fti.app.operations.observing.promise_measuring import measured
from fti.app.options import CommonOptions
from fti.app.reports.monitoring_report import write_report
from fti.app.service.counters import Metrics
from fti.app.settings import Settings, load_settings
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.answer_types import Feedback, Usage
from fti.store.errors import InputError
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.types import now
from tests.support.values import an_answer


def profile(store: Store, *overrides: str) -> Settings:
    given = ("embedder.engine=hashing", "generator.engine=extractive", *overrides)
    return load_settings(store=store.layout.root, overrides=given, environment={})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A document, an ingest that is kept, and 30 answers of half a second, every third refused."""
    store = Store(tmp_path / "store")
    (tmp_path / "a.md").write_text("# Hall\n\nThe hall opens at nine on Saturdays.\n", "utf-8")
    ingest(
        [str(tmp_path / "a.md")], store=store, embedder=HashingEmbedder(), config=FeatureConfig()
    )
    at = now() - timedelta(hours=1)
    for n in range(30):
        store.answers.append(
            an_answer(
                new_answer_id(at), created_at=at, abstained=n % 3 == 0,
                timings={"total_s": 0.5, "first_token_s": 0.2},
                usage=Usage(prompt_tokens=1000, completion_tokens=100),
            )
        )  # fmt: skip
    return store


def test_promises_are_measured_from_runs_and_answers(store: Store) -> None:
    settings = profile(
        store, "promises.answer.latency_p95_s=0.4", "promises.answer.first_token_p95_s=0.4",
        "promises.answer.refusal_rate=0.5", "promises.answer.cost_per_1000=1",
        "batch.prompt_price=1", "batch.completion_price=10", "promises.ingest.failed_share=0",
    )  # fmt: skip
    found = {one.key: one for one in measured(settings, store)}
    assert (found["answer.latency_p95_s"].measured, found["answer.latency_p95_s"].verdict) == (
        0.5, "broken",
    )  # fmt: skip
    assert found["answer.first_token_p95_s"].verdict == "kept"
    assert found["answer.refusal_rate"].measured == pytest.approx(1 / 3, abs=1e-4)
    assert found["answer.cost_per_1000"].measured == pytest.approx(2.0)
    assert found["answer.cost_per_1000"].verdict == "broken"
    assert found["ingest.failed_share"].verdict == "kept"
    assert found["ingest.memory_mb"].measured is not None
    assert found["ingest.memory_mb"].measured > 10
    assert found["ingest.chunks_per_s"].measured is not None
    assert found["finetune.tokens_per_s"].verdict == "not measured"


def test_what_is_older_than_the_days_does_not_count(store: Store) -> None:
    old = an_answer(new_answer_id(now() - timedelta(days=3)), created_at=now() - timedelta(days=3))
    store.answers.append(old.model_copy(update={"timings": {"total_s": 99.0}}))
    latency = {days: measured(profile(store), store, days=days, pipelines=["answer"])[0]
               for days in (1, 7)}  # fmt: skip
    assert (latency[1].n, latency[7].n) == (30, 31)
    with pytest.raises(InputError, match="cannot be looked back"):
        measured(profile(store), store, days=99_999_999)


def test_the_command_prints_promised_against_measured_and_exits_with_3(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    set_ = ["embedder.engine=hashing", "promises.answer.latency_p95_s=0.4"]
    with pytest.raises(typer.Exit) as left:
        command(
            CommonOptions(store=store.layout.root, set_=set_, json=True), "answer", measured=True
        )
    assert left.value.exit_code == 3
    (latency, *_) = json.loads(capsys.readouterr().out)["promises"]
    assert (latency["promised"], latency["measured"], latency["verdict"]) == (0.4, 0.5, "broken")
    command(CommonOptions(store=store.layout.root, set_=set_[:1]), "answer", measured=True)
    shown = " ".join(capsys.readouterr().out.split())
    assert "answer.latency_p95_s" in shown
    assert "0.5" in shown


def test_a_broken_promise_and_bad_verdicts_are_alerts_of_monitoring(store: Store) -> None:
    for n, answer in enumerate(store.answers.list()[:12]):
        rating = "up" if n < 4 else "down"
        store.answers.feedback(Feedback(answer_id=answer.id, rating=rating))  # type: ignore[arg-type]
    settings = profile(
        store, "promises.answer.latency_p95_s=0.4",
        "monitoring.alert_when=[answers<100, total_p95_s>9]",
    )  # fmt: skip
    found = run_monitor(settings, store)
    alerts = {alert.what: alert for alert in found.alerts}
    assert set(alerts) == {"promise answer.latency_p95_s", "thumbs_down", "rule answers"}
    assert "at most 0.4, measured 0.5 (of 30)" in alerts["promise answer.latency_p95_s"].message
    assert alerts["rule answers"].below
    assert alerts["thumbs_down"].value == pytest.approx(2 / 3)


def test_each_monitoring_is_kept_and_all_are_plotted(store: Store, tmp_path: Path) -> None:
    first = run_monitor(profile(store), store)
    second = run_monitor(profile(store), store)
    past = history(store)
    assert [one.run for one in past] == [first.run, second.run]
    assert past[0].figures["refusal_rate"] == pytest.approx(1 / 3)
    assert past[0].figures["total_p95_s"] == 0.5
    kept = newest(store)
    assert kept is not None
    assert kept["answers"]["count"] == 30
    age = next(one for one in second.promises if one.key == "monitor.age_h")
    assert age.measured == pytest.approx(0, abs=0.1)
    write_report(second, tmp_path / "out" / "monitor.html", store=store)
    page = (tmp_path / "out" / "monitor.html").read_text("utf-8")
    assert "Seconds of an answer, 95th percentile" in page
    assert page.count("<polyline") >= 3
    assert "answer.latency_p95_s" in page


def test_the_service_exports_what_the_newest_monitoring_found(store: Store) -> None:
    assert b"fti_monitor" not in Metrics(store).text()
    settings = profile(store, "promises.answer.latency_p95_s=0.4", "promises.answer.refusal_rate=1")
    run_monitor(settings, store)
    text = Metrics(store).text().decode()
    assert "fti_monitor_refusal_rate 0.3333" in text
    assert "fti_monitor_alerts 1.0" in text
    label = '{pipeline="answer",requirement="latency_p95_s"}'
    assert f"fti_promised{label} 0.4" in text
    assert f"fti_measured{label} 0.5" in text
    assert f"fti_promise_kept{label} 0.0" in text
    assert 'fti_promise_kept{pipeline="answer",requirement="refusal_rate"} 1.0' in text
    assert "fti_monitor_age_seconds" in text


@pytest.mark.parametrize(
    ("rule", "fault"), [("answers=3", "use <"), ("answers", "tag=news"), ("answers<many", "number")]
)
def test_a_rule_that_is_none_is_refused_before_anything_is_looked_at(
    store: Store, rule: str, fault: str
) -> None:
    with pytest.raises(Exception, match=fault):
        profile(store, f"monitoring.alert_when=[{json.dumps(rule)}]")
