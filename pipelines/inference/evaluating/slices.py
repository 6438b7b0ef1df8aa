"""Which kinds of questions a system is good at: cases grouped by tag, document and question type.

The kind of a question is read off its question word, as in the analyses of SQuAD and Natural
Questions: no model takes part, and anybody can check it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fti.pipelines.inference.answering.citations import folded_words, word_set
from fti.store.proof.gate import bootstrap_interval
from fti.store.types import Interval, Value

QuestionType = Literal[
    "who", "what", "which", "when", "where", "why", "how many", "how", "yes/no", "other"
]
Dimension = Literal["question type", "answerable", "tag", "document"]

_WORDS: Mapping[str, QuestionType] = {
    **dict.fromkeys(("who", "whom", "whose"), "who"),
    "what": "what",
    "whats": "what",
    "which": "which",
    "when": "when",
    "where": "where",
    "why": "why",
    "how": "how",
}
_AMOUNTS = word_set("many much long old far tall deep high often large big wide heavy fast")
_VERBS = word_set(
    "is are was were am do does did can could will would should shall may might must has have had"
)
#: Scores that slices show, as the rows name them.
METRICS = ("f1", "exact_match", "abstention", "recall@5", "mrr")
_RESAMPLES = 2_000  # many slices: their intervals are for orientation


class Slice(Value):
    """Cases that share a property, with the mean of each score that they have."""

    dimension: Dimension
    value: str
    cases: int
    scores: Mapping[str, Interval]


def question_type(question: str) -> QuestionType:
    """The kind of a question by its question word.

    The first question word counts ("In which year" is a "which" question); a question that begins
    with an auxiliary verb is "yes/no". English; other languages are "other".
    """
    said = folded_words(question)
    if said and said[0] in _VERBS:
        return "yes/no"
    for at, word in enumerate(said):
        if word == "how" and at + 1 < len(said) and said[at + 1] in _AMOUNTS:
            return "how many"
        if word in _WORDS:
            return _WORDS[word]
    return "other"


def slices(
    rows: Iterable[Mapping[str, Any]], *, largest: int = 12, smallest: int = 2
) -> list[Slice]:
    """Groups of an evaluation's rows.

    Args:
        rows: scores per case, as attached to a run.
        largest: how many values of tag and document are shown, those with most cases first.
        smallest: groups of fewer cases are left out: a mean of one says nothing about a kind.

    Returns:
        By dimension, the largest groups first. A dimension with one group only is left out: it
        would repeat the whole.
    """
    groups: dict[Dimension, dict[str, list[Mapping[str, Any]]]] = {
        "question type": {},
        "answerable": {},
        "tag": {},
        "document": {},
    }
    for row in rows:
        values: dict[Dimension, Sequence[str]] = {
            "question type": [row.get("question_type") or question_type(row["question"])],
            "answerable": ["answerable" if row["answerable"] else "not answerable"],
            "tag": row.get("tags") or [],
            "document": [row["document"]] if row["document"] else [],
        }
        for dimension, named in values.items():
            for value in named:
                groups[dimension].setdefault(value, []).append(row)
    found = []
    for dimension, by_value in groups.items():
        if len(by_value) < 2 and dimension != "tag":
            continue
        ordered = sorted(by_value.items(), key=lambda item: (-len(item[1]), item[0]))
        for value, members in ordered[:largest]:
            if len(members) >= smallest:
                found.append(_slice(dimension, value, members))
    return found


def _slice(dimension: Dimension, value: str, rows: Sequence[Mapping[str, Any]]) -> Slice:
    scores = {}
    for metric in METRICS:
        values = [row[metric] for row in rows if row.get(metric) is not None]
        if values:
            scores[metric] = bootstrap_interval(values, resamples=_RESAMPLES)
    return Slice(dimension=dimension, value=value, cases=len(rows), scores=scores)
