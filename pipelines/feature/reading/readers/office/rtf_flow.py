"""Paragraphs and tables of an RTF document, or of a note or box in it, as they come together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fti.pipelines.feature.reading.readers.markdown import heading, item, table
from fti.pipelines.feature.reading.readers.office.inline import Line, Script
from fti.pipelines.feature.reading.readers.office.merged_cells import Cell, in_one_cell, spread

_MAX_DEPTH = 12  # tables in tables
_MAX_CELLS = 1000
_NEAR = 60  # twips between edges that are meant to be one


@dataclass(frozen=True, slots=True)
class _Definition:
    """What a row says of one of its cells before they come."""

    edge: int = 0  # where it ends, in twips from the left
    above: bool = False
    left: bool = False


@dataclass(slots=True)
class _Table:
    """A table that is not complete yet; at each depth of nesting there is one at most."""

    rows: list[tuple[list[str], list[_Definition]]] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # paragraphs of the cell that is being read
    definitions: list[_Definition] = field(default_factory=list)
    coming: _Definition = _Definition()

    def close(self) -> None:
        """Take up what was not ended, as in a file that is cut off."""
        if any(self.parts):
            self.cells.append(" ".join(" ".join(self.parts).split()))
        if any(self.cells):
            self.rows.append((self.cells, self.definitions))
        self.cells, self.parts = [], []

    def spread(self) -> list[list[str]]:
        """Its rows, with the values of merged cells repeated."""
        most = max((len(cells) for cells, _ in self.rows), default=0)
        edges = sorted({d.edge for cells, given in self.rows if len(cells) == most for d in given})
        return spread(_with_spans(cells, given, edges, most) for cells, given in self.rows)


def _with_spans(
    cells: Sequence[str], given: Sequence[_Definition], edges: Sequence[int], most: int
) -> list[Cell]:
    """Cells with what they span: a merged one ends where a later one of other rows does."""
    found: list[Cell] = []
    before = 0
    for i, text in enumerate(cells):
        one = given[i] if i < len(given) else _Definition()
        columns = 1
        if len(cells) < most and one.edge:
            columns = sum(before + _NEAR < edge <= one.edge + _NEAR for edge in edges)
        before = max(before, one.edge)
        found.append(Cell(text, columns=max(columns, 1), above=one.above, left=one.left))
    return found


class Flow:
    """Takes text and the ends of paragraphs, cells and rows; gives blocks."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.asides: list[str] = []  # what is told behind the paragraph
        self.first_heading = ""
        self.mark = ""  # the number or bullet of the paragraph
        self.level = 0  # of a heading
        self.list_level = 0
        self.in_table = False
        self.depth = 0  # of the table in which the paragraph is, where it says so
        self._line = Line()
        self._tables: dict[int, _Table] = {}

    def put(self, text: str, script: Script = "") -> None:
        """Add text to the paragraph."""
        if self._tables and not self.in_table and text.strip() and not self._open_row():
            self._end_table()
        self._line.add(text, script)

    def reset(self) -> None:
        """Forget what the paragraph before was."""
        self.level = self.list_level = self.depth = 0
        self.in_table = False

    def end_paragraph(self) -> None:
        """The paragraph is complete."""
        if self.in_table:
            self._settle(self._level())
            return
        text = self._line.text().strip()
        self._line = Line()
        mark, self.mark = self.mark, ""
        if text:
            self._end_table()
            self.blocks.append(self._block(text, mark))
        self._tell()

    def begin_row(self, *, inner: bool) -> None:
        """The cells of a row are described anew."""
        one = self._table(self._inner_level() if inner else 1)
        one.definitions, one.coming = [], _Definition()

    def define(self, word: str, number: int, *, inner: bool) -> None:
        """Take up what is said of the next cell; ``cellx`` ends it."""
        one = self._table(self._inner_level() if inner else 1)
        given = one.coming
        if word == "cellx":
            if len(one.definitions) < _MAX_CELLS:
                one.definitions.append(_Definition(number, given.above, given.left))
            one.coming = _Definition()
        else:
            one.coming = _Definition(
                0, given.above or word == "clvmrg", given.left or word == "clmrg"
            )

    def end_cell(self, *, inner: bool) -> None:
        """The cell is complete."""
        level = self._inner_level() if inner else 1
        self._settle(level)
        one = self._table(level)
        one.cells.append(" ".join(" ".join(one.parts).split()))
        one.parts = []

    def end_row(self, *, inner: bool) -> None:
        """The row is complete."""
        one = self._table(self._inner_level() if inner else 1)
        one.rows.append((one.cells, one.definitions))
        one.cells = []

    def end(self) -> None:
        """Nothing more comes."""
        self.in_table = False
        if self._line and self._open_row():
            self._settle(1)
        self.end_paragraph()
        self._end_table()
        self._tell()

    # How it is done

    def _level(self) -> int:
        return min(max(self.depth, 1), _MAX_DEPTH)

    def _inner_level(self) -> int:
        return min(max(self.depth, 2), _MAX_DEPTH)

    def _table(self, level: int) -> _Table:
        return self._tables.setdefault(level, _Table())

    def _open_row(self) -> bool:
        return any(one.cells or one.parts for one in self._tables.values())

    def _settle(self, level: int) -> None:
        """Put the paragraph, and the tables inside the cell before it, into the cell."""
        parts = self._table(level).parts
        for deeper in sorted((d for d in self._tables if d > level), reverse=True):
            one = self._tables.pop(deeper)
            one.close()
            outer = self._table(deeper - 1).parts if deeper - 1 > level else parts
            outer.append(in_one_cell(one.spread()))
        text = " ".join(self._line.text().split())
        self._line = Line()
        mark, self.mark = self.mark, ""
        if _counts(mark):
            text = f"{mark} {text}".strip()
        parts.append(text)
        parts += self.asides
        self.asides = []

    def _block(self, text: str, mark: str) -> str:
        counted = _counts(mark)
        if self.level:
            block = heading(self.level, f"{mark} {text}" if counted else text)
            self.first_heading = self.first_heading or block.lstrip("#").strip()
            return block
        if mark:
            return item(self.list_level, text, " ".join(mark.split()) if counted else "-")
        return text

    def _tell(self) -> None:
        self.blocks += filter(None, self.asides)
        self.asides = []

    def _end_table(self) -> None:
        if not self._tables:
            return
        if len(self._tables) > 1:
            self._settle(1)
        one = self._tables.get(1, _Table())
        one.close()
        self._tables = {}
        if text := table(one.spread()):
            self.blocks.append(text)


def _counts(mark: str) -> bool:
    """Whether a mark is a number or letter; a lone ``o`` is what Word draws as a bullet."""
    return mark != "o" and any(c.isalnum() for c in mark)
