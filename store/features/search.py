"""What a search asks of the table of chunks, and how two result lists become one."""

from __future__ import annotations

import functools
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fti.store.errors import EmbedderMismatch, EngineError
from fti.store.features.held_chunks import HeldChunks, cosine
from fti.store.lance import indexing
from fti.store.lance.shapes import PASSAGE_COLUMNS, decode_metadata, matrix
from fti.store.plain_text import utf8
from fti.store.types import RRF_K, Fusion, Passage

if TYPE_CHECKING:
    from lancedb.expr import Expr

_BM25_K1 = 1.2  # Lance's: a word adds at most its rarity times this and 1, however often it stands
_UNSPACED = 0x2E7F  # signs beyond it (Chinese, Japanese, Korean) are hardly set apart by spaces


def by_vector(
    table: Any,
    vector: NDArray[np.float32],
    k: int,
    condition: Expr | None,
    *,
    held: HeldChunks | None = None,
) -> list[Passage]:
    """Passages nearest to a vector by cosine, best first.

    Args:
        table: the chunks at one version.
        vector: what they are compared with.
        k: how many.
        condition: only those for which it holds.
        held: the same chunks in memory, where they are; searched where no condition is given.

    Raises:
        EmbedderMismatch: the vector is not of the table's dimension.
        EngineError: the vector is not finite.
    """
    return [
        _passage(row, rank, score=row["similarity"], found_by=("vector",))
        for rank, row in enumerate(_nearest(table, vector, k, condition, held), start=1)
    ]


def by_words(
    table: Any, text: str, k: int, condition: Expr | None, *, held: HeldChunks | None = None
) -> list[Passage]:
    """Passages that hold words of the text, by BM25, best first. Arguments as ``by_vector``."""
    return [
        _passage(row, rank, score=row["text_score"], found_by=("text",))
        for rank, row in enumerate(_matching(table, text, k, condition, held), start=1)
    ]


def by_both(
    table: Any,
    text: str,
    vector: NDArray[np.float32],
    k: int,
    condition: Expr | None,
    *,
    depth: int,
    fusion: Fusion | None = None,
    held: HeldChunks | None = None,
) -> list[Passage]:
    """Both lists, ``depth`` long, fused; every passage carries its similarity.

    Raises:
        EmbedderMismatch, EngineError: as ``by_vector``.
    """
    search_words = functools.partial(
        _matching, table, text, depth, condition, held, compared_with=vector
    )
    if held is None:
        # Side by side: either waits for the disk and for threads of its own most of the time.
        matching = _aside().submit(search_words)
        near = {row["id"]: row for row in _nearest(table, vector, depth, condition, None)}
        worded = {row["id"]: row for row in matching.result()}
    else:
        near = {row["id"]: row for row in _nearest(table, vector, depth, condition, held)}
        worded = {row["id"]: row for row in search_words()}
    fusion = fusion or Fusion()
    if fusion.method == "rrf":
        weights = (fusion.vector_weight, 1 - fusion.vector_weight)
        # Twice the shares, so that equal ones give the scores of plain RRF.
        fused = fuse([list(near), list(worded)], fusion.rrf_k, [2 * w for w in weights])
    else:
        similarities = {k: r["similarity"] for k, r in {**worded, **near}.items()}
        matches = {key: row["text_score"] for key, row in worded.items()}
        if fusion.method == "bounded":
            highest = highest_match(text, table.count_rows() if held is None else len(held))
            fused = combine_bounded(similarities, matches, fusion.vector_weight, highest)
        else:
            fused = combine(similarities, matches, fusion.vector_weight)
    fused = fused[:k]
    return [
        _passage(
            {**worded.get(key, {}), **near.get(key, {})},
            rank,
            score=score,
            found_by=tuple(n for n, rows in (("vector", near), ("text", worded)) if key in rows),
        )
        for rank, (key, score) in enumerate(fused, start=1)
    ]


@functools.cache
def _aside() -> ThreadPoolExecutor:
    """Threads for the searches by words that go beside one by vectors."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="search-words")


def rows(query: Any) -> list[dict[str, Any]]:
    """All rows of a query."""
    found: list[dict[str, Any]] = query.to_arrow().to_pylist()
    return found


def fuse(
    lists: Sequence[Sequence[str]], k: int = RRF_K, weights: Sequence[float] | None = None
) -> list[tuple[str, float]]:
    """Reciprocal rank fusion: ids with the sum of weight / (k + rank) over the lists, best first.

    Ties go to the better best rank, then to the id, so that the same lists give the same order.
    """
    scores: dict[str, float] = {}
    best: dict[str, int] = {}
    for ids, weight in zip(lists, weights or [1.0] * len(lists), strict=True):
        for rank, key in enumerate(ids, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
            best[key] = min(best.get(key, rank), rank)
    return sorted(scores.items(), key=lambda item: (-item[1], best[item[0]], item[0]))


def combine(
    similarities: Mapping[str, float], matches: Mapping[str, float], vector_weight: float
) -> list[tuple[str, float]]:
    """Ids with the weighted mean of both scores, each scaled to 0 to 1, best first.

    What the words did not find has the score of no match, 0, which is BM25's least; the least
    similarity is that of the candidates (Bruch, Gai and Ingber, "An Analysis of Fusion Functions
    for Hybrid Retrieval", 2023).
    """
    near = _scaled(similarities, low=min(similarities.values(), default=0.0))
    worded = _scaled(matches, low=0.0)
    scores = {
        key: vector_weight * near[key] + (1 - vector_weight) * worded.get(key, 0.0) for key in near
    }
    return sorted(scores.items(), key=lambda item: (-item[1], -near[item[0]], item[0]))


def combine_bounded(
    similarities: Mapping[str, float],
    matches: Mapping[str, float],
    vector_weight: float,
    highest: float,
) -> list[tuple[str, float]]:
    """Ids with the weighted mean of cosine and of the share of the ``highest`` match, best first.

    Scaled by the best of its own list, as ``combine`` does, a passage that shares one word with the
    question counts as much as one that holds all of it. A share of what could be found at most
    tells them apart: where a question is put in words that no passage has, similarity decides.

    Args:
        similarities: cosines of all candidates.
        matches: BM25 of those that the words found.
        vector_weight: weight of the cosine, from 0 to 1.
        highest: see ``highest_match``.
    """
    scores = {
        key: vector_weight * near + (1 - vector_weight) * min(1.0, matches.get(key, 0.0) / highest)
        for key, near in similarities.items()
    }
    return sorted(scores.items(), key=lambda item: (-item[1], -similarities[item[0]], item[0]))


def highest_match(text: str, count: int) -> float:
    """The BM25 of a passage, among ``count``, that alone holds every word of a text, very often.

    No passage's is higher. Words count once, and where a script sets no spaces, two signs are one.
    """
    words = 0
    for word in set(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())):
        unspaced = sum(ord(sign) > _UNSPACED for sign in word)
        words += (unspaced + 1) // 2 if unspaced else 1
    rarest = math.log(1 + (max(count, 1) - 0.5) / 1.5)
    return max(1, words) * rarest * (_BM25_K1 + 1)


def _scaled(scores: Mapping[str, float], *, low: float) -> dict[str, float]:
    width = max(scores.values(), default=low) - low
    return {key: (value - low) / width if width > 0 else 0.0 for key, value in scores.items()}


def _nearest(
    table: Any,
    vector: NDArray[np.float32],
    k: int,
    condition: Expr | None,
    held: HeldChunks | None,
) -> list[dict[str, Any]]:
    dimension = held.dimension if held is not None else table.schema.field("vector").type.list_size
    asked = np.asarray(vector, dtype=np.float32)
    if asked.shape != (dimension,):
        raise EmbedderMismatch(
            f"The question's vector has shape {asked.shape}; the store's have {dimension} "
            "dimensions.",
            hint="Use the profile that made them, or make all vectors anew: "
            "fti ingest PATH --re-embed",
        )
    if not np.isfinite(asked).all():
        raise EngineError("The embedder gave a vector that is not finite for the question.")
    if not asked.any():
        return []  # no direction: nothing is near
    if held is not None and condition is None:
        found = held.nearest(asked, k)
    else:
        query = indexing.nearest(table, asked, k)
        if condition is not None:
            query = query.where(condition)
        found = _compared(query.select([*PASSAGE_COLUMNS, "_distance", "vector"]).to_arrow(), asked)
    return sorted(found, key=lambda r: (-r["similarity"], r["id"]))


def _matching(
    table: Any,
    text: str,
    k: int,
    condition: Expr | None,
    held: HeldChunks | None,
    *,
    compared_with: NDArray[np.float32] | None = None,
) -> list[dict[str, Any]]:
    """Rows that hold words of the text, with their ``similarity`` to a vector that is given."""
    if compared_with is not None:
        compared_with = np.asarray(compared_with, np.float32)
    if held is not None and condition is None:
        found = held.matching(text, k, compared_with=compared_with)
    else:
        found = _read_matching(table, text, k, condition, compared_with)
    return sorted(found, key=lambda r: (-r["text_score"], r["id"]))


def _read_matching(
    table: Any,
    text: str,
    k: int,
    condition: Expr | None,
    compared_with: NDArray[np.float32] | None,
) -> list[dict[str, Any]]:
    query = table.search(utf8(text), query_type="fts").limit(k)
    if condition is not None:
        query = query.where(condition)
    columns = [*PASSAGE_COLUMNS, "_score", *(["vector"] if compared_with is not None else [])]
    read = query.select(columns).to_arrow()
    found = read.to_pylist() if compared_with is None else _compared(read, compared_with)
    for row in found:
        row["text_score"] = row["_score"]
    return found


def _compared(read: Any, vector: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Rows without their vectors, with their ``similarity`` to this one.

    It is not taken from LanceDB's distance, which is rounded otherwise: a question has the same
    scores whether what it finds was held in memory or not.
    """
    # As an array from end to end: as lists of Python's numbers it took as long as the search.
    similarities = cosine(matrix(read["vector"]), vector).tolist()
    found: list[dict[str, Any]] = read.drop_columns(["vector"]).to_pylist()
    for row, similarity in zip(found, similarities, strict=True):
        row["similarity"] = similarity
    return found


def _passage(
    row: Mapping[str, Any], rank: int, *, score: float, found_by: tuple[str, ...]
) -> Passage:
    return Passage(
        rank=rank,
        chunk_id=row["id"],
        document_id=row["document_id"],
        title=row["title"],
        source=row["source"],
        section=tuple(row["section"]),
        start=row["start"],
        end=row["end"],
        text=row["text"],
        score=score,
        similarity=row.get("similarity"),
        text_score=row.get("text_score"),
        found_by=found_by,
        metadata=decode_metadata(row["metadata"]),
    )
