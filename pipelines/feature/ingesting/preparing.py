"""One file read, cleaned and split: the part of an ingest that needs no store.

It is given what the store holds of the file and gives back values, so that it can run anywhere: in
this process, in others, or on other machines (``executors``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.finding.opening import read
from fti.pipelines.feature.finding.sources import (
    FailedSource,
    RawDocument,
    SkippedSource,
    SourceFile,
)
from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.pipelines.feature.splitting.chunking import ChunkingConfig, chunk
from fti.store.errors import ExtractionError
from fti.store.features.indexed_text import embedding_text
from fti.store.plain_text import clean
from fti.store.types import Chunk, Document, document_id, sha256_hex


@dataclass(frozen=True, slots=True)
class Job:
    """A file to take.

    Args:
        file: where it lies.
        file_hash: sha256 of its bytes, as they were when it was looked at.
        served: by document id, the content that the store holds and that need not be split again.
    """

    file: SourceFile
    file_hash: str
    served: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Same:
    """A document of the file that the store holds just so."""

    source: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class Split:
    """A document with its chunks, the texts that are embedded for them, and those texts' keys."""

    document: Document
    chunks: tuple[Chunk, ...]
    texts: tuple[str, ...]
    keys: tuple[str, ...]
    empty_reason: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a job; ``failure`` where the file as a whole could not be read.

    ``skipped`` are members of an archive that are never read.
    """

    job: Job
    found: tuple[Same | Split | FailedSource, ...] = ()
    failure: FailedSource | None = None
    skipped: tuple[SkippedSource, ...] = ()


def prepare(
    job: Job,
    *,
    embedder: Embedder,
    sources: SourcesConfig,
    chunking: ChunkingConfig,
    parser: Parser,
) -> Prepared:
    """Read a file and split its documents. What cannot be read is in the result, not raised."""
    try:
        found = read(job.file, config=sources, parser=parser)
    except ExtractionError as error:
        failure = FailedSource(job.file.source, error.message, error.transient)
        return Prepared(job, failure=failure)
    return Prepared(
        job,
        tuple(
            raw
            if isinstance(raw, FailedSource)
            else split(raw, served=job.served, embedder=embedder, chunking=chunking)
            for raw in found
            if not isinstance(raw, SkippedSource)
        ),
        skipped=tuple(one for one in found if isinstance(one, SkippedSource)),
    )


def split(
    raw: RawDocument, *, served: Mapping[str, str], embedder: Embedder, chunking: ChunkingConfig
) -> Same | Split:
    """A document's chunks; nothing is split of what is served as it is."""
    identifier = document_id(raw.source)
    if served.get(identifier) == raw.content_hash:
        return Same(raw.source, raw.content_hash)
    document = Document(
        id=identifier,
        source=raw.source,
        title=raw.title,
        text=clean(raw.text),
        content_hash=raw.content_hash,
        media_type=raw.media_type,
        metadata=raw.metadata,
    )
    chunks = chunk(
        document,
        token_spans=embedder.token_spans,
        config=chunking,
        embedder_max_tokens=embedder.identity.max_tokens,
    )
    return with_texts(document, chunks, empty_reason=raw.empty_reason)


def with_texts(document: Document, chunks: list[Chunk], *, empty_reason: str = "") -> Split:
    """A document that is split, with what is embedded of it."""
    texts = tuple(embedding_text(document.title, c.section, c.text, c.context) for c in chunks)
    keys = tuple(sha256_hex(text) for text in texts)
    return Split(document, tuple(chunks), texts, keys, empty_reason)
