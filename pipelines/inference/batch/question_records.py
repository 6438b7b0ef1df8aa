"""Questions that come as records of a stream: what a record says, and what is wrong with one.

A record is a JSON object on one line; other keys are ignored:

    {"id": "q17", "question": "When is the kiln fired?", "at": "2026-03-01T12:00:00Z"}

``id`` is the question's name: the same question under the same id is answered once. Entries of a
Redis stream that name none go by their own id. ``at`` is when it was asked.
"""

from __future__ import annotations

import json
from datetime import datetime

from pydantic import Field, ValidationError, field_validator

from fti.store.errors import InvalidCases
from fti.store.moments import in_utc
from fti.store.types import Value

_MAX_ID = 500


class AskedRecord(Value):
    """A question of a stream. One that is empty is answered with an error, under its id."""

    id: str = Field(min_length=1, max_length=_MAX_ID)
    question: str
    at: datetime | None = None

    @field_validator("id")
    @classmethod
    def _plain(cls, key: str) -> str:
        if key != key.strip() or not key.isprintable():
            raise ValueError("holds control characters, or spaces around it")
        return key

    @field_validator("at")
    @classmethod
    def _utc(cls, at: datetime | None) -> datetime | None:
        if at is not None and at.tzinfo is None:
            raise ValueError("has no time zone; write it like 2026-03-01T12:00:00Z")
        return in_utc(at) if at else None


def parse_question(line: bytes, *, max_bytes: int, name: str = "") -> AskedRecord:
    """The question on a line.

    Args:
        line: JSON.
        max_bytes: a longer one is refused.
        name: the id of a record that names none; empty: it must name one.

    Raises:
        InvalidCases: it is no such record; the message says why.
    """
    if len(line) > max_bytes:
        raise InvalidCases(
            f"the record is larger than {max_bytes} bytes (batch.stream.max_record_bytes)"
        )
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidCases(f"the record is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidCases(f"the record is a JSON {type(value).__name__}, not an object")
    known = {key: value[key] for key in AskedRecord.model_fields if key in value}
    if name:
        known.setdefault("id", name)
    try:
        return AskedRecord.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidCases(f"{where}: {message}" if where else message) from error
