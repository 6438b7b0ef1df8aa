"""The feature store: documents with their ledger, chunks with their vectors, and search over them.

LanceDB underneath. Every change of chunks is one commit, so a reader sees a batch of documents
before it or after it and never between. Texts and ledger lines follow in a second commit; a crash
between the two leaves documents whose chunks carry another ``document_hash`` than the ledger says,
and ``heal`` names them to the next ingest. Writers hold ``Layout.writing``; readers never wait.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store import filters, frames, indexing, search, tables
from store.errors import (
    CollectionNotFound,
    DocumentNotFound,
    EmbedderMismatch,
    StoreEmpty,
    StoreError,
)
from store.filters import Where
from store.frames import WriteReport
from store.history import FeatureVersion, History
from store.indexing import MaintenanceReport
from store.lance import Lance, with_schema
from store.layout import Layout
from store.progress import Progress, ProgressEvent, quiet
from store.search import Fusion
from store.tables import DocumentUpdate, Held, LedgerEntry
from store.types import (
    Chunk,
    Document,
    EmbedderIdentity,
    Passage,
    SourceRecord,
    Value,
    document_id,
    sha256_hex,
)
from store.validation import ValidationConfig

if TYPE_CHECKING:
    from lancedb.expr import Expr

_CACHE_VERSIONS = timedelta(hours=1)  # the embedding cache has no readers of old versions
_MIN_CANDIDATES = 50
_INGEST_HINT = "Ingest documents first: fti ingest PATH"


class FeatureStats(Value):
    """The feature store in numbers."""

    documents: int
    failed: int
    empty: int
    chunks: int
    version: int
    embedder: str
    text_index: bool
    vector_index: str
    unindexed_rows: int


@dataclass(frozen=True, slots=True)
class ReplaceResult:
    """What one commit changed among the chunks, and the version it made."""

    inserted: int
    updated: int
    deleted: int
    version: int


@dataclass(frozen=True, slots=True)
class ChunkSample:
    """Chunks to compare: whose they are, what they say, how many characters, and their vectors."""

    document_ids: Sequence[str]
    texts: Sequence[str]
    lengths: NDArray[np.int64]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ErasedRows:
    """What erasing a document removed, and the tags of versions that hold it still."""

    chunks: int = 0
    vectors: int = 0
    versions: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """What an interrupted ingest left: chunks of no document, documents with other chunks."""

    orphans: frozenset[str]
    broken: frozenset[str]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, as ids of documents.

    Args:
        orphans: chunks are there of documents that are not.
        broken: the chunks are others than the ledger says, as after a crash.
        duplicated: a chunk is there twice.
        without_vector: a chunk's vector is not finite or has no direction.
        unindexed_rows: chunks that the full-text index does not cover.
        stale_index: some are not covered, or there is no full-text index.
    """

    orphans: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    duplicated: frozenset[str] = frozenset()
    without_vector: frozenset[str] = frozenset()
    unindexed_rows: int = 0
    stale_index: bool = False

    @property
    def to_remake(self) -> frozenset[str]:
        """Documents whose chunks must be made anew from their text."""
        return self.broken | self.duplicated | self.without_vector


class FeatureStore:
    """Documents and chunks under one store root. Opening is cheap and reads nothing.

    ``history`` has the versions of the store, and their tags.

    Args:
        layout: where the store lies.
        read_consistency_s: how old, in seconds, a reader's view may be.
        at: a version of the chunks to read as it was; such a store cannot be written.
        documents_at: the version of the documents that belongs to it, where that is known.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        read_consistency_s: float = 0.0,
        at: int | None = None,
        documents_at: int | None = None,
    ) -> None:
        self.layout = layout
        self._lance = Lance(
            layout.features,
            chunks=tables.CHUNKS,
            max_age=timedelta(seconds=read_consistency_s),
            at=at,
            documents_at=documents_at,
        )
        self.history = History(layout, self._lance)
        self._listing: tuple[int, list[LedgerEntry]] | None = None
        self._metadata: tuple[int, dict[str, set[str]]] | None = None

    # What there is

    def exists(self) -> bool:
        """Whether anything was ever ingested, even if nothing remains."""
        return self._lance.open(tables.CHUNKS) is not None

    def version(self) -> int:
        """The version of the chunks as a reader sees them now; 0 when there are none."""
        if self._lance.at is not None:
            return self._lance.at
        table = self._lance.open(self._lance.chunks)
        return int(table.version) if table is not None else 0

    def content_digest(self) -> str:
        """sha256 over what can be found: which documents, with what content, made how.

        Two equal digests mean the same passages, whatever the version numbers: maintenance makes
        a new version too, and a store that was refilled begins to count anew.
        """
        served = (r for r in self.records() if r.chunks)
        known = sorted(f"{r.id} {r.content_hash} {r.settings_digest}" for r in served)
        return sha256_hex("\n".join(known))

    def stats(self) -> FeatureStats:
        """The feature store in numbers; all zero before the first ingest."""
        if not self.exists():
            return FeatureStats(
                documents=0, failed=0, empty=0, chunks=0, version=0, embedder="",
                text_index=False, vector_index="exact", unindexed_rows=0,
            )  # fmt: skip
        chunks = self._snapshot()
        records = self.records()
        identity = tables.passport(chunks.schema)
        with self._lance.reading():
            return FeatureStats(
                documents=sum(r.chunks > 0 for r in records),
                failed=sum(r.state == "failed" for r in records),
                empty=sum(r.state == "empty" for r in records),
                chunks=int(chunks.count_rows()),
                version=int(chunks.version),
                embedder=identity.id,
                text_index=indexing.has_text_index(chunks),
                vector_index=indexing.vector_index(chunks),
                unindexed_rows=indexing.unindexed_rows(chunks),
            )

    # The passport

    def identity(self) -> EmbedderIdentity | None:
        """Which embedder made the vectors; None before the first ingest."""
        return tables.passport(self._snapshot().schema) if self.exists() else None

    def require_identity(self, identity: EmbedderIdentity) -> None:
        """Refuse another embedder than the one that made the vectors.

        Raises:
            EmbedderMismatch: the passports differ.
        """
        held = self.identity()
        if held is None or held == identity:
            return
        ours, theirs = held.model_dump(), identity.model_dump()
        differing = ", ".join(
            f"{name} {ours[name]!r} and {theirs[name]!r}"
            for name in ours
            if ours[name] != theirs[name]
        )
        raise EmbedderMismatch(
            f"The store's vectors were made by {held.id!r}, not by {identity.id!r} as it is now "
            f"(they differ in {differing}).",
            hint="Use the profile that made them, or make all vectors anew: "
            "fti ingest PATH --re-embed",
        )

    def create(self, identity: EmbedderIdentity) -> None:
        """Make the tables where they are absent.

        Raises:
            EmbedderMismatch: there are vectors of another embedder.
        """
        self._refuse_old()
        with self._lance.writing():
            documents = self._lance.ensure(tables.DOCUMENTS, tables.documents_schema())
            self._add_missing_columns(documents)
            table = self._lance.ensure(self._lance.chunks, tables.chunks_schema(identity))
            indexing.ensure_text_index(table)
        self.require_identity(identity)

    def _add_missing_columns(self, documents: Any) -> None:
        """What the ledger of a store made by an earlier fti has no column for."""
        there = set(documents.schema.names)
        missing = [field for field in tables.documents_schema() if field.name not in there]
        if missing:
            documents.add_columns(missing)

    # Documents and the ledger

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
            query = table.search().where(_in("id", ids[start : start + 1000])).select(columns)
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
            hint=f"There is, for example: {', '.join(shown)}" if shown else _INGEST_HINT,
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
                rows = {r["id"]: r for r in search.rows(table.search().where(_in("id", some)))}
            yield from tables.read_documents(rows[i] for i in some if i in rows)

    def failed(self) -> list[LedgerEntry]:
        """The dead letters: sources that could not be taken, in order of source."""
        return [entry for entry in self.ledger() if entry.record.state == "failed"]

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

    # Chunks

    def chunks(self, documents: str | Sequence[str] | None = None) -> list[Chunk]:
        """The chunks of documents by id, or all, in order of source and place."""
        if not self.exists():
            return []
        columns = ["id", "document_id", "source", "ordinal", "start", "end", "text"]
        query = self._snapshot().search().select([*columns, "content_hash", "section"])
        if documents is not None:
            ids = [documents] if isinstance(documents, str) else documents
            query = query.where(_in("document_id", ids))
        with self._lance.reading():
            rows = sorted(search.rows(query), key=lambda r: (r["source"], r["ordinal"]))
        return [tables.read_chunk(row) for row in rows]

    def chunk(self, chunk_id: str) -> tuple[Chunk, str, str]:
        """One chunk with its document's title and source.

        Raises:
            DocumentNotFound: there is no such chunk, at this version.
        """
        with self._lance.reading():
            query = self._snapshot().search().where(_in("id", [chunk_id])).limit(1)
            rows = search.rows(query)
        if not rows:
            raise DocumentNotFound(
                f"There is no chunk {chunk_id!r} in version {self.version()} of the features.",
                hint="Its document was changed or deleted since; look at an earlier version.",
            )
        return tables.read_chunk(rows[0]), rows[0]["title"], rows[0]["source"]

    def vectors(self, chunk_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of chunks that are there, by id."""
        with self._lance.reading():
            query = self._snapshot().search().where(_in("id", chunk_ids))
            rows = query.select(["id", "vector"]).to_arrow()
        return dict(zip(rows["id"].to_pylist(), tables.matrix(rows["vector"]), strict=True))

    def lookup(self, chunk_ids: Sequence[str]) -> dict[str, Chunk]:
        """The chunks that are there of these ids: an online read by key, without a search."""
        if not self.exists() or not chunk_ids:
            return {}
        columns = ["id", "document_id", "ordinal", "start", "end", "text", "content_hash"]
        query = self._snapshot().search().where(_in("id", chunk_ids)).limit(len(set(chunk_ids)))
        with self._lance.reading():
            found = search.rows(query.select([*columns, "section"]))
        return {row["id"]: tables.read_chunk(row) for row in found}

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
            query = query.where(_in("document_id", documents))
        with self._lance.reading():
            names = query.select(["document_id"]).to_arrow()["document_id"].to_pylist()
            size = min(limit, len(names))
            chosen = np.sort(np.random.default_rng(seed).choice(len(names), size, replace=False))
            query = table.search()
            if documents is not None:
                query = query.where(_in("document_id", documents))
            # Streamed, and cut down batch by batch: all vectors of a large store fit no memory.
            parts, at = [], 0
            columns = ["document_id", "text", "start", "end", "vector"]
            for batch in query.select(columns).to_batches(8192):
                inside = chosen[(chosen >= at) & (chosen < at + batch.num_rows)] - at
                at += batch.num_rows
                parts.append(batch.take(inside))
        return _as_sample(parts, table.schema.field("vector").type.list_size)

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

    def write(
        self,
        frame: Any,
        *,
        identity: EmbedderIdentity | None = None,
        config: ValidationConfig | None = None,
    ) -> WriteReport:
        """Make documents of rows: a pyarrow Table or pandas DataFrame with a row per chunk.

        Rows of one ``source`` are one document and replace what the store had of it. Needed are
        ``source``, ``text`` and ``vector``; ``title``, ``section``, ``metadata``, ``media_type``
        and ``start`` count where they are there, as in what ``to_arrow`` gives.

        Args:
            frame: the rows.
            identity: which embedder made the vectors; without, what the table itself says, or the
                store's.
            config: bounds that chunks must keep.

        Raises:
            InputError: the rows are no table of features.
            EmbedderMismatch: the store's vectors come from another embedder.
            StoreLocked, StoreFull: as an ingest.
        """
        return frames.write(self, frame, identity=identity, config=config)

    # Nearly the same

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

    # What there is of chunks

    def chunk_counts(self) -> dict[str, int]:
        """Number of chunks by document id, as they lie in the table."""
        return {key: sum(hashes.values()) for key, hashes in self._chunk_hashes().items()}

    # Writing

    def known_vectors(
        self, keys: Sequence[str], identity: EmbedderIdentity
    ) -> dict[str, NDArray[np.float32]]:
        """The remembered vectors among the keys (sha256 of embedded texts) of one embedder."""
        table = self._lance.open(tables.vectors_name(identity))
        found: dict[str, NDArray[np.float32]] = {}
        if table is None:
            return found
        wanted = list(dict.fromkeys(keys))
        with self._lance.reading():
            for start in range(0, len(wanted), 1000):
                query = table.search().where(_in("key", wanted[start : start + 1000]))
                rows = query.to_arrow()
                vectors = tables.matrix(rows["vector"])
                found.update(zip(rows["key"].to_pylist(), vectors, strict=True))
        return found

    def remember_vectors(
        self, keys: Sequence[str], vectors: NDArray[np.float32], identity: EmbedderIdentity
    ) -> None:
        """Keep vectors for texts that will be embedded again; keys must be new and distinct."""
        if not keys:
            return
        schema = tables.vectors_schema(identity)
        with self._lance.writing():
            table = self._lance.ensure(tables.vectors_name(identity), schema)
            table.add(tables.vectors_table(keys, vectors, schema))

    def forget_vectors(self, identity: EmbedderIdentity) -> None:
        """Drop the remembered vectors of one embedder."""
        self._lance.drop(tables.vectors_name(identity))

    def replace(self, batch: Sequence[DocumentUpdate]) -> ReplaceResult:
        """Make these documents, with their chunks, what the store holds of them.

        The chunks of the whole batch change in one commit: unchanged rows are overwritten, new
        ones added, and those of these documents that are not in the batch deleted. Texts and
        ledger lines follow in a second commit.
        """
        self._refuse_old()
        ids = [update.document.id for update in batch]
        if len(set(ids)) != len(ids):
            raise StoreError("A batch holds the same document twice.")
        table = self._chunks_for_writing()
        rows = tables.chunks_table(batch, table.schema)
        of_batch = _in("document_id", ids)
        with self._lance.writing():
            if rows.num_rows:
                merge = table.merge_insert("id").when_matched_update_all()
                merge = merge.when_not_matched_insert_all()
                done = merge.when_not_matched_by_source_delete(of_batch).execute(rows)
                counts = (done.num_inserted_rows, done.num_updated_rows, done.num_deleted_rows)
            else:
                counts = (0, 0, int(table.count_rows(of_batch.to_sql())))
                if counts[2]:
                    table.delete(of_batch)
            self._upsert_documents(tables.documents_table(batch))
        return ReplaceResult(*counts, version=int(table.version))

    def note(self, entries: Sequence[LedgerEntry]) -> None:
        """Write ledger lines only. The texts and chunks of known sources stay as they are."""
        self._refuse_old()
        if not entries:
            return
        import pyarrow as pa

        rows = [tables.ledger_row(e) for e in entries]
        known = self._known([row["id"] for row in rows])
        old = [r for r in rows if r["id"] in known]
        new = [{**r, "text": "", "media_type": "", "metadata": "\n"} for r in rows]
        new = [r for r in new if r["id"] not in known]
        schema = tables.documents_schema()
        ledger = pa.schema([schema.field(n) for n in tables.LEDGER_COLUMNS])
        with self._lance.writing():
            if old:
                table = self._lance.ensure(tables.DOCUMENTS, schema)
                merge = table.merge_insert("id").when_matched_update_all()
                merge.execute(pa.Table.from_pylist(old, schema=ledger))
            if new:
                self._upsert_documents(pa.Table.from_pylist(new, schema=schema))

    def delete(self, document_ids: Sequence[str]) -> int:
        """Remove documents with their chunks and ledger lines; how many there were."""
        self._refuse_old()
        known = self._known(document_ids)
        gone = [i for i in dict.fromkeys(document_ids) if i in known]
        if not gone:
            return 0
        with self._lance.writing():
            self._chunks_for_writing().delete(_in("document_id", gone))
            self._lance.ensure(tables.DOCUMENTS, tables.documents_schema()).delete(_in("id", gone))
        return len(gone)

    def erase(self, document: str, *, progress: Progress = quiet) -> ErasedRows:
        """Remove a document from the tables, their earlier versions and the embedding caches.

        The tables are written anew: deleted rows would stay in the files. Versions with a tag stay
        with what they hold. Readers of an earlier version lose it.
        """
        self._refuse_old()
        if not self.exists():
            return ErasedRows()
        ours = _in("document_id", [document])
        with self._lance.reading():
            query = self._chunks_for_writing().search().where(ours).select(["search_text"])
            texts = query.to_arrow()["search_text"].to_pylist()
        keys = [sha256_hex(text) for text in texts]
        vectors = 0
        self.delete([document])
        with self._lance.writing():
            if keys:  # by a crash, chunks may be left that no ledger line tells of
                self._chunks_for_writing().delete(ours)
            for name in self._lance.names():
                if tables.is_vectors_name(name) and keys:
                    cache = self._lance.open(name)
                    before = int(cache.count_rows())
                    cache.delete(_in("key", keys))
                    vectors += before - int(cache.count_rows())
            tags = sorted(self._chunks_for_writing().tags.list())
            versions = 0
            for name in self._lance.names():
                progress(ProgressEvent("rewrite", 0, None, name))
                # With a tagged version of the chunks belongs one of the documents.
                versions += self._lance.rewrite(
                    name, forget_versions=not tags or tables.is_vectors_name(name)
                )
            indexing.ensure_text_index(self._chunks_for_writing())
        self.maintain(progress=progress)
        return ErasedRows(len(texts), vectors, versions, tuple(tags))

    def heal(self) -> Health:
        """Remove chunks of no document, and name the documents whose chunks are not theirs."""
        self._refuse_old()
        health = self._health()
        self._remove_chunks(health.orphans)
        return health

    def index_recall(self) -> float | None:
        """Share of the exact ten nearest that the vector index found when it was built.

        None without an index: then every search is exact.
        """
        if not self.exists() or indexing.vector_index(self._snapshot()) == "exact":
            return None
        return indexing.read_recall(self._recall_file)

    @property
    def _recall_file(self) -> Path:
        return self.layout.features / "vector_index.json"

    def diagnose(self) -> Diagnosis:
        """What is wrong with chunks and their index; reads every vector and changes nothing."""
        if not self.exists():
            return Diagnosis()
        health = self._health()
        # The newest version: a snapshot for readers stays at the last one that has its index.
        table = self._snapshot() if self._lance.at is not None else self._chunks_for_writing()
        seen: set[str] = set()
        doubled: set[str] = set()
        pointless: set[str] = set()
        with self._lance.reading():
            for batch in table.search().select(["id", "document_id", "vector"]).to_batches(4096):
                ids, documents = (batch.column(i).to_pylist() for i in range(2))
                vectors = tables.matrix_of(batch.column(2))
                lengths = np.linalg.norm(vectors, axis=1)
                bad = ~np.isfinite(lengths) | (lengths == 0)
                for key, document, no_vector in zip(ids, documents, bad.tolist(), strict=True):
                    if key in seen:
                        doubled.add(document)
                    seen.add(key)
                    if no_vector:
                        pointless.add(document)
            unindexed = indexing.unindexed_rows(table)
            stale = unindexed > 0 or not indexing.has_text_index(table)
        return Diagnosis(
            orphans=health.orphans,
            broken=health.broken,
            duplicated=frozenset(doubled) - health.orphans,
            without_vector=frozenset(pointless) - health.orphans,
            unindexed_rows=unindexed,
            stale_index=stale,
        )

    def remove_chunks(self, document_ids: Collection[str]) -> None:
        """Remove all chunks of documents and leave texts and ledger: they are to be made anew."""
        self._refuse_old()
        self._remove_chunks(document_ids)

    def _remove_chunks(self, document_ids: Collection[str]) -> None:
        if document_ids:
            with self._lance.writing():
                self._chunks_for_writing().delete(_in("document_id", sorted(document_ids)))

    def _health(self) -> Health:
        held = self._chunk_hashes()
        expected = {
            e.record.id: (
                {
                    tables.document_hash(
                        e.record.content_hash, e.record.settings_digest
                    ): e.record.chunks
                }
                if e.record.chunks
                else {}
            )
            for e in self.ledger()
        }
        orphans = frozenset(held) - frozenset(expected)
        broken = {key for key, hashes in expected.items() if held.get(key, {}) != hashes}
        return Health(orphans=orphans, broken=frozenset(broken))

    def maintain(
        self,
        *,
        ann_threshold: int = indexing.ANN_THRESHOLD,
        progress: Progress = quiet,
        thoroughly: bool = False,
    ) -> MaintenanceReport:
        """Bring the indexes up to date, and merge fragments where there are many.

        With ``thoroughly`` every row is indexed, also where a scan of a few would do.
        """
        self._refuse_old()
        with self._lance.writing():
            for name in self._lance.names():
                if name == tables.REBUILD:  # a crash left it after its rows had been adopted
                    self._lance.drop(name)
                elif name == tables.DOCUMENTS:
                    indexing.compact(self._lance.open(name))
                elif tables.is_vectors_name(name):
                    indexing.compact(self._lance.open(name), keep=_CACHE_VERSIONS)
            return indexing.maintain(
                self._chunks_for_writing(),
                ann_threshold=ann_threshold,
                recall_file=self._recall_file,
                progress=progress,
                thoroughly=thoroughly,
            )

    # All vectors anew

    def rebuilding(self, identity: EmbedderIdentity) -> FeatureStore:
        """A store over the same documents with an empty table of chunks for another embedder.

        Readers keep the present chunks until ``adopt``.
        """
        self._refuse_old()
        self._lance.drop(tables.REBUILD)
        aside = FeatureStore(self.layout)
        aside._lance.chunks = tables.REBUILD
        aside.create(identity)
        return aside

    def refill(
        self,
        source: FeatureStore,
        embed: Callable[[Sequence[str]], NDArray[np.float32]],
        *,
        document_hashes: Mapping[str, str],
        batch: int = 256,
    ) -> int:
        """Take all chunks of another store over as they are cut, under new vectors.

        For a store that ``rebuilding`` gave; afterwards it can be searched.

        Args:
            source: whose chunks.
            embed: the vectors of embedded texts, a row each.
            document_hashes: by document id, what its chunks shall say that they were made from;
                others keep theirs.
            batch: chunks embedded and written at once.

        Returns:
            How many chunks there are now.
        """
        import pyarrow as pa

        table = self._chunks_for_writing()
        schema = table.schema
        with self._lance.writing():
            for rows in source._snapshot().search().to_batches(batch):
                vectors = embed(rows["search_text"].to_pylist())
                columns = {name: rows[name] for name in schema.names if name != "vector"}
                columns["document_hash"] = pa.array(
                    document_hashes.get(document, made_from)
                    for document, made_from in zip(
                        rows["document_id"].to_pylist(), rows["document_hash"].to_pylist(),
                        strict=True,
                    )
                )  # fmt: skip
                columns["vector"] = tables.vector_column(vectors, schema)
                table.add(pa.table([columns[name] for name in schema.names], schema=schema))
            table.optimize(cleanup_older_than=indexing.NEVER)
        return int(table.count_rows())

    def discard(self, rebuilt: FeatureStore) -> None:
        """Drop what ``rebuilding`` gave, where it was not adopted."""
        if rebuilt._lance.chunks == tables.REBUILD:
            self._lance.drop(tables.REBUILD)

    def adopt(self, rebuilt: FeatureStore) -> int:
        """Put the rebuilt chunks in the place of the present ones, in one commit.

        Vectors remembered for other embedders are dropped. Returns the new version.
        """
        self._refuse_old()
        source = rebuilt._chunks_for_writing()
        schema = source.schema
        with self._lance.writing():
            rows = with_schema(source.search().to_batches(1024), schema)
            indexing.ensure_text_index(self._lance.overwrite(tables.CHUNKS, rows, schema))
        keep = tables.vectors_name(tables.passport(schema))
        for name in self._lance.names():
            if name == tables.REBUILD or (tables.is_vectors_name(name) and name != keep):
                self._lance.drop(name)
        return self.version()

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
            return search.by_vector(table, vector, k, self._filter(where))

    def search_text(self, query: str, k: int, where: Where | None = None) -> list[Passage]:
        """The chunks that hold the query's words, by BM25, best first; none for no words.

        Raises:
            StoreEmpty, InvalidFilter.
        """
        table = self._searchable()
        with self._lance.reading():
            return search.by_words(table, query, k, self._filter(where))

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
            return search.by_both(
                table, query, vector, k, self._filter(where), depth=depth, fusion=fusion
            )

    # Versions

    def record_version(self, run: str = "") -> FeatureVersion:
        """Note the present state as a numbered version, left by a run."""
        self._refuse_old()
        stats = self.stats()
        return self.history.record(
            documents=stats.documents, chunks=stats.chunks, embedder=stats.embedder, run=run
        )

    def checkout(self, version: int | str) -> FeatureStore:
        """The store as it was at a version of the chunks, to read only.

        Args:
            version: a number, or a tag.

        Raises:
            VersionNotFound: there is no such version or tag.
        """
        number = self.history.resolve(version) if isinstance(version, str) else version
        beside = self.history.documents_version(number)
        earlier = FeatureStore(self.layout, at=number, documents_at=beside)
        earlier._snapshot()
        return earlier

    def rollback(self, version: int | str, run: str = "") -> FeatureVersion:
        """Make documents and chunks what they were at a version, as a new version.

        Vectors of another embedder come back with it. The next ingest takes again what has changed
        in the files since.

        Raises:
            VersionNotFound: there is no such version or tag.
        """
        self._refuse_old()
        self.history.restore(self.checkout(version).version())
        self._listing = None
        with self._lance.writing():
            indexing.ensure_text_index(self._chunks_for_writing())
        return self.record_version(run)

    # Inside

    def _filter(self, where: Where | None) -> Expr | None:
        facts = filters.Facts(
            values=self._metadata_values,
            documents=lambda reference: [r.id for r in self.find_document(reference)],
            ingested=lambda condition: [
                r.id
                for r in self.records()
                if r.ingested_at and condition.matches(r.ingested_at.isoformat())
            ],
            chunks=self._chunks_where,
        )
        return filters.expression(where, facts)

    def _metadata_values(self) -> Mapping[str, Collection[str]]:
        """The values of each metadata key, at the version that is searched."""
        table = self._snapshot()
        version = int(table.version)
        if self._metadata is None or self._metadata[0] != version:
            values: dict[str, set[str]] = {}
            for batch in table.search().select(["metadata"]).to_batches(8192):
                for text in batch.column(0).unique().to_pylist():
                    for key, value in tables.decode_metadata(text).items():
                        values.setdefault(key, set()).add(value)
            self._metadata = (version, values)
        return self._metadata[1]

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
        with self._lance.reading():
            if not table.count_rows():
                raise StoreEmpty(
                    f"The store {str(self.layout.root)!r} holds no passages yet.",
                    hint=_INGEST_HINT,
                )
        return table

    def _chunk_hashes(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        table = self._lance.open(self._lance.chunks)
        if table is None:
            return found
        with self._lance.reading():
            for batch in table.search().select(["document_id", "document_hash"]).to_batches(8192):
                columns = (batch.column(i).to_pylist() for i in range(2))
                for key, made_from in zip(*columns, strict=True):
                    hashes = found.setdefault(key, {})
                    hashes[made_from] = hashes.get(made_from, 0) + 1
        return found

    def _snapshot(self) -> Any:
        table = self._lance.snapshot()
        if table is None:
            raise StoreEmpty(f"The store {str(self.layout.root)!r} is empty.", hint=_INGEST_HINT)
        return table

    def _chunks_for_writing(self) -> Any:
        table = self._lance.open(self._lance.chunks)
        if table is None:
            raise StoreEmpty(f"The store {str(self.layout.root)!r} is empty.", hint=_INGEST_HINT)
        return table

    def _known(self, document_ids: Sequence[str]) -> set[str]:
        table = self._lance.open(tables.DOCUMENTS)
        if table is None or not document_ids:
            return set()
        with self._lance.reading():
            rows = search.rows(table.search().where(_in("id", document_ids)).select(["id"]))
        return {row["id"] for row in rows}

    def _upsert_documents(self, rows: Any) -> None:
        table = self._lance.ensure(tables.DOCUMENTS, tables.documents_schema())
        merge = table.merge_insert("id").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(rows)

    def _refuse_old(self) -> None:
        if self._lance.at is not None:
            raise StoreError(
                f"Version {self._lance.at} of the features is history; it cannot be written."
            )


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


def _in(column: str, values: Iterable[str]) -> Expr:
    from lancedb.expr import col

    return col(column).isin(list(values))
