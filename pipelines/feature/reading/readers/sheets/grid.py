"""Where in rows of cells a table's header is: what readers of spreadsheets and of CSV share.

Above the header stand titles and notes, which are text. The header is the first full row, and may
be two rows, of which the upper one names groups of columns. A row is said by itself: each value
with the name of its column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from fti.store.delimited import numbered

Kind = Literal["", "text", "number", "date"]

# What people write where a value is missing: no names of columns.
_MISSING = frozenset({"n/a", "na", "none", "nil", "null", "nan", "tbd", "tba", "unknown", "?"})

_LOOKED_AT = 24  # rows in which the header is looked for, and its columns' values judged
_MAX_LEAD = 12  # rows above the header, at most
_MAX_HEADER_ROWS = 3
_MOSTLY = 0.8  # of the values of a column, to be of a kind
_NUMBER = re.compile(
    r"[-+(]?(?:[$€£¥]|[A-Z]{3})?[-+ ]?\d[\d.,' ]*(?:[eE][-+]?\d+)?\)?(?: ?(?:[%‰$€£¥]|[A-Z]{3}))?"
)
_DATE = re.compile(
    r"\d{4}-\d{1,2}(?:-\d{1,2})?(?:[T ]\d{1,2}:\d{2}.*)?|\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})?"
    r"(?: \d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?"
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the header is.

    Args:
        lead: how many rows stand above it.
        rows: how many it takes; 0 where nothing names the columns.
        names: of the columns, each once.
    """

    lead: int
    rows: int
    names: tuple[str, ...]


def kind_of(text: str) -> Kind:
    """What a cell's text reads as."""
    if not text:
        return ""
    if not (text[0].isdigit() or text[-1].isdigit() or text[0] in "-+($€£¥"):
        return "text"
    if _DATE.fullmatch(text):
        return "date"
    return "number" if _NUMBER.fullmatch(text) else "text"


def find_head(
    rows: Sequence[Sequence[str]],
    *,
    kinds: Sequence[Sequence[Kind]] | None = None,
    across: Sequence[frozenset[int]] | None = None,
) -> Head:
    """Where the header of a table is.

    Args:
        rows: the cells; only the first ones are looked at. Rows may be of several lengths.
        kinds: of the cells, where they are known better than by their text.
        across: for each row, the columns that repeat the value on their left since they are one
            cell with it.
    """
    looked = [list(row) for row in rows[:_LOOKED_AT]]
    width = max(map(len, looked), default=0)
    if kinds is None:
        kinds = [[kind_of(cell) for cell in row] for row in looked]
    seen = _Rows(looked, kinds, across or [frozenset()] * len(looked), width)
    at = _first_full(seen)
    if at is None:
        return Head(0, 0, ())
    # A name alone above two columns of numbers is passed over at first, as a title is.
    for row in (at, *([at - 1] if at and seen.names_values(at - 1) else [])):
        names, height = _names(seen, row)
        if _can_name(names) and not seen.headerless(row + height - 1):
            return Head(row, height, tuple(numbered(names)))
    return Head(at, 0, ())


def begins_table(
    rows: Sequence[Sequence[str]], *, kinds: Sequence[Sequence[Kind]] | None = None
) -> bool:
    """Whether rows below an empty one are a table of their own: words above numbers or dates.

    Otherwise they go on with the table above the empty row, as groups of rows do.
    """
    looked = [list(row) for row in rows[:_LOOKED_AT]]
    if kinds is None:
        kinds = [[kind_of(cell) for cell in row] for row in looked]
    head = find_head(looked, kinds=kinds)
    if not head.rows or len(looked) <= head.lead + head.rows:
        return False
    seen = _Rows(looked, kinds, [frozenset()] * len(looked), max(map(len, looked)))
    last = head.lead + head.rows - 1
    names = [cell for cell in looked[last] if cell]
    return (
        len(names) > 1
        and len(set(names)) == len(names)
        and _may_name(seen, last)
        and seen.names_values(last)
        and not any(name.casefold() in _MISSING or not name.strip("-–—. ") for name in names)
    )


def record_blocks(names: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A block of ``column: value`` lines for each row; cells without a value are left out.

    Cells beyond the names are numbered.
    """
    return [block for row in body if (block := _block(names, row))]


def lines(rows: Iterable[Sequence[str]]) -> str:
    """Rows as they stand: a line each, of the cells that have a value."""
    return "\n".join(" | ".join(filter(None, row)) for row in rows)


def _block(names: Sequence[str], row: Sequence[str]) -> str:
    if len(row) > len(names):
        more = (f"column {i}" for i in range(len(names) + 1, len(row) + 1))
        names = [*names, *more]
    return "\n".join(
        [
            f"{name}: {cell}" if name else cell
            for name, cell in zip(names, row, strict=False)
            if cell
        ]
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The first rows of a table."""

    cells: Sequence[Sequence[str]]
    kinds: Sequence[Sequence[Kind]]
    across: Sequence[frozenset[int]]
    width: int

    def cell(self, row: int, column: int) -> str:
        cells = self.cells[row]
        return cells[column] if column < len(cells) else ""

    def kind(self, row: int, column: int) -> Kind:
        kinds = self.kinds[row]
        return kinds[column] if column < len(kinds) else ""

    def filled(self, row: int) -> int:
        """How many cells have a value of their own."""
        return sum(
            bool(cell) and column not in self.across[row]
            for column, cell in enumerate(self.cells[row])
        )

    def values(self, row: int) -> int:
        """How many cells have a value."""
        return sum(map(bool, self.cells[row]))

    def is_words(self, row: int) -> bool:
        """Whether a row has several values and all are words."""
        return self.filled(row) > 1 and all(k in ("", "text") for k in self.kinds[row])

    def column_kind(self, column: int, below: int) -> Kind:
        """What the values of a column mostly are."""
        found = [k for r in range(below, len(self.cells)) if (k := self.kind(r, column))]
        for kind in ("number", "date", "text"):
            if found and found.count(kind) >= _MOSTLY * len(found):
                return kind
        return ""

    def names_values(self, row: int, height: int = 1) -> bool:
        """Whether below words of the row stand mostly numbers or dates."""
        return any(
            self.kind(row, c) == "text" and self.column_kind(c, row + height) in ("number", "date")
            for c in range(self.width)
        )

    def headerless(self, row: int) -> bool:
        """Whether the row is a row of values like those below it."""
        below = row + 1
        if below >= len(self.cells):
            return True
        alike = 0
        for column in range(self.width):
            mine, theirs = self.kind(row, column), self.column_kind(column, below)
            if mine == "text" and theirs in ("number", "date"):
                return False
            alike += mine in ("number", "date") and mine == theirs
        return alike > 0 and not self.is_series(row)

    def is_series(self, row: int) -> bool:
        """Whether the numbers of a row go up or down by even steps, as years and sizes do."""
        numbers = [self.cell(row, c) for c in range(self.width) if self.kind(row, c) == "number"]
        if not all(n.isdecimal() and len(n) <= 4 for n in numbers):
            return False
        values = [int(n) for n in numbers]
        if len(values) == 1:
            return 1900 <= values[0] <= 2100
        steps = {b - a for a, b in pairwise(values)}
        return len(steps) == 1 and 0 not in steps


def _first_full(seen: _Rows) -> int | None:
    """The row that names the columns, or the upper one of several; None where there is none."""
    if seen.width == 1:
        return 0 if len(seen.cells) > 1 else None
    for row in range(min(_MAX_LEAD, len(seen.cells))):
        if seen.filled(row) > 1 and not _is_lead(seen, row):
            return row
    return None


def _is_lead(seen: _Rows, row: int) -> bool:
    """Whether a row with gaps stands above the header: a fuller row of words does, below it."""
    own = seen.values(row)
    if own >= seen.width or _names_groups(seen, row):
        return False
    if own == seen.width - 1 and not seen.cell(row, 0):
        return False  # the corner above the names of rows
    below = range(row + 1, min(row + 1 + _MAX_LEAD, len(seen.cells)))
    fuller = next((other for other in below if seen.values(other) > own), None)
    if fuller is None or not _may_name(seen, fuller):
        return False
    if seen.names_values(fuller):
        return True
    from_left = all(seen.cell(row, c) for c in range(own))
    said = any(k in ("number", "date") for k in seen.kinds[row])
    return from_left and (said or 2 * own <= seen.width or seen.cell(row, 0).endswith(":"))


def _may_name(seen: _Rows, row: int) -> bool:
    """Whether a row reads as names of columns: words, or years and the like behind words."""
    if seen.is_words(row):
        return True
    return (
        seen.kind(row, 0) in ("", "text") and "date" not in seen.kinds[row] and seen.is_series(row)
    )


def _names_groups(seen: _Rows, row: int) -> bool:
    """Whether a row names groups of columns, and the row below it the columns of each."""
    below = row + 1
    if below >= len(seen.cells) or not _may_name(seen, below) or seen.filled(row) < 2:
        return False
    names = [seen.cell(below, c) for c in range(seen.width)]
    repeated = any(names.count(n) > 1 and len(set(filter(None, names))) > 1 for n in names if n)
    if not seen.across[row]:
        # Not merged, but a name with gaps to its right above names that come again.
        gaps = [c for c in range(1, seen.width) if not seen.cell(row, c)]
        return repeated and any(seen.cell(row, c - 1) for c in gaps) and all(names[1:])
    if not all(names[c] for c in seen.across[row]):
        return False
    # A name that spans two columns of values is no group.
    rest = [c for c in range(seen.width) if c not in seen.across[row]]
    spans_down = any(names[c] and names[c] == seen.cell(row, c) for c in rest)
    left_open = any(not names[c] and seen.cell(row, c) for c in rest) or not seen.cell(row, 0)
    return repeated or spans_down or left_open or seen.names_values(below)


def _names(seen: _Rows, row: int, depth: int = 1) -> tuple[list[str], int]:
    """The names of the columns, and how many rows they take."""
    names = [seen.cell(row, c) for c in range(seen.width)]
    if depth >= _MAX_HEADER_ROWS or not _names_groups(seen, row):
        return names, 1
    lower, rows = _names(seen, row + 1, depth + 1)
    if not seen.across[row]:
        names = _filled_right(names)
    return [_joined(above, below) for above, below in zip(names, lower, strict=True)], rows + 1


def _filled_right(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        found.append(name or (found[-1] if found else ""))
    return found


def _joined(above: str, below: str) -> str:
    if above == below or below.startswith(f"{above} "):
        return below
    return f"{above} {below}".strip()


def _can_name(names: Sequence[str]) -> bool:
    """Whether a row can name columns: words among it, and not the same one for all."""
    named = [name for name in names if name]
    return any(any(c.isalpha() for c in n) for n in named) and (
        len(set(named)) > 1 or len(named) == 1
    )
