"""A question in, ranked passages out: search, drop copies, rerank, cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.engines.embedding import Embedder
from pipelines.engines.reranking import Reranker, rerank
from pipelines.inference.citations import folded_words
from pipelines.inference.config import RetrievalConfig
from store.errors import EmptyQuestion
from store.filters import Condition, Where, conditions
from store.tables import COLLECTION
from store.types import Passage, SearchMode

if TYPE_CHECKING:
    from store.features import FeatureStore

_COPY_WORDS = 12  # shorter equal texts ("No.", "See above.") differ by what stands above them
_STABLE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Passages, best first, and the version of the features they were found in."""

    passages: tuple[Passage, ...]
    features_version: int


class Retriever:
    """Finds passages in the store.

    Args:
        features: where chunks and vectors lie.
        embedder: must be the one whose vectors the store holds.
        reranker: reorders the candidates; None leaves the search's own order.
        config: mode, sizes and threshold.

    Raises:
        EmbedderMismatch: the store's vectors come from another embedder.
    """

    def __init__(
        self,
        features: FeatureStore,
        embedder: Embedder,
        reranker: Reranker | None = None,
        config: RetrievalConfig | None = None,
    ) -> None:
        self.features = features
        self.embedder = embedder
        self.reranker = reranker
        self.config = config or RetrievalConfig()
        features.require_identity(embedder.identity)

    def search(
        self,
        query: str,
        k: int | None = None,
        mode: SearchMode | None = None,
        where: Where | None = None,
        *,
        vector: NDArray[np.float32] | None = None,
    ) -> list[Passage]:
        """The ``k`` best passages, ranked from 1; fewer when the store holds fewer.

        Args:
            query: words or a question.
            k: how many; by default the configured number.
            mode: vectors, words or both; by default the configured mode.
            where: only passages for which these conditions hold.
            vector: of the query, where it was embedded already.

        Raises:
            EmptyQuestion: there is no visible character in the query.
            StoreEmpty: there is nothing to search.
            EmbedderMismatch: the store was embedded anew by another embedder.
            InvalidFilter: ``where`` names what passages do not have.
            CollectionNotFound: no document is in the configured collection.
        """
        query = plain(query)
        if not query:
            raise EmptyQuestion("The query is empty.", hint="Search with words.")
        self.features.require_identity(self.embedder.identity)
        k, mode = k or self.config.k, mode or self.config.mode
        if self.config.collection:
            self.features.require_collection(self.config.collection)
            inside = Condition(COLLECTION, "=", (self.config.collection,))
            where = (*conditions(where), inside)
        # The fetch does not depend on k, so that a short list begins every longer one.
        found = self._fetch(query, max(k, self.config.candidates), mode, where, vector)
        distinct = without_copies(found)
        if self.reranker is not None:
            distinct = iter(rerank(self.reranker, query, list(distinct)))
        best = islice(distinct, k)
        return [p.model_copy(update={"rank": n}) for n, p in enumerate(best, start=1)]

    def embed(self, queries: Sequence[str]) -> Sequence[NDArray[np.float32] | None]:
        """Vectors of many queries for ``search``, embedded together; None where none is needed."""
        texts = [plain(query) for query in queries]
        if self.config.mode == "text":
            return [None] * len(texts)
        return list(self.embedder.embed_queries(texts))

    def retrieve(
        self, query: str, k: int | None = None, *, vector: NDArray[np.float32] | None = None
    ) -> Retrieved:
        """Like ``search``, with the version of the features that was searched."""
        for _ in range(_STABLE_TRIES):
            version = self.features.version()
            passages = tuple(self.search(query, k, vector=vector))
            if self.features.version() == version:
                break
        # Under constant writing the version before the search is the closest one known.
        return Retrieved(passages=passages, features_version=version)

    def relevant(self, passages: Sequence[Passage]) -> bool:
        """Whether any passage is near enough to the question to be worth showing to a model.

        Only vector searches measure nearness on a fixed scale; what a text search alone found
        shares words with the question and counts as relevant.
        """
        return any(
            p.similarity is None or p.similarity >= self.config.min_similarity for p in passages
        )

    def _fetch(
        self,
        query: str,
        k: int,
        mode: SearchMode,
        where: Where | None,
        vector: NDArray[np.float32] | None,
    ) -> list[Passage]:
        if mode == "text":
            return self.features.search_text(query, k, where)
        vector = self.embedder.embed_query(query) if vector is None else vector
        if mode == "vector":
            return self.features.search_vector(vector, k, where)
        return self.features.search_hybrid(query, vector, k, where)


def plain(text: str) -> str:
    """Text without surrounding white space, NUL and lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ").strip()


def without_copies(passages: Iterable[Passage]) -> Iterator[Passage]:
    """The passages less those that repeat a better one, in order.

    A copy has the same words as a better passage, or stands whole inside it. Short texts count as
    copies only under the same heading.
    """
    seen: list[tuple[str, str]] = []
    for passage in passages:
        folded = folded_words(passage.text)
        text = " ".join(["", *folded, ""])
        short = len(folded) < _COPY_WORDS
        if any(
            text == better and heading == passage.heading if short else text in better
            for better, heading in seen
        ):
            continue
        yield passage
        seen.append((text, passage.heading))
