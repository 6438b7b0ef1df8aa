"""Questions that come as records of a stream: what a record says, and what is wrong with one.

A record is a JSON object on one line; other keys are ignored:

    {"id": "q17", "question": "When is the kiln fired?", "at": "2026-03-01T12:00:00Z"}

``id`` is the question's name: the same question under the same id is answered once. Entries of a
Redis stream that name none go by their own id. ``at`` is when it was asked.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, field_validator

from fti.store.errors import InvalidCases
from fti.store.streams.record_lines import as_value, json_object, moment
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

    _utc = field_validator("at")(moment)


def parse_question(line: bytes, *, max_bytes: int, name: str = "") -> AskedRecord:
    """The question on a line.

    Args:
        line: JSON.
        max_bytes: a longer one is refused.
        name: the id of a record that names none; empty: it must name one.

    Raises:
        InvalidCases: it is no such record; the message says why.
    """
    try:
        value = json_object(line, max_bytes=max_bytes, setting="batch.stream.max_record_bytes")
        known = {key: value[key] for key in AskedRecord.model_fields if key in value}
        if name:
            known.setdefault("id", name)
        return as_value(AskedRecord, known)
    except ValueError as error:
        raise InvalidCases(str(error)) from error
