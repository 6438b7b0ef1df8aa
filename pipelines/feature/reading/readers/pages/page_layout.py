"""What stands side by side on a page of a PDF: tables, and columns that are drawn row by row.

Pure functions over the words and ruling lines of a page. Words are taken in the order in which they
are drawn, which is the order in which most pages read; only what jumps to the right and back, again
and again, is put in another order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from fti.pipelines.feature.reading.readers.pages.page_lines import (
    MAX_COLUMNS,
    NUMBER,
    SENTENCE_END,
    Piece,
    Row,
    as_rows,
    goes_on,
    is_level,
    joined_line,
    pieces_of,
    rows_of,
    said,
)
from fti.pipelines.feature.reading.readers.pages.positions import Rule, Word
from fti.pipelines.feature.reading.readers.pages.ruled_tables import RuledTable, ruled_tables

#: What is said of a page on which neither positions nor lines tell columns from a table.
UNTOLD = "text stands side by side, in columns or a table, which could not be told"

# Lengths are in heights of a line, about 1.15 times the size of the letters, or in points.
_NEAR_JUMPS = 12  # so many pieces may lie between two jumps of one region
_MIN_JUMPS = 3
_TRAILING = 12
_GUTTER = 0.5


@dataclass(frozen=True, slots=True)
class Arranged:
    """A page's text with its columns one after the other and its tables as rows.

    Args:
        text: blocks with a blank line between them; empty where the page is as it is drawn.
        remark: what could not be told.
    """

    text: str = ""
    remark: str = ""


def arrange(words: Sequence[Word], rules: Sequence[Rule]) -> Arranged:
    """The page, where something on it is to be read in another order than it is drawn."""
    tables, ruled = ruled_tables(words, rules)
    pieces = pieces_of([w for i, w in enumerate(words) if i not in ruled])
    blocks: dict[int, list[str]] = {}  # by the piece where they begin
    taken: dict[int, int] = {}  # which piece belongs to which block
    remark = ""
    for first, last in _regions(pieces):
        found = _read_region(pieces[first:last])
        if found is None:
            continue
        if found == UNTOLD:
            remark = UNTOLD
            continue
        blocks[first] = [found]
        taken |= dict.fromkeys(range(first, last), first)
    if not blocks and not tables:
        return Arranged(remark=remark)
    return Arranged(_written(words, pieces, blocks, taken, tables), remark)


def _written(
    words: Sequence[Word],
    pieces: Sequence[Piece],
    blocks: dict[int, list[str]],
    taken: dict[int, int],
    tables: Sequence[RuledTable],
) -> str:
    """Everything in the order in which it is drawn, each block where its first word is."""
    place = {id(w): i for i, w in enumerate(words)}
    parts: list[tuple[int, str, bool]] = [(t.first, t.text, True) for t in tables]
    line: list[Piece] = []

    def end_line() -> None:
        if line:
            parts.append((place[id(line[0].words[0])], " ".join(p.text for p in line), False))
            line.clear()

    for i, piece in enumerate(pieces):
        if i in taken:
            end_line()
            if i in blocks:
                parts += [(place[id(piece.words[0])], text, True) for text in blocks[i]]
            continue
        if line and not (is_level(line[-1], piece) and piece.x0 >= line[-1].x0):
            end_line()
        line.append(piece)
    end_line()
    parts.sort(key=lambda part: part[0])
    text = ""
    before_is_block = False
    for _, part, is_block in parts:
        if text:
            text += "\n\n" if is_block or before_is_block else "\n"
        text += part
        before_is_block = is_block
    return text


# Pieces of lines


# Regions


def _jumps(a: Piece, b: Piece) -> bool:
    """Whether ``b`` is drawn after ``a`` and stands to its right, no lower."""
    size = max(a.size, b.size)
    return not (a.turned or b.turned) and b.x0 - a.x1 > 0.5 * size and b.y >= a.y - 0.5 * size


def _regions(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """Runs of pieces, first and behind the last, in which drawing jumps to the right repeatedly."""
    jumps = [i for i, (a, b) in enumerate(pairwise(pieces)) if _jumps(a, b)]
    groups: list[list[int]] = []
    for jump in jumps:
        if groups and jump - groups[-1][-1] <= _NEAR_JUMPS and _falls(pieces, groups[-1], jump):
            groups[-1].append(jump)
        else:
            groups.append([jump])
    floor = 0
    for group in groups:
        while group and (first := _first(pieces, group[0], floor)) is None:
            del group[0]  # from the foot of one column to the head of the next
        if len(group) < 2:
            continue
        assert first is not None
        last = _last(pieces, first, group[-1] + 1)
        floor = last
        yield first, last


def _falls(pieces: Sequence[Piece], group: Sequence[int], jump: int) -> bool:
    """Whether the next row is below the last; what is drawn above it is another matter."""
    return pieces[jump].y < pieces[group[-1]].y + 0.5 * pieces[jump].size


def _first(pieces: Sequence[Piece], jump: int, floor: int) -> int | None:
    """Where the row begins that jumps there: with the lines of its left cell."""
    a, b = pieces[jump], pieces[jump + 1]
    first = jump
    while first > floor:
        before = pieces[first - 1]
        if before.turned or before.x1 > b.x0 or before.y > b.y + 0.5 * b.size:
            break
        if before.y < a.y - 0.5 * a.size:
            break
        first -= 1
        if jump - first > _TRAILING:
            return None
    return first


def _last(pieces: Sequence[Piece], first: int, end: int) -> int:
    """Behind the last piece that goes on in one of the columns before it."""
    starts: list[float] = [p.x0 for p in pieces[first : end + 1]]
    right = max(p.x1 for p in pieces[first : end + 1])
    last = end + 1
    gaps = [a.y - b.y for a, b in pairwise(rows_of(pieces[first:last])) if a.y > b.y]
    usual = median(gaps) if gaps else pieces[first].size
    while last < len(pieces) and last - end <= _TRAILING:
        piece, before = pieces[last], pieces[last - 1]
        lowest = min(p.y for p in pieces[first:last])
        fits = any(abs(piece.x0 - x) <= 0.5 * piece.size for x in starts)
        below = piece.y < before.y and lowest - piece.y <= 1.6 * max(usual, piece.size)
        # The columns' own width: what is set across them is not in them.
        narrow = piece.x1 - piece.x0 < 0.6 * (right - min(starts))
        if piece.turned or not (fits and below and narrow):
            break
        last += 1
    return last


# Rows and columns


def _columns(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The columns that rows of several pieces share, from left to right."""
    several = [row for row in rows if len(row.pieces) > 1]
    if len(several) < 2:
        return []
    size = median(row.size for row in several)
    left = min(p.x0 for row in several for p in row.pieces)
    right = max(p.x1 for row in several for p in row.pieces)
    width = int(right - left) + 1
    if not 0 < width < 20_000:
        return []
    covered = [0] * (width + 1)
    for row in several:
        for piece in row.pieces:
            covered[int(piece.x0 - left)] += 1
            covered[min(width, int(piece.x1 - left) + 1)] -= 1
    allowed = len(several) // 12  # a heading over two columns, a word that sticks out
    columns: list[tuple[float, float]] = []
    height, begun, free = 0, 0.0, 0
    for x in range(width):
        height += covered[x]
        if height <= allowed:
            free += 1
            continue
        if free > _GUTTER * size and x > free:
            columns.append((left + begun, left + x - free))
            begun = x
        free = 0
    columns.append((left + begun, right))
    return columns if len(columns) > 1 else []


def _cells(row: Row, columns: Sequence[tuple[float, float]]) -> list[list[Piece]]:
    """The row's pieces by column; a piece over several columns is in each of them."""
    cells: list[list[Piece]] = [[] for _ in columns]
    for piece in row.pieces:
        shares = [min(piece.x1, x1) - max(piece.x0, x0) for x0, x1 in columns]
        best = max(shares)
        for i, share in enumerate(shares):
            if share == best or share > 0.5 * (columns[i][1] - columns[i][0]):
                cells[i].append(piece)
    return cells


def _read_region(pieces: Sequence[Piece]) -> str | None:
    """Columns one after the other, or a table; ``UNTOLD``; None where it is neither."""
    rows = rows_of(pieces)
    columns = _columns(rows)
    if not columns or len(columns) > MAX_COLUMNS:
        return None
    several = [row for row in rows if len(row.pieces) > 1]
    cells = [_cells(row, columns) for row in rows]
    widths = [x1 - x0 for x0, x1 in columns]
    across = {
        i for i, row in enumerate(rows)
        if len(row.pieces) == 1 and sum(map(bool, cells[i])) > 1
    }  # fmt: skip
    kinds = [
        _kind([(rows[i], c[k]) for i, c in enumerate(cells) if c[k] and i not in across], widths[k])
        for k in range(len(columns))
    ]
    by_line = _is_drawn_by_line(pieces)
    if len(columns) <= 4 and len(rows) >= 4 and all(kind == "prose" for kind in kinds):
        if _are_in_order(pieces, columns):
            return None
        if by_line and not _has_bands(rows, cells):
            return _as_columns(rows, cells, across)
        if not by_line and len(several) >= 2:
            return _as_table(rows, cells)
        return UNTOLD
    enough = len(several) >= _MIN_JUMPS or (len(several) == 2 and len(columns) > 2)
    if not enough or 2 * len(several) < len(rows):
        return None
    if not _are_aligned(cells, columns) or not _is_filled(cells):
        return None
    if "short" in kinds or len(columns) > 4:
        return _as_table(rows, cells)
    return UNTOLD


def _kind(column: Sequence[tuple[Row, list[Piece]]], width: float) -> str:
    """``prose`` where lines flow on into one another, ``short`` where they are values."""
    lines = [said(cell) for _, cell in column]
    if not lines:
        return "short"
    words = sum(max(len(line.split()), len(line) / 9) for line in lines) / len(lines)
    numbers = sum(bool(NUMBER.match(line)) for line in lines) / len(lines)
    if words < 2.7 or numbers > 0.5:
        return "short"
    filled = median(cell[-1].x1 - cell[0].x0 for _, cell in column) / max(width, 1)
    pairs = list(pairwise(lines))
    cased = sum(map(str.islower, "".join(lines))) > 0.3 * sum(map(len, lines))
    flowing = sum(
        goes_on(before, line) if cased else not SENTENCE_END.search(before)
        for before, line in pairs
    )
    if len(lines) >= 3 and filled >= 0.45 and flowing >= 0.3 * len(pairs):
        return "prose"
    return "other"


def _are_in_order(pieces: Sequence[Piece], columns: Sequence[tuple[float, float]]) -> bool:
    """Whether the columns are drawn one after the other; what jumps are gaps between words."""
    places = [next((k for k, (_, x1) in enumerate(columns) if p.x0 < x1), 0) for p in pieces]
    return places == sorted(places)


def _is_drawn_by_line(pieces: Sequence[Piece]) -> bool:
    """Whether each line of the left is followed by its line of the right, not cell by cell."""
    level = above = 0
    for a, b in pairwise(pieces):
        if _jumps(a, b):
            if b.y - a.y > 0.6 * max(a.size, b.size):
                above += 1
            else:
                level += 1
    return above <= level // 8


def _has_bands(rows: Sequence[Row], cells: Sequence[Sequence[Sequence[Piece]]]) -> bool:
    """Whether wider gaps part the columns at the same heights, as the rows of a table."""
    gaps = [a.y - b.y for a, b in pairwise(rows)]
    base = sorted(gaps)[len(gaps) // 4]
    starts = [0, *(i + 1 for i, gap in enumerate(gaps) if gap > 1.3 * base)]
    if len(starts) < 3:
        return False
    ends = [*(start - 1 for start in starts[1:]), len(rows) - 1]
    whole = sum(
        all(cells[start]) and not any(c and c[0].text[:1].islower() for c in cells[start])
        for start in starts
    )
    ended = sum(
        all(_ends(cells, start, end, k) for k in range(len(cells[0])))
        for start, end in zip(starts, ends, strict=True)
    )
    return whole >= 0.8 * len(starts) and ended >= 0.8 * len(starts)


def _ends(
    cells: Sequence[Sequence[Sequence[Piece]]], start: int, end: int, column: int
) -> bool:  # fmt: skip
    """Whether what a column says between two gaps is a whole: it ends in a full stop or early."""
    lines = [said(cells[i][column]) for i in range(start, end + 1) if cells[i][column]]
    return bool(lines) and (
        bool(SENTENCE_END.search(lines[-1])) or len(lines) < end - start + 1 or len(lines) == 1
    )


def _are_aligned(
    cells: Sequence[Sequence[Sequence[Piece]]], columns: Sequence[tuple[float, float]]
) -> bool:
    """Whether the cells of each column, but for one, share an edge or their middle."""
    odd = 0
    for k in range(len(columns)):
        column = [row[k] for row in cells if row[k] and not _spans(row[k], columns)]
        if len(column) < 2:
            continue
        size = column[0][0].size
        edges = (
            [c[0].x0 for c in column],
            [c[-1].x1 for c in column],
            [(c[0].x0 + c[-1].x1) / 2 for c in column],
        )
        spread = min(
            median(abs(value - median(values)) for value in values) for values in edges
        )  # fmt: skip
        odd += spread > 0.6 * size
    return odd <= (1 if len(columns) > 2 else 0)


def _is_filled(cells: Sequence[Sequence[Sequence[Piece]]]) -> bool:
    """Whether most cells of most rows say something; labels of a figure leave more open."""
    filled = sum(bool(cell) for row in cells for cell in row)
    size = len(cells) * len(cells[0])
    return filled >= (0.85 if len(cells) < 4 else 0.55) * size


def _spans(cell: Sequence[Piece], columns: Sequence[tuple[float, float]]) -> bool:
    return sum(cell[0].x0 < x1 and x0 < cell[-1].x1 for x0, x1 in columns) > 1


def _as_columns(
    rows: Sequence[Row], cells: Sequence[Sequence[Sequence[Piece]]], across: set[int]
) -> str:
    """Each column from top to bottom; a line across them parts what is above from below."""
    parts: list[str] = []
    begun = 0
    for end in [*sorted(across), len(rows)]:
        for k in range(len(cells[0])):
            lines = _with_gaps([(rows[i], cells[i][k]) for i in range(begun, end) if cells[i][k]])
            if lines:
                parts.append(lines)
        if end < len(rows):
            parts.append(said(rows[end].pieces))
        begun = end + 1
    return "\n\n".join(parts)


def _with_gaps(lines: Sequence[tuple[Row, Sequence[Piece]]]) -> str:
    """Lines of a column; where more than a line's height is between two, a blank line as well."""
    gaps = sorted(a.y - b.y for (a, _), (b, _) in pairwise(lines))
    usual = gaps[len(gaps) // 2] if gaps else 0.0
    parts = []
    for i, (row, cell) in enumerate(lines):
        if i and lines[i - 1][0].y - row.y > 1.4 * usual:
            parts.append("")
        parts.append(said(cell))
    return "\n".join(parts)


def _as_table(rows: Sequence[Row], cells: Sequence[Sequence[Sequence[Piece]]]) -> str:
    """Rows of cells; a line that only goes on with a cell above it is joined to it."""
    gaps = [a.y - b.y for a, b in pairwise(rows)]
    base = sorted(gaps)[len(gaps) // 10] if gaps else 0.0
    whole = [g for g, row in zip(gaps, cells[1:], strict=True) if all(row)]
    apart = bool(gaps) and max(gaps) > 1.3 * base and (not whole or median(whole) > 1.2 * base)
    merged: list[list[str]] = []
    for i, row in enumerate(cells):
        texts = [said(cell) for cell in row]
        filled = sum(map(bool, texts))
        close = i > 0 and gaps[i - 1] <= 1.2 * base
        goes_on = (
            bool(merged)
            and filled < len(texts)
            and close
            and (apart or (not texts[0] and 2 * filled <= len(texts)))
        )
        if goes_on:
            merged[-1] = [joined_line(a, b) for a, b in zip(merged[-1], texts, strict=True)]
        else:
            merged.append(texts)
    return as_rows(merged)
