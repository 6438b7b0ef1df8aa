"""Monitoring as one run that is kept: the features, a sample of answers, and the promises.

The pipelines know nothing of one another: the answers are judged first, and what came of that is
handed to the look at the whole. The figures of each run stay with it, so that there is a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fti.app.build import Engines
from fti.app.operations.observing.promise_measuring import measured
from fti.store.progress import Progress, quiet
from fti.store.types import Value, now

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.feature.monitoring.monitor_report import AnswerQuality, MonitorReport
    from fti.store.store import Store

#: What a run of monitoring keeps beside its record: the whole report, in one row.
REPORT = "report"


class Past(Value):
    """One monitoring of earlier: its figures by name, and what it alerted of."""

    run: str
    at: datetime
    figures: dict[str, float]
    alerts: tuple[str, ...] = ()


def run_monitor(
    settings: Settings,
    store: Store,
    *,
    days: int = 7,
    cases: str = "",
    reference: int | None = None,
    engines: Engines | None = None,
    progress: Progress = quiet,
) -> MonitorReport:
    """Look at the whole system, judge a sample of its answers, and keep what was found as a run.

    Args:
        settings: the profile: thresholds, promises, and the model that judges answers, if any.
        store: what to look at.
        days: how far back answers count, and promises are measured.
        cases: frozen case set to compare questions with; empty: as the profile says.
        reference: version of the features to compare documents with; None: as the newest dataset.
        engines: models that are loaded already.
        progress: told as answers are judged.

    Raises:
        As ``fti.pipelines.feature.monitoring.system_report.monitor``.
    """
    from fti.pipelines.feature.monitoring.system_report import MONITOR, monitor

    # Before anything is judged.
    MONITOR.require(
        store=store, days=days, cases=cases, reference=reference, config=settings.monitoring
    )
    engines = engines or Engines(settings)
    inputs = {
        "days": str(days),
        "cases": cases or settings.monitoring.cases,
        "features_version": str(store.features.version() if store.features.exists() else 0),
    }
    kept = {
        "monitoring": settings.monitoring.model_dump(mode="json"),
        "promises": settings.promises.model_dump(mode="json"),
    }
    with store.runs.running("monitor", inputs=inputs, settings=kept) as run:
        found = monitor(
            store,
            days=days,
            embedder=lambda: engines.embedder,
            cases=cases,
            reference=reference,
            config=settings.monitoring,
            quality=_quality(settings, store, days, engines, progress),
            promises=measured(settings, store, days=days),
        ).model_copy(update={"run": run.id})
        store.runs.attach(run.id, REPORT, [found.model_dump(mode="json")])
        run.metrics.update(_kept(found))
    return found


def history(store: Store, limit: int = 30) -> list[Past]:
    """The monitorings of earlier, oldest first; those that failed left nothing to show."""
    runs = [run for run in store.runs.survey("monitor")[0] if "figures" in run.metrics][:limit]
    return [
        Past(
            run=run.id,
            at=run.started_at,
            figures=run.metrics["figures"],
            alerts=tuple(run.metrics.get("alerts", ())),
        )
        for run in reversed(runs)
    ]


def newest(store: Store) -> dict[str, Any] | None:
    """The whole report of the newest monitoring, as JSON values; None where none was kept."""
    past = history(store, 1)
    return next(iter(store.runs.attached(past[0].run, REPORT))) if past else None


def _kept(found: MonitorReport) -> dict[str, Any]:
    return {
        "figures": found.figures(),
        "alerts": [alert.what for alert in found.alerts],
        "promises": [
            one.model_dump(mode="json", include={"pipeline", "name", "promised", "measured",
                                                 "verdict"})
            for one in found.promises
        ],
    }  # fmt: skip


def _quality(
    settings: Settings, store: Store, days: int, engines: Engines, progress: Progress
) -> AnswerQuality | None:
    """The groundedness of a sample; None where the profile names no model for it, or no answers."""
    from fti.pipelines.feature.monitoring.healthcheck import asked_by_users
    from fti.pipelines.feature.monitoring.monitor_report import AnswerQuality
    from fti.pipelines.inference.live.answer_sample import drawn
    from fti.pipelines.inference.live.live_answers import monitor_answers

    evaluation, sample = settings.evaluation, settings.monitoring.sample
    names_one = bool(evaluation.entailment.id) or evaluation.judge.server is not None
    if not (names_one and sample):
        return None
    since = now() - timedelta(days=days)
    answers: Sequence[Any] = asked_by_users(store, store.answers.list(since=since))
    if not drawn(answers, sample):
        return None
    entailment = engines.entailment
    found = monitor_answers(
        answers,
        store=store,
        entailment=entailment,
        judge=None if entailment is not None else engines.judge,
        sample=sample,
        progress=progress,
    )
    return AnswerQuality(**found.model_dump(exclude={"unreadable"}))
