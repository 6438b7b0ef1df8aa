"""How the items of an HTML list are numbered: articles and steps are cited by their numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fti.pipelines.feature.reading.readers.numerals import numeral

if TYPE_CHECKING:
    from bs4 import Tag

_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,10})(?![0-9])")
_LIMIT = 2**31 - 1
_STYLE = re.compile(r"list-style(?:-type)?\s*:[^;]*?\b(none|(?:lower|upper)-(?:alpha|latin|roman))")
_STYLES = {
    "lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A",
    "lower-roman": "i", "upper-roman": "I", "none": "",
}  # fmt: skip
_TYPES = ("1", "a", "A", "i", "I")
_MAX_ROMAN = 3999
_MAX_ALPHABETIC = 26**3


def integer(value: object) -> int | None:
    """The number at the head of an attribute, as browsers read it; none where there is none."""
    found = _INTEGER.match(str(value or ""))
    return max(-_LIMIT, min(int(found[1]), _LIMIT)) if found else None


class Numbering:
    """The markers of one ``ol`` in turn.

    Args:
        element: the list, whose ``start``, ``reversed``, ``type`` and style count.
        items: how many items it has.
    """

    def __init__(self, element: Tag, items: int) -> None:
        self._step = -1 if element.has_attr("reversed") else 1
        start = integer(element.get("start"))
        self._next = start if start is not None else items if self._step < 0 else 1
        self._type = _type_of(element, "1")

    def marker(self, item: Tag) -> str:
        """What stands before this item, such as ``3.``; empty where the page shows none."""
        value = integer(item.get("value"))
        number = value if value is not None else self._next
        self._next = number + self._step
        kind = _type_of(item, self._type)
        return f"{_written(number, kind)}." if kind else ""


def _type_of(element: Tag, otherwise: str) -> str:
    style = _STYLE.search(str(element.get("style") or "").lower())
    if style:
        return _STYLES[style[1]]
    kind = str(element.get("type") or "")
    return kind if kind in _TYPES else otherwise


def _written(number: int, kind: str) -> str:
    if kind in "iI" and 0 < number <= _MAX_ROMAN:
        text = numeral(number, "lowerRoman")
    elif kind in "aA" and 0 < number <= _MAX_ALPHABETIC:
        text = ""
        while number:
            number, digit = divmod(number - 1, 26)
            text = chr(ord("a") + digit) + text
    else:
        return str(number)
    return text.upper() if kind.isupper() else text
