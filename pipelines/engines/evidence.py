"""Evidence selection: of retrieved passages, the few sentences that lie nearest to the question.

A small reader is distracted by whatever else a passage says, and pays for every token of it. The
same selection stands in front of training and of serving, because the contract names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fti.pipelines.engines.context import context_at
from fti.pipelines.engines.embedders.embedding import Embedder, Vectors
from fti.pipelines.engines.sentences import sentence_spans
from fti.store.types import CONTEXT, EmbedderIdentity, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    asked: Sequence[tuple[str, Sequence[Passage]]],
    embedder: Embedder,
    *,
    count: int,
    known: Sequence[NDArray[np.float32] | None] | None = None,
) -> list[tuple[Passage, ...]]:
    """``nearest_sentences`` for many questions, each with its passages.

    Everything is embedded together, and a sentence that several questions found only once.

    Args:
        asked: questions with their passages.
        embedder: compares sentences with the questions.
        count: how many sentences to keep of each question's passages.
        known: the questions' vectors, where they were embedded already.
    """
    spans = [_sentences(passages) for _, passages in asked]
    wanted = dict.fromkeys(text for found in spans for *_, text in found)
    if not wanted:
        return [tuple(passages) for _, passages in asked]
    row = {text: number for number, text in enumerate(wanted)}
    vectors = embedder.embed_documents(list(wanted))
    given = known or [None] * len(asked)
    new = [question for (question, _), vector in zip(asked, given, strict=True) if vector is None]
    embedded = iter(embedder.embed_queries(new) if new else ())
    questions = [next(embedded) if vector is None else vector for vector in given]
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
    return tuple(cut(passages[number], *span) for number, span in reach.items())


def cut(passage: Passage, start: int, end: int) -> Passage:
    """The stretch of a passage between two offsets into its text; its place goes along.

    So do the names of the columns, where it is a row of a table.
    """
    metadata = {key: value for key, value in passage.metadata.items() if key != CONTEXT}
    if context := context_at(passage, start):
        metadata[CONTEXT] = context
    return passage.model_copy(
        update={
            "text": passage.text[start:end],
            "start": passage.start + start,
            "end": passage.start + end,
            "metadata": metadata,
        }
    )


class Remembering:
    """An embedder that embeds a text once: the same sentences come up with question after question.

    May be shared between threads. What it knows is bounded: once ``most`` texts are known, all are
    forgotten and it begins anew.

    Args:
        embedder: computes what is not known yet.
        most: texts to know at most; 20,000 vectors of 384 numbers take 31 MB.
    """

    def __init__(self, embedder: Embedder, *, most: int = 20_000) -> None:
        self._embedder = embedder
        self._most = most
        self._known: dict[str, NDArray[np.float32]] = {}

    @property
    def identity(self) -> EmbedderIdentity:
        """The embedder's."""
        return self._embedder.identity

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """The embedder's."""
        return self._embedder.token_spans(text)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts, shape ``(len(texts), dimension)``."""
        import numpy as np

        known = self._known  # another thread may begin a new one meanwhile
        new = [text for text in dict.fromkeys(texts) if text not in known]
        found: dict[str, NDArray[np.float32]] = {}
        if new:
            found = dict(zip(new, self._embedder.embed_documents(new), strict=True))
            if len(known) + len(found) > self._most:
                self._known = dict(list(found.items())[-self._most :])
            else:
                known.update(found)
        if not texts:
            return self._embedder.embed_documents(texts)
        return np.stack([found[text] if text in found else known[text] for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The embedder's: questions hardly ever come back."""
        return self._embedder.embed_query(text)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The embedder's."""
        return self._embedder.embed_queries(texts)
