"""Tables whose ruling lines show their cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fti.pipelines.feature.reading.readers.pages.page_lines import (
    MAX_COLUMNS,
    NUMBER,
    SAME_LINE,
    Row,
    as_rows,
    goes_on,
    joined_line,
    pieces_of,
    rows_of,
    said,
)
from fti.pipelines.feature.reading.readers.pages.positions import Rule, Word

_TOUCH = 3.0  # points that lines may miss each other by
_MAX_RULES = 1_500
_MAX_CELLS = 20_000
_MAX_REPEATED = 120  # characters


@dataclass(frozen=True, slots=True)
class RuledTable:
    """A table as text, and where on the page it begins."""

    first: int  # which word of the page is its first
    text: str


def ruled_tables(
    words: Sequence[Word], rules: Sequence[Rule]
) -> tuple[list[RuledTable], set[int]]:  # fmt: skip
    """Tables whose lines show their cells, and the places of the words in them."""
    if not 4 <= len(rules) <= _MAX_RULES:
        return [], set()
    level = _merged([(r.y0, r.x0, r.x1) for r in rules if r.horizontal])
    upright = _merged([(r.x0, r.y0, r.y1) for r in rules if not r.horizontal])
    tables: list[RuledTable] = []
    taken: set[int] = set()
    for across, down in _grids(level, upright):
        found = _ruled_table(words, across, down)
        if found:
            table, inside = found
            if not inside & taken:
                tables.append(table)
                taken |= inside
    return tables, taken


_Line = tuple[float, float, float]  # where it lies, and from where to where it goes


def _merged(lines: Sequence[_Line]) -> list[_Line]:
    """Lines that lie on one another or follow one another as one."""
    merged: list[_Line] = []
    for place, start, end in sorted(lines):
        for i in range(len(merged) - 1, -1, -1):
            other, begun, ended = merged[i]
            if place - other > _TOUCH:
                merged.append((place, start, end))
                break
            if start <= ended + _TOUCH and begun <= end + _TOUCH:
                merged[i] = (other, min(begun, start), max(ended, end))
                break
        else:
            merged.append((place, start, end))
    return merged


def _grids(
    level: Sequence[_Line], upright: Sequence[_Line]
) -> Iterator[tuple[list[_Line], list[_Line]]]:
    """Lines that touch one another, directly or by others."""
    group = list(range(len(level) + len(upright)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, (y, x0, x1) in enumerate(level):
        for j, (x, y0, y1) in enumerate(upright, start=len(level)):
            if x0 - _TOUCH <= x <= x1 + _TOUCH and y0 - _TOUCH <= y <= y1 + _TOUCH:
                group[root(i)] = root(j)
    members: dict[int, tuple[list[_Line], list[_Line]]] = defaultdict(lambda: ([], []))
    for i, line in enumerate(level):
        members[root(i)][0].append(line)
    for j, line in enumerate(upright, start=len(level)):
        members[root(j)][1].append(line)
    for across, down in members.values():
        if across and down and len(across) + len(down) >= 3:
            yield across, down


def _edges(places: Iterable[float]) -> list[float]:
    edges: list[float] = []
    for place in sorted(places):
        if not edges or place - edges[-1] > _TOUCH:
            edges.append(place)
    return edges


def _ruled_table(
    words: Sequence[Word], across: Sequence[_Line], down: Sequence[_Line]
) -> tuple[RuledTable, set[int]] | None:
    # The outer edges are often not drawn: lines end where they would be.
    xs = _edges([x for x, _, _ in down] + [x for _, x0, x1 in across for x in (x0, x1)])
    ys = _edges([y for y, _, _ in across] + [y for _, y0, y1 in down for y in (y0, y1)])
    ys.reverse()
    columns, rows = len(xs) - 1, len(ys) - 1
    if rows < 2 or columns < 2 or rows * columns > _MAX_CELLS or columns > MAX_COLUMNS:
        return None
    inside: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, word in enumerate(words):
        x, y = (word.x0 + word.x1) / 2, word.y + 0.3 * word.size
        if word.turned or not (xs[0] <= x <= xs[-1] and ys[-1] <= y <= ys[0]):
            continue
        column = next(k for k in range(columns) if x <= xs[k + 1])
        row = next(k for k in range(rows) if y >= ys[k + 1])
        inside[row, column].append(i)
    cells = _joined_cells(xs, ys, across, down)
    texts: dict[tuple[int, int], str] = {}
    for members in cells.values():
        text = _cell_text([words[i] for i in sorted(_words_in(inside, members))])
        # Merged cells say their value everywhere; a paragraph need not be said twice.
        texts |= dict.fromkeys(members, text if len(text) <= _MAX_REPEATED else "")
        texts[members[0]] = text
    filled = sum(bool(texts[members[0]]) for members in cells.values())
    most = max((len(_words_in(inside, members)) for members in cells.values()), default=0)
    total = sum(map(len, inside.values()))
    wide = [k for k in range(columns) if sum(bool(texts[r, k]) for r in range(rows)) >= 2]
    if filled < 4 or len(wide) < 2 or 2 * filled < len(cells):
        return None
    if most > 80 and 2 * most > total:  # a frame round a page of text
        return None
    merged = {m for members in cells.values() if len(members) > 1 for m in members}
    lines: list[list[str]] = []
    for r in range(rows):
        line = [(r, k) for k in range(columns)]
        split = (
            []
            if merged.intersection(line)
            else _split_row(words, inside, line, body=rows == 2 and r == 1)
        )
        lines += split or [[texts[cell] for cell in line]]
    table = as_rows(lines)
    taken = {i for members in inside.values() for i in members}
    return RuledTable(min(taken), table), taken


def _split_row(
    words: Sequence[Word],
    inside: dict[tuple[int, int], list[int]],
    line: Sequence[tuple[int, int]],
    *,
    body: bool,
) -> list[list[str]]:
    """Rows that no line parts: the cells between two lines say something on each level."""
    columns = [rows_of(pieces_of(words[i] for i in inside.get(cell, ()))) for cell in line]
    levels = rows_of([p for rows in columns for row in rows for p in row.pieces])
    if len(levels) < 2 or not all(columns):
        return []
    found = [
        [
            " ".join(said(r.pieces) for r in rows if abs(r.y - level.y) <= SAME_LINE * level.size)
            for rows in columns
        ]
        for level in levels
    ]
    open_cells = sum(not cell for row in found for cell in row)
    if body:
        # One line under the header is all there is: each line of the first column begins a row.
        merged: list[list[str]] = []
        for row in found:
            if row[0] or not merged:
                merged.append(row)
            else:
                merged[-1] = [joined_line(a, b) for a, b in zip(merged[-1], row, strict=True)]
        told = sum(sum(map(bool, row)) > 1 for row in merged)
        return merged if len(merged) > 2 and told >= 0.8 * len(merged) else []
    # Where a line of each cell stands on every level, the first column tells.
    flowing = any(map(_flows, columns)) if open_cells else _flows(columns[0])
    return [] if flowing or 5 * open_cells > len(levels) * len(columns) else found


def _flows(rows: Sequence[Row]) -> bool:
    """Whether the lines of a cell are one text."""
    lines = [said(row.pieces) for row in rows]
    return sum(goes_on(a, b) and not NUMBER.match(b) for a, b in pairwise(lines)) > 0.5 * (
        len(lines) - 1
    )  # fmt: skip


def _words_in(
    inside: dict[tuple[int, int], list[int]], members: Sequence[tuple[int, int]]
) -> list[int]:
    return [i for m in members for i in inside.get(m, ())]


def _joined_cells(
    xs: Sequence[float], ys: Sequence[float], across: Sequence[_Line], down: Sequence[_Line]
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Cells of the grid, those with no line between them together: they are one that is merged."""
    rows, columns = len(ys) - 1, len(xs) - 1
    root = {(r, k): (r, k) for r in range(rows) for k in range(columns)}

    def find(cell: tuple[int, int]) -> tuple[int, int]:
        while root[cell] != cell:
            root[cell] = root[root[cell]]
            cell = root[cell]
        return cell

    def is_drawn(lines: Sequence[_Line], place: float, middle: float) -> bool:
        return any(
            abs(at - place) <= _TOUCH and start - _TOUCH <= middle <= end + _TOUCH
            for at, start, end in lines
        )

    for r in range(rows):
        for k in range(columns - 1):
            if not is_drawn(down, xs[k + 1], (ys[r] + ys[r + 1]) / 2):
                root[find((r, k + 1))] = find((r, k))
    for r in range(rows - 1):
        for k in range(columns):
            if not is_drawn(across, ys[r + 1], (xs[k] + xs[k + 1]) / 2):
                root[find((r + 1, k))] = find((r, k))
    cells: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for cell in root:
        cells[find(cell)].append(cell)
    return cells


def _cell_text(words: Sequence[Word]) -> str:
    text = ""
    for row in rows_of(pieces_of(words)):
        text = joined_line(text, said(row.pieces))
    return text
