"""Evidence selection: of retrieved passages, the few sentences that lie nearest to the question.

A small reader is distracted by whatever else a passage says, and pays for every token of it. The
same selection stands in front of training and of serving, because the contract names it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fti.pipelines.engines.context import context_at
from fti.pipelines.engines.embedders.embedding import Embedder, Vectors
from fti.pipelines.engines.sentences import sentence_spans
from fti.store.contracts.prompt_contract import EvidenceChoice
from fti.store.types import CONTEXT, EmbedderIdentity, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Sentence = tuple[int, int, int, str]  # number of its passage, where it starts and ends, its text

# Chosen on 500 questions about the reader's training articles, with the passages that hybrid search
# found: of the answers, 88 % stand in the 4 sentences chosen so, 80 % in those nearest alone.
# Neither number matters much: from 0.3 to 0.5, and from 0.15 to 0.5, it is 86 to 89 %.
_WORDS_WEIGHT = 0.4  # share of the words in how well a sentence fits, the rest is the embedding's
_RANK_WEIGHT = 0.3  # what the first passage's sentences have ahead, the second's half of it, ...
_SATURATION = 1.2  # BM25's k1
_UNSPACED = 0x2E7F  # signs beyond it (Chinese, Japanese, Korean) are hardly set apart by spaces


def nearest_sentences(
    question: str,
    passages: Sequence[Passage],
    embedder: Embedder,
    *,
    count: int,
    choice: EvidenceChoice = "similarity",
) -> tuple[Passage, ...]:
    """The passages cut to the ``count`` sentences, over all of them, that fit the question best.

    A passage with several of these sentences runs from the first to the last of them, so that its
    offsets stay those of a stretch of its document. Passages without any are left out; the one
    with the best sentence comes first. Passages that hold no sentence at all come back as they
    are.

    Args:
        question: what is asked.
        passages: best first.
        embedder: compares sentences with the question.
        count: how many sentences to keep.
        choice: by the embeddings' similarity alone, or "hybrid": by that, by the words that the
            sentence shares with the question (those rare among the passages' sentences count
            most, as in BM25: Robertson and Zaragoza 2009), and by its passage's rank.
    """
    return nearest_sentences_each([(question, passages)], embedder, count=count, choice=choice)[0]


def nearest_sentences_each(
    asked: Sequence[tuple[str, Sequence[Passage]]],
    embedder: Embedder,
    *,
    count: int,
    choice: EvidenceChoice = "similarity",
    known: Sequence[NDArray[np.float32] | None] | None = None,
) -> list[tuple[Passage, ...]]:
    """``nearest_sentences`` for many questions, each with its passages.

    Everything is embedded together, and a sentence that several questions found only once.

    Args:
        asked: questions with their passages.
        embedder: compares sentences with the questions.
        count: how many sentences to keep of each question's passages.
        choice: as in ``nearest_sentences``.
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
    out: list[tuple[Passage, ...]] = []
    for (text, passages), found, question in zip(asked, spans, questions, strict=True):
        if not found:
            out.append(tuple(passages))
            continue
        fits = vectors[[row[sentence] for *_, sentence in found]] @ question
        if choice == "hybrid":
            fits = _hybrid(text, found, fits)
        out.append(_best(passages, found, fits, count))
    return out


def _sentences(passages: Sequence[Passage]) -> list[_Sentence]:
    return [
        (number, start, end, passage.text[start:end])
        for number, passage in enumerate(passages)
        for start, end in sentence_spans(passage.text)
    ]


def _hybrid(
    question: str, sentences: Sequence[_Sentence], similarities: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How well each sentence fits, by similarity, words and rank; larger is better."""
    import numpy as np

    shared = np.asarray(_shared_words(question, [text for *_, text in sentences]), np.float32)
    ranks = np.asarray([1 / (1 + number) for number, *_ in sentences], np.float32)
    return (
        (1 - _WORDS_WEIGHT) * _spread(similarities)
        + _WORDS_WEIGHT * _spread(shared)
        + _RANK_WEIGHT * ranks
    )


def _spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values from 0, the least of them, to 1, the greatest."""
    least = values.min()
    return (values - least) / max(float(values.max() - least), 1e-9)


def _shared_words(question: str, sentences: Sequence[str]) -> list[float]:
    """Each sentence's BM25 for the question, among these sentences; a length does not count."""
    counts = [Counter(_words(sentence)) for sentence in sentences]
    holding = Counter(word for count in counts for word in count)
    asked = {
        word: math.log(1 + (len(counts) - holding[word] + 0.5) / (holding[word] + 0.5))
        for word in set(_words(question))
    }
    return [
        sum(
            rare * count[word] * (_SATURATION + 1) / (count[word] + _SATURATION)
            for word, rare in asked.items()
            if word in count
        )
        for count in counts
    ]


def _words(text: str) -> list[str]:
    """Words in one case and without a plural's s; in scripts without spaces, pairs of signs."""
    out: list[str] = []
    for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()):
        if any(ord(sign) > _UNSPACED for sign in word):
            out += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        else:
            out.append(word[:-1] if len(word) > 3 and word.endswith("s") else word)
    return out


def _best(
    passages: Sequence[Passage],
    sentences: Sequence[_Sentence],
    fits: NDArray[np.float32],
    count: int,
) -> tuple[Passage, ...]:
    nearest = (-fits).argsort(kind="stable")[:count]
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
