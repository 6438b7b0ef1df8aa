"""Evidence selection: of retrieved passages, the few sentences that lie nearest to the question.

A small reader is distracted by whatever else a passage says, and pays for every token of it. The
same selection stands in front of training and of serving, because the contract names it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.engines.embedding import Embedder
from pipelines.engines.sentences import sentence_spans
from store.types import Passage


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
    import numpy as np

    spans = [
        (number, start, end)
        for number, passage in enumerate(passages)
        for start, end in sentence_spans(passage.text)
    ]
    if not spans:
        return tuple(passages)
    vectors = embedder.embed_documents([passages[n].text[a:b] for n, a, b in spans])
    nearest = np.argsort(-(vectors @ embedder.embed_query(question)), kind="stable")[:count]
    reach: dict[int, tuple[int, int]] = {}
    for index in nearest.tolist():
        number, start, end = spans[index]
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
