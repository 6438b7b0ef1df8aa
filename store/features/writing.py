"""Changes of documents, chunks, the ledger and the embedding cache.

The chunks of a batch of documents change at once; texts and ledger lines follow in a commit of
their own. What a crash between the two leaves is found by ``store.health``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fti.store.errors import StoreError
from fti.store.features import fragments, search
from fti.store.features.opened import OpenedFeatures, one_of
from fti.store.lance import shapes
from fti.store.lance.remembered import RememberedKeys
from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.types import EmbedderIdentity

_NOTED = 256  # lines of the ledger written at once, with the texts beside them
_CACHED_AT_LEAST = 10_000  # vectors; so many are kept whatever else there is


@dataclass(frozen=True, slots=True)
class ReplaceResult:
    """What one batch changed among the chunks, and the version it made."""

    inserted: int
    updated: int
    deleted: int
    version: int


class FeatureWriter(OpenedFeatures):
    """What changes the tables. Writers hold ``Layout.writing``; readers never wait."""

    def replace(self, batch: Sequence[DocumentUpdate]) -> ReplaceResult:
        """Make these documents, with their chunks, what the store holds of them.

        To readers the chunks of the whole batch change at once: unchanged rows are overwritten, new
        ones added, and those of these documents that are not in the batch deleted. Texts and
        ledger lines follow in a commit of their own.
        """
        self._refuse_old()
        ids = [update.document.id for update in batch]
        if len(set(ids)) != len(ids):
            raise StoreError("A batch holds the same document twice.")
        table = self._chunks_for_writing()
        rows = shapes.chunks_table(batch, table.schema)
        of_batch = one_of("document_id", ids)
        with self._lance.writing():
            held = table.search().where(of_batch).select(["id"]).to_arrow()["id"].to_pylist()
            gone = sorted(set(held).difference(rows["id"].to_pylist()))
            if rows.num_rows and gone:
                # A merge that deletes too reads the whole table into memory (LanceDB 0.40).
                with self._lance.as_one(table):
                    inserted, updated = self._merge(table, rows)
                    self._delete(table, gone)
            elif rows.num_rows:
                inserted, updated = self._merge(table, rows)
            else:
                inserted = updated = 0
                if gone:
                    table.delete(of_batch)
            self._upsert_documents(shapes.documents_table(batch))
        return ReplaceResult(inserted, updated, len(gone), version=int(table.version))

    def note(self, entries: Sequence[LedgerEntry]) -> None:
        """Write ledger lines only. The texts and chunks of known sources stay as they are."""
        self._refuse_old()
        rows = {entry.record.id: shapes.ledger_row(entry) for entry in entries}
        ids = list(rows)
        for start in range(0, len(ids), _NOTED):
            some = ids[start : start + _NOTED]
            with self._lance.writing():
                self._upsert_documents(self._with_lines({i: rows[i] for i in some}))

    def delete(self, document_ids: Sequence[str]) -> int:
        """Remove documents with their chunks and ledger lines; how many there were."""
        self._refuse_old()
        known = self._known(document_ids)
        gone = [i for i in dict.fromkeys(document_ids) if i in known]
        if not gone:
            return 0
        with self._lance.writing():
            self._chunks_for_writing().delete(one_of("document_id", gone))
            self._lance.ensure(shapes.DOCUMENTS, shapes.documents_schema()).delete(
                one_of("id", gone)
            )
        return len(gone)

    def remove_chunks(self, document_ids: Collection[str]) -> None:
        """Remove all chunks of documents and leave texts and ledger: they are to be made anew."""
        self._refuse_old()
        self._remove_chunks(document_ids)

    # Vectors of texts that will be embedded again

    def known_vectors(
        self, keys: Sequence[str], identity: EmbedderIdentity
    ) -> dict[str, NDArray[np.float32]]:
        """The remembered vectors among the keys (sha256 of embedded texts) of one embedder."""
        name = shapes.vectors_name(identity)
        table = self._lance.open(name)
        found: dict[str, NDArray[np.float32]] = {}
        if table is None:
            return found
        with self._lance.reading():
            held = self._remembered.get(name)
            if held is None or held.version != table.version:
                self._remembered[name] = held = RememberedKeys(table)
            wanted = held.likely(list(dict.fromkeys(keys)))
            for start in range(0, len(wanted), 1000):
                query = table.search().where(one_of("key", wanted[start : start + 1000]))
                rows = query.to_arrow()
                vectors = shapes.matrix(rows["vector"])
                found.update(zip(rows["key"].to_pylist(), vectors, strict=True))
        return found

    def remember_vectors(
        self, keys: Sequence[str], vectors: NDArray[np.float32], identity: EmbedderIdentity
    ) -> None:
        """Keep vectors for texts that will be embedded again; keys must be new and distinct."""
        if not keys:
            return
        schema, name = shapes.vectors_schema(identity), shapes.vectors_name(identity)
        with self._lance.writing():
            table = self._lance.ensure(name, schema)
            before = int(table.version)
            table.add(shapes.vectors_table(keys, vectors, schema))
            held = self._remembered.get(name)
            if held is not None and held.version == before and table.version == before + 1:
                held.add(keys, before + 1)

    def vectors_address(self, identity: EmbedderIdentity) -> str:
        """Where the remembered vectors of one embedder lie, for ``store.fragments``."""
        with self._lance.writing():
            self._lance.ensure(shapes.vectors_name(identity), shapes.vectors_schema(identity))
        return self._lance.address(shapes.vectors_name(identity))

    def commit_fragments(self, written: Sequence[str], identity: EmbedderIdentity) -> None:
        """Remember the vectors that others wrote as fragments, all of them in one commit."""
        with self._lance.writing():
            fragments.commit(self._lance.address(shapes.vectors_name(identity)), written)
        self._lance.refresh()

    def forget_stale_vectors(self) -> int:
        """Drop remembered vectors that no chunk has any more, where they are many; how many.

        Some stay for texts that come back. Once a cache holds more than twice the chunks, it is
        written anew with theirs only.
        """
        chunks = self._chunks_for_writing()
        most = max(_CACHED_AT_LEAST, 2 * int(chunks.count_rows()))
        crowded = [
            (name, cache)
            for name in self._lance.names()
            if shapes.is_vectors_name(name)
            and (cache := self._lance.latest(name)).count_rows() > most
        ]
        if not crowded:
            return 0
        with self._lance.writing():
            texts = chunks.search().select(["search_text"]).to_batches(4096)
            in_use = shapes.keys_of_texts(texts)
            dropped = 0
            for name, cache in crowded:
                rows = shapes.rows_with_keys(cache.search().to_batches(4096), in_use, cache.schema)
                dropped += int(cache.count_rows())
                dropped -= int(self._lance.overwrite(name, rows, cache.schema).count_rows())
        return dropped

    def forget_vectors(self, identity: EmbedderIdentity) -> None:
        """Drop the remembered vectors of one embedder."""
        self._lance.drop(shapes.vectors_name(identity))

    # Inside

    def _with_lines(self, lines: Mapping[str, Mapping[str, Any]]) -> Any:
        """Whole rows of documents with these lines: to merge a part of a row's columns, LanceDB
        reads the whole table (0.40)."""
        import pyarrow as pa

        schema = shapes.documents_schema()
        table = self._lance.ensure(shapes.DOCUMENTS, schema)
        held = table.search().where(one_of("id", lines)).to_arrow()
        known = dict.fromkeys(held["id"].to_pylist())
        noted = pa.Table.from_pylist([lines[i] for i in known], shapes.ledger_schema())
        columns = [
            noted[name] if name in noted.column_names else held[name] for name in schema.names
        ]
        unknown = [
            {**lines[i], "text": "", "media_type": "", "metadata": "\n"}
            for i in lines
            if i not in known
        ]
        return pa.concat_tables(
            [pa.table(columns, schema=schema), pa.Table.from_pylist(unknown, schema)]
        )

    def _merge(self, table: Any, rows: Any) -> tuple[int, int]:
        """Put chunks in, in place of those with the same ids; how many are new, how many not."""
        # By an index, rows that it does not cover yet are read whole, vectors and texts.
        merge = table.merge_insert("id").use_index(False)
        done = merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
        return int(done.num_inserted_rows), int(done.num_updated_rows)

    def _delete(self, table: Any, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), 1000):
            with self._lance.writing():
                table.delete(one_of("id", ids[start : start + 1000]))

    def _remove_chunks(self, document_ids: Collection[str]) -> None:
        if document_ids:
            with self._lance.writing():
                self._chunks_for_writing().delete(one_of("document_id", sorted(document_ids)))

    def _known(self, document_ids: Sequence[str]) -> set[str]:
        table = self._lance.latest(shapes.DOCUMENTS) if document_ids else None
        if table is None:
            return set()
        with self._lance.reading():
            rows = search.rows(table.search().where(one_of("id", document_ids)).select(["id"]))
        return {row["id"] for row in rows}

    def _upsert_documents(self, rows: Any) -> None:
        table = self._lance.ensure(shapes.DOCUMENTS, shapes.documents_schema())
        merge = table.merge_insert("id").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(rows)
