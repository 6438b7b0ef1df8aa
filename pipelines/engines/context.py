"""What a stretch of a passage cannot be read without, once the rest of the passage is cut away.

A row of a table says nothing without the names of its columns, nor does a line ``column: value``
without the row that it is of.
"""

from __future__ import annotations

import re

from fti.store.types import CONTEXT, Passage

_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:[|+][ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_PAIR = re.compile(r"[^:\n]{1,120}: .*\S")
_BAR = re.compile(r"(?<!\\)\|")
_MAX_COLUMNS = 400  # characters
_MAX_ROW = 120


def context_at(passage: Passage, start: int) -> str:
    """The context of what stands at an offset of a passage's text; mostly the passage's own."""
    text = passage.text
    block = text.rfind("\n\n", 0, start)
    block = block + 2 if block >= 0 else 0
    inherited = passage.metadata.get(CONTEXT, "") if block == 0 else ""
    end = text.find("\n\n", start)
    lines = text[block : end if end >= 0 else len(text)].split("\n")
    at = text.count("\n", block, start)
    if "|" in lines[at]:
        columns = _columns_above(lines, at)
        return inherited if columns is None else columns
    if inherited or at == 0:
        return inherited
    return lines[0][:_MAX_ROW] if all(map(_PAIR.fullmatch, lines)) else ""


def _columns_above(lines: list[str], at: int) -> str | None:
    """The names of the columns of the table around a line; None where it begins further up."""
    for place in range(at - 1, -1, -1):
        if "|" not in lines[place]:
            return ""
        if place and "|" in lines[place - 1] and _RULE.fullmatch(lines[place]):
            cells = _BAR.split(lines[place - 1].strip().removeprefix("|").removesuffix("|"))
            return " | ".join(cell.strip() for cell in cells)[:_MAX_COLUMNS].strip()
    return None
