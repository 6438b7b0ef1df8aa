"""Documents made by hand for the feature store, with vectors whose directions a test can see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.types import (
    Chunk,
    Document,
    EmbedderIdentity,
    SourceRecord,
    document_id,
    now,
    sha256_hex,
)

DIMENSION = 4
IDENTITY = EmbedderIdentity(
    id="by-hand", weights_sha256="0" * 64, dimension=DIMENSION, max_tokens=64
)


def axis(*weights: float) -> np.ndarray:
    """A vector with these first components."""
    return np.asarray([*weights, *[0.0] * (DIMENSION - len(weights))], np.float32)


def an_update(
    source: str,
    parts: Mapping[str, np.ndarray] | Sequence[str],
    *,
    metadata: Mapping[str, str] | None = None,
    settings: str = "s1",
    title: str = "",
    dimension: int = DIMENSION,
) -> DocumentUpdate:
    """A document of these paragraphs, a chunk each, with its ledger line."""
    vectors = dict(parts) if isinstance(parts, Mapping) else {}
    texts = list(parts)
    text = "\n\n".join(texts)
    digest = sha256_hex(text)
    document = Document(
        id=document_id(source),
        source=source,
        title=title or source.rsplit("/", 1)[-1],
        text=text,
        content_hash=digest,
        media_type="text/markdown",
        metadata=metadata or {},
    )
    chunks = []
    for ordinal, part in enumerate(texts):
        start = sum(len(p) + 2 for p in texts[:ordinal])
        chunks.append(
            Chunk(
                id="c" + sha256_hex(document.id + part)[:24],
                document_id=document.id,
                ordinal=ordinal,
                start=start,
                end=start + len(part),
                text=part,
                content_hash=sha256_hex(part),
                section=("Top",),
            )
        )
    record = SourceRecord(
        id=document.id,
        source=source,
        title=document.title,
        state="indexed" if chunks else "empty",
        content_hash=digest,
        attempted_hash=digest,
        settings_digest=settings,
        chunks=len(chunks),
        attempted_at=now(),
        ingested_at=document.ingested_at,
    )
    rows = [vectors.get(p, np.ones(dimension, np.float32)) for p in texts]
    return DocumentUpdate(
        document=document,
        entry=LedgerEntry(record, source, digest),
        chunks=tuple(chunks),
        vectors=np.asarray(rows, np.float32).reshape(-1, dimension),
        search_texts=tuple(f"{document.title}\n{p}" for p in texts),
    )
