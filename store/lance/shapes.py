"""The shape of the feature store's LanceDB tables, and the way of values in and out of them.

Three tables. ``documents`` is the ledger and the texts: a row per source, whatever became of it.
``chunks`` is what is searched, with title and source repeated so that one commit of this one table
is a complete state. ``vectors_<digest>`` remembers the vectors of one embedder by embedded text.
Nothing here opens a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fti.store.errors import StoreError
from fti.store.page_starts import passage_metadata
from fti.store.plain_text import utf8
from fti.store.types import CONTEXT, Chunk, Document, EmbedderIdentity, SourceRecord, sha256_hex

if TYPE_CHECKING:
    import pyarrow as pa

DOCUMENTS = "documents"
CHUNKS = "chunks"
REBUILD = "chunks_rebuild"
#: In the metadata of documents and chunks: the collection they belong to.
COLLECTION = "collection"
_VECTORS = "vectors_"
_HEX = "S64"  # numpy's type for hex sha256: half of what strings take
#: What the ledger says in place of a file of a document that came as a record of a stream. Files
#: are absolute paths, so that no record can pass for one.
STREAM = "stream:"
#: In the metadata of a table's schema: which embedder made its vectors.
PASSPORT = b"fti.embedder"

#: Columns of ``chunks`` without the vector and the indexed text: what a passage needs.
PASSAGE_COLUMNS = (
    "id", "document_id", "title", "source", "section", "start", "end", "text", "metadata",
)  # fmt: skip
#: Columns of ``documents`` without the text: what the ledger says.
LEDGER_COLUMNS = (
    "id", "source", "title", "state", "cause", "content_hash", "attempted_hash",
    "settings_digest", "chunks", "attempted_at", "ingested_at", "file", "file_hash",
    "file_documents", "collection", "attempts", "retry_at", "attempted_settings",
    "duplicate_of",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A ledger line with the file behind it.

    A file may hold many documents (a corpus.jsonl does). ``file_documents`` says how many: only
    when so many entries carry the same ``file_hash`` was the file taken in whole.
    """

    record: SourceRecord
    file: str
    file_hash: str
    file_documents: int = 1


@dataclass(frozen=True, slots=True)
class Held:
    """What the store has of one source: its ledger line and its metadata."""

    entry: LedgerEntry
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DocumentUpdate:
    """A document with everything that replaces what the store had of it.

    ``vectors`` has a row per chunk; ``search_texts`` is what was embedded and is indexed for words.
    No chunks: the document stays in the ledger and is no longer found. ``signature`` is what texts
    are compared by to find those that say nearly the same.
    """

    document: Document
    entry: LedgerEntry
    chunks: tuple[Chunk, ...] = ()
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    search_texts: tuple[str, ...] = ()
    signature: bytes = b""


def documents_schema() -> pa.Schema:
    """A row per source: the ledger's line and, where there is one, the last good text."""
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            _key("id"),
            *(_required(n) for n in ("source", "title", "text", "media_type", "metadata")),
            *(_required(n) for n in ("state", "cause", "content_hash", "attempted_hash")),
            _required("settings_digest"),
            _required("chunks", pa.int32()),
            _required("attempted_at", moment),
            pa.field("ingested_at", moment),
            _required("file"),
            _required("file_hash"),
            _required("file_documents", pa.int64()),
            # Since 0.1.0: null in rows that were written before, absent in versions from then.
            pa.field("collection", pa.string()),
            pa.field("attempts", pa.int32()),
            pa.field("retry_at", moment),
            pa.field("attempted_settings", pa.string()),
            pa.field("duplicate_of", pa.string()),
            pa.field("signature", pa.binary()),
        ]
    )


def ledger_schema() -> pa.Schema:
    """The ledger's part of ``documents_schema``."""
    import pyarrow as pa

    schema = documents_schema()
    return pa.schema([schema.field(name) for name in LEDGER_COLUMNS])


def chunks_schema(identity: EmbedderIdentity) -> pa.Schema:
    """A row per chunk; the passport of the vectors lies in the metadata."""
    import pyarrow as pa

    return pa.schema(
        [
            _key("id"),
            _required("document_id"),
            _required("document_hash"),
            _required("ordinal", pa.int32()),
            _required("start", pa.int64()),
            _required("end", pa.int64()),
            *(_required(n) for n in ("text", "content_hash", "title", "source")),
            *(_required(n) for n in ("media_type", "metadata", "search_text")),
            _required("section", pa.list_(pa.string())),
            _required("vector", pa.list_(pa.float32(), identity.dimension)),
        ],
        metadata={PASSPORT: identity.model_dump_json().encode("utf-8")},
    )


def vectors_schema(identity: EmbedderIdentity) -> pa.Schema:
    """The embedding cache of one embedder: sha256 of the embedded text to its vector."""
    import pyarrow as pa

    return pa.schema(
        [_key("key"), _required("vector", pa.list_(pa.float32(), identity.dimension))],
        metadata={PASSPORT: identity.model_dump_json().encode("utf-8")},
    )


def vectors_name(identity: EmbedderIdentity) -> str:
    """Name of the cache table; another embedder has another one."""
    return _VECTORS + identity.digest[:16]


def is_vectors_name(name: str) -> bool:
    """Whether a table is an embedding cache."""
    return name.startswith(_VECTORS)


def keys_of_texts(batches: Iterable[pa.RecordBatch]) -> NDArray[np.bytes_]:
    """The keys in the embedding cache of texts, a column of batches, once each and sorted."""
    found: list[NDArray[np.bytes_]] = [np.empty(0, dtype=_HEX)]
    for batch in batches:
        keys = [sha256_hex(text) for text in batch.column(0).to_pylist()]
        found.append(np.asarray(keys, dtype=_HEX))
    return np.unique(np.concatenate(found))


def rows_with_keys(
    batches: Iterable[pa.RecordBatch], wanted: NDArray[np.bytes_], schema: pa.Schema
) -> pa.RecordBatchReader:
    """The rows of an embedding cache that have one of the keys, which are sorted."""
    import pyarrow as pa

    def some() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            keys = np.asarray(batch.column(0).to_pylist(), dtype=_HEX)
            at = np.searchsorted(wanted, keys)
            has = np.zeros(len(keys), dtype=bool)
            inside = at < len(wanted)
            has[inside] = wanted[at[inside]] == keys[inside]
            kept = batch.filter(pa.array(has))
            yield pa.RecordBatch.from_arrays(kept.columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, some())


def passport(schema: pa.Schema) -> EmbedderIdentity:
    """The identity that a table's vectors were made under.

    Raises:
        StoreError: the table carries none, so its vectors cannot be trusted.
    """
    raw = (schema.metadata or {}).get(PASSPORT)
    if raw is None:
        raise StoreError(
            "The table of chunks does not say which embedder made its vectors.",
            hint="It was not written by fti; ingest into a new store.",
        )
    return EmbedderIdentity.model_validate_json(raw)


def document_hash(content_hash: str, settings_digest: str) -> str:
    """What a document's chunks were made from: its content and the settings of the cut."""
    return sha256_hex(f"{content_hash} {settings_digest}")[:32]


def encode_metadata(metadata: Mapping[str, str]) -> str:
    """Metadata in one column, a JSON pair a line, so that one pair can be found by ``contains``."""
    return "\n" + "".join(_pair(k, v) + "\n" for k, v in sorted(metadata.items()))


def metadata_pair(key: str, value: str) -> str:
    """The text that ``encode_metadata`` of metadata with this pair contains, and no other does."""
    return f"\n{_pair(key, value)}\n"


def decode_metadata(text: str) -> dict[str, str]:
    """The inverse of ``encode_metadata``."""
    return dict(json.loads(line) for line in text.split("\n") if line)


def documents_table(updates: Sequence[DocumentUpdate]) -> pa.Table:
    """Rows of ``documents`` with text and ledger line."""
    import pyarrow as pa

    rows = []
    for update in updates:
        document = update.document
        rows.append(
            {
                **ledger_row(update.entry),
                "title": utf8(document.title),
                "text": document.text,
                "media_type": document.media_type,
                "metadata": encode_metadata(document.metadata),
                "signature": update.signature or None,
            }
        )
    return pa.Table.from_pylist(rows, schema=documents_schema())


def ledger_row(entry: LedgerEntry) -> dict[str, Any]:
    """The ledger's part of a row of ``documents``."""
    values = entry.record.model_dump()
    for name in ("source", "title", "cause", "duplicate_of"):
        values[name] = utf8(values[name])
    return {
        **values,
        "file": utf8(entry.file),
        "file_hash": entry.file_hash,
        "file_documents": entry.file_documents,
    }


def ledger_entry(row: Mapping[str, Any]) -> LedgerEntry:
    """The inverse of ``ledger_row``."""
    values = dict(row)
    file = values.pop("file")
    file_hash = values.pop("file_hash")
    count = values.pop("file_documents")
    values = {name: value for name, value in values.items() if value is not None}
    return LedgerEntry(SourceRecord(**values), file, file_hash, count)


def chunks_table(updates: Sequence[DocumentUpdate], schema: pa.Schema) -> pa.Table:
    """Rows of ``chunks``.

    Raises:
        StoreError: vectors are missing, of another dimension, or not numbers.
    """
    import pyarrow as pa

    dimension = schema.field("vector").type.list_size
    columns: dict[str, list[Any]] = {f.name: [] for f in schema if f.name != "vector"}
    blocks: list[NDArray[np.float32]] = []
    for update in updates:
        if not update.chunks:
            continue
        count = len(update.chunks)
        if update.vectors.shape != (count, dimension) or len(update.search_texts) != count:
            raise StoreError(
                f"{count} chunks of {update.document.source!r} came with vectors of shape "
                f"{update.vectors.shape}; the table holds dimension {dimension}."
            )
        if not np.isfinite(update.vectors).all():
            raise StoreError(f"A vector of {update.document.source!r} is not finite.")
        blocks.append(np.asarray(update.vectors, dtype=np.float32))
        _append(columns, update)
    flat = np.concatenate(blocks).ravel() if blocks else np.zeros(0, np.float32)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), dimension)
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def _append(columns: dict[str, list[Any]], update: DocumentUpdate) -> None:
    document, record = update.document, update.entry.record
    made_from = document_hash(record.content_hash, record.settings_digest)
    same = {
        "document_id": document.id,
        "document_hash": made_from,
        "title": utf8(document.title),
        "source": utf8(document.source),
        "media_type": document.media_type,
    }
    count = len(update.chunks)
    for name, value in same.items():
        columns[name].extend([value] * count)
    for chunk, search_text in zip(update.chunks, update.search_texts, strict=True):
        columns["id"].append(chunk.id)
        columns["ordinal"].append(chunk.ordinal)
        columns["start"].append(chunk.start)
        columns["end"].append(chunk.end)
        columns["text"].append(chunk.text)
        columns["content_hash"].append(chunk.content_hash)
        columns["search_text"].append(utf8(search_text))
        columns["section"].append([utf8(s) for s in chunk.section])
        facts = passage_metadata(
            document.metadata, chunk.start, chunk.end, context=utf8(chunk.context)
        )
        columns["metadata"].append(encode_metadata(facts))


def read_documents(rows: Iterable[Mapping[str, Any]]) -> list[Document]:
    """Documents from rows of ``documents``."""
    return [
        Document(
            id=r["id"],
            source=r["source"],
            title=r["title"],
            text=r["text"],
            content_hash=r["content_hash"],
            media_type=r["media_type"],
            metadata=decode_metadata(r["metadata"]),
            ingested_at=_moment(r["ingested_at"], r["attempted_at"]),
        )
        for r in rows
    ]


def read_chunk(row: Mapping[str, Any]) -> Chunk:
    """A chunk from a row of ``chunks``."""
    return Chunk(
        id=row["id"],
        document_id=row["document_id"],
        ordinal=row["ordinal"],
        start=row["start"],
        end=row["end"],
        text=row["text"],
        content_hash=row["content_hash"],
        section=tuple(row["section"]),
        context=_context(row["metadata"]),
    )


def _context(metadata: str) -> str:
    # Few chunks have one, and all are read at once: the others' metadata is not taken apart.
    return decode_metadata(metadata).get(CONTEXT, "") if f'"{CONTEXT}"' in metadata else ""


def vectors_table(keys: Sequence[str], vectors: NDArray[np.float32], schema: pa.Schema) -> pa.Table:
    """Rows of the embedding cache."""
    import pyarrow as pa

    keys_column = pa.array(list(keys), pa.string())
    return pa.table([keys_column, vector_column(vectors, schema)], schema=schema)


def vector_column(vectors: NDArray[np.float32], schema: pa.Schema) -> pa.Array:
    """Vectors, a row each, as the column ``vector`` of a table with this schema."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, schema.field("vector").type.list_size)


def matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A vector column as an array, a row per vector."""
    dimension = column.type.list_size
    if len(column) == 0:
        return np.zeros((0, dimension), np.float32)
    return np.concatenate([matrix_of(chunk) for chunk in column.chunks])


def matrix_of(array: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """One array of vectors as a matrix, a row per vector."""
    flat = array.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, array.type.list_size).astype(np.float32, copy=False)


def _pair(key: str, value: str) -> str:
    return json.dumps([utf8(key), utf8(value)], ensure_ascii=False)


def _moment(*candidates: datetime | None) -> datetime:
    return next(c for c in candidates if c is not None)


def _required(name: str, kind: Any = None) -> pa.Field:
    import pyarrow as pa

    return pa.field(name, kind or pa.string(), nullable=False)


def _key(name: str) -> pa.Field:
    import pyarrow as pa

    # Without this mark, two writers that insert the same new key both succeed (LanceDB 0.40).
    return pa.field(
        name,
        pa.string(),
        nullable=False,
        metadata={b"lance-schema:unenforced-primary-key:position": b"1"},
    )
