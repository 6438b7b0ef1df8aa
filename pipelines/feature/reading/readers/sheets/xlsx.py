"""XLSX: sheets as sections, their tables row by row with the names of the columns repeated."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading
from fti.pipelines.feature.reading.readers.package import Package, inspect_package, not_whole
from fti.pipelines.feature.reading.readers.sheets.grid import (
    Kind,
    begins_table,
    find_head,
    kind_of,
    lines,
    record_blocks,
)
from fti.pipelines.feature.reading.readers.sheets.workbook import Cell, Row, Sheet, Workbook
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean_line

_DAMAGE = (
    AttributeError, AssertionError, EOFError, IndexError, KeyError, NotImplementedError, OSError,
    TypeError, ValueError, SyntaxError, zipfile.BadZipFile,
)  # fmt: skip
_MAX_NAMED = 5
_LOOKED_AT = 32  # rows of a table by which it is judged
# What merged cells repeat, in all: a cell merged over a whole sheet must not fill it.
_MAX_REPEATED_CHARACTERS = 1 << 20


def read_xlsx(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """The visible sheets of a workbook, numbers and dates as a person sees them.

    A formula stands as its last computed value; one that was never computed stands as itself, and
    the warnings say so. Merged cells repeat their value. Rows and columns that are hidden, often
    only by a filter, are read; hidden sheets are not, and the warnings name them.

    Raises:
        ExtractionError: not an XLSX file, truncated, encrypted, or a decompression bomb.
    """
    inspect_package(data, config, kind="XLSX", needs="[Content_Types].xml")
    blocks: list[str] = []
    rows = 0
    read: list[str] = []
    hidden: list[str] = []
    found = _Found(config)
    try:
        workbook = Workbook(Package(data, config, kind="XLSX", needs="[Content_Types].xml"))
        for sheet in workbook.sheets:
            if not sheet.visible:
                hidden.append(sheet.name)
                continue
            read.append(sheet.name)
            parts: list[str] = []
            above = _Columns()
            for region in found.regions(sheet, workbook.rows(sheet)):
                rows += len(region)
                parts += _render(region, above)
            if parts:
                blocks += [heading(2, sheet.name), *parts]
        title, author = workbook.properties()
    except _DAMAGE as error:
        raise not_whole("XLSX", error) from error
    metadata = facts(
        sheets=", ".join(read),
        rows=rows,
        author=author if author != "openpyxl" else "",
        warnings="; ".join([*_hidden(hidden), *found.warnings()]),
    )
    return [
        Extracted(
            "\n\n".join(filter(None, blocks)),
            title=clean_line(title),
            metadata=metadata,
            empty_reason="no sheet has values",
        )
    ]


def _hidden(names: Sequence[str]) -> list[str]:
    return [f"hidden sheets were not read: {', '.join(names)}"] if names else []


@dataclass(slots=True)
class _Line:
    """A row of a region: its cells by column, and which repeat the value on their left."""

    cells: dict[int, Cell]
    across: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Columns:
    """Of the table that stands above an empty row: names and kinds of its columns."""

    names: dict[int, str] = field(default_factory=dict)
    kinds: dict[int, Kind] = field(default_factory=dict)

    def go_on(self, table: Sequence[_Line]) -> bool:
        """Whether rows below the empty one are a further group of the same columns.

        They are where numbers or dates stand in the same places, and no new names above them.
        """
        used = _used(table)
        if not self.names or used[0] != min(self.names) or not self.names.keys() >= set(used):
            return False
        here = _kinds(table)
        values = {c: k for c, k in self.kinds.items() if k in ("number", "date")}
        if not values.keys() & here.keys():
            return False
        return all(here.get(c, k) == k for c, k in values.items()) and not begins_table(
            [_texts(line, used) for line in table[:_LOOKED_AT]],
            kinds=[[_kind(line.cells.get(c)) for c in used] for line in table[:_LOOKED_AT]],
        )


class _Found:
    """What is found in a workbook's sheets, within bounds."""

    def __init__(self, config: SourcesConfig) -> None:
        self._max_characters = config.max_unpacked_bytes
        self._characters = 0
        self._repeated = 0
        self._exhausted = False  # merged cells repeat nothing any more
        self._formulas: list[str] = []

    def warnings(self) -> list[str]:
        """What a person should know of what was read."""
        said = []
        if self._formulas:
            first = ", ".join(self._formulas[:_MAX_NAMED])
            more = len(self._formulas) - _MAX_NAMED
            said.append(
                f"{len(self._formulas)} formulas have no stored value and stand as formulas: "
                + first
                + (f" and {more} more" if more > 0 else "")
            )
        if self._exhausted:
            said.append("merged cells are too many or too large for all to repeat their value")
        return said

    def regions(self, sheet: Sheet, rows: Iterable[Row]) -> Iterator[list[_Line]]:
        """Runs of rows with values: what empty rows separate.

        One empty row between the names of columns and their values does not.
        """
        region: list[_Line] = []
        last = 0
        for row in self._with_merged(sheet, rows):
            line = _Line(*row[1:])
            empty = row[0] - last - 1
            last = row[0]
            for column, cell in line.cells.items():
                self._characters += len(cell.text)
                if cell.formula and column not in line.across:
                    self._formulas.append(f"{sheet.name}!{_letters(column)}{row[0]}")
            if self._characters > self._max_characters:
                raise ExtractionError(
                    f"the sheet {sheet.name!r} and those before it have more than "
                    f"{self._max_characters} characters"
                )
            if (
                region
                and empty
                and not (empty == 1 and _is_names(region[-1]) and _has_number(line))
            ):
                yield region
                region = []
            region.append(line)
        if region:
            yield region

    def _with_merged(
        self, sheet: Sheet, rows: Iterable[Row]
    ) -> Iterator[tuple[int, dict[int, Cell], set[int]]]:
        """Rows with what merged cells repeat in them: where rows, and other cells, are anyway."""
        # Of each merged range that a row has begun: its last row, its columns, its value.
        open_: list[tuple[int, range, Cell]] = []
        starting = sheet.merged
        for row in rows:
            cells = dict(row.cells)
            across: set[int] = set()
            if self._exhausted:
                open_, starting = [], {}
            open_ = [one for one in open_ if one[0] >= row.number]
            for _, columns, cell in open_:
                self._repeat(cells, columns, cell, across)
            for columns, last_row in starting.get(row.number, ()):
                first = cells.get(columns.start)
                if first is None:
                    continue
                if len(columns) > 1:
                    self._repeat(cells, columns[1:], first, across, all_across=True)
                if last_row > row.number:
                    open_.append((last_row, columns, first))
            if cells:
                yield row.number, dict(sorted(cells.items())), across

    def _repeat(
        self,
        cells: dict[int, Cell],
        columns: range,
        cell: Cell,
        across: set[int],
        *,
        all_across: bool = False,
    ) -> None:
        if self._repeated + len(columns) * (len(cell.text) + 1) > _MAX_REPEATED_CHARACTERS:
            self._exhausted = True
            return
        self._repeated += len(columns) * (len(cell.text) + 1)
        for place, column in enumerate(columns):
            if column not in cells:
                cells[column] = Cell(cell.text, cell.kind)
                if place or all_across:
                    across.add(column)


def _letters(column: int) -> str:
    """The name of a column: 1 is A, 27 is AA."""
    name = ""
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name


def _is_names(line: _Line) -> bool:
    return _filled(line) >= 2 and not _has_number(line)


def _has_number(line: _Line) -> bool:
    return any(_kind(cell) in ("number", "date") for cell in line.cells.values())


def _kind(cell: Cell | None) -> Kind:
    if cell is None:
        return ""
    # Digits kept as text, such as telephone numbers, are values as well.
    return cell.kind if cell.kind != "text" else kind_of(cell.text)


def _kinds(table: Sequence[_Line]) -> dict[int, Kind]:
    """What the values of each column mostly are; columns of several kinds are left out."""
    found: dict[int, list[Kind]] = {}
    for line in table[:_LOOKED_AT]:
        for column, cell in line.cells.items():
            found.setdefault(column, []).append(_kind(cell))
    most = {c: max(set(kinds), key=kinds.count) for c, kinds in found.items()}
    return {c: kind for c, kind in most.items() if 2 * found[c].count(kind) > len(found[c])}


def _render(region: Sequence[_Line], above: _Columns) -> list[str]:
    """Rows with one value as lines, as titles and notes are; the others as tables."""
    lead = 0
    while lead < len(region) and _filled(region[lead]) <= 1:
        lead += 1
    blocks = [_as_lines(region[:lead])] if lead else []
    table = region[lead:]
    if not table:
        return blocks
    parts = _side_by_side(table)
    if len(parts) == 1 and above.go_on(table):
        used = sorted(above.names)
        names = [above.names[c] for c in used]
        return [*blocks, *record_blocks(names, [_texts(line, used) for line in table])]
    above.names = {}
    for part in parts:
        blocks += _table(part, above if len(parts) == 1 else None)
    return blocks


def _filled(line: _Line) -> int:
    return len(line.cells) - len(line.across)


def _as_lines(region: Iterable[_Line]) -> str:
    return lines([_own(line) for line in region])


def _own(line: _Line) -> list[str]:
    return [c.text for column, c in line.cells.items() if column not in line.across]


def _side_by_side(table: Sequence[_Line]) -> list[list[_Line]]:
    """The tables of a region that stand beside one another, parted by an empty column.

    One on the right has words for its rows, and the same names as the first or another number of
    rows. What else stands behind an empty column goes on with the rows on its left.
    """
    used = _used(table)
    cuts = [b for a, b in pairwise(used) if b - a > 1]
    if not cuts:
        return [list(table)]
    bounds = [used[0], *cuts, used[-1] + 1]
    parts = [_columns(table, low, high) for low, high in pairwise(bounds)]
    if all(_stands_alone(part, parts[0]) for part in parts[1:]):
        return [[line for line in part if line.cells] for part in parts]
    return [list(table)]


def _used(table: Sequence[_Line]) -> list[int]:
    """The columns in which a cell has a value of its own: a title may be merged over more."""
    return sorted({c for line in table for c in line.cells if c not in line.across})


def _columns(table: Sequence[_Line], low: int, high: int) -> list[_Line]:
    return [
        _Line(
            {c: cell for c, cell in line.cells.items() if low <= c < high},
            {c for c in line.across if low <= c < high},
        )
        for line in table
    ]


def _stands_alone(part: Sequence[_Line], first: Sequence[_Line]) -> bool:
    own = [line for line in part if line.cells]
    names = set(_own(own[0]))
    column = min(c for line in own for c in line.cells)
    words = [_kind(line.cells.get(column)) for line in own[1:]]
    if len(names) < 2 or 2 * words.count("text") <= len(words):
        return False
    if not _is_names(own[0]):
        return False
    return names <= set(_own(first[0])) or bool(part[-1].cells) != bool(first[-1].cells)


def _table(table: Sequence[_Line], noted: _Columns | None) -> list[str]:
    """The rows of a table with the names of its columns; where it has none, as they stand.

    What its columns are is noted for groups of rows that may follow.
    """
    used = _used(table)
    place = {column: i for i, column in enumerate(used)}
    looked = table[:_LOOKED_AT]
    rows = [_texts(line, used) for line in looked]
    head = find_head(
        rows,
        kinds=[[_kind(line.cells.get(c)) for c in used] for line in looked],
        across=[frozenset(place[c] for c in line.across if c in place) for line in looked],
    )
    blocks = [_as_lines(table[: head.lead])] if head.lead else []
    body = table[head.lead + head.rows :]
    if not head.rows or len(used) == 1:
        return [*blocks, _as_lines(table[head.lead :])]
    names = list(head.names)
    if not any(line.cells.get(used[0]) for line in table[head.lead : head.lead + head.rows]):
        names[0] = ""  # without a name above it, the first column names the rows
    if noted is not None:
        noted.names = dict(zip(used, names, strict=True))
        noted.kinds = _kinds(body)
    said: list[str] = []
    header = _texts(table[head.lead + head.rows - 1], used)
    for line in body:
        texts = _texts(line, used)
        if len(line.across) + 1 == len(line.cells) > 1:
            said.append(_own(line)[0])  # one cell over all columns: a heading among the rows
        elif texts != header:  # which every printed page repeats
            said += record_blocks(names, [texts])
    return [*blocks, *said]


def _texts(line: _Line, used: Sequence[int]) -> list[str]:
    cells = line.cells
    return [cells[c].text if c in cells else "" for c in used]
