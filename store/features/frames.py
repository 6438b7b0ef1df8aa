"""Features as tables for data frames, and tables from elsewhere as features.

A row is a chunk. What is written is held to the same contract as what an ingest stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fti.store.errors import InputError
from fti.store.features.indexed_text import embedding_text
from fti.store.lance import shapes
from fti.store.lance.shapes import COLLECTION, DocumentUpdate, LedgerEntry
from fti.store.types import (
    CONTEXT,
    Chunk,
    Document,
    EmbedderIdentity,
    SourceRecord,
    Value,
    chunk_id,
    document_id,
    now,
    sha256_hex,
)
from fti.store.versioned.versions import check_name

if TYPE_CHECKING:
    import pyarrow as pa

#: What the ledger says in place of a file of a document that came as rows.
FRAME = "frame:"
#: Columns of a table of chunks; ``vector`` last, as it is the largest.
COLUMNS = (
    "id", "document_id", "source", "title", "section", "ordinal", "start", "end", "text",
    "content_hash", "media_type", "metadata", "vector",
)  # fmt: skip
_NEEDED = ("source", "text", "vector")


class WriteReport(Value):
    """What writing rows did. ``refused`` has a source with the reason for each that broke the
    contract; it stands in the ledger and not in the table. ``run`` is that of the write."""

    documents: int
    chunks: int
    refused: Mapping[str, str]
    version: int
    run: str = ""


def as_table(batches: Iterable[Any], schema: pa.Schema, columns: Iterable[str]) -> pa.Table:
    """Rows of ``chunks`` with metadata as maps, and the passport of the vectors."""
    import pyarrow as pa

    found = pa.Table.from_batches(list(batches), pa.schema([schema.field(c) for c in columns]))
    if "metadata" in found.column_names:
        maps = [list(shapes.decode_metadata(t).items()) for t in found["metadata"].to_pylist()]
        at = found.column_names.index("metadata")
        kind = pa.map_(pa.string(), pa.string())
        found = found.set_column(at, "metadata", pa.array(maps, kind))
    return found.replace_schema_metadata(schema.metadata)


def check_columns(columns: Iterable[str] | None) -> list[str]:
    """The columns that are asked for; all without.

    Raises:
        InputError: one does not exist.
    """
    wanted = list(COLUMNS if columns is None else columns)
    unknown = [c for c in wanted if c not in COLUMNS]
    if unknown or not wanted:
        raise InputError(
            f"Chunks have no columns {unknown!r}." if unknown else "No column is asked for.",
            hint=f"There is: {', '.join(COLUMNS)}.",
        )
    return wanted


def table_of(frame: Any) -> pa.Table:
    """An Arrow table from one, or from a pandas data frame.

    Raises:
        InputError: it is neither, or lacks a column that is needed.
    """
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        found = frame
    elif hasattr(frame, "to_dict") and hasattr(frame, "columns"):
        # By rows: pandas holds a map as a dict, which Arrow would take for a struct of all keys.
        rows = frame.to_dict("records")
        names = [str(c) for c in frame.columns]
        found = pa.table({n: _column(n, [row[n] for row in rows]) for n in names})
    else:
        raise InputError(
            f"A {type(frame).__name__} is no table of features.",
            hint="Give a pyarrow Table or a pandas DataFrame.",
        )
    missing = [name for name in _NEEDED if name not in found.column_names]
    if missing:
        raise InputError(
            f"The table has no columns {missing!r}.",
            hint="Needed are source, text and vector; title, section, metadata, media_type, start "
            "and end may be there.",
        )
    return found


def _column(name: str, values: list[Any]) -> pa.Array:
    import pyarrow as pa

    if name == "metadata":
        maps = [list(v.items()) if isinstance(v, Mapping) else v for v in values]
        return pa.array(maps, pa.map_(pa.string(), pa.string()))
    if name in ("vector", "section"):
        values = [None if v is None else list(v) for v in values]
    try:
        return pa.array(values, from_pandas=True)  # NaN stands for what is missing
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"The column {name!r} cannot be read: {error}.") from error


def digest_of(table: pa.Table) -> str:
    """sha256 of a table's rows, whatever they are called or how they are chunked."""
    import pyarrow as pa

    plain = table.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)
    return sha256_hex(sink.getvalue().to_pybytes())


def passport_of(table: pa.Table) -> EmbedderIdentity | None:
    """The embedder that a table from a feature store says made its vectors."""
    held = table.schema.metadata or {}
    return shapes.passport(table.schema) if shapes.PASSPORT in held else None


def updates(
    table: pa.Table,
    identity: EmbedderIdentity,
    *,
    collection: str | None = None,
    present: Mapping[str, str] | None = None,
) -> Iterator[DocumentUpdate]:
    """A document for each source, in order of first row.

    A document comes into the collection that is named, else into the one that its rows name in
    their metadata, else it stays in the one that it is in. With ``start`` and ``end`` the text is
    laid out as they say, white space between; without, the rows' texts stand one after another.

    Args:
        table: the rows.
        identity: of the embedder that made the vectors.
        collection: for all documents.
        present: the collection that each document is in now, by document id.

    Raises:
        InvalidName: a collection has a name that none can have.
        InputError: rows of a source name several collections, a value is of a wrong kind, or two
            rows claim one place with different texts.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(table.to_pylist()):
        if not isinstance(row["source"], str) or not row["source"]:
            raise InputError(f"Row {number} has the source {row['source']!r}, which is no text.")
        if not isinstance(row["text"], str):
            raise InputError(f"Row {number} has the text {row['text']!r}, which is no text.")
        by_source.setdefault(row["source"], []).append(row)
    for source, rows in by_source.items():
        before = (present or {}).get(document_id(source), "")
        yield _update(source, rows, identity, collection=collection, before=before)


def _update(
    source: str,
    rows: list[dict[str, Any]],
    identity: EmbedderIdentity,
    *,
    collection: str | None,
    before: str,
) -> DocumentUpdate:
    placed = all(row.get("start") is not None for row in rows)
    if placed:
        rows = sorted(rows, key=lambda row: (row["start"], row["start"] + len(row["text"])))
    text, starts = _laid_out(source, rows, placed=placed)
    key, first, moment = document_id(source), rows[0], now()
    title = first.get("title") or source.rsplit("/", 1)[-1]
    facts = [{str(k): str(v) for k, v in dict(row.get("metadata") or ()).items()} for row in rows]
    named = _collection(source, facts, collection, before)
    metadata = {k: v for k, v in facts[0].items() if k not in (COLLECTION, CONTEXT)}
    if collection is not None and facts[0].get(COLLECTION, named) != named:
        metadata["own_" + COLLECTION] = facts[0][COLLECTION]  # as an ingest keeps such a claim
    if named:
        metadata[COLLECTION] = named
    document = Document(
        id=key,
        source=source,
        title=title,
        text=text,
        content_hash=sha256_hex(text),
        media_type=first.get("media_type") or "text/plain",
        metadata=metadata,
        ingested_at=moment,
    )
    seen: Counter[str] = Counter()
    chunks = []
    for ordinal, (row, start, own) in enumerate(zip(rows, starts, facts, strict=True)):
        digest = sha256_hex(row["text"])
        chunks.append(
            Chunk(
                id=chunk_id(key, digest, seen[digest]),
                document_id=key,
                ordinal=ordinal,
                start=start,
                end=start + len(row["text"]),
                text=row["text"],
                content_hash=digest,
                section=tuple(row.get("section") or ()),
                context=own.get(CONTEXT, ""),
            )
        )
        seen[digest] += 1
    record = SourceRecord(
        id=key,
        source=source,
        title=title,
        state="indexed",
        collection=named,
        content_hash=document.content_hash,
        attempted_hash=document.content_hash,
        chunks=len(chunks),
        attempted_at=moment,
        ingested_at=moment,
    )
    try:
        vectors = np.asarray([row["vector"] for row in rows], dtype=np.float32)
    except (TypeError, ValueError):  # missing, or of several lengths: the contract says so
        vectors = np.zeros((0, identity.dimension), np.float32)
    return DocumentUpdate(
        document=document,
        entry=LedgerEntry(record, FRAME, document.content_hash),
        chunks=tuple(chunks),
        vectors=vectors,
        search_texts=tuple(embedding_text(title, c.section, c.text, c.context) for c in chunks),
    )


def _collection(
    source: str, facts: Sequence[Mapping[str, str]], collection: str | None, before: str
) -> str:
    if collection is not None:
        return collection
    claims = dict.fromkeys(one[COLLECTION] for one in facts if one.get(COLLECTION))
    if len(claims) > 1:
        raise InputError(
            f"Rows of {source!r} name the collections {', '.join(claims)}, and a document is in "
            "one at most.",
            hint="Name one for all of them: write(frame, collection=NAME)",
        )
    return check_name(next(iter(claims)), "collection") if claims else before


def _laid_out(source: str, rows: list[dict[str, Any]], *, placed: bool) -> tuple[str, list[int]]:
    if not placed:
        starts, at = [], 0
        for row in rows:
            starts.append(at)
            at += len(row["text"]) + 2
        return "\n\n".join(row["text"] for row in rows), starts
    text = ""
    for row in rows:
        start, part = row["start"], row["text"]
        text += "\n" * (start - len(text))
        shared = text[start : start + len(part)]
        if shared != part[: len(shared)]:
            raise InputError(
                f"Two rows of {source!r} have different texts at {start}.",
                hint="Leave out start and end, and the texts stand one after another.",
            )
        text += part[len(shared) :]
    return text, [row["start"] for row in rows]


def refused_line(update: DocumentUpdate, before: LedgerEntry | None, why: str) -> LedgerEntry:
    """The ledger line of rows that break the contract; what was served of the source stays."""
    failure = {
        "state": "failed",
        "cause": f"its features are not stored: {why}",
        "attempted_hash": update.document.content_hash,
        "attempted_at": now(),
    }
    if before is not None:
        record = before.record.model_copy(update=failure)
        return LedgerEntry(record, before.file, before.file_hash, before.file_documents)
    blank = {"content_hash": "", "chunks": 0, "ingested_at": None}
    record = update.entry.record.model_copy(update={**failure, **blank})
    return LedgerEntry(record, update.entry.file, "")
