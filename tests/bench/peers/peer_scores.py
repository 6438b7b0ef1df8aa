"""What the peers found, scored; what their stores hold, held against the files. Pure functions.

A chunk is right when it is of the gold article and holds an answer after SQuAD's normalisation, as
``tests.bench.retrieval`` has it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from fti.pipelines.inference.evaluating.metrics import contains_answer

Hit = Sequence[str]  # name of the file, text of the chunk


@dataclass(frozen=True)
class Question:
    """A question of SQuAD: its accepted answers, and the name of the article that has them."""

    text: str
    answers: tuple[str, ...]
    article: str


def first_right(question: Question, hits: Sequence[Hit]) -> int:
    """The rank of the first right chunk, from 1; 0 where none is."""
    for rank, (name, text) in enumerate(hits, start=1):
        if name == question.article and contains_answer(text, question.answers):
            return rank
    return 0


def quality(ranks: Sequence[int]) -> dict[str, float]:
    """Recall at 1 and 5 and the mean reciprocal rank of the first ten, of first right ranks."""
    found = np.asarray(ranks)
    return {
        "recall@1": float((found == 1).mean()),
        "recall@5": float(((found > 0) & (found <= 5)).mean()),
        "mrr@10": float(reciprocal(ranks).mean()),
    }


def reciprocal(ranks: Sequence[int]) -> np.ndarray:
    """1 / rank of the first right chunk of ten, 0 where none is right."""
    found = np.asarray(ranks, dtype=float)
    return np.where((found > 0) & (found <= 10), 1 / np.maximum(found, 1), 0.0)


def worth(ranks: Sequence[int]) -> float:
    """What settings are chosen by, as in ``tests.bench.retrieval``: MRR@10 and recall@5 added."""
    scores = quality(ranks)
    return scores["mrr@10"] + scores["recall@5"]


def latency(times: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile of milliseconds."""
    return {f"p{q}": float(np.percentile(times, q)) for q in (50, 95)}


@dataclass(frozen=True)
class Upkeep:
    """How a store differs from the files.

    Attributes:
        chunks: in the store.
        stale: say what their file says no longer, or are of a file that is gone.
        doubled: stand there once more than their file has them.
        lacking: paragraphs of the files that no chunk has the beginning of.
    """

    chunks: int
    stale: int
    doubled: int
    lacking: int

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


def held_against(files: Mapping[str, str], stored: Sequence[Hit]) -> Upkeep:
    """What a store holds against what the files say now.

    Only letters and digits are compared: readers clean white space and punctuation in ways of their
    own.
    """
    wanted = {name: _letters(text) for name, text in files.items()}
    counts = Counter((name, _letters(text)) for name, text in stored)
    stale = doubled = 0
    held: dict[str, list[str]] = {}
    for (name, text), times in counts.items():
        if not text:
            continue
        there = wanted.get(name, "").count(text)
        if there == 0:
            stale += times
        else:
            doubled += max(0, times - there)
            held.setdefault(name, []).append(text)
    lacking = 0
    for name, whole in files.items():
        parts = "\n".join(held.get(name, []))
        for paragraph in whole.split("\n\n"):
            begins = _letters(paragraph)[:40]
            lacking += begins not in parts
    return Upkeep(chunks=len(stored), stale=stale, doubled=doubled, lacking=lacking)


def _letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def edited(text: str) -> str:
    """An article after an edit: its middle paragraph says something else, its last one is gone."""
    paragraphs = text.rstrip().split("\n\n")
    if len(paragraphs) < 4:
        raise ValueError(f"An article of {len(paragraphs)} paragraphs is too short to be edited.")
    kept = paragraphs[:-1]
    kept[len(kept) // 2] = (
        "The archive of the harbour board was moved to the old customs house in the spring, where "
        "its 412 volumes can be read on Thursdays after an appointment with the keeper."
    )
    return "\n\n".join(kept) + "\n"
