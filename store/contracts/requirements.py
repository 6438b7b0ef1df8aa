"""What a pipeline promises of how well it does: how fresh, how fast, how large, how dear.

The non-functional half of a ``PipelineContract``. A requirement is declared beside the conditions,
with the function that measures it from what the store keeps of the past: runs, answers, the index.
What is promised is a setting (``promises.PromisesConfig``), whose description is the sentence. A
condition stops the call that violates it; a requirement is measured afterwards and told, by
``fti contracts --measured``, ``fti monitor`` and the service's metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fti.store.answer_types import Answer
from fti.store.contracts.promises import PromisesConfig, promise_says, section_of
from fti.store.types import Run, Value, now

Bound = Literal["at most", "at least"]
#: Whether what was measured is within what is promised.
Verdict = Literal["kept", "broken", "too few", "not measured", "not promised"]
#: What some tokens and seconds cost (prompt tokens, completion tokens, seconds); None: unpriced.
Cost = Callable[[float, float, float], float | None]


class Measured(Value):
    """A value, and over how many answers, runs or changes."""

    value: float
    n: int


@dataclass(frozen=True)
class Seen:
    """What there is to measure by.

    Args:
        runs: those that ended in the time looked back on, and those going on.
        answers: to users, of that time.
        index_recall: of the vector index, as measured last; None: every search is exact.
        cost: of tokens and seconds.
        at: when this was.
    """

    runs: Sequence[Run] = ()
    answers: Sequence[Answer] = ()
    index_recall: float | None = None
    cost: Cost = lambda prompt, completion, seconds: None
    at: datetime = field(default_factory=now)

    def of(self, pipeline: str) -> list[Run]:
        """The runs of one pipeline that came to a result, or have some figures already."""
        mine = (run for run in self.runs if pipeline_of(run) == pipeline)
        return [run for run in mine if run.status != "failed" and run.metrics]


Measure = Callable[[Seen], Measured | None]


@dataclass(frozen=True)
class Requirement:
    """One promise of a pipeline: its name is that of the setting which holds the value."""

    pipeline: str
    name: str
    bound: Bound
    unit: str
    measure: Measure

    @property
    def setting(self) -> str:
        """Where the profile says what is promised."""
        return f"promises.{section_of(self.pipeline)}.{self.name}"

    @property
    def says(self) -> str:
        """What is promised, in words."""
        return promise_says(self.pipeline, self.name)

    def judge(self, seen: Seen, promises: PromisesConfig) -> Judged:
        """Promised against measured."""
        promised = promises.value(self.pipeline, self.name)
        found = self.measure(seen)
        verdict: Verdict
        if found is None:
            verdict = "not measured"
        elif promised is None:
            verdict = "not promised"
        elif self.pipeline == "answer" and found.n < promises.min_answers:
            verdict = "too few"
        else:
            less = found.value <= promised
            verdict = "kept" if less == (self.bound == "at most") or found.value == promised else (
                "broken"
            )  # fmt: skip
        return Judged(
            pipeline=self.pipeline,
            name=self.name,
            says=self.says,
            bound=self.bound,
            unit=self.unit,
            promised=promised,
            measured=None if found is None else found.value,
            n=0 if found is None else found.n,
            verdict=verdict,
        )


class Judged(Value):
    """A requirement as promised and as measured. ``n``: answers, runs or changes measured."""

    pipeline: str
    name: str
    says: str
    bound: Bound
    unit: str
    promised: float | None = None
    measured: float | None = None
    n: int = 0
    verdict: Verdict

    @property
    def key(self) -> str:
        """``pipeline.name``."""
        return f"{self.pipeline}.{self.name}"


def pipeline_of(run: Run) -> str:
    """The pipeline of a run; of those that did not say, as far as their inputs tell."""
    if run.pipeline:
        return run.pipeline
    if run.kind == "ingest" and "stream" in run.inputs:
        return "follow"
    if run.kind == "ingest" and "frame" in run.inputs:
        return "write"
    if run.kind == "finetune" and run.inputs.get("kind") == "embedder":
        return "finetune-embedder"
    return run.kind


# Measures


def percentile(values: Sequence[float], share: float) -> Measured | None:
    """The value that such a share of the values does not exceed (nearest rank); None of none."""
    if not values:
        return None
    rank = max(0, math.ceil(share * len(values)) - 1)
    return Measured(value=round(sorted(values)[rank], 4), n=len(values))


def seconds(pipeline: str) -> Measure:
    """95 of 100 runs took no longer."""
    return lambda seen: percentile([t for r in seen.of(pipeline) if (t := took(r)) > 0], 0.95)


def memory(pipeline: str) -> Measure:
    """The most that a process had held by the end of a run."""

    def measure(seen: Seen) -> Measured | None:
        held = [run.memory_mb for run in seen.of(pipeline) if run.memory_mb is not None]
        return Measured(value=max(held), n=len(held)) if held else None

    return measure


def rate(pipeline: str, count: str, *, per: str = "seconds") -> Measure:
    """How many a second, over all runs that had any; ``per`` is the metric with the seconds."""

    def measure(seen: Seen) -> Measured | None:
        found = [
            (n, spent)
            for run in seen.of(pipeline)
            if (n := figure(run, count)) and (spent := figure(run, per) or took(run)) > 0
        ]
        if not found:
            return None
        total = sum(n for n, _ in found) / sum(spent for _, spent in found)
        return Measured(value=round(total, 4), n=len(found))

    return measure


def share(pipeline: str, part: str, *others: str) -> Measure:
    """What part of all that runs counted was of one kind."""

    def measure(seen: Seen) -> Measured | None:
        runs = seen.of(pipeline)
        some = sum(figure(run, part) for run in runs)
        whole = some + sum(figure(run, name) for run in runs for name in others)
        return Measured(value=round(some / whole, 4), n=round(whole)) if whole else None

    return measure


def worst(pipeline: str, *path: str, least: bool = False) -> Measure:
    """The largest value that any run has at a place of its metrics, or the smallest."""

    def measure(seen: Seen) -> Measured | None:
        found = [v for run in seen.of(pipeline) if (v := value_at(run.metrics, path)) is not None]
        if not found:
            return None
        return Measured(value=min(found) if least else max(found), n=len(found))

    return measure


def freshness(pipeline: str) -> Measure:
    """The worst of the runs' 99th percentiles: what of all changes is not known run by run."""

    def measure(seen: Seen) -> Measured | None:
        kept = [run.metrics["freshness"] for run in seen.of(pipeline) if freshness_of(run)]
        if not kept:
            return None
        return Measured(value=max(f["p99_s"] for f in kept), n=sum(f["n"] for f in kept))

    return measure


def freshness_of(run: Run) -> Mapping[str, Any] | None:
    """How soon what a run took could be found, where it says so."""
    found = run.metrics.get("freshness")
    return found if isinstance(found, Mapping) and "p99_s" in found else None


def recall(seen: Seen) -> Measured | None:
    """Of the vector index, where there is one."""
    return None if seen.index_recall is None else Measured(value=seen.index_recall, n=1)


def hours_since(pipeline: str) -> Measure:
    """Hours since the newest run ended."""

    def measure(seen: Seen) -> Measured | None:
        ended = [run.finished_at for run in seen.of(pipeline) if run.finished_at is not None]
        if not ended:
            return None
        return Measured(value=round((seen.at - max(ended)).total_seconds() / 3600, 3), n=len(ended))

    return measure


def figure(run: Run, name: str) -> float:
    """A number of a run's metrics; 0 where there is none."""
    found = value_at(run.metrics, (name,))
    return 0.0 if found is None else found


def value_at(metrics: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """The finite number at a place of nested metrics, if one is there."""
    found: Any = metrics
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number and math.isfinite(found) else None


def took(run: Run) -> float:
    """Seconds that a run took, as it says itself, or from beginning to end; 0: it goes on."""
    if said := figure(run, "seconds"):
        return said
    return (run.finished_at - run.started_at).total_seconds() if run.finished_at else 0.0
