"""What an evaluation's rows say beyond means: where it goes wrong, how well it knows, what to read.

Pure functions of rows, as ``scoring`` makes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from fti.pipelines.inference.evaluating.metrics import CUTOFF
from fti.pipelines.inference.evaluating.scoring import RIGHT
from fti.store.types import Value

#: Faults in the order reports show them, each with what it means.
FAULTS: Mapping[str, str] = {
    "retrieval_miss": "no relevant passage was found",
    "evidence_cut": "a relevant passage was found, and the sentences shown of it do not answer",
    "reader_miss": "what answers was shown, and the answer is wrong",
    "wrong_refusal": "refused although the passages hold the answer",
    "wrong_answer": "answered although the documents hold no answer",
    "bad_citation": "right, but no citation points at a relevant passage",
}
Outcome = Literal["right answer", "right refusal", "wrong answer", "wrong refusal"]
OUTCOMES: tuple[Outcome, ...] = ("right answer", "right refusal", "wrong answer", "wrong refusal")
_BINS = 5


class Reliability(Value):
    """Cases whose best shown passage is about as similar, and how they came out.

    A system that knows what it does not know refuses where similarity is low, and is right where it
    answers.
    """

    low: float
    high: float
    outcomes: Mapping[Outcome, int]


def outcome(row: Mapping[str, Any]) -> Outcome:
    """How a case came out; an answer is right from an F1 of 0.5."""
    if row["abstained"]:
        return "wrong refusal" if row["answerable"] else "right refusal"
    return "right answer" if row["answerable"] and row["f1"] >= RIGHT else "wrong answer"


def outcomes(rows: Sequence[Mapping[str, Any]]) -> dict[Outcome, int]:
    """How many cases came out how."""
    counts = Counter(outcome(row) for row in rows if "f1" in row)
    return {name: counts[name] for name in OUTCOMES}


def reliability(rows: Sequence[Mapping[str, Any]]) -> list[Reliability]:
    """Cases in up to five groups of equal size, by the similarity of their best shown passage.

    Groups of equal size rather than equal width: similarities crowd together, and a group of three
    cases says nothing.
    """
    measured = sorted(
        (row for row in rows if "f1" in row and row.get("similarity") is not None),
        key=lambda row: row["similarity"],
    )
    count = min(_BINS, len(measured))
    edges = [round(len(measured) * n / count) for n in range(count + 1)] if count else []
    return [
        Reliability(
            low=measured[start]["similarity"],
            high=measured[end - 1]["similarity"],
            outcomes=outcomes(measured[start:end]),
        )
        for start, end in pairwise(edges)
    ]


def hit_curve(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Share of cases with a relevant result among the first 1, 2, ... 10; empty without any."""
    ranks = [row["rank"] for row in rows if "rank" in row]
    if not ranks:
        return []
    return [
        sum(rank is not None and rank <= k for rank in ranks) / len(ranks)
        for k in range(1, CUTOFF + 1)
    ]


def worst(rows: Sequence[Mapping[str, Any]], limit: int = 20) -> list[Mapping[str, Any]]:
    """Cases that went wrong, the lowest F1 first, taking turns between the kinds of fault.

    Turns, because one frequent fault would hide the others.
    """
    by_fault: dict[str, list[Mapping[str, Any]]] = {fault: [] for fault in FAULTS}
    for row in sorted(rows, key=lambda row: (row.get("f1", 0.0), row["id"])):
        if row.get("fault"):
            by_fault[row["fault"]].append(row)
    found: list[Mapping[str, Any]] = []
    while len(found) < limit and any(by_fault.values()):
        found += [kind.pop(0) for kind in by_fault.values() if kind]
    return found[:limit]


def missed(rows: Sequence[Mapping[str, Any]], limit: int = 20) -> list[Mapping[str, Any]]:
    """Cases whose relevant passage was found late or not at all, the worst first."""
    late = [row for row in rows if "rank" in row and row["rank"] != 1]
    late.sort(key=lambda row: (-(row["rank"] or CUTOFF * 10), row["id"]))
    return late[:limit]
