"""Conditions on rows: what a person writes, as a typed value.

    tag=news                equal, to the letter          tag!=news        anything else, or nothing
    page>=3   price<9.5     numbers, or dates             date<2026-04-01
    tag in news, "a, b"     one of a list                 page in 3..7     both ends included

A text that holds operators, commas or edge spaces is written as a JSON string: ``tag="a, b"``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fti.store.errors import InvalidFilter
from fti.store.moments import read_moment
from fti.store.plain_text import utf8

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
ORDERING: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}

_COMPARED = re.compile(r"\s*([^=!<>]*?)\s*(<=|>=|!=|=|<|>)(.*)", re.DOTALL)
_LISTED = re.compile(r"\s*([^=!<>\s]+)\s+in\s+(\S.*)", re.DOTALL)
_ITEM = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^,"][^,]*?)\s*(,|$)', re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_SPAN = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)
_HELP = "Write for example tag=news, page>=3, page in 3..7, or tag in news, blog"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: the key's value stands in this relation to the values (one, but for "in").

    ``limits``: for whoever searches, there is nothing for which it does not hold; an error names
    nothing beyond it either.
    """

    key: str
    operator: Operator
    values: tuple[str, ...]
    limits: bool = False

    def __post_init__(self) -> None:
        # As the tables hold them: half a surrogate pair is no UTF-8.
        object.__setattr__(self, "key", utf8(self.key))
        object.__setattr__(self, "values", tuple(map(utf8, self.values)))
        if self.operator in ORDERING and ordered(self.values[0]) is None:
            raise InvalidFilter(
                f"{self.values[0]!r} after {self.key} {self.operator} is neither a number nor a "
                "date.",
                hint="Write dates like 2026-04-01 or 2026-04-01T12:00; compare texts by =.",
            )

    def matches(self, value: str | None) -> bool:
        """Whether it holds for this value; None: the passage has no such key."""
        if self.operator == "!=":
            return value != self.values[0]
        if value is None:
            return False
        if self.operator in ("=", "in"):
            return value in self.values
        asked = ordered(self.values[0])
        mine = ordered(_end_of_span(value, last=self.operator in (">", ">=")))
        if mine is None or asked is None or isinstance(mine, float) != isinstance(asked, float):
            return False
        return ORDERING[self.operator](mine, asked)

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        quoted = ", ".join(json.dumps(value, ensure_ascii=False) for value in self.values)
        if self.operator == "in":
            return f"{self.key} in {quoted}"
        return f"{self.key}{self.operator}{quoted}"


Where = Mapping[str, str] | Sequence[Condition | str]
"""Conditions that must all hold: values, or texts as ``parse`` reads them (one text is one
condition). A mapping holds pairs that must be equal."""


def conditions(where: Where | None) -> tuple[Condition, ...]:
    """The conditions of any form.

    Raises:
        InvalidFilter: a text is no condition.
    """
    if isinstance(where, Mapping):
        return tuple(Condition(key, "=", (value,)) for key, value in where.items())
    if isinstance(where, str):
        return parse([where])
    found: list[Condition] = []
    for each in where or ():
        found += parse([each]) if isinstance(each, str) else [each]
    return tuple(found)


def limits_of(where: Where | None) -> tuple[Condition, ...]:
    """Those of the conditions beyond which there is nothing for whoever searches."""
    return tuple(condition for condition in conditions(where) if condition.limits)


def parse(texts: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions that the texts write, all of which must hold.

    Raises:
        InvalidFilter: a text is no condition; says how one is written.
    """
    return tuple(found for text in texts for found in _parse(text))


def _parse(text: str) -> list[Condition]:
    if listed := _LISTED.fullmatch(text):
        key, rest = listed.groups()
        items = _items(rest)
        low, dots, high = (part.strip() for part in rest.partition(".."))
        # Of a path with dots neither end is a number or a date.
        if dots and len(items) == 1 and (ordered(low) or ordered(high)) is not None:
            return [Condition(key, ">=", (low,)), Condition(key, "<=", (high,))]
        if not items:
            raise InvalidFilter(f"The list in the filter {text!r} cannot be read.", hint=_HELP)
        return [Condition(key, "in", tuple(items))]
    compared = _COMPARED.fullmatch(text)
    if compared is None or not compared[1]:
        raise InvalidFilter(f"The filter {text!r} has no key and operator.", hint=_HELP)
    key, operator, value = compared.groups()
    return [Condition(key, operator, (_text(value),))]  # type: ignore[arg-type]  # by the pattern


def _items(text: str) -> list[str]:
    """The items of a list; none where it cannot be read."""
    found, at = [], 0
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            return []
        found.append(_text(item[1]))
        at = item.end()
        if item[2] == "," and at >= len(text):  # nothing behind the last comma
            return []
    return found


def _text(written: str) -> str:
    """A value as it is meant: a JSON string's content, or the text without spaces at its edges."""
    written = written.strip()
    if written.startswith('"'):
        try:
            return str(json.loads(written))
        except ValueError:
            return written
    return written


def ordered(text: str) -> float | datetime | None:
    """A number, or a moment in UTC (a day begins it), that the text writes; None for neither."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else None
    return read_moment(text)


def _end_of_span(text: str, *, last: bool) -> str:
    """Of pages such as ``3-4`` the last or the first; any other text as it is."""
    span = _SPAN.fullmatch(text)
    return span[2 if last else 1] if span and int(span[1]) <= int(span[2]) else text
