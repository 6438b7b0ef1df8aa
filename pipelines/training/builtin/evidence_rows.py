"""Rows in the form the default profile serves: the sentences nearest to the question, cited.

The selection is serving's own (``engines.evidence``), so the reader learns from evidence
as good and as bad as it will be shown. The other passages are those of the same source that lie
nearest to the question, as retrieval would bring them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fti.pipelines.engines.evidence import cut, nearest_sentences
from fti.pipelines.engines.sentences import sentence_spans
from fti.pipelines.training.builtin.reading_rows import (
    FORM,
    Mix,
    Row,
    Text,
    Turn,
    shown,
    turn_about,
)
from fti.store.types import Passage

if TYPE_CHECKING:
    from fti.pipelines.engines.embedders.embedding import Embedder


@dataclass(frozen=True, slots=True)
class Selection:
    """How much evidence a row shows."""

    counts: tuple[tuple[int, int], ...] = ((3, 25), (4, 45), (5, 15), (6, 15))
    """Numbers of sentences to show, each with its weight."""
    around: tuple[tuple[int, int], ...] = ((0, 15), (1, 20), (2, 25), (3, 40))
    """Numbers of other passages that sentences may come from, each with its weight."""


def nearest_texts(
    question: str, texts: Sequence[Text], embedder: Embedder, *, count: int
) -> list[Text]:
    """The ``count`` texts that lie nearest to a question, nearest first."""
    if not texts or not count:
        return []
    vectors = embedder.embed_documents([t.text for t in texts])
    order = (-(vectors @ embedder.embed_query(question))).argsort(kind="stable")[:count]
    return [texts[i] for i in order.tolist()]


def evidence_row(
    text: Text,
    candidates: Sequence[Text],
    spare: Sequence[Text],
    rng: random.Random,
    embedder: Embedder,
    mix: Mix,
    selection: Selection = Selection(),
) -> Row:
    """A question about a text, with the nearest sentences of it and of up to three others.

    Where the nearest sentences do not hold the answer, the one that does takes another's place.
    Further questions whose answers happen to be shown are asked too: they cost little, since the
    sentences are read once.

    Args:
        text: what is asked about.
        candidates: texts of which those nearest to the question stand beside it.
        spare: texts not shown, for questions that what is shown does not answer.
        rng: decides.
        embedder: compares sentences with the question.
        mix: how much is asked.
        selection: how much is shown.
    """
    asked = rng.choice(text.asked)
    around = nearest_texts(
        asked.question,
        [t for t in candidates if t.text != text.text],
        embedder,
        count=_weighted(rng, selection.around),
    )
    texts = [text, *around]
    rng.shuffle(texts)
    passages = shown(texts, rng)
    own = next(p.chunk_id for p, t in zip(passages, texts, strict=True) if t is text)
    evidence = nearest_sentences(
        asked.question, passages, embedder, count=_weighted(rng, selection.counts)
    )
    withheld = rng.random() < mix.withheld
    if withheld and (lacking := without(evidence, asked.answer)):
        return Row(lacking, (Turn(asked.question, FORM.response("")),))
    if asked.answer and not holding(evidence, own, asked.answer):
        evidence = with_answer(evidence, passages, own, asked.answer, rng)
        if not holding(evidence, own, asked.answer):  # it runs over a sentence's end
            return Row(evidence, ())
    number = holding(evidence, own, asked.answer)
    piece = evidence[number - 1].text if number else ""
    turns = [turn_about(asked, piece, number, spare, rng, mix)]
    for other in rng.sample(text.asked, len(text.asked)):
        number = holding(evidence, own, other.answer)
        if other is asked or not number or len(turns) >= mix.most_turns:
            continue
        if belongs(other.question, other.answer, evidence, embedder):
            turns.append(turn_about(other, evidence[number - 1].text, number, spare, rng, mix))
    return Row(evidence, tuple(turns))


def _weighted(rng: random.Random, choices: Sequence[tuple[int, int]]) -> int:
    return rng.choices([value for value, _ in choices], [weight for _, weight in choices])[0]


def holding(evidence: Sequence[Passage], own: str, answer: str) -> int:
    """The number of the passage cut from the question's own text, if the answer stands in it; 0."""
    return next(
        (
            number
            for number, passage in enumerate(evidence, start=1)
            if passage.chunk_id == own and answer and answer in passage.text
        ),
        0,
    )


def with_answer(
    evidence: Sequence[Passage],
    passages: Sequence[Passage],
    own: str,
    answer: str,
    rng: random.Random,
) -> tuple[Passage, ...]:
    """The evidence with the sentence that holds the answer in place of one other piece."""
    whole = next(p for p in passages if p.chunk_id == own)
    at = whole.text.find(answer)
    spans = [(a, b) for a, b in sentence_spans(whole.text) if a <= at and at + len(answer) <= b]
    if not spans:
        return tuple(evidence)
    kept = [p for p in evidence if p.chunk_id != own]
    if len(kept) == len(evidence) > 1:
        kept = kept[:-1]
    kept.insert(rng.randint(0, len(kept)), cut(whole, *spans[0]))
    return tuple(kept)


def without(evidence: Sequence[Passage], answer: str) -> tuple[Passage, ...]:
    """The evidence without the pieces in which an answer stands, numbered anew; as retrieval
    leaves it that missed the passage. Empty where the answer is empty or nothing would be left.
    """
    if not answer:
        return ()
    kept = [p for p in evidence if answer.lower() not in p.text.lower()]
    return tuple(p.model_copy(update={"rank": n}) for n, p in enumerate(kept, start=1))


def belongs(question: str, answer: str, evidence: Sequence[Passage], embedder: Embedder) -> bool:
    """Whether the two sentences nearest to the question, of those shown, hold its answer.

    An answer such as a year can stand in a sentence that has nothing to do with its question.
    """
    nearest = nearest_sentences(question, evidence, embedder, count=2)
    return any(answer in p.text for p in nearest)
