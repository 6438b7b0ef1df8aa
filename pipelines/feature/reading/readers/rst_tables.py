"""Tables of reStructuredText as rows of ``| a | b |``: those drawn as grids, and simple ones.

A cell of a grid is drawn over several lines, so that its words stand apart from one another and
between those of its neighbours; no search finds them, and no reader of a piece can put them
together. A drawing that does not hold together stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from fti.pipelines.feature.reading.readers import markdown

_GRID_EDGE = re.compile(r"[ \t]*\+(?:[-=]+\+)+[ \t]*$")
_SIMPLE_EDGE = re.compile(r"[ \t]*=+(?: +=+)+[ \t]*$")
_MAX_LINES = 5000
_MAX_WIDTH = 2000
_MAX_CELLS = 200_000
_MAX_REPEATED = 200_000  # characters that cells over several rows or columns repeat


def with_plain_tables(text: str) -> str:
    """The text with its tables drawn as rows."""
    if "==" not in text and "+-" not in text:
        return text
    lines = text.split("\n")
    found: list[str] = []
    at = 0
    while at < len(lines):
        rows, end = _table_at(lines, at)
        if rows:
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            found += [indent + row for row in markdown.table(rows).split("\n")]
            at = end
        else:
            found.append(lines[at])
            at += 1
    return "\n".join(found)


def _table_at(lines: Sequence[str], at: int) -> tuple[list[list[str]], int]:
    """The rows of the table that begins on a line, and where it ends; none if none does."""
    if at and lines[at - 1].strip():
        return [], at
    if _GRID_EDGE.match(lines[at]):
        return _grid(lines, at)
    if _SIMPLE_EDGE.match(lines[at]):
        return _simple(lines, at)
    return [], at


def _grid(lines: Sequence[str], at: int) -> tuple[list[list[str]], int]:
    indent = len(lines[at]) - len(lines[at].lstrip())
    drawn: list[str] = []
    for line in lines[at : at + _MAX_LINES]:
        body = line[indent:].rstrip()
        if line[:indent].strip() or body[:1] not in ("+", "|") or body[-1:] not in ("+", "|"):
            break
        drawn.append(body)
    width = len(drawn[0])
    edges = [i for i, line in enumerate(drawn) if "+-" in line or "+=" in line]
    if (
        len(drawn) < 3
        or width > _MAX_WIDTH
        or any(len(line) != width for line in drawn)
        or not _GRID_EDGE.match(drawn[-1])
    ):
        return [], at
    columns = sorted({c for i in edges for c, sign in enumerate(drawn[i]) if sign == "+"})
    if len(edges) * len(columns) > _MAX_CELLS or len(columns) < 3:  # a box around text
        return [], at
    return _cells(drawn, edges, columns), at + len(drawn)


def _cells(drawn: Sequence[str], edges: Sequence[int], columns: Sequence[int]) -> list[list[str]]:
    """The values of each column in each row; what goes over several stands in each of them."""
    rows: list[list[str]] = []
    tops: list[tuple[int, int]] = [(0, 0)] * (len(columns) - 1)  # row and place of the cell above
    texts: dict[tuple[int, int], list[str]] = {}
    owners: list[list[tuple[int, int]]] = []
    for number, (top, bottom) in enumerate(pairwise(edges)):
        owner: list[tuple[int, int]] = []
        for place, (left, right) in enumerate(pairwise(columns)):
            inside = drawn[top][left + 1 : right]
            goes_on = number > 0 and not set(inside) <= {"-", "=", "+"}
            beside = any(drawn[i][left] not in "|+" for i in range(top + 1, bottom))
            if goes_on:
                key = tops[place]
                if not owner or owner[-1] != key:
                    texts[key].append(drawn[top][left + 1 : right].strip())
            elif place and beside:
                key = owner[-1]
            else:
                key = (number, place)
                texts[key] = []
            owner.append(key)
        for key in dict.fromkeys(owner):
            places = [p for p, k in enumerate(owner) if k == key]
            left, right = columns[places[0]] + 1, columns[places[-1] + 1]
            texts[key] += [drawn[i][left:right].strip() for i in range(top + 1, bottom)]
        tops = owner
        owners.append(owner)
    said = {key: " ".join(filter(None, parts)) for key, parts in texts.items()}
    room = _MAX_REPEATED
    for number, owner in enumerate(owners):
        row: list[str] = []
        for place, key in enumerate(owner):
            value = said[key]
            if key != (number, place):
                room -= len(value)
                value = value if room > 0 else ""
            row.append(value)
        rows.append(row)
    return rows


def _simple(lines: Sequence[str], at: int) -> tuple[list[list[str]], int]:
    """A table between rows of ``=``; a line whose first column is blank goes on with the row."""
    edge = lines[at].rstrip()
    columns = [(m.start(), m.end()) for m in re.finditer("=+", edge)]
    rows: list[list[str]] = []
    edges = 1
    for number, line in enumerate(lines[at + 1 : at + _MAX_LINES], start=at + 1):
        if line.rstrip() == edge:
            edges += 1
            after = lines[number + 1].strip() if number + 1 < len(lines) else ""
            if edges > 2 or not after:
                return (rows, number + 1) if rows else ([], at)
        elif _SIMPLE_EDGE.match(line):
            return [], at
        elif line.strip(" -\t"):  # neither blank nor the rule below a name of several columns
            cells = list(_slices(line, columns))
            if not cells:
                return [], at
            if rows and not cells[0] and len(columns) > 1:
                rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
            else:
                rows.append(cells)
    return [], at


def _slices(line: str, columns: Sequence[tuple[int, int]]) -> Iterator[str]:
    """The cells of a line; none where words lie between two columns. The last has no end."""
    for (_, end), (start, _) in pairwise(columns):
        if line[end:start].strip():
            return
    for i, (start, end) in enumerate(columns):
        yield (line[start:] if i + 1 == len(columns) else line[start:end]).strip()
