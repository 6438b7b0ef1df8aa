"""Evidence selection: of retrieved passages, the few sentences that lie nearest to the question.

A small reader is distracted by whatever else a passage says, and pays for every token of it. The
same selection stands in front of training and of serving, because the contract names it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.engines.embedding import Embedder, Vectors
from pipelines.engines.sentences import sentence_spans
from store.types import Passage

_Sentence = tuple[int, int, int, str]  # number of its passage, where it starts and ends, its text


def nearest_sentences(
    question: str, passages: Sequence[Passage], embedder: Embedder, *, count: int
) -> tuple[Passage, ...]:
    """The passages cut to their ``count`` sentences, over all of them, nearest to the question.

    A passage with several of these sentences runs from the first to the last of them, so that its
    offsets stay those of a stretch of its document. Passages without any are left out; the one
    with the nearest sentence comes first. Passages that hold no sentence at all come back as they
    are.

    Args:
        question: what is asked.
        passages: best first.
        embedder: compares sentences with the question.
        count: how many sentences to keep.
    """
    return nearest_sentences_each([(question, passages)], embedder, count=count)[0]


def nearest_sentences_each(
    asked: Sequence[tuple[str, Sequence[Passage]]], embedder: Embedder, *, count: int
) -> list[tuple[Passage, ...]]:
    """``nearest_sentences`` for many questions, each with its passages.

    Everything is embedded together, and a sentence that several questions found only once.
    """
    spans = [_sentences(passages) for _, passages in asked]
    wanted = dict.fromkeys(text for found in spans for *_, text in found)
    if not wanted:
        return [tuple(passages) for _, passages in asked]
    row = {text: number for number, text in enumerate(wanted)}
    vectors = embedder.embed_documents(list(wanted))
    questions = embedder.embed_queries([question for question, _ in asked])
    return [
        _nearest(passages, found, vectors[[row[text] for *_, text in found]] @ question, count)
        if found
        else tuple(passages)
        for (_, passages), found, question in zip(asked, spans, questions, strict=True)
    ]


def _sentences(passages: Sequence[Passage]) -> list[_Sentence]:
    return [
        (number, start, end, passage.text[start:end])
        for number, passage in enumerate(passages)
        for start, end in sentence_spans(passage.text)
    ]


def _nearest(
    passages: Sequence[Passage], sentences: Sequence[_Sentence], similarities: Vectors, count: int
) -> tuple[Passage, ...]:
    nearest = (-similarities).argsort(kind="stable")[:count]
    reach: dict[int, tuple[int, int]] = {}
    for index in nearest.tolist():
        number, start, end, _ = sentences[index]
        before = reach.get(number, (start, end))
        reach[number] = (min(start, before[0]), max(end, before[1]))
    return tuple(_cut(passages[number], *span) for number, span in reach.items())


def _cut(passage: Passage, start: int, end: int) -> Passage:
    return passage.model_copy(
        update={
            "text": passage.text[start:end],
            "start": passage.start + start,
            "end": passage.start + end,
        }
    )
