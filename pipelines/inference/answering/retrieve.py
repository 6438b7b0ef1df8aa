"""A question in, ranked passages out: search, drop copies, rerank, cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.engines.cross_encoders.reranking import Reranker, rerank
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.inference.answering.citations import folded_words
from fti.pipelines.inference.inference_config import RetrievalConfig
from fti.store.errors import EmptyQuestion
from fti.store.features.filters import Condition, Where, conditions, parse
from fti.store.lance.shapes import COLLECTION
from fti.store.page_starts import passage_metadata
from fti.store.types import Chunk, Passage, RetrievalContract, SearchMode

if TYPE_CHECKING:
    from fti.store.features.feature_store import FeatureStore

_COPY_WORDS = 12  # shorter equal texts ("No.", "See above.") differ by what stands above them
_RUN_WORDS = 5
_STABLE_TRIES = 3
_REMEMBERED = 1024  # texts; with their runs of words they take about 25 MB at 100 words each


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
        InvalidFilter: the configured conditions are none.
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
        self._where = parse(self.config.where)
        features.require_identity(embedder.identity)

    @property
    def contract(self) -> RetrievalContract:
        """How it finds passages, for what is trained or served behind it."""
        return retrieval_contract(self.config, self.reranker)

    def over(self, features: FeatureStore) -> Retriever:
        """The same over another version of the store."""
        return Retriever(features, self.embedder, self.reranker, self.config)

    def search(
        self,
        query: str,
        k: int | None = None,
        mode: SearchMode | None = None,
        where: Where | None = None,
        *,
        vector: NDArray[np.float32] | None = None,
        collections: Sequence[str] = (),
        keep: Callable[[Passage], bool] | None = None,
    ) -> list[Passage]:
        """The ``k`` best passages, ranked from 1; fewer when the store holds fewer.

        Args:
            query: words or a question.
            k: how many; by default the configured number.
            mode: vectors, words or both; by default the configured mode.
            where: only passages for which these conditions hold.
            vector: of the query, where it was embedded already.
            collections: only passages of these; none: of the whole store.
            keep: whether a passage that the search finds may stand in the list; others are left out
                before anything else is done with it, as if the store did not hold them.

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
        where = (*self._where, *conditions(where))
        if self.config.collection:
            self.features.require_collection(self.config.collection, among=collections)
            inside = Condition(COLLECTION, "=", (self.config.collection,))
            where = (*where, inside)
        if collections:
            there = tuple(c for c in collections if c in self.features.collections())
            if not there:
                return []  # nothing was put into them yet
            where = (*where, Condition(COLLECTION, "in", there, limits=True))
        # The fetch does not depend on k, so that a short list begins every longer one.
        found = self._candidates(query, max(k, self.config.candidates), mode, where, vector, keep)
        distinct = without_copies(found, resemblance=self.config.near_copies)
        if self.reranker is not None:
            distinct = iter(rerank(self.reranker, query, list(distinct)))
        if self.config.diversity:
            distinct = iter(self._varied(list(distinct)))
        best = islice(distinct, k)
        return [p.model_copy(update={"rank": n}) for n, p in enumerate(best, start=1)]

    def embed(self, queries: Sequence[str]) -> Sequence[NDArray[np.float32] | None]:
        """Vectors of many queries for ``search``, embedded together; None where none is needed."""
        texts = [plain(query) for query in queries]
        if self.config.mode == "text":
            return [None] * len(texts)
        if len(texts) == 1:
            return [self.embedder.embed_query(texts[0])]
        return list(self.embedder.embed_queries(texts))

    def retrieve(
        self,
        query: str,
        k: int | None = None,
        *,
        where: Where | None = None,
        vector: NDArray[np.float32] | None = None,
        collections: Sequence[str] = (),
        keep: Callable[[Passage], bool] | None = None,
    ) -> Retrieved:
        """Like ``search``, for a model: with the version of the features that was searched.

        Where sections are configured, each passage is what stands around the chunk that was found.
        """
        for _ in range(_STABLE_TRIES):
            version = self.features.version()
            found = self.search(
                query, k, where=where, vector=vector, collections=collections, keep=keep
            )
            passages = self.in_context(found)
            if self.features.version() == version:
                break
        # Under constant writing the version before the search is the closest one known.
        return Retrieved(passages=passages, features_version=version)

    def in_context(self, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        """The passages as a model is given them: themselves, or the sections around them."""
        if self.config.context == "chunk":
            return tuple(passages)
        return tuple(in_sections(passages, self.features, limit=self.config.section_characters))

    def relevant(self, passages: Sequence[Passage], min_similarity: float | None = None) -> bool:
        """Whether any passage is near enough to the question to be worth showing to a model.

        Only vector searches measure nearness on a fixed scale; what a text search alone found
        shares words with the question and counts as relevant.

        Args:
            passages: what was found.
            min_similarity: the cosine that is near enough; by default the configured one.
        """
        if min_similarity is None:
            min_similarity = self.config.min_similarity
        return any(p.similarity is None or p.similarity >= min_similarity for p in passages)

    def _candidates(
        self,
        query: str,
        count: int,
        mode: SearchMode,
        where: Where | None,
        vector: NDArray[np.float32] | None,
        keep: Callable[[Passage], bool] | None,
    ) -> list[Passage]:
        """What the search finds, less what is not to be kept, and deeper until that is enough."""
        if keep is None:
            return self._fetch(query, count, mode, where, vector)
        if vector is None and mode != "text":
            vector = self.embedder.embed_query(query)
        kept: dict[str, Passage] = {}
        depth = count
        while True:
            found = self._fetch(query, depth, mode, where, vector)
            for passage in found:
                # In the order in which they were found first: a deeper search may fuse otherwise.
                if passage.chunk_id not in kept and keep(passage):
                    kept[passage.chunk_id] = passage
            if len(kept) >= count or len(found) < depth:
                return list(kept.values())[:count]
            depth *= 4

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
        return self.features.search_hybrid(query, vector, k, where, fusion=self.config.fusion)

    def _varied(self, passages: Sequence[Passage]) -> list[Passage]:
        """All of the passages, each next one the best for its score less its likeness to those."""
        held = self.features.vectors([p.chunk_id for p in passages])
        known = [p for p in passages if p.chunk_id in held]
        if not known:  # the chunks were changed meanwhile
            return list(passages)
        vectors = np.stack([held[p.chunk_id] for p in known])
        order = marginal_order(np.asarray([p.score for p in known]), vectors, self.config.diversity)
        return [known[i] for i in order]


def searched(features: FeatureStore, config: RetrievalConfig) -> FeatureStore:
    """The version of the features that a configuration searches.

    Raises:
        VersionNotFound: there is no such version or tag.
    """
    return features.checkout(config.at) if config.at else features


def retrieval_contract(config: RetrievalConfig, reranker: Reranker | None) -> RetrievalContract:
    """What a retriever of these settings and with this reranker would be agreed upon as."""
    return RetrievalContract(
        mode=config.mode,
        k=config.k,
        candidates=config.candidates,
        fusion=config.fusion,
        near_copies=config.near_copies,
        diversity=config.diversity,
        context=config.context,
        section_characters=config.section_characters,
        reranker=None if reranker is None else reranker.identity,
        min_similarity=config.min_similarity,
        collection=config.collection,
        where=config.where,
    )


def plain(text: str) -> str:
    """Text without surrounding white space, NUL and lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ").strip()


def without_copies(passages: Iterable[Passage], *, resemblance: float = 1.0) -> Iterator[Passage]:
    """The passages less those that repeat a better one, in order.

    A copy has the same words as a better passage, stands whole inside it, or shares as large a part
    of its runs of words with it (Jaccard resemblance of shingles, Broder 1997). Short texts count
    as copies only under the same heading.
    """
    seen: list[tuple[str, str, frozenset[tuple[str, ...]]]] = []
    for passage in passages:
        text, count = _folded(passage.text)
        short = count < _COPY_WORDS
        runs = frozenset() if short or resemblance >= 1 else _runs(text)
        if any(
            text == better and heading == passage.heading
            if short
            else text in better or _resemble(runs, others, resemblance)
            for better, heading, others in seen
        ):
            continue
        yield passage
        seen.append((text, passage.heading, runs))


# The same chunks are found for question after question.
@lru_cache(maxsize=_REMEMBERED)
def _folded(text: str) -> tuple[str, int]:
    """The words of a text as they compare, each between spaces, and how many they are."""
    folded = folded_words(text)
    return " ".join(["", *folded, ""]), len(folded)


@lru_cache(maxsize=_REMEMBERED)
def _runs(text: str) -> frozenset[tuple[str, ...]]:
    folded = text.split(" ")[1:-1]
    return frozenset(zip(*(folded[i:] for i in range(_RUN_WORDS)), strict=False))


def _resemble(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]], least: float) -> bool:
    if not a or not b or min(len(a), len(b)) < least * max(len(a), len(b)):
        return False  # sizes alone say how alike two sets can be
    shared = len(a & b)
    return shared >= least * (len(a) + len(b) - shared)


def marginal_order(
    scores: NDArray[np.float64], vectors: NDArray[np.float32], diversity: float
) -> list[int]:
    """All indices in the order of maximal marginal relevance.

    Each next one has the largest (1 - diversity) * score - diversity * (greatest cosine with those
    chosen); scores are scaled to 0 to 1 first. Carbonell and Goldstein 1998.
    """
    low, width = scores.min(), np.ptp(scores)
    relevance = (scores - low) / width if width > 0 else np.ones_like(scores)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1)
    left = list(range(len(scores)))
    likeness = np.zeros(len(scores))
    chosen: list[int] = []
    while left:
        gains = [(1 - diversity) * relevance[i] - diversity * likeness[i] for i in left]
        best = left.pop(int(np.argmax(gains)))
        likeness = np.maximum(likeness, units @ units[best]) if chosen else units @ units[best]
        chosen.append(best)
    return chosen


def in_sections(
    passages: Sequence[Passage], features: FeatureStore, *, limit: int
) -> list[Passage]:
    """Each passage as the stretch of its section around it, up to ``limit`` characters.

    The chunks before and after it that stand under the same heading are joined to it, in turn. A
    passage that another one's stretch already holds is left out. Ranks are renewed; offsets and
    text are those of the stretch, the id is that of the chunk that was found.
    """
    documents = {d.id: d for d in features.documents([p.document_id for p in passages])}
    chunks: dict[str, list[Chunk]] = {}
    found: list[Passage] = []
    for passage in passages:
        document = documents.get(passage.document_id)
        if document is None or document.text[passage.start : passage.end] != passage.text:
            found.append(passage)  # the document has changed since
            continue
        if document.id not in chunks:
            chunks[document.id] = features.chunks(document.id)
        start, end = _around(passage, chunks[document.id], limit)
        if any(
            p.document_id == document.id and p.start <= passage.start and passage.end <= p.end
            for p in found
        ):
            continue
        text = document.text[start:end]
        context = next((c.context for c in chunks[document.id] if c.start == start), "")
        metadata = passage_metadata(passage.metadata, start, end, context=context)
        stretch = {"text": text, "start": start, "end": end, "metadata": metadata}
        found.append(passage.model_copy(update=stretch))
    return [p.model_copy(update={"rank": n}) for n, p in enumerate(found, start=1)]


def _around(passage: Passage, chunks: Sequence[Chunk], limit: int) -> tuple[int, int]:
    start, end = passage.start, passage.end
    at = next((i for i, c in enumerate(chunks) if c.id == passage.chunk_id), None)
    if at is None:
        return start, end
    within = len(passage.section)
    before, after = at - 1, at + 1
    growing = True
    while growing:
        growing = False
        for step in ("after", "before"):
            index = after if step == "after" else before
            if not 0 <= index < len(chunks):
                continue
            other = chunks[index]
            low, high = min(start, other.start), max(end, other.end)
            if other.section[:within] != passage.section or high - low > limit:
                continue
            start, end, growing = low, high, True
            after, before = (after + 1, before) if step == "after" else (after, before - 1)
    return start, end
