"""The cells of an HTML table as full rows: what spans several rows or columns stands in each.

A row is found and read alone, so it says everything itself. Spans are untrusted numbers, up to
billions: a column exists only where some cell begins, and what is repeated stays within a few
times the length of what the table holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_MAX_TIMES = 10
_FREE = 20_000
_MAX_HEADER_ROWS = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, how many columns and rows it covers, whether it is a heading."""

    text: str
    across: int = 1
    down: int = 1
    heads: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row; a span ends with the section (head, body) that its row lies in."""

    cells: Sequence[Cell]
    section: int = 0
    heads: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table in full rows, its header first; ``titles`` are lines that stood above the header."""

    titles: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(slots=True)
class _Span:
    start: int
    end: int
    text: str
    left: int = 0  # further rows that it covers
    repeats: bool = False


@dataclass(slots=True)
class _Line:
    spans: list[_Span] = field(default_factory=list)
    heads: bool = False


def unfold(rows: Sequence[Row]) -> Grid:
    """Rows of equal width; columns and rows without any text are left out."""
    limit = _FREE + _MAX_TIMES * sum(len(row.cells) + 1 for row in rows)
    lines = list(_laid_out(rows, limit))
    columns = sorted({s.start for line in lines for s in line.spans if s.text and not s.repeats})
    lines = [line for line in lines if any(s.text for s in line.spans)]
    if len(lines) * len(columns) > limit:  # nobody's table: what its rows hold, as they stand
        return Grid(rows=[[s.text for s in line.spans if not s.repeats] for line in lines])
    own = (s.text for line in lines for s in line.spans if not s.repeats)
    budget = _FREE + _MAX_TIMES * sum(map(len, own))
    full: list[list[str]] = []
    for line in lines:
        values, budget = _values(line, columns, budget)
        full.append(values)
    titles: list[str] = []
    while len(lines) > 1 and len(columns) > 1 and _is_title(lines[0], columns):
        titles.append(full.pop(0)[0])
        lines.pop(0)
    heads = next((i for i, line in enumerate(lines) if not line.heads), 0)
    if 1 < heads <= _MAX_HEADER_ROWS:
        full[:heads] = [[_joined(column) for column in zip(*full[:heads], strict=True)]]
    return Grid(titles=titles, rows=full)


def _laid_out(rows: Sequence[Row], limit: int) -> Iterator[_Line]:
    """Where each cell of each row stands, those included that reach down from rows above."""
    carried: list[_Span] = []
    section = None
    steps = 0
    for row in rows:
        if row.section != section:
            carried, section = [], row.section
        placed: list[_Span] = []
        column = ahead = 0
        for cell in row.cells:
            while ahead < len(carried) and carried[ahead].start <= column:
                column = max(column, carried[ahead].end)
                ahead += 1
            end = column + cell.across
            if ahead < len(carried):
                end = min(end, carried[ahead].start)
            placed.append(_Span(column, end, cell.text, cell.down - 1))
            column = end
        spans = sorted([*carried, *placed], key=lambda span: span.start)
        yield _Line(spans, heads=row.heads or all(cell.heads for cell in row.cells))
        carried = [_Span(s.start, s.end, s.text, s.left - 1, True) for s in spans if s.left > 0]
        steps += len(spans)
        if steps > limit:
            carried = []


def _values(line: _Line, columns: Sequence[int], budget: int) -> tuple[list[str], int]:
    """The row's value in each column, and how many characters may be repeated after it."""
    values: list[str] = []
    ahead = 0
    spread = _is_title(line, columns)
    for column in columns:
        while ahead < len(line.spans) and line.spans[ahead].end <= column:
            ahead += 1
        span = line.spans[ahead] if ahead < len(line.spans) else None
        if span is None or span.start > column:
            values.append("")
        elif span.start == column and not span.repeats:
            values.append(span.text)
        elif spread or len(span.text) > budget:
            values.append("")
        else:
            values.append(span.text)
            budget -= len(span.text)
    return values, budget


def _is_title(line: _Line, columns: Sequence[int]) -> bool:
    """Whether one cell is all of the row: a title or a note, said once."""
    first, *others = line.spans
    return (
        not any(span.text for span in others)
        and not first.repeats
        and first.start <= columns[0]
        and first.end > columns[-1]
    )


def _joined(values: Sequence[str]) -> str:
    """The header of a column from several rows: "2025" over "Plan" is "2025 Plan"."""
    return " ".join(dict.fromkeys(filter(None, values)))
