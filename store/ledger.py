"""Documents and the ledger, to read: what became of every source, and the texts that are served."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from store import search, tables
from store.errors import CollectionNotFound, DocumentNotFound
from store.opened import INGEST_HINT, OpenedFeatures, one_of
from store.tables import Held, LedgerEntry
from store.types import Document, SourceRecord, document_id, sha256_hex


class LedgerReader(OpenedFeatures):
    """A line per source, and the documents behind the lines."""

    _listing: tuple[int, list[LedgerEntry]] | None = None  # as of a version of the documents

    def ledger(self) -> list[LedgerEntry]:
        """A line per source, in order of source, with the file behind each."""
        table = self._lance.documents()
        if table is None:
            return []
        with self._lance.reading():
            version = int(table.version)
            if self._listing is None or self._listing[0] != version:
                there = set(table.schema.names)  # an earlier version may lack some
                columns = [name for name in tables.LEDGER_COLUMNS if name in there]
                rows = search.rows(table.search().select(columns))
                entries = sorted(map(tables.ledger_entry, rows), key=lambda e: e.record.source)
                self._listing = (version, entries)
            return list(self._listing[1])

    def records(self) -> list[SourceRecord]:
        """The ledger: what became of every source, in order of source."""
        return [entry.record for entry in self.ledger()]

    def record(self, source: str) -> SourceRecord | None:
        """The ledger's line on one source."""
        return next((r for r in self.records() if r.source == source), None)

    def held(self, sources: Iterable[str]) -> dict[str, Held]:
        """What the store has of these sources, without reading the rest of the ledger."""
        table = self._lance.documents()
        found: dict[str, Held] = {}
        ids = [document_id(source) for source in dict.fromkeys(sources)]
        if table is None:
            return found
        columns = [*tables.LEDGER_COLUMNS, "metadata"]
        for start in range(0, len(ids), 1000):
            query = table.search().where(one_of("id", ids[start : start + 1000])).select(columns)
            with self._lance.reading():
                rows = search.rows(query)
            for row in rows:
                metadata = tables.decode_metadata(row.pop("metadata"))
                found[row["source"]] = Held(tables.ledger_entry(row), metadata)
        return found

    def find_document(self, reference: str) -> list[SourceRecord]:
        """The documents that a reference means: by exact source or id, else by the path's end."""
        served = [r for r in self.records() if r.chunks > 0]
        exact = [r for r in served if reference in (r.source, r.id)]
        if exact or not reference:
            return exact
        tail = "/" + reference.removeprefix("./").lstrip("/")
        return [r for r in served if r.source.endswith(tail)]

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
            yield from tables.read_documents(rows[i] for i in some if i in rows)

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

    def collections(self) -> dict[str, tuple[int, int]]:
        """The number of documents and of chunks of each collection, in order of name."""
        found: dict[str, tuple[int, int]] = {}
        for record in self.records():
            if record.collection and record.chunks:
                documents, chunks = found.get(record.collection, (0, 0))
                found[record.collection] = (documents + 1, chunks + record.chunks)
        return dict(sorted(found.items()))

    def require_collection(self, name: str) -> None:
        """Refuse a collection that no document is in.

        Raises:
            CollectionNotFound: says which there are.
        """
        there = self.collections()
        if name not in there:
            raise CollectionNotFound(
                f"There is no collection {name!r}.",
                hint=f"There is: {', '.join(there)}."
                if there
                else f"Make it with: fti ingest PATH --collection {name}",
            )

    def signatures(self) -> dict[str, bytes]:
        """What each served document is compared by, by id; those that have none are left out."""
        table = self._lance.documents()
        if table is None or "signature" not in table.schema.names:
            return {}
        with self._lance.reading():
            rows = table.search().select(["id", "chunks", "signature"]).to_arrow().to_pylist()
        return {r["id"]: r["signature"] for r in rows if r["signature"] and r["chunks"]}

    def near_duplicates(self) -> dict[str, str]:
        """Sources of documents that say nearly the same as another, with that one's source."""
        return {r.source: r.duplicate_of for r in self.records() if r.duplicate_of}
