"""Raised and lowered signs of a page as text that says the same in one line.

``10<sup>6</sup>`` is 10^6 and not 106, and the mark of a note does not become part of the price
before it. What people write without a sign stays so: ordinals (1st), fractions (3/4), trade marks
and the indices of chemical formulas (CO2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fti.store.plain_text import clean_line

if TYPE_CHECKING:
    from bs4 import Tag

_SCRIPTS = frozenset({"sup", "sub", "rt"})
_MAX_CHARACTERS = 40  # a longer text is raised for its looks, not as a sign
_MAX_STEPS = 12
_PLAIN = re.compile(r"[+\-−–]?\w+")
_ORDINALS = frozenset(
    {"st", "nd", "rd", "th", "e", "er", "re", "ère", "eme", "ème", "o", "a", "os", "as"}
)
_ABBREVIATIONS = frozenset({"o", "os", "me", "mes", "lle", "lles", "gr"})
_TRADE_MARKS = {"tm": "™", "sm": "℠", "r": "®"}
_SLASHES = "/⁄∕"
_CENTS = re.compile(r"\d\d|[-–—]{1,2}")
_BREAKS = frozenset({"br", "td", "th", "tr", "p", "li", "div", "dd", "dt"})


def keep_scripts(elements: Iterable[Tag]) -> None:
    """Put each ``sup``, ``sub`` and reading aid among the elements into words, in its place."""
    for element in elements:
        if element.name not in _SCRIPTS:
            continue
        text = clean_line(element.get_text(), max_characters=_MAX_CHARACTERS + 1)
        if not text:
            continue
        if element.name == "rt":
            neighbour = element.find_previous_sibling(True)
            if neighbour is None or neighbour.name != "rp":
                element.string = f"({text})"
        elif len(text) > _MAX_CHARACTERS:
            element.insert(0, " ")
            element.append(" ")
        else:
            before, after = _before(element), _after(element)
            raised = element.name == "sup"
            is_note = element.find("a", href=lambda href: href and "#" in href)
            if raised and is_note:
                element.string = text if text[0] in "[(" else f"[{text}]"
            else:
                element.string = (_raised if raised else _lowered)(text, before, after)


def _raised(text: str, before: str, after: str) -> str:
    last = before[-1:]
    if after[:1] in _SLASHES and after and text.isdecimal():
        return f" {text}" if last.isalnum() else text  # the upper half of 1 3/4
    if last.isalpha() and text.casefold() in _TRADE_MARKS:
        return _TRADE_MARKS[text.casefold()]
    if not any(c.isalnum() for c in text):
        return text  # an asterisk, a dagger: they join nothing to anything
    if (last.isdecimal() or not last) and text.casefold() in _ORDINALS:
        return text
    if last.isupper() and text in _ABBREVIATIONS:
        return text
    if last in {",", "."} and before[:1].isdecimal() and _CENTS.fullmatch(text):
        return text  # the cents of a price
    return f"^{text}" if _is_plain(text, after) else f"^({text})"


def _lowered(text: str, before: str, after: str) -> str:
    last = before[-1:]
    if last and last in _SLASHES and text.isdecimal():
        return text
    if last.isalpha() and text.isdecimal() and not after[:1].isdecimal():
        return text
    if not any(c.isalnum() for c in text):
        return text
    return f"_{text}" if _is_plain(text, after) else f"_({text})"


def _is_plain(text: str, after: str) -> bool:
    """Whether the sign ends where its text does."""
    follows = after[:1].isdecimal() if text[-1].isdecimal() else after[:1].isalnum()
    return bool(_PLAIN.fullmatch(text)) and not follows


def _before(element: Tag) -> str:
    """The two characters before an element in its paragraph, if there are any."""
    from bs4 import Tag

    node = element.previous_element
    for _ in range(_MAX_STEPS):
        if node is None or (isinstance(node, Tag) and node.name in _BREAKS):
            return ""
        if not isinstance(node, Tag) and str(node):
            return str(node)[-2:]
        node = node.previous_element
    return ""


def _after(element: Tag) -> str:
    """The character behind an element in its paragraph, if there is any."""
    from bs4 import Tag

    node: object = element
    for _ in range(_MAX_STEPS):
        if not isinstance(node, Tag):
            break
        if node.next_sibling is not None:
            node = node.next_sibling
            break
        node = node.parent
        if isinstance(node, Tag) and node.name in _BREAKS:
            return ""
    for _ in range(_MAX_STEPS):
        if not isinstance(node, Tag):
            return str(node or "")[:1]
        if node.name in _BREAKS:
            return ""
        node = next(iter(node.contents), None)
    return ""
