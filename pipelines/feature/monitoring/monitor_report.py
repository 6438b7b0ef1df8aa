"""What monitoring found, as values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fti.pipelines.feature.monitoring.drift import Shift
from fti.store.contracts.requirements import Judged
from fti.store.features.feature_store import FeatureStats
from fti.store.types import Interval, Value


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

    @property
    def thumbs_down_share(self) -> float | None:
        """The share of verdicts that are bad; None where nobody gave one."""
        given = self.feedback_up + self.feedback_down
        return self.feedback_down / given if given else None


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

    See ``languages.language`` for what a language is called.
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


class AnswerQuality(Value):
    """How far a sample of recent answers follows from the passages that they cite.

    ``groundedness`` is the mean over ``sampled`` answers, by the model ``by``; ``lowest`` are the
    ids of those with the lowest scores, ``reused`` were judged by an earlier monitoring.
    """

    answers: int
    sampled: int
    groundedness: Interval
    by: str
    lowest: tuple[str, ...] = ()
    reused: int = 0
    run: str = ""


class Alert(Value):
    """Something beyond its threshold: what, its value, the threshold, and what to do.

    ``below``: the threshold is the least that the value should be, not the most.
    """

    what: str
    value: float
    threshold: float
    message: str
    below: bool = False

    @property
    def due(self) -> bool:
        """Whether the value is beyond the threshold."""
        return self.value < self.threshold if self.below else self.value > self.threshold


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
    quality: AnswerQuality | None = None
    promises: tuple[Judged, ...] = ()
    alerts: tuple[Alert, ...] = ()
    run: str = ""

    def figures(self) -> dict[str, float]:
        """The report as numbers by name, which are kept, plotted, exported and alerted on."""
        answers, documents, drift = self.answers, self.documents, self.answer_drift
        found: dict[str, float | None] = {
            "answers": answers.count,
            "refusal_rate": answers.abstention_rate,
            "similarity": answers.mean_similarity,
            "similarity_psi": drift.similarity_psi,
            "thumbs_up": answers.feedback_up,
            "thumbs_down": answers.feedback_down,
            "thumbs_down_share": answers.thumbs_down_share,
            "documents": documents.served,
            "documents_failed": documents.failed,
            "documents_stale": documents.stale,
            "documents_missing": documents.missing,
            "chunks": self.features.chunks,
            "groundedness": None if self.quality is None else self.quality.groundedness.mean,
            "promises_broken": sum(one.verdict == "broken" for one in self.promises),
        }
        for name, latency in answers.seconds.items():
            step = name.removesuffix("_s")
            found |= {f"{step}_p50_s": latency.p50, f"{step}_p95_s": latency.p95}
        for name, side in (("questions", self.questions), ("new_documents", self.new_documents)):
            if side is not None:
                found |= {
                    f"{name}_distance": side.embedding.distance if side.embedding else None,
                    f"{name}_length_psi": side.length_psi,
                    f"{name}_language_psi": side.language.psi if side.language else None,
                }
        return {name: float(value) for name, value in found.items() if value is not None}
