"""Documents and the ledger, to read: what became of every source, and the texts that are served."""

from __future__ import annotations

import difflib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fti.store.errors import CollectionNotFound, DocumentNotFound
from fti.store.features import search
from fti.store.features.opened import INGEST_HINT, OpenedFeatures, one_of
from fti.store.lance import shapes
from fti.store.lance.library import lancedb
from fti.store.lance.shapes import Held, LedgerEntry
from fti.store.types import Document, SourceRecord, document_id, nfc, sha256_hex

if TYPE_CHECKING:
    import pyarrow as pa

_PAGE = 256  # lines made entries at a time
_PAGES = 8  # kept of them


class LedgerLines:
    """The ledger at one version, held as columns: lines become entries as they are asked for.

    Args:
        columns: ``shapes.LEDGER_COLUMNS``, those that there are; None: there are no lines.
    """

    def __init__(self, columns: pa.Table | None = None) -> None:
        columns = shapes.ledger_schema().empty_table() if columns is None else columns
        in_order = columns.sort_by([("file", "ascending"), ("source", "ascending")])
        self._lines = in_order.combine_chunks()
        # Files are asked for in nearly the order in which they lie here.
        self._page = lru_cache(_PAGES)(self._read)

    def __iter__(self) -> Iterator[LedgerEntry]:
        """Every line, in order of file and source."""
        for start in range(0, len(self._lines), _PAGE):
            yield from self._read(start)

    def of_file(self, file: str) -> list[LedgerEntry]:
        """The lines of documents that lie in a file, in order of source."""
        every = range(len(self._lines))
        first = bisect_left(every, file, key=self._file)
        last = bisect_right(every, file, key=self._file)
        found: list[LedgerEntry] = []
        for start in range(first - first % _PAGE, last, _PAGE):
            page = self._page(start)
            found += page[max(0, first - start) : last - start]
        return found

    def files(self) -> Iterator[str]:
        """Every file that a line names, once, in order."""
        before = None
        for index in range(len(self._lines)):
            if (file := self._file(index)) != before:
                before = file
                yield file

    def served(self) -> int:
        """How many documents have passages."""
        return sum(chunks > 0 for chunks in self._lines["chunks"].to_pylist())

    def in_state(self, state: str) -> int:
        """How many lines say so."""
        return self._lines["state"].to_pylist().count(state)

    def _read(self, start: int) -> list[LedgerEntry]:
        return [shapes.ledger_entry(row) for row in self._lines.slice(start, _PAGE).to_pylist()]

    def _file(self, index: int) -> str:
        return str(self._lines["file"][index].as_py())


class LedgerReader(OpenedFeatures):
    """A line per source, and the documents behind the lines."""

    _lines: tuple[int, LedgerLines] | None = None  # as of a version of the documents
    _listing: tuple[LedgerLines, list[LedgerEntry]] | None = None

    def ledger(self) -> list[LedgerEntry]:
        """A line per source, in order of source, with the file behind each."""
        lines = self.lines()
        if self._listing is None or self._listing[0] is not lines:
            self._listing = (lines, sorted(lines, key=lambda e: e.record.source))
        return list(self._listing[1])

    def lines(self) -> LedgerLines:
        """The ledger as it is now, for what looks at all of it: little is held of each line."""
        table = self._lance.documents()
        if table is None:
            return LedgerLines()
        with self._lance.reading():
            version = int(table.version)
            if self._lines is None or self._lines[0] != version:
                columns = table.search().select(_ledger_columns(table)).to_arrow()
                self._lines = (version, LedgerLines(columns))
            return self._lines[1]

    def entries(self, ids: Iterable[str]) -> dict[str, LedgerEntry]:
        """The lines of these documents, by id, without reading the rest of the ledger."""
        table = self._lance.documents()
        if table is None:
            return {}
        rows = self._of_ids(ids, _ledger_columns(table))
        return {row["id"]: shapes.ledger_entry(row) for row in rows}

    def records(self) -> list[SourceRecord]:
        """The ledger: what became of every source, in order of source."""
        return [entry.record for entry in self.ledger()]

    def record(self, source: str) -> SourceRecord | None:
        """The ledger's line on one source."""
        return next((r for r in self.records() if r.source == source), None)

    def held(self, sources: Iterable[str]) -> dict[str, Held]:
        """What the store has of these sources, without reading the rest of the ledger."""
        found: dict[str, Held] = {}
        columns = [*shapes.LEDGER_COLUMNS, "metadata"]
        for row in self._of_ids(map(document_id, sources), columns):
            metadata = shapes.decode_metadata(row.pop("metadata"))
            found[row["source"]] = Held(shapes.ledger_entry(row), metadata)
        return found

    def find_document(self, reference: str) -> list[SourceRecord]:
        """The documents that a reference means: by exact source or id, else by the path's end."""
        served = [r for r in self.records() if r.chunks > 0]
        exact = [r for r in served if reference in (r.source, r.id)]
        if exact or not reference:
            return exact
        meant = nfc(reference)
        named = {r.id: nfc(r.source) for r in served}
        if same := [r for r in served if named[r.id] == meant]:
            return same
        tail = "/" + meant.removeprefix("./").lstrip("/")
        return [r for r in served if named[r.id].endswith(tail)]

    def document(self, reference: str) -> Document:
        """The last good version of one document, by source, id or an unambiguous end of the path.

        Raises:
            DocumentNotFound: none matches, or several do.
        """
        matches = self.find_document(reference)
        if len(matches) == 1:
            return next(self.documents([matches[0].id]))
        if matches:
            raise DocumentNotFound(
                f"{reference!r} means {len(matches)} documents.",
                hint="Say which: " + ", ".join(r.source for r in matches[:5]),
            )
        sources = {r.source.rsplit("/", 1)[-1]: r.source for r in self.records() if r.chunks > 0}
        near = difflib.get_close_matches(reference.rsplit("/", 1)[-1], sources, n=3, cutoff=0.5)
        shown = [sources[name] for name in near] or list(sources.values())[:3]
        raise DocumentNotFound(
            f"No document {reference!r} was ingested.",
            hint=f"There is, for example: {', '.join(shown)}" if shown else INGEST_HINT,
        )

    def documents(self, ids: Sequence[str] | None = None) -> Iterator[Document]:
        """The last good versions of all documents, or of those with the ids, in order of source."""
        wanted = [r.id for r in self.records() if r.chunks > 0]
        if ids is not None:
            chosen = set(ids)
            wanted = [i for i in wanted if i in chosen]
        table = self._lance.documents()
        for start in range(0, len(wanted), 256):
            some = wanted[start : start + 256]
            with self._lance.reading():
                rows = {r["id"]: r for r in search.rows(table.search().where(one_of("id", some)))}
            yield from shapes.read_documents(rows[i] for i in some if i in rows)

    def failed(self) -> list[LedgerEntry]:
        """The dead letters: sources that could not be taken, in order of source."""
        return [entry for entry in self.ledger() if entry.record.state == "failed"]

    def content_digest(self) -> str:
        """sha256 over what can be found: which documents, with what content, made how.

        Two equal digests mean the same passages, whatever the version numbers: maintenance makes
        a new version too, and a store that was refilled begins to count anew.
        """
        served = (r for r in self.records() if r.chunks)
        known = sorted(f"{r.id} {r.content_hash} {r.settings_digest}" for r in served)
        return sha256_hex("\n".join(known))

    def documents_digest(self) -> str:
        """sha256 over which documents can be found with what content, however they are indexed."""
        served = (r for r in self.records() if r.chunks)
        return sha256_hex("\n".join(sorted(f"{r.id} {r.content_hash}" for r in served)))

    def collections(self) -> dict[str, tuple[int, int]]:
        """The number of documents and of chunks of each collection, in order of name."""
        found: dict[str, tuple[int, int]] = {}
        for record in self.records():
            if record.collection and record.chunks:
                documents, chunks = found.get(record.collection, (0, 0))
                found[record.collection] = (documents + 1, chunks + record.chunks)
        return dict(sorted(found.items()))

    def require_collection(self, name: str, *, among: Collection[str] = ()) -> None:
        """Refuse a collection that no document is in.

        Args:
            name: the collection.
            among: all that whoever asks may know of; none: every one.

        Raises:
            CollectionNotFound: says which there are.
        """
        there = [each for each in self.collections() if not among or each in among]
        if name not in there:
            raise CollectionNotFound(
                f"There is no collection {name!r}.",
                hint=f"There is: {', '.join(there)}."
                if there
                else f"Make it with: fti ingest PATH --collection {name}",
            )

    def signatures(self) -> tuple[list[str], NDArray[np.uint8]]:
        """What served documents are compared by; those that have nothing such are left out.

        Returns:
            Their ids, in order, and of each a row of bytes, as ``DocumentUpdate.signature`` was.
        """
        table = self._lance.documents()
        ids: list[str] = []
        kept: list[NDArray[np.uint8]] = [np.zeros((0, 0), np.uint8)]
        if table is None or "signature" not in table.schema.names:
            return ids, kept[0]
        with self._lance.reading():
            rows = table.search().select(["id", "chunks", "signature"])
            for batch in rows.to_batches(_PAGE):
                columns = (batch.column(n).to_pylist() for n in range(3))
                signed = [(i, s) for i, chunks, s in zip(*columns, strict=True) if chunks and s]
                if signed:
                    ids += [identity for identity, _ in signed]
                    joined = np.frombuffer(b"".join(s for _, s in signed), np.uint8)
                    kept.append(joined.reshape(len(signed), -1))
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return [ids[n] for n in order], np.concatenate(kept[1:] or kept)[order]

    def near_duplicates(self) -> dict[str, str]:
        """Sources of documents that say nearly the same as another, with that one's source."""
        lines = self.near_duplicate_lines()
        return {e.record.source: e.record.duplicate_of for e in lines}

    def near_duplicate_lines(self) -> list[LedgerEntry]:
        """The lines of documents that say nearly the same as another, in order of source."""
        table = self._lance.documents()
        if table is None or "duplicate_of" not in table.schema.names:
            return []
        among = lancedb().expr
        marked = table.search().where(among.col("duplicate_of") != among.lit(""))
        with self._lance.reading():
            rows = search.rows(marked.select(_ledger_columns(table)))
        return sorted(map(shapes.ledger_entry, rows), key=lambda e: e.record.source)

    def _of_ids(self, ids: Iterable[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        table = self._lance.documents()
        wanted = list(dict.fromkeys(ids))
        if table is None:
            return
        for start in range(0, len(wanted), 1000):
            query = table.search().where(one_of("id", wanted[start : start + 1000]))
            with self._lance.reading():
                rows = search.rows(query.select(list(columns)))
            yield from rows


def _ledger_columns(table: Any) -> list[str]:
    there = set(table.schema.names)  # an earlier version may lack some
    return [name for name in shapes.LEDGER_COLUMNS if name in there]
