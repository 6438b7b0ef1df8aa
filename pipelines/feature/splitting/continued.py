"""What a piece of a table cannot be read without: the names of its columns, or whose row it is.

A table that is longer than a chunk is split between its rows, and a row that is longer within
itself. The first piece shows the names of the columns; the others are given them as their context,
which is embedded and shown to a model beside the text, and is no part of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from fti.pipelines.feature.reading.headings import (
    ROW_TEXTS,
    Line,
    is_source_code,
    lines,
    plain_heading,
)
from fti.store.plain_text import clean_line

_MAX_CHARACTERS = 400
_MAX_NAME = 120  # of the row, and of the column, that a piece goes on with
_MAX_LINE = 20_000  # a longer one names no columns
#: The rule below the names of columns, as Markdown and Org write it.
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:[|+][ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_BAR = re.compile(r"(?<!\\)\|")
_PAIR = ": "


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a text: ``text[start:end]`` are its lines, and ``body`` is where its rows begin.

    ``columns`` are their names, parted by bars.
    """

    start: int
    body: int
    end: int
    columns: str


class Continued:
    """What pieces of one text go on with.

    Args:
        text: cleaned.
        media_type: says how the text writes tables.
    """

    def __init__(self, text: str, media_type: str) -> None:
        self._text = text
        self._rows = media_type in ROW_TEXTS
        self.tables: list[Table] = []
        if not self._rows and not is_source_code(media_type) and "|" in text:
            self.tables = _tables(lines(text, fences=True))
        self._starts = [table.start for table in self.tables]

    def context(self, start: int) -> str:
        """What must be said beside a piece that begins at ``start``; mostly nothing."""
        if self._rows:
            return self._of_row(start)
        at = bisect_right(self._starts, start) - 1
        if at < 0 or not self.tables[at].body <= start < self.tables[at].end:
            return ""
        return self.tables[at].columns

    def in_table(self, start: int) -> bool:
        """Whether ``start`` lies within a table, where half a row would begin."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and start < self.tables[at].end

    def within(self, start: int, end: int) -> list[Table]:
        """The tables that lie in ``text[start:end]``."""
        low, high = (bisect_right(self._starts, offset) for offset in (start - 1, end - 1))
        return self.tables[low:high]

    def _of_row(self, start: int) -> str:
        """The first line of the row that goes on at ``start``, and the column within it."""
        text = self._text
        above = text.rfind("\n\n", 0, start)
        block = above + 2 if above >= 0 else 0
        if start <= block:
            return ""
        first_end = text.find("\n", block)
        first = text[block : first_end if first_end >= 0 else len(text)][:_MAX_LINE]
        line = text.rfind("\n", 0, start) + 1
        column = ""
        if line < start:
            name, pair, _ = text[line : line + _MAX_NAME].partition(_PAIR)
            column = name if pair and line + len(name) < start else ""
        elif _PAIR not in first and _PAIR not in text[line : line + _MAX_NAME]:
            return ""  # lines as they stand, none of which belongs to another
        if line == block:
            return clean_line(column, max_characters=_MAX_NAME)
        said = [clean_line(part, max_characters=_MAX_NAME) for part in (first, column)]
        return " | ".join(filter(None, said))


def _tables(found: list[Line]) -> list[Table]:
    tables: list[Table] = []
    i = 1
    while i < len(found):
        names, rule = found[i - 1], found[i]
        if not _is_rule(rule) or not _is_row(names):
            i += 1
            continue
        after = i + 1
        while after < len(found) and _is_row(found[after]):
            after += 1
        columns = _columns(names.text)
        if after > i + 1 and columns.strip(" |"):
            body = found[i + 1].start
            tables.append(Table(names.start, body, found[after - 1].end, columns))
        i = after + 1
    return tables


def _is_rule(line: Line) -> bool:
    text = line.text
    return not line.fence and "-" in text and ("|" in text) and bool(_RULE.fullmatch(text))


def _is_row(line: Line) -> bool:
    return not line.fence and "|" in line.text and len(line.text) <= _MAX_LINE


def _columns(line: str) -> str:
    cells = _BAR.split(line.strip().removeprefix("|").removesuffix("|"))
    return clean_line(" | ".join(map(plain_heading, cells)), max_characters=_MAX_CHARACTERS)
