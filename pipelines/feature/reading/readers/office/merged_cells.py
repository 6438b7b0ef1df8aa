"""Tables with merged cells: each column has its value in each row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_MAX_COLUMNS = 256
_MAX_WIDE = 300  # a longer text that spans columns is prose, and stands once
_MAX_REPEATED = 200_000  # characters, over a whole table


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a row as its file has it.

    Args:
        text: on one line.
        columns: how many it spans; files say two thousand millions.
        above: whether it continues the cell above it.
        left: whether it continues the cell to its left.
    """

    text: str
    columns: int = 1
    above: bool = False
    left: bool = False


def spread(rows: Iterable[Iterable[Cell]]) -> list[list[str]]:
    """Rows of texts in which a merged cell repeats its value, within bounds."""
    left = _MAX_REPEATED
    found: list[list[str]] = []
    before: list[str] = []
    for row in rows:
        texts: list[str] = []
        for cell in row:
            text = cell.text
            repeated = ""
            if cell.above and len(texts) < len(before):
                repeated = before[len(texts)]
            elif cell.left and texts:
                repeated = texts[-1] if len(texts[-1]) <= _MAX_WIDE else ""
            if repeated and left >= len(repeated):
                left -= len(repeated) + 1
                text = repeated
            texts.append(text)
            again = text if len(text) <= _MAX_WIDE else ""
            for _ in range(min(cell.columns - 1, _MAX_COLUMNS - len(texts))):
                if left <= len(again):
                    break
                left -= len(again) + 1
                texts.append(again)
        found.append(texts)
        before = texts
    return found


def in_one_cell(rows: Iterable[Iterable[str]]) -> str:
    """A table that stands in a cell of another one: ``a, b; c, d``."""
    lines = (", ".join(filter(None, (" ".join(cell.split()) for cell in row))) for row in rows)
    return "; ".join(filter(None, lines))
