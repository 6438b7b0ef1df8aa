"""Chunks, to read: by id, by document, as a sample or a table, and by searching."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fti.store.errors import DocumentNotFound, StoreEmpty
from fti.store.features import filters, frames, search
from fti.store.features.bykey import RowsByKey
from fti.store.features.filters import Where
from fti.store.features.held_chunks import HeldChunks, Holding
from fti.store.features.ledger import LedgerReader
from fti.store.features.opened import INGEST_HINT, one_of
from fti.store.lance import shapes
from fti.store.types import Chunk, Fusion, Passage

if TYPE_CHECKING:
    from lancedb.expr import Expr

_MIN_CANDIDATES = 50
_LIMITS_KNOWN = 8  # sets of limits whose metadata is remembered
_LOOKED_UP = (
    "id", "document_id", "ordinal", "start", "end", "text", "content_hash", "section",
    "metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChunkSample:
    """Chunks to compare: whose they are, what they say, how many characters, and their vectors."""

    document_ids: Sequence[str]
    texts: Sequence[str]
    lengths: NDArray[np.int64]
    vectors: NDArray[np.float32]


class ChunkReader(LedgerReader):
    """Chunks with their vectors, and the three searches over them."""

    # As of a version of the chunks: the values of each key of metadata, within limits.
    _metadata: tuple[int, dict[tuple[filters.Condition, ...], dict[str, set[str]]]] | None = None
    _by_key: tuple[Any, RowsByKey] | None = None

    def chunks(self, documents: str | Sequence[str] | None = None) -> list[Chunk]:
        """The chunks of documents by id, or all, in order of source and place."""
        if not self.exists():
            return []
        columns = ["id", "document_id", "source", "ordinal", "start", "end", "text"]
        query = self._snapshot().search().select([*columns, "content_hash", "section", "metadata"])
        if documents is not None:
            ids = [documents] if isinstance(documents, str) else documents
            query = query.where(one_of("document_id", ids))
        with self._lance.reading():
            rows = sorted(search.rows(query), key=lambda r: (r["source"], r["ordinal"]))
        return [shapes.read_chunk(row) for row in rows]

    def chunk(self, chunk_id: str) -> tuple[Chunk, str, str]:
        """One chunk with its document's title and source.

        Raises:
            DocumentNotFound: there is no such chunk, at this version.
        """
        with self._lance.reading():
            query = self._snapshot().search().where(one_of("id", [chunk_id])).limit(1)
            rows = search.rows(query)
        if not rows:
            raise DocumentNotFound(
                f"There is no chunk {chunk_id!r} in version {self.version()} of the features.",
                hint="Its document was changed or deleted since; look at an earlier version.",
            )
        return shapes.read_chunk(rows[0]), rows[0]["title"], rows[0]["source"]

    def vectors(self, chunk_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of chunks that are there, by id."""
        with self._lance.reading():
            query = self._snapshot().search().where(one_of("id", chunk_ids))
            rows = query.select(["id", "vector"]).to_arrow()
        return dict(zip(rows["id"].to_pylist(), shapes.matrix(rows["vector"]), strict=True))

    def lookup(self, chunk_ids: Sequence[str]) -> dict[str, Chunk]:
        """The chunks that are there of these ids: an online read by key, without a search."""
        if not self.exists() or not chunk_ids:
            return {}
        table = self._snapshot()
        with self._lance.reading():
            held = self._by_key
            if held is None or held[0] is not table:
                by_key = RowsByKey(table, self._lance.address(self._lance.chunks), _LOOKED_UP)
                self._by_key = held = (table, by_key)
            found = held[1].rows(chunk_ids)
        return {row["id"]: shapes.read_chunk(row) for row in found}

    def sample(
        self, limit: int, *, documents: Sequence[str] | None = None, seed: int = 0
    ) -> ChunkSample:
        """A seeded sample of at most ``limit`` chunks, of these documents or of all.

        Raises:
            StoreEmpty: nothing was ever ingested.
        """
        table = self._snapshot()
        query = table.search()
        if documents is not None:
            query = query.where(one_of("document_id", documents))
        with self._lance.reading():
            names = query.select(["document_id"]).to_arrow()["document_id"].to_pylist()
            size = min(limit, len(names))
            chosen = np.sort(np.random.default_rng(seed).choice(len(names), size, replace=False))
            query = table.search()
            if documents is not None:
                query = query.where(one_of("document_id", documents))
            # Streamed, and cut down batch by batch: all vectors of a large store fit no memory.
            parts, at = [], 0
            columns = ["document_id", "text", "start", "end", "vector"]
            for batch in query.select(columns).to_batches(8192):
                inside = chosen[(chosen >= at) & (chosen < at + batch.num_rows)] - at
                at += batch.num_rows
                parts.append(batch.take(inside))
        return _as_sample(parts, table.schema.field("vector").type.list_size)

    def chunk_counts(self) -> dict[str, int]:
        """Number of chunks by document id, as they lie in the table."""
        return {key: sum(hashes.values()) for key, hashes in self._chunk_hashes().items()}

    # Data frames

    def to_arrow(self, columns: Sequence[str] | None = None, where: Where | None = None) -> Any:
        """The chunks as an Arrow table, a row each; metadata is a map, vectors are lists.

        Args:
            columns: some of ``frames.COLUMNS``; all without.
            where: only rows for which these conditions hold.

        Raises:
            StoreEmpty: nothing was ever ingested.
            InputError, InvalidFilter: a column or a condition does not exist.
        """
        wanted = frames.check_columns(columns)
        table = self._snapshot()
        query = table.search()
        if (condition := self._filter(where)) is not None:
            query = query.where(condition)
        with self._lance.reading():
            return frames.as_table(query.select(wanted).to_batches(8192), table.schema, wanted)

    def to_pandas(self, columns: Sequence[str] | None = None, where: Where | None = None) -> Any:
        """The chunks as a pandas data frame; metadata are dicts, vectors NumPy arrays.

        Raises:
            StoreEmpty, InputError, InvalidFilter: as ``to_arrow``.
        """
        return self.to_arrow(columns, where).to_pandas(maps_as_pydicts="strict")

    # Searching

    def search_vector(
        self, vector: NDArray[np.float32], k: int, where: Where | None = None
    ) -> list[Passage]:
        """The chunks nearest to a vector by cosine, best first.

        Raises:
            StoreEmpty, InvalidFilter, EmbedderMismatch.
        """
        table = self._searchable()
        with self._lance.reading():
            condition = self._filter(where)
            held = self._held(table, condition)
            return search.by_vector(table, vector, k, condition, held=held)

    def search_text(self, query: str, k: int, where: Where | None = None) -> list[Passage]:
        """The chunks that hold the query's words, by BM25, best first; none for no words.

        Raises:
            StoreEmpty, InvalidFilter.
        """
        table = self._searchable()
        with self._lance.reading():
            condition = self._filter(where)
            held = self._held(table, condition)
            return search.by_words(table, query, k, condition, held=held)

    def search_hybrid(
        self,
        query: str,
        vector: NDArray[np.float32],
        k: int,
        where: Where | None = None,
        *,
        candidates: int | None = None,
        fusion: Fusion | None = None,
    ) -> list[Passage]:
        """Both searches at one version of the chunks, fused into one list.

        Every passage carries its similarity, also where only the words found it.

        Args:
            query: the words.
            vector: the question's vector.
            k: how many passages.
            where: conditions that must all hold.
            candidates: how deep each list goes before fusion.
            fusion: how; by reciprocal rank without.

        Raises:
            StoreEmpty, InvalidFilter, EmbedderMismatch.
        """
        table = self._searchable()
        depth = max(k, candidates or _MIN_CANDIDATES)
        with self._lance.reading():
            condition = self._filter(where)
            held = self._held(table, condition)
            return search.by_both(
                table, query, vector, k, condition, depth=depth, fusion=fusion, held=held
            )

    # Inside

    def _held(self, table: Any, condition: Expr | None) -> HeldChunks | None:
        """The chunks in memory, where no condition chooses among them and it pays."""
        return None if condition is not None else self._holding.of(table)

    @cached_property
    def _holding(self) -> Holding:
        return Holding()

    def _filter(self, where: Where | None) -> Expr | None:
        facts = filters.Facts(
            values=lambda: self._metadata_values(filters.limits_of(where)),
            documents=lambda reference: [r.id for r in self.find_document(reference)],
            ingested=lambda condition: [
                r.id
                for r in self.records()
                if r.ingested_at and condition.matches(r.ingested_at.isoformat())
            ],
            chunks=self._chunks_where,
        )
        return filters.expression(where, facts)

    def _metadata_values(
        self, limits: tuple[filters.Condition, ...]
    ) -> Mapping[str, Collection[str]]:
        """The values of each metadata key within limits, at the version that is searched."""
        table = self._snapshot()
        version = int(table.version)
        held = self._metadata
        known = held[1] if held is not None and held[0] == version else {}
        if limits in known:
            return known[limits]
        values: dict[str, set[str]] = {}
        for batch in table.search().select(["metadata"]).to_batches(8192):
            for text in batch.column(0).unique().to_pylist():
                pairs = shapes.decode_metadata(text)
                if all(limit.matches(pairs.get(limit.key)) for limit in limits):
                    for key, value in pairs.items():
                        values.setdefault(key, set()).add(value)
        # In one assignment: searches of several threads share it.
        kept = list(known.items())[-_LIMITS_KNOWN:]
        self._metadata = (version, {**dict(kept), limits: values})
        return values

    def _chunks_where(self, condition: filters.Condition) -> list[str]:
        """Ids of the chunks whose metadata a condition holds for."""
        seen: dict[str, bool] = {}
        found: list[str] = []
        for batch in self._snapshot().search().select(["id", "metadata"]).to_batches(8192):
            for key, text in zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True):
                if text not in seen:
                    seen[text] = filters.holds(condition, text)
                if seen[text]:
                    found.append(key)
        return found

    def _searchable(self) -> Any:
        table = self._snapshot()
        if table is self._filled:
            return table
        with self._lance.reading():
            if not table.count_rows():
                raise StoreEmpty(
                    f"The store {str(self.layout.root)!r} holds no passages yet.",
                    hint=INGEST_HINT,
                )
        self._filled = table
        return table

    def _chunk_hashes(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        table = self._lance.newest()
        if table is None:
            return found
        with self._lance.reading():
            for batch in table.search().select(["document_id", "document_hash"]).to_batches(8192):
                columns = (batch.column(i).to_pylist() for i in range(2))
                for key, made_from in zip(*columns, strict=True):
                    hashes = found.setdefault(key, {})
                    hashes[made_from] = hashes.get(made_from, 0) + 1
        return found


def _as_sample(parts: Sequence[Any], dimension: int) -> ChunkSample:
    ids: list[str] = []
    texts: list[str] = []
    lengths: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    vectors: list[NDArray[np.float32]] = [np.zeros((0, dimension), np.float32)]
    for part in parts:
        ids += part["document_id"].to_pylist()
        texts += part["text"].to_pylist()
        lengths.append(part["end"].to_numpy() - part["start"].to_numpy())
        flat = part["vector"].flatten().to_numpy(zero_copy_only=False)
        vectors.append(flat.reshape(-1, dimension).astype(np.float32, copy=False))
    return ChunkSample(ids, texts, np.concatenate(lengths), np.concatenate(vectors))
