"""How the system is doing: documents, indexes, answers, and whether what comes in has changed.

Drift compares with what the system was made and measured for: users' questions with a frozen case
set, new documents with the features version that models were trained from, recent answers with
those before. Answers that evaluations asked for are nobody's questions and do not count.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import MonitoringConfig
from fti.pipelines.feature.finding.sources import SourceFile, fingerprint
from fti.pipelines.feature.monitoring.drift import Shift, psi, psi_of_kinds, shift
from fti.pipelines.feature.monitoring.languages import language
from fti.store.contracts.conditions import PipelineContract
from fti.store.errors import (
    CaseSetNotFound,
    ExtractionError,
    InputError,
    PostconditionFailed,
    RunNotFound,
    VersionNotFound,
)
from fti.store.features.feature_store import FeatureStats
from fti.store.lance.shapes import STREAM, LedgerEntry
from fti.store.moments import LONGEST
from fti.store.store import Store
from fti.store.types import Answer, SourceRecord, Value, now

_SHOWN = 20
_SAMPLE = 2_000  # chunks of either side that documents are compared by


class DocumentHealth(Value):
    """The ledger against the disk. Lists hold at most 20 sources; the counts are whole."""

    served: int
    empty: int
    failed: int
    stale: int
    missing: int
    stale_sources: tuple[str, ...] = ()
    missing_sources: tuple[str, ...] = ()
    failures: Mapping[str, str] = {}
    last_ingest: datetime | None = None


class Latency(Value):
    """Percentiles of seconds."""

    p50: float
    p95: float
    p99: float


class AnswerHealth(Value):
    """Answers of the last days. Rates and means are None where there is nothing to divide by."""

    days: int
    count: int
    by_model: Mapping[str, int] = {}
    abstention_rate: float | None = None
    abstentions: Mapping[str, int] = {}
    mean_similarity: float | None = None
    feedback_up: int = 0
    feedback_down: int = 0
    seconds: Mapping[str, Latency] = {}


class Drift(Value):
    """Mean similarity of the best passage in the last days against as many days before.

    A fall says that people ask what the documents do not cover.
    """

    recent: float | None
    earlier: float | None
    change: float | None
    recent_answers: int
    earlier_answers: int


class LanguageDrift(Value):
    """In which languages texts are, as shares of either side; the largest shares first.

    See ``languages.language`` for what a language is called, and how roughly it is known.
    """

    psi: float
    expected: Mapping[str, float]
    recent: Mapping[str, float]

    @property
    def risen(self) -> str:
        """The language whose share rose most."""
        return max(self.recent, key=lambda name: self.recent[name] - self.expected.get(name, 0.0))


class QuestionDrift(Value):
    """Users' questions of the last days against a frozen case set."""

    cases: str
    questions: int
    expected: int
    embedding: Shift | None = None
    length_psi: float | None = None
    language: LanguageDrift | None = None


class DocumentDrift(Value):
    """Documents that are new or changed since a version of the features, against those of then.

    Lengths are characters of chunks.
    """

    reference: int
    documents: int
    chunks: int
    embedding: Shift | None = None
    length_psi: float | None = None
    language: LanguageDrift | None = None


class AnswerDrift(Value):
    """Recent answers against as many days before; rates are shares of answers that were refusals.

    ``similarity_psi`` compares how near the best passages were, and ``similarity`` and
    ``similarity_before`` hold the 10th, 50th and 90th percentile of it. None, or empty, where a
    side has too few.
    """

    recent: int
    earlier: int
    unanswered: float | None = None
    unanswered_before: float | None = None
    similarity_psi: float | None = None
    similarity: tuple[float, ...] = ()
    similarity_before: tuple[float, ...] = ()


class Alert(Value):
    """Something beyond its threshold: what, its value, the threshold, and what to do."""

    what: str
    value: float
    threshold: float
    message: str


class MonitorReport(Value):
    """How the system is doing."""

    at: datetime
    documents: DocumentHealth
    features: FeatureStats
    answers: AnswerHealth
    drift: Drift
    questions: QuestionDrift | None = None
    new_documents: DocumentDrift | None = None
    answer_drift: AnswerDrift
    alerts: tuple[Alert, ...] = ()


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
        if not alert.value > alert.threshold:
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


@MONITOR.enforced
def monitor(
    store: Store,
    *,
    days: int = 7,
    embedder: Callable[[], Embedder] | None = None,
    cases: str = "",
    reference: int | None = None,
    config: MonitoringConfig | None = None,
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

    Raises:
        InputError: it is to look back no day.
        CaseSetNotFound: there is no such case set.
        VersionNotFound: there is no such version of the features.
        StoreError: nothing was ingested that a version could be of.
    """
    config = config or MonitoringConfig()
    at = now()
    since = at - timedelta(days=days)
    both = _asked_by_users(store, store.answers.list(since=since - timedelta(days=days)))
    recent = [a for a in both if a.created_at >= since]
    earlier = [a for a in both if a.created_at < since]
    verdicts = Counter(str(f.rating) for f in store.answers.all_feedback(since))
    questions = _questions(store, recent, embedder, cases or config.cases, config)
    new_documents = _new_documents(store, reference, config)
    answer_drift = _answer_drift(recent, earlier, config)
    return MonitorReport(
        at=at,
        documents=_documents(store.features.ledger()),
        features=store.features.stats(),
        answers=_answers(recent, days, dict(verdicts)),
        drift=_drift(recent, earlier),
        questions=questions,
        new_documents=new_documents,
        answer_drift=answer_drift,
        alerts=tuple(_alerts(questions, new_documents, answer_drift, config)),
    )


def _asked_by_users(store: Store, answers: Sequence[Answer]) -> list[Answer]:
    """The answers less those that evaluations asked for; a batch's questions are users'."""
    evaluations: dict[str, bool] = {"": False}
    for answer in answers:
        if answer.run_id not in evaluations:
            try:
                kind = store.runs.get(answer.run_id).kind
            except RunNotFound:  # its record was deleted: whoever asked, it is not known to be us
                kind = "batch"
            evaluations[answer.run_id] = kind == "evaluate"
    return [answer for answer in answers if not evaluations[answer.run_id]]


def _questions(
    store: Store,
    recent: Sequence[Answer],
    embedder: Callable[[], Embedder] | None,
    wanted: str,
    config: MonitoringConfig,
) -> QuestionDrift | None:
    if not wanted:
        names = store.cases.names()
        if len(names) != 1:
            return None
        wanted = names[0]
    frozen = store.cases.get(wanted)
    expected = [case.question for case in store.cases.cases(frozen.ref)]
    asked = [answer.question for answer in recent]
    found = QuestionDrift(cases=frozen.ref, questions=len(asked), expected=len(expected))
    if min(len(asked), len(expected)) < config.min_sample:
        return found
    update: dict[str, object] = {
        "length_psi": psi(_lengths(expected), _lengths(asked)),
        "language": _languages(expected, asked),
    }
    if embedder is not None:
        model = embedder()
        update["embedding"] = shift(model.embed_queries(expected), model.embed_queries(asked))
    return found.model_copy(update=update)


def _lengths(texts: Sequence[str]) -> list[float]:
    return [float(len(text.split())) for text in texts]


def _languages(expected: Sequence[str], recent: Sequence[str]) -> LanguageDrift:
    old, new = ([language(text) for text in texts] for texts in (expected, recent))

    def shares(found: Sequence[str]) -> dict[str, float]:
        return {name: count / len(found) for name, count in Counter(found).most_common()}

    return LanguageDrift(psi=psi_of_kinds(old, new), expected=shares(old), recent=shares(new))


def _new_documents(
    store: Store, reference: int | None, config: MonitoringConfig
) -> DocumentDrift | None:
    if not store.features.exists():
        return None
    if reference is None:
        datasets = store.datasets.list()
        if not datasets:
            return None
        reference = max(datasets, key=lambda dataset: dataset.created_at).features_version
    before = store.features.checkout(reference)
    then = {r.id: r.content_hash for r in before.records() if r.chunks}
    fresh = [
        r.id for r in store.features.records() if r.chunks and then.get(r.id) != r.content_hash
    ]
    found = DocumentDrift(reference=reference, documents=len(fresh), chunks=0)
    if not fresh or not then:
        return found
    new, old = store.features.sample(_SAMPLE, documents=fresh), before.sample(_SAMPLE)
    found = found.model_copy(update={"chunks": len(new.lengths)})
    if min(len(new.lengths), len(old.lengths)) < config.min_sample:
        return found
    update: dict[str, object] = {
        "length_psi": psi(old.lengths.astype(float).tolist(), new.lengths.astype(float).tolist()),
        "language": _languages(old.texts, new.texts),
    }
    if old.vectors.shape[1] == new.vectors.shape[1]:  # else another embedder came in between
        update["embedding"] = shift(old.vectors, new.vectors)
    return found.model_copy(update=update)


def _answer_drift(
    recent: Sequence[Answer], earlier: Sequence[Answer], config: MonitoringConfig
) -> AnswerDrift:
    def refused(answers: Sequence[Answer]) -> float | None:
        if len(answers) < config.min_sample:
            return None
        return _mean([float(a.abstained) for a in answers])

    new, old = _similarities(recent), _similarities(earlier)
    enough = min(len(new), len(old)) >= config.min_sample
    return AnswerDrift(
        recent=len(recent),
        earlier=len(earlier),
        unanswered=refused(recent),
        unanswered_before=refused(earlier),
        similarity_psi=psi(old, new) if enough else None,
        similarity=_spread(new) if len(new) >= config.min_sample else (),
        similarity_before=_spread(old) if len(old) >= config.min_sample else (),
    )


def _spread(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(np.percentile(np.asarray(values), [10, 50, 90]).tolist())


def _alerts(
    questions: QuestionDrift | None,
    documents: DocumentDrift | None,
    answers: AnswerDrift,
    config: MonitoringConfig,
) -> Iterator[Alert]:
    for name, found, advice in (
        (
            "questions",
            questions,
            "Read what people ask (fti monitor --json), and freeze a case set that asks it.",
        ),
        (
            "documents",
            documents,
            "Evaluate on cases about the new documents, and fine-tune on them if it got worse.",
        ),
    ):
        if found is None:
            continue
        against = (
            f"the case set {found.cases}"
            if isinstance(found, QuestionDrift)
            else f"features version {found.reference}"
        )
        moved = found.embedding
        if moved and moved.distance > config.distance and moved.p < config.distance_p:
            yield Alert(
                what=f"{name}_embedding",
                value=moved.distance,
                threshold=config.distance,
                message=f"New {name} are about other things than {against}: distance "
                f"{moved.distance:.3f}, p {moved.p:.3g}. {advice}",
            )
        if found.length_psi is not None and found.length_psi > config.psi:
            yield Alert(
                what=f"{name}_length",
                value=found.length_psi,
                threshold=config.psi,
                message=f"New {name} have other lengths than {against}: stability index "
                f"{found.length_psi:.3f}. {advice}",
            )
        spoken = found.language
        if spoken is not None and spoken.psi > config.psi:
            yield Alert(
                what=f"{name}_language",
                value=spoken.psi,
                threshold=config.psi,
                message=f"New {name} are in other languages than {against}: "
                f"{spoken.recent[spoken.risen]:.0%} are {spoken.risen}, "
                f"{spoken.expected.get(spoken.risen, 0.0):.0%} were; stability index "
                f"{spoken.psi:.3f}. See whether the embedder and the model read it.",
            )
    rate, before = answers.unanswered, answers.unanswered_before
    if rate is not None and rate > config.unanswered:
        yield Alert(
            what="unanswered",
            value=rate,
            threshold=config.unanswered,
            message=f"{rate:.0%} of {answers.recent} questions were refused. See which, and ingest "
            "documents that answer them.",
        )
    if rate is not None and before is not None and rate - before > config.unanswered_rise:
        yield Alert(
            what="unanswered_rise",
            value=rate - before,
            threshold=config.unanswered_rise,
            message=f"Refusals rose from {before:.0%} to {rate:.0%}. See whether documents were "
            "lost (fti doctor), or people ask about new things.",
        )
    if answers.similarity_psi is not None and answers.similarity_psi > config.psi:
        yield Alert(
            what="similarity",
            value=answers.similarity_psi,
            threshold=config.psi,
            message="The best passages are not as near to the questions as in the days before: "
            f"stability index {answers.similarity_psi:.3f}. Look at retrieval: fti evaluate CASES "
            "--retrieval-only",
        )


def _documents(ledger: Sequence[LedgerEntry]) -> DocumentHealth:
    stale: list[str] = []
    missing: list[str] = []
    hashes: dict[str, str | None] = {}
    for entry in ledger:
        if not entry.record.chunks or entry.file == STREAM:  # records have no file to compare with
            continue
        if entry.file not in hashes:
            hashes[entry.file] = _current_hash(entry.file)
        found = hashes[entry.file]
        if found is None:
            missing.append(entry.record.source)
        elif found and found != entry.file_hash:
            stale.append(entry.record.source)
    records: list[SourceRecord] = [entry.record for entry in ledger]
    failed = [r for r in records if r.state == "failed"]
    return DocumentHealth(
        served=sum(r.chunks > 0 for r in records),
        empty=sum(r.state == "empty" for r in records),
        failed=len(failed),
        stale=len(stale),
        missing=len(missing),
        stale_sources=tuple(stale[:_SHOWN]),
        missing_sources=tuple(missing[:_SHOWN]),
        failures={r.source: r.cause for r in failed[:_SHOWN]},
        last_ingest=max((r.attempted_at for r in records), default=None),
    )


def _current_hash(file: str) -> str | None:
    """Hash of what the file holds now; None when it is gone, empty when it cannot be read."""
    path = Path(file)
    try:
        size = os.stat(path).st_size  # noqa: PTH116  # Path.exists hides errors
        return fingerprint(SourceFile(file, path, size))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ExtractionError, OSError):
        return ""  # there, but not for us to look at: the ledger says so when it is ingested


def _answers(answers: Sequence[Answer], days: int, verdicts: Mapping[str, int]) -> AnswerHealth:
    abstentions = Counter(a.abstention_reason or "model" for a in answers if a.abstained)
    timings: dict[str, list[float]] = {}
    for answer in answers:
        for name, seconds in answer.timings.items():
            timings.setdefault(name, []).append(seconds)
    return AnswerHealth(
        days=days,
        count=len(answers),
        by_model=dict(Counter(a.model for a in answers).most_common()),
        abstention_rate=_mean([float(a.abstained) for a in answers]),
        abstentions=dict(abstentions),
        mean_similarity=_mean(_similarities(answers)),
        feedback_up=verdicts.get("up", 0),
        feedback_down=verdicts.get("down", 0),
        seconds={name: _latency(values) for name, values in sorted(timings.items())},
    )


def _drift(recent: Sequence[Answer], earlier: Sequence[Answer]) -> Drift:
    new, old = _similarities(recent), _similarities(earlier)
    means = _mean(new), _mean(old)
    change = None if means[0] is None or means[1] is None else means[0] - means[1]
    return Drift(
        recent=means[0],
        earlier=means[1],
        change=change,
        recent_answers=len(new),
        earlier_answers=len(old),
    )


def _similarities(answers: Sequence[Answer]) -> list[float]:
    """Of each answer's best passage, where the vector search measured one."""
    found = ([p.similarity for p in a.passages if p.similarity is not None] for a in answers)
    return [max(values) for values in found if values]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _latency(values: Sequence[float]) -> Latency:
    p50, p95, p99 = np.percentile(np.asarray(values), [50, 95, 99]).tolist()
    return Latency(p50=p50, p95=p95, p99=p99)
