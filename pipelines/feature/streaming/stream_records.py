"""Documents that come as records of a stream: what a record says, and what is wrong with one.

A record is a JSON object on one line:

    {"source": "tickets/17", "text": "...", "title": "...", "format": "markdown",
     "metadata": {"team": "hall"}, "at": "2026-03-01T12:00:00Z"}
    {"source": "tickets/17", "deleted": true}

``source`` is the document's name for ever: a later record of the same source replaces it. ``at`` is
when it happened; an older record that comes late does not replace a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from fti.pipelines.feature.finding.sources import RawDocument
from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.reading.readers import READERS
from fti.pipelines.feature.reading.readers.base import MAX_METADATA_KEYS, facts
from fti.store.errors import ExtractionError
from fti.store.page_starts import PAGE, PAGE_STARTS
from fti.store.plain_text import clean_line
from fti.store.streams.record_lines import as_value, json_object, moment
from fti.store.types import Value, sha256_hex

#: Key of a document's metadata that says when its record happened, in ISO 8601.
AT = "at"
DELETED = "deleted by a record"
_MAX_SOURCE = 500
_SUFFIXES = {"text": ".txt", "markdown": ".md", "html": ".html"}


class Record(Value):
    """One document, or its end, as a stream tells it."""

    source: str = Field(min_length=1, max_length=_MAX_SOURCE)
    text: str = ""
    title: str = ""
    format: Literal["text", "markdown", "html"] = "text"
    metadata: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)
    at: datetime | None = None
    deleted: bool = False

    @field_validator("source")
    @classmethod
    def _plain(cls, source: str) -> str:
        # Names of files are absolute paths: a record can never replace one, nor be read as one.
        if source[0] in "/~\\" or source[1:3] in (":\\", ":/"):
            raise ValueError("begins like a path of a file; records have names of their own")
        if source != source.strip() or not source.isprintable():
            raise ValueError("holds control characters, or spaces around it")
        return source

    _utc = field_validator("at")(moment)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.deleted and self.text:
            raise ValueError("it is deleted and has a text")
        if not self.deleted and not self.text.strip():
            raise ValueError("it has no text; to delete a document write deleted: true")
        if len(self.metadata) > MAX_METADATA_KEYS:
            raise ValueError(f"it has more than {MAX_METADATA_KEYS} metadata keys")
        return self

    @property
    def digest(self) -> str:
        """Sha256 of what it says, whenever it happened: the same again changes nothing."""
        said = self.model_dump(mode="json", exclude={"at"})
        return sha256_hex(json.dumps(said, sort_keys=True))


def parse_record(line: bytes, *, max_bytes: int) -> Record:
    """The record on a line.

    Raises:
        ExtractionError: it is no such record; the message says why.
    """
    try:
        value = json_object(line, max_bytes=max_bytes, setting="features.stream.max_record_bytes")
        return as_value(Record, value)
    except ValueError as error:
        raise ExtractionError(str(error)) from error


def named_source(line: bytes) -> str:
    """The source that a record names although it cannot be taken; empty when it names none."""
    try:
        source = json.loads(line)["source"]
        return Record(source=source, deleted=True).source
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""


def raw_document(record: Record, parser: Parser) -> RawDocument:
    """The record as a reader would have found it in a file.

    Raises:
        ExtractionError: its text cannot be read as its format.
    """
    suffix = _SUFFIXES[record.format]
    reserved = (AT, PAGE, PAGE_STARTS)
    metadata = {k: v for k, v in record.metadata.items() if k not in reserved}
    when = {AT: record.at.isoformat()} if record.at else {}
    text, title = "", record.title
    if not record.deleted:
        # A lone surrogate is no UTF-8; its escape is what the store would keep of it.
        found = parser.parse(suffix, record.text.encode("utf-8", "backslashreplace"))[0]
        text, title = found.text, record.title or found.title
        metadata = {**found.metadata, **metadata}
        metadata.pop("encoding", None)  # of the bytes that were made here
    return RawDocument(
        source=record.source,
        title=clean_line(title) or clean_line(record.source.rsplit("/", 1)[-1]),
        text=text,
        media_type=READERS[suffix].media_type,
        metadata=facts(**metadata) | when,
        content_hash=record.digest,
        empty_reason=DELETED if record.deleted else "",
    )
