"""Rows in the form the default profile serves: the sentences nearest to the question, cited.

The selection is serving's own (``engines.evidence``), so the reader learns from evidence
as good and as bad as it will be shown.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fti.pipelines.engines.evidence import cut, nearest_sentences
from fti.pipelines.engines.sentences import sentence_spans
from fti.pipelines.training.builtin.rows import FORM, Row, Text, Turn, altered, shown
from fti.store.types import Passage

if TYPE_CHECKING:
    from fti.pipelines.engines.embedders.embedding import Embedder


@dataclass(frozen=True, slots=True)
class Selection:
    """How much evidence a row shows, and how often it does not hold the answer."""

    counts: tuple[int, ...] = (40, 30, 30)
    """Weights of showing one sentence, two, three."""
    missed: float = 0.25
    """Share of the questions whose answer was not selected that stay so, to be abstained from."""
    foreign: float = 0.10
    """Share of the questions that are exchanged for one that the evidence does not answer."""
    altered: float = 0.5
    """Share of those that are the question itself with a name or year exchanged."""
    unanswerable: bool = True
    """Whether questions come up that were written to look answerable and are not."""


def evidence_row(
    text: Text,
    neighbours: Sequence[Text],
    rng: random.Random,
    embedder: Embedder,
    selection: Selection = Selection(),
) -> Row:
    """A question about a text, with the nearest sentences of it and of up to three neighbours.

    Further questions whose answers happen to be shown follow as turns of their own: they cost
    little, since the sentences are read once.
    """
    choices = text.asked if selection.unanswerable else [a for a in text.asked if a.answer]
    asked = rng.choice(choices or text.asked)
    count = rng.choices(range(1, len(selection.counts) + 1), selection.counts)[0]
    others = [
        t for t in rng.sample(list(neighbours), min(len(neighbours), 4)) if t.text != text.text
    ]
    around, spare = others[: rng.choices((0, 1, 2, 3), (45, 15, 15, 25))[0]], others[-1:]
    texts = [text, *around]
    rng.shuffle(texts)
    passages = shown(texts, rng)
    own = next(p.chunk_id for p, t in zip(passages, texts, strict=True) if t is text)
    evidence = nearest_sentences(asked.question, passages, embedder, count=count)
    place = holding(evidence, own, asked.answer)
    if asked.answer and not place and rng.random() >= selection.missed:
        evidence = with_answer(evidence, passages, own, asked.answer)
        place = holding(evidence, own, asked.answer)
    turns = [Turn(asked.question, FORM.response(asked.answer if place else "", place))]
    if place and spare and rng.random() < selection.foreign:
        foreign = [q.question for t in spare for q in t.asked]
        changed = (
            altered(asked.question, spare[0].text, rng) if rng.random() < selection.altered else ""
        )
        if changed or foreign:
            turns = [Turn(changed or rng.choice(foreign), FORM.response(""))]
    more = [a for a in text.asked if a is not asked and a.answer]
    for other in rng.sample(more, len(more)):
        place = holding(evidence, own, other.answer)
        if place and len(turns) < 3 and belongs(other.question, other.answer, evidence, embedder):
            turns.append(Turn(other.question, FORM.response(other.answer, place)))
    return Row(evidence, tuple(turns))


def holding(evidence: Sequence[Passage], own: str, answer: str) -> list[int]:
    """The number of the passage cut from the question's own text, if the answer stands in it."""
    return [
        number
        for number, passage in enumerate(evidence, start=1)
        if passage.chunk_id == own and answer and answer in passage.text
    ]


def with_answer(
    evidence: Sequence[Passage], passages: Sequence[Passage], own: str, answer: str
) -> tuple[Passage, ...]:
    """The evidence with the sentence that holds the answer in place of one other piece."""
    whole = next(p for p in passages if p.chunk_id == own)
    at = whole.text.find(answer)
    spans = [(a, b) for a, b in sentence_spans(whole.text) if a <= at and at + len(answer) <= b]
    if not spans:
        return tuple(evidence)
    sentence = cut(whole, *spans[0])
    kept = [p for p in evidence if p.chunk_id != own]
    if len(kept) == len(evidence):
        kept = kept[:-1]
    return (sentence, *kept)


def belongs(question: str, answer: str, evidence: Sequence[Passage], embedder: Embedder) -> bool:
    """Whether the sentence nearest to the question, of those shown, holds its answer.

    An answer such as a year can stand in a sentence that has nothing to do with its question.
    """
    nearest = nearest_sentences(question, evidence, embedder, count=1)
    return any(answer in p.text for p in nearest)
