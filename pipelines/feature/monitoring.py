"""How the system is doing: documents, indexes, answers, and whether retrieval drifts."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from pipelines.feature.sources import SourceFile, fingerprint
from store.errors import ExtractionError
from store.features import FeatureStats
from store.store import Store
from store.tables import LedgerEntry
from store.types import Answer, SourceRecord, Value, now

_SHOWN = 20


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


class MonitorReport(Value):
    """How the system is doing."""

    at: datetime
    documents: DocumentHealth
    features: FeatureStats
    answers: AnswerHealth
    drift: Drift


def monitor(store: Store, *, days: int = 7) -> MonitorReport:
    """Look at the whole system without changing it.

    Args:
        store: what to look at.
        days: how far back answers count; drift compares with as many days before.
    """
    at = now()
    since = at - timedelta(days=days)
    both = store.answers.list(since=since - timedelta(days=days))
    recent = [a for a in both if a.created_at >= since]
    earlier = [a for a in both if a.created_at < since]
    verdicts = Counter(str(f.rating) for f in store.answers.all_feedback(since))
    return MonitorReport(
        at=at,
        documents=_documents(store.features.ledger()),
        features=store.features.stats(),
        answers=_answers(recent, days, dict(verdicts)),
        drift=_drift(recent, earlier),
    )


def _documents(ledger: Sequence[LedgerEntry]) -> DocumentHealth:
    stale: list[str] = []
    missing: list[str] = []
    changed: dict[str, bool | None] = {}
    for entry in ledger:
        if entry.file not in changed:
            changed[entry.file] = _changed(entry)
        if entry.record.chunks:
            if changed[entry.file] is None:
                missing.append(entry.record.source)
            elif changed[entry.file]:
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


def _changed(entry: LedgerEntry) -> bool | None:
    """Whether the file differs from what was ingested; None when it is gone."""
    path = Path(entry.file)
    try:
        size = os.stat(path).st_size  # noqa: PTH116  # Path.exists hides errors
        return fingerprint(SourceFile(entry.file, path, size)) != entry.file_hash
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ExtractionError, OSError):
        return False  # there, but not for us to look at: the ledger says so when it is ingested


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
