"""How documents and answers are doing, by the ledger and the log of answers."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fti.pipelines.feature.finding.sources import SourceFile, fingerprint
from fti.pipelines.feature.monitoring.monitor_report import AnswerHealth, DocumentHealth, Latency
from fti.store.answer_types import Answer
from fti.store.errors import ExtractionError, RunNotFound
from fti.store.lance.shapes import STREAM, LedgerEntry
from fti.store.store import Store
from fti.store.types import SourceRecord

_SHOWN = 20


def document_health(ledger: Sequence[LedgerEntry]) -> DocumentHealth:
    """The ledger against the files as they are now."""
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


def asked_by_users(store: Store, answers: Sequence[Answer]) -> list[Answer]:
    """The answers less those that evaluations asked for; a batch's questions are users'.

    What the plain model was asked is no question to the documents: front ends have it write titles.
    """
    evaluations: dict[str, bool] = {"": False}
    for answer in answers:
        if answer.run_id not in evaluations:
            try:
                kind = store.runs.get(answer.run_id).kind
            except RunNotFound:  # its record was deleted: whoever asked, it is not known to be us
                kind = "batch"
            evaluations[answer.run_id] = kind == "evaluate"
    return [a for a in answers if not evaluations[a.run_id] and a.model != "plain"]


def answer_health(
    answers: Sequence[Answer], days: int, verdicts: Mapping[str, int]
) -> AnswerHealth:
    """Counts, rates and times of answers; ``verdicts`` are those of users, by rating."""
    abstentions = Counter(a.abstention_reason or "model" for a in answers if a.abstained)
    timings: dict[str, list[float]] = {}
    for answer in answers:
        for name, seconds in answer.timings.items():
            timings.setdefault(name, []).append(seconds)
    return AnswerHealth(
        days=days,
        count=len(answers),
        by_model=dict(Counter(a.model for a in answers).most_common()),
        abstention_rate=mean([float(a.abstained) for a in answers]),
        abstentions=dict(abstentions),
        mean_similarity=mean(best_similarities(answers)),
        feedback_up=verdicts.get("up", 0),
        feedback_down=verdicts.get("down", 0),
        seconds={name: _latency(values) for name, values in sorted(timings.items())},
    )


def _latency(values: Sequence[float]) -> Latency:
    p50, p95, p99 = np.percentile(np.asarray(values), [50, 95, 99]).tolist()
    return Latency(p50=p50, p95=p95, p99=p99)


def best_similarities(answers: Sequence[Answer]) -> list[float]:
    """Of each answer's best passage, where the vector search measured one."""
    found = ([p.similarity for p in a.passages if p.similarity is not None] for a in answers)
    return [max(values) for values in found if values]


def mean(values: Sequence[float]) -> float | None:
    """None where there is nothing to divide by."""
    return math.fsum(values) / len(values) if values else None
