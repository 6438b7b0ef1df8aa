"""An evaluation in figures: the report, and how it comes from the scores of its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from fti.pipelines.inference.evaluating import metrics
from fti.pipelines.inference.evaluating.grounding import GROUNDEDNESS, Grounding
from fti.pipelines.inference.evaluating.judging import JUDGE, Judgement
from fti.pipelines.inference.evaluating.selection import Excluded
from fti.store.proof.gate import bootstrap_interval
from fti.store.types import Interval, SearchMode, Value

RETRIEVAL = metrics.RANKING
ANSWERS = (
    "exact_match",
    "f1",
    "rouge_l",
    "citation_precision",
    "citation_recall",
    "faithfulness",
)
#: Scores that only some evaluations have: from models that the profile names.
GRADED = (GROUNDEDNESS, JUDGE)


class Abstention(Interval):
    """How well the system knows what it cannot answer.

    The interval itself is of accuracy: the share of cases that were answered when answerable and
    refused when not. ``precision``: how many refusals were right; ``recall``: how many
    unanswerable cases were refused.
    """

    precision: Interval
    recall: Interval
    accuracy: Interval
    wrongly_refused: int
    wrongly_answered: int
    reasons: Mapping[str, int] = Field(default_factory=dict)


class EvaluationReport(Value):
    """An evaluation in figures.

    ``cases`` counts those that were scored; ``case_set`` is the digest of those asked for, and
    ``frozen`` the name of the frozen set that holds just these, empty when none does. A metric's
    interval has ``n`` 0 when no case bears on it (no citation was made, for example); it then says
    nothing. Latencies are seconds; ``tokens`` are mean counts per answer, over answers that the
    model was asked for. ``reused`` says how many scores an earlier evaluation, perhaps a killed
    one, had made under the very same circumstances; latencies are then of that one. ``warnings``
    are those of ``Assistant``: what was otherwise than the model's contract says.

    - retrieval: see ``inference.evaluating.metrics``; over cases with a gold document. Where a case
      has no answers, every passage of its document is relevant.
    - exact_match, f1, rouge_l: SQuAD's and ROUGE-L, markers removed; a refusal is right where
      nothing is accepted.
    - citation_precision: share of an answer's citations that point at a relevant passage, averaged
      over answers with citations.
    - citation_recall: share of answers that cite a relevant passage, over answers that were shown
      one. One is enough, as one is all that an answer needs.
    - faithfulness: share of an answer's content words that stand in the passages it cites (see
      ``metrics.support``), averaged over answers; an answer without citation has 0.
    - groundedness: share of an answer's claims that follow from the passages it cites, by the NLI
      model in ``grounding``; where the profile names one.
    - judge: score by the rubric of the language model in ``judge``, from 0 to 1; where one was
      asked.
    """

    cases: int
    case_set: str
    frozen: str = ""
    system: str = ""
    model: str = ""
    contract_digest: str = ""
    features_version: int = 0
    use_retrieval: bool = True
    mode: SearchMode | None = None
    oracle: bool = False
    reused: int = 0
    retrieval: Mapping[str, float] = Field(default_factory=dict)
    retrieval_intervals: Mapping[str, Interval] = Field(default_factory=dict)
    answers: Mapping[str, Abstention | Interval] | None = None
    latency: Mapping[str, float] = Field(default_factory=dict)
    tokens: Mapping[str, float] = Field(default_factory=dict)
    not_in_store: Excluded = Excluded()
    ambiguous: Excluded = Excluded()
    trained_on: Excluded = Excluded()
    faults: Mapping[str, int] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    grounding: Grounding | None = None
    judge: Judgement | None = None
    run: str = ""
    seconds: float = 0.0


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a report that come from its rows, as ``EvaluationReport`` names them."""
    ranked = [row for row in rows if "mrr" in row]
    intervals = {name: _interval([row[name] for row in ranked]) for name in RETRIEVAL}
    answered = [row for row in rows if "f1" in row]
    return {
        "retrieval": {name: i.mean for name, i in intervals.items()} if ranked else {},
        "retrieval_intervals": intervals if ranked else {},
        "answers": _answer_metrics(answered) if answered else None,
        "latency": _latency(rows),
        "tokens": _tokens(rows),
        "faults": dict(sorted(Counter(row["fault"] for row in answered if row["fault"]).items())),
    }


def _answer_metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, Interval]:
    refused = [row for row in rows if row["abstained"]]
    unanswerable = [row for row in rows if not row["answerable"]]
    accuracy = _interval([row["abstention"] for row in rows])
    abstention = Abstention(
        **accuracy.model_dump(),
        accuracy=accuracy,
        precision=_interval([float(not row["answerable"]) for row in refused]),
        recall=_interval([float(row["abstained"]) for row in unanswerable]),
        wrongly_refused=sum(bool(row["answerable"]) for row in refused),
        wrongly_answered=sum(not row["abstained"] for row in unanswerable),
        reasons=dict(sorted(Counter(str(row["abstention_reason"]) for row in refused).items())),
    )
    measured = [name for name in GRADED if any(name in row for row in rows)]
    by_name = {
        name: _interval([row[name] for row in rows if row.get(name) is not None])
        for name in (*ANSWERS, *measured)
    }
    return {**by_name, "abstention": abstention}


def _interval(values: Sequence[float]) -> Interval:
    """With its bootstrap bounds; over no values, all that is known is 0 to 1."""
    return bootstrap_interval(values) if values else Interval(mean=0.0, low=0.0, high=1.0, n=0)


def _tokens(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    asked = [row for row in rows if row.get("prompt_tokens")]
    if not asked:
        return {}
    return {
        "prompt": sum(row["prompt_tokens"] for row in asked) / len(asked),
        "completion": sum(row["completion_tokens"] for row in asked) / len(asked),
    }


def _latency(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    def percentile(field: str, share: int) -> float | None:
        values = [row[field] for row in rows if field in row]
        return float(np.percentile(values, share)) if values else None

    figures = {
        "p50": percentile("total_s", 50),
        "p95": percentile("total_s", 95),
        "first_token": percentile("first_token_s", 50),
        "retrieve": percentile("retrieve_s", 50),
    }
    return {name: value for name, value in figures.items() if value is not None}
