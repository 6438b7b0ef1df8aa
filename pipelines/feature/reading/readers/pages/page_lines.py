"""Words of a page put together to lines, and lines to rows: what columns and tables share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from fti.pipelines.feature.reading.readers import markdown
from fti.pipelines.feature.reading.readers.pages.positions import Word

# Lengths are in heights of a line, about 1.15 times the size of the letters.
_SIDE_GAP = 0.78  # words further apart do not belong together
SAME_LINE = 0.4
MAX_COLUMNS = 40
_ITEM = re.compile(r"(?:[-*+•●▪◦‣–—·○■□➢✓]|\(?[0-9ivxIVX]{1,4}[.)]|\(?[a-zA-Z][.)]|\[\d{1,3}\])$")
NUMBER = re.compile(r"[^\w\s]*\d[\d.,:/%\s-]*[^\w\s]*$")
SENTENCE_END = re.compile(r"[.!?:;。！？…][\"')\]”’»]*$")


@dataclass(slots=True)
class Piece:
    """Words side by side on a line, with no more between them than words have."""

    words: list[Word] = field(default_factory=list)

    @property
    def x0(self) -> float:
        """Where it begins."""
        return self.words[0].x0

    @property
    def x1(self) -> float:
        """Where it ends."""
        return max(self.words[0].x1, self.words[-1].x1)

    @property
    def y(self) -> float:
        """Its base line."""
        return self.words[0].y

    @property
    def size(self) -> float:
        """The height of its line."""
        return self.words[0].size

    @property
    def turned(self) -> bool:
        """Whether it stands at another angle than most of the page."""
        return self.words[0].turned

    @property
    def text(self) -> str:
        """Its words, with spaces where there are gaps."""
        parts: list[str] = []
        for before, word in pairwise([None, *self.words]):
            assert word is not None
            if before is not None and word.x0 - before.x1 > 0.1 * before.size:
                parts.append(" ")
            parts.append(word.text)
        return "".join(parts)


def is_level(a: Piece, b: Piece) -> bool:
    """Whether two pieces stand on one line."""
    return abs(a.y - b.y) <= SAME_LINE * max(a.size, b.size)


def pieces_of(words: Iterable[Word]) -> list[Piece]:
    """Words drawn one after the other on a line, cut where the gap is wide."""
    pieces: list[Piece] = []
    for word in words:
        if pieces:
            piece = pieces[-1]
            size = max(piece.size, word.size)
            gap = word.x0 - piece.x1
            level = abs(word.y - piece.y) <= SAME_LINE * size
            wide = (4 if _begins_item(pieces) else _SIDE_GAP) * size
            if level and -0.5 * size < gap <= wide and word.turned == piece.turned:
                piece.words.append(word)
                continue
        pieces.append(Piece([word]))
    return pieces


def _begins_item(pieces: Sequence[Piece]) -> bool:
    """Whether the last piece is the mark of a list's item: nothing stands before it on its line."""
    mark = pieces[-1]
    if not _ITEM.match(mark.text):
        return False
    return len(pieces) < 2 or not is_level(pieces[-2], mark) or pieces[-2].x0 > mark.x0


@dataclass(slots=True)
class Row:
    """What stands on one line of the page, from left to right."""

    y: float
    size: float
    pieces: list[Piece]


def rows_of(pieces: Sequence[Piece]) -> list[Row]:
    """Rows from top to bottom, in whatever order their pieces are drawn."""
    rows: list[Row] = []
    for piece in sorted(pieces, key=lambda p: -p.y):
        if rows and abs(rows[-1].y - piece.y) <= SAME_LINE * max(rows[-1].size, piece.size):
            rows[-1].pieces.append(piece)
            rows[-1].size = max(rows[-1].size, piece.size)
        else:
            rows.append(Row(piece.y, piece.size, [piece]))
    for row in rows:
        row.pieces.sort(key=lambda p: p.x0)
    return rows


def said(pieces: Sequence[Piece]) -> str:
    """The text of pieces side by side."""
    return " ".join(p.text for p in pieces)


def goes_on(before: str, line: str) -> bool:
    """Whether a line continues the one before it."""
    if SENTENCE_END.search(before):
        return False
    return line[:1].islower() or before.endswith(("-", ",")) or line[:1].isdigit()


def joined_line(above: str, below: str) -> str:
    """Two lines of one cell as one; a word that was parted is whole."""
    if above.endswith("-") and below[:1].islower():
        return above[:-1] + below
    return f"{above} {below}".strip()


def as_rows(rows: Sequence[Sequence[str]]) -> str:
    """A table as other readers write it; a bar in a cell is escaped."""
    return markdown.table(rows)
