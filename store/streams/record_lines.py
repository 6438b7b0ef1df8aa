"""A record's line as a JSON object and as a value, or what is wrong with it in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from fti.store.moments import in_utc
from fti.store.types import Value

_Record = TypeVar("_Record", bound=Value)


def json_object(line: bytes, *, max_bytes: int, setting: str) -> dict[str, Any]:
    """The object on a line.

    Args:
        line: JSON.
        max_bytes: a longer one is refused.
        setting: what says so, for people.

    Raises:
        ValueError: it is none; the message says why.
    """
    if len(line) > max_bytes:
        raise ValueError(f"the record is larger than {max_bytes} bytes ({setting})")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the record is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"the record is a JSON {type(value).__name__}, not an object")
    return value


def as_value(kind: type[_Record], fields: Mapping[str, Any]) -> _Record:
    """The fields as a value.

    Raises:
        ValueError: they are none; the message names the first that is wrong.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {message}" if where else message) from error


def moment(at: datetime | None) -> datetime | None:
    """When a record says that it happened, in UTC.

    Raises:
        ValueError: it names no time zone.
    """
    if at is not None and at.tzinfo is None:
        raise ValueError("has no time zone; write it like 2026-03-01T12:00:00Z")
    return in_utc(at) if at else None
