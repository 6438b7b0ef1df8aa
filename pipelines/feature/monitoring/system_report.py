"""How the system is doing: documents, indexes, answers, and whether what comes in has changed.

Drift compares with what the system was made and measured for: users' questions with a frozen case
set, new documents with the features version that models were trained from, recent answers with
those before. Answers that evaluations asked for are nobody's questions and do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import MonitoringConfig
from fti.pipelines.feature.monitoring.alerts import due_alerts
from fti.pipelines.feature.monitoring.comparisons import (
    compare_answers,
    compare_documents,
    compare_questions,
    compare_similarity,
)
from fti.pipelines.feature.monitoring.healthcheck import (
    answer_health,
    asked_by_users,
    document_health,
)
from fti.pipelines.feature.monitoring.monitor_report import AnswerQuality, MonitorReport
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import Judged, hours_since, seconds
from fti.store.errors import CaseSetNotFound, InputError, PostconditionFailed, VersionNotFound
from fti.store.moments import LONGEST
from fti.store.store import Store
from fti.store.types import now

MONITOR = PipelineContract("monitor")


@MONITOR.precondition("At least one day is looked back", raises=InputError)
def looks_back(days: int) -> None:
    """Answers of no days say nothing, and the calendar ends."""
    if not 1 <= days <= LONGEST.days:
        raise InputError(
            f"{days} days cannot be looked back.", hint=f"Look back 1 to {LONGEST.days} days."
        )


@MONITOR.precondition(
    "The case set that questions are compared with is frozen", raises=CaseSetNotFound
)
def cases_are_frozen(store: Store, cases: str, config: MonitoringConfig | None) -> None:
    """Where one is named."""
    if wanted := cases or (config or MonitoringConfig()).cases:
        store.cases.get(wanted)


@MONITOR.precondition(
    "The version that documents are compared with is there", raises=VersionNotFound
)
def reference_is_there(store: Store, reference: int | None) -> None:
    """Where one is named; what is compared by default may be pruned, and is then left out."""
    if reference is not None:
        store.features.history.resolve(str(reference))


@MONITOR.postcondition("An alert is of a value beyond its threshold")
def alerts_are_due(result: MonitorReport) -> None:
    """No alarm without its figures."""
    for alert in result.alerts:
        if not (alert.due or alert.value == alert.threshold):
            raise PostconditionFailed(
                f"The alert {alert.what!r} is of {alert.value}, which is not beyond "
                f"{alert.threshold}."
            )


@MONITOR.postcondition("Each answer is counted for one model")
def answers_add_up(result: MonitorReport) -> None:
    """So that shares by model are shares of all."""
    counted = sum(result.answers.by_model.values())
    if counted != result.answers.count:
        raise PostconditionFailed(
            f"{result.answers.count} answers were looked at, and {counted} are of a model."
        )


MONITOR.requires("age_h", "at most", "h", hours_since("monitor"))
MONITOR.requires("seconds_p95", "at most", "s", seconds("monitor"))


@MONITOR.enforced
def monitor(
    store: Store,
    *,
    days: int = 7,
    embedder: Callable[[], Embedder] | None = None,
    cases: str = "",
    reference: int | None = None,
    config: MonitoringConfig | None = None,
    quality: AnswerQuality | None = None,
    promises: Sequence[Judged] = (),
) -> MonitorReport:
    """Look at the whole system without changing it.

    Args:
        store: what to look at.
        days: how far back answers count; drift compares with as many days before.
        embedder: gives the embedder of questions; asked only when there are enough of them. None:
            what questions are about is not compared.
        cases: frozen case set to compare questions with, over the one in ``config``.
        reference: version of the features to compare documents with; by default that of the newest
            dataset.
        config: thresholds.
        quality: what a model said of a sample of the answers.
        promises: what the profile promises, as measured.

    Raises:
        InputError: it is to look back no day.
        CaseSetNotFound: there is no such case set.
        VersionNotFound: there is no such version of the features.
        StoreError: nothing was ingested that a version could be of.
    """
    config = config or MonitoringConfig()
    at = now()
    since = at - timedelta(days=days)
    both = asked_by_users(store, store.answers.list(since=since - timedelta(days=days)))
    recent = [a for a in both if a.created_at >= since]
    earlier = [a for a in both if a.created_at < since]
    verdicts = Counter(str(f.rating) for f in store.answers.all_feedback(since))
    questions = compare_questions(store, recent, embedder, cases or config.cases, config)
    new_documents = compare_documents(store, reference, config)
    answer_drift = compare_answers(recent, earlier, config)
    report = MonitorReport(
        at=at,
        documents=document_health(store.features.ledger()),
        features=store.features.stats(),
        answers=answer_health(recent, days, dict(verdicts)),
        drift=compare_similarity(recent, earlier),
        questions=questions,
        new_documents=new_documents,
        answer_drift=answer_drift,
        quality=quality,
        promises=tuple(promises),
    )
    return report.model_copy(update={"alerts": tuple(due_alerts(report, config))})
