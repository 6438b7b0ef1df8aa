"""Scores of rankings and answers. Pure functions; every score lies in [0, 1].

A ranking is scored by *needs*. A question with a gold document has one need, met by the first
relevant passage: recall@k is then the share of questions with a relevant passage among the first
k, as in open-domain question answering (Karpukhin et al. 2020, "top-k accuracy"), and average
precision is the reciprocal rank. A query with judged documents has a need per relevant document,
weighted by its grade, and all scores are those of trec_eval over the ranking of documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fti.pipelines.inference.answering.citations import content_words
from fti.store.proof.squad import normalised, overlap

RECALL_AT = (1, 5, 10)
CUTOFF = 10

#: Names of the scores of a ranking, in the order reports show them.
RANKING = (
    *(f"recall@{k}" for k in RECALL_AT),
    "mrr",
    f"ndcg@{CUTOFF}",
    f"map@{CUTOFF}",
    f"hit_rate@{CUTOFF}",
)


def exact_match(text: str, answers: Sequence[str]) -> float:
    """1 when the normalised text equals an accepted answer. Empty text means "no answer".

    With no accepted answers the question is not answerable, and only an empty text is right.
    """
    said = normalised(text)
    return float(any(said == normalised(a) for a in answers or ("",)))


def f1(text: str, answers: Sequence[str]) -> float:
    """Best word overlap (harmonic mean of precision and recall) with an accepted answer."""
    return max(overlap(text, answer) for answer in answers or ("",))


def rouge_l(text: str, answers: Sequence[str]) -> float:
    """Best ROUGE-L with an accepted answer: F1 over the longest common subsequence of words.

    Words in order count, gaps are allowed (Lin, "ROUGE: A Package for Automatic Evaluation of
    Summaries", 2004). Words are those of SQuAD's normalisation and not stemmed, so that the score
    is at most ``f1`` and tells how much of it is in order.
    """
    return max(_common_subsequence(text, answer) for answer in answers or ("",))


def _common_subsequence(text: str, answer: str) -> float:
    said, wanted = normalised(text).split(), normalised(answer).split()
    if not said or not wanted:
        return float(said == wanted)
    above = [0] * (len(wanted) + 1)
    for word in said:
        row = [0]
        for at, other in enumerate(wanted):
            row.append(above[at] + 1 if word == other else max(above[at + 1], row[at]))
        above = row
    return 2 * above[-1] / (len(said) + len(wanted))


def contains_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether the normalised text contains one of the normalised answers.

    Compared as strings: normalisation joins words at dashes and slashes ("1973–74"), so word
    boundaries are not to be had. An answer that is articles or punctuation only is looked for
    as it is written.
    """
    folded = normalised(text)
    for answer in answers:
        wanted = normalised(answer)
        if wanted in folded if wanted else answer in text:
            return True
    return False


def ranking_scores(gains: Sequence[float], ideal: Sequence[float]) -> dict[str, float]:
    """The scores named by ``RANKING`` of one ranking.

    Average precision is over the first ten ranks and all needs; the hit rate is 1 when the first
    ten meet any need.

    Args:
        gains: of the ranked items, best first: the grade of the need an item is the first to
            meet, 0 for an item that meets none.
        ideal: grades of all needs.
    """
    gain = np.asarray(gains, dtype=np.float64)
    best = np.sort(np.asarray(ideal, dtype=np.float64))[::-1]
    hits = gain > 0
    scores = {f"recall@{k}": float(hits[:k].sum() / len(best)) for k in RECALL_AT}
    first = np.flatnonzero(hits[:CUTOFF])
    scores["mrr"] = float(1.0 / (first[0] + 1)) if first.size else 0.0
    scores[f"ndcg@{CUTOFF}"] = _dcg(gain) / _dcg(best)
    precisions = np.arange(1, first.size + 1) / (first + 1)
    scores[f"map@{CUTOFF}"] = float(precisions.sum() / len(best))
    scores[f"hit_rate@{CUTOFF}"] = float(first.size > 0)
    return scores


def _dcg(gains: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    top = gains[:CUTOFF]
    return float((top / np.log2(np.arange(2, len(top) + 2))).sum())


def first_relevant(relevant: Iterable[bool]) -> list[float]:
    """Gains of a ranking with one need: 1 for the first relevant item."""
    gains: list[float] = []
    for hit in relevant:
        gains.append(1.0 if hit and 1.0 not in gains else 0.0)
    return gains


def document_gains(documents: Iterable[str], grades: Mapping[str, int]) -> list[float]:
    """Gains of a ranking of documents, made of passages: a document ranks by its best passage."""
    return [float(max(grades.get(d, 0), 0)) for d in dict.fromkeys(documents)]


def support(text: str, passages: Sequence[str], *, question: str = "") -> float:
    """Share of the text's content words that stand in the passages.

    K-Precision (Adlakha et al. 2024, "Evaluating Correctness and Faithfulness of Instruction-
    Following Models for Question Answering"), which agreed best with people among lexical
    measures; stop words and words of the question are left out, as they support themselves. A text
    with no other words is supported when all of its words stand in the passages.
    """
    asked = set(content_words(question))
    said = [w for w in content_words(text) if w not in asked]
    known = {w for passage in passages for w in content_words(passage)}
    if not said:
        return float(all(w in known for w in content_words(text)))
    return sum(w in known for w in said) / len(said)


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Agreement of two judges beyond chance, at most 1 (Cohen, "A Coefficient of Agreement", 1960).

    None where there is nothing to tell apart: no pair, or both say the same thing of every one.
    """
    if not pairs:
        return None
    n = len(pairs)
    ours, theirs = (sum(side) / n for side in zip(*pairs, strict=True))
    chance = ours * theirs + (1 - ours) * (1 - theirs)
    if chance == 1:
        return None
    return (sum(a == b for a, b in pairs) / n - chance) / (1 - chance)
