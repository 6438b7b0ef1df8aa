"""Where the words and the ruling lines of a PDF's page stand, and the page as a picture: PDFium.

pypdf gives the text of most pages; this is asked where text alone does not tell. PDFium is a native
library, hence used in the reader's own process only.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from fti.store.errors import ExtractionError

#: A picture for OCR has no more: A3 at 300 dpi has 17 million.
MAX_PIXELS = 25_000_000

_MAX_CHARACTERS = 100_000  # of a page: a table as large as that is a data set
_MAX_SEGMENTS = 20_000  # of the lines on a page: more are a drawing
_THICK = 3.0  # points: what is thinner is a line, whatever it is drawn as
_SHORT = 4.0  # points: what is shorter belongs to a sign
_LEVEL = 0.6  # points that a line may be off the horizontal or vertical
_HYPHENS = (0x02, 0xFFFE)  # how PDFium says that a hyphen ends the line
_WORD_GAP = 0.28  # of the letters' height
_CONTRAST = 24  # of 255; below it a page is empty


@dataclass(frozen=True, slots=True)
class Word:
    """A word on a page. Lengths are points; y grows upwards; ``y`` is the base line.

    ``turned`` is what stands at another angle than most of the page, such as a stamp at its margin.
    """

    text: str
    x0: float
    x1: float
    y: float
    size: float
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A ruling line from (x0, y0) to (x1, y1), horizontal or vertical."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def horizontal(self) -> bool:
        """Whether it runs from left to right."""
        return self.x1 - self.x0 >= self.y1 - self.y0


@dataclass(frozen=True, slots=True)
class Positions:
    """The words of a page in the order in which they are drawn, and its ruling lines."""

    words: list[Word]
    rules: list[Rule]


@dataclass(frozen=True, slots=True)
class Picture:
    """Grey pixels, row by row, one byte each."""

    width: int
    height: int
    pixels: bytes
    dpi: int

    @property
    def blank(self) -> bool:
        """Whether it is of one colour, or nearly so."""
        import numpy

        values = numpy.frombuffer(self.pixels, dtype=numpy.uint8)
        return not values.size or int(values.max()) - int(values.min()) < _CONTRAST


class PdfiumPages:
    """The pages of a PDF as PDFium sees them, numbered from 0.

    Raises:
        ExtractionError: PDFium does not open the file, or not the page asked for.
    """

    def __init__(self, data: bytes) -> None:
        import pypdfium2

        self._failure = pypdfium2.PdfiumError
        try:
            self._document = pypdfium2.PdfDocument(data)
        except self._failure as error:
            raise ExtractionError(f"PDFium does not open it: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._document.close()

    def _page(self, number: int) -> Any:
        try:
            return self._document[number]
        except (self._failure, IndexError) as error:
            raise ExtractionError(f"PDFium does not open page {number + 1}: {error}") from error

    def positions(self, number: int) -> Positions | None:
        """Words and lines of a page, turned so that most of its text is upright.

        None where the page has more characters than a page that is read.
        """
        page = self._page(number)
        try:
            text = page.get_textpage()
        except self._failure as error:
            page.close()
            raise ExtractionError(f"PDFium reads no text on page {number + 1}: {error}") from error
        try:
            if text.count_chars() > _MAX_CHARACTERS:
                return None
            characters = _characters(text)
            quarter = _quarter(characters)
            words = _words(characters, quarter)
            rules = [_turned_rule(rule, quarter) for rule in _rules(page)]
        finally:
            text.close()
            page.close()
        return Positions(words, rules)

    def pictured(self, number: int) -> float:
        """Which part of the page the largest picture on it covers."""
        from pypdfium2 import raw

        page = self._page(number)
        try:
            width, height = page.get_size()
            areas = []
            for item in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE,), max_depth=3):
                x0, y0, x1, y1 = item.get_bounds()
                areas.append((x1 - x0) * (y1 - y0))
            return min(1.0, max(areas, default=0.0) / max(width * height, 1.0))
        except self._failure:
            return 0.0
        finally:
            page.close()

    def render(self, number: int, *, dpi: int) -> Picture:
        """The page in grey, less fine where it is large.

        Raises:
            ExtractionError: also when it is larger than ``MAX_PIXELS`` at 72 dpi already.
        """
        import pypdfium2

        page = self._page(number)
        try:
            width, height = page.get_size()  # points, which are pixels at 72 dpi
            area = width * height
            if not 0 < area <= MAX_PIXELS:
                raise ExtractionError(
                    f"it measures {width:.0f} x {height:.0f} points, more than {MAX_PIXELS} pixels"
                )
            # A poster is drawn as finely as it may be.
            scale = min(dpi / 72, math.sqrt(MAX_PIXELS / area))
            bitmap = page.render(scale=scale, grayscale=True, rev_byteorder=False)
            stride, rows, columns = bitmap.stride, bitmap.height, bitmap.width
            raw = ctypes.string_at(bitmap.buffer, stride * rows)
            bitmap.close()
        except self._failure as error:
            raise ExtractionError(f"page {number + 1} cannot be drawn: {error}") from error
        finally:
            page.close()
        if stride != columns:
            raw = b"".join(raw[i * stride : i * stride + columns] for i in range(rows))
        assert pypdfium2.raw.FPDFBitmap_Gray == bitmap.format
        return Picture(columns, rows, raw, max(70, round(72 * scale)))


@dataclass(frozen=True, slots=True)
class _Character:
    code: int
    x0: float
    y0: float
    x1: float
    y1: float
    x: float  # origin
    y: float
    quarter: int


def _characters(text: Any) -> list[_Character | None]:
    """The characters as drawn; None for white space, which ends a word."""
    from pypdfium2 import raw

    box = raw.FS_RECTF()
    x, y = ctypes.c_double(), ctypes.c_double()
    found: list[_Character | None] = []
    for i in range(text.count_chars()):
        code = raw.FPDFText_GetUnicode(text, i)
        if (code <= 32 and code not in _HYPHENS) or code in (0xA0, 0xAD):
            found.append(None)
            continue
        if not raw.FPDFText_GetLooseCharBox(text, i, box) or not raw.FPDFText_GetCharOrigin(
            text, i, x, y
        ):
            continue
        if code in _HYPHENS:
            code = ord("-")
        angle = raw.FPDFText_GetCharAngle(text, i)
        quarter = -round(angle / (math.pi / 2)) % 4  # PDFium counts clockwise
        left, right = sorted((box.left, box.right))
        bottom, top = sorted((box.bottom, box.top))
        found.append(_Character(code, left, bottom, right, top, x.value, y.value, quarter))
    return found


def _quarter(characters: Sequence[_Character | None]) -> int:
    """How many quarters of a turn most of the text is turned by."""
    turns = [0, 0, 0, 0]
    for c in characters:
        if c:
            turns[c.quarter] += 1
    return turns.index(max(turns))


def _turn(x: float, y: float, quarter: int) -> tuple[float, float]:
    return ((x, y), (y, -x), (-x, -y), (-y, x))[quarter]


def _turned_rule(rule: Rule, quarter: int) -> Rule:
    x0, y0 = _turn(rule.x0, rule.y0, quarter)
    x1, y1 = _turn(rule.x1, rule.y1, quarter)
    return Rule(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _words(characters: Sequence[_Character | None], quarter: int) -> list[Word]:
    words: list[Word] = []
    letters: list[str] = []
    start = end = base = size = last_x0 = 0.0
    last_quarter = quarter

    def finish() -> None:
        if letters:
            word = "".join(letters)
            words.append(Word(word, start, end, base, size, last_quarter != quarter))
            letters.clear()

    for c in characters:
        if c is None:
            finish()
            continue
        x0, y0 = _turn(c.x0, c.y0, c.quarter)
        x1, y1 = _turn(c.x1, c.y1, c.quarter)
        _, y = _turn(c.x, c.y, c.quarter)
        x0, x1 = min(x0, x1), max(x0, x1)
        height = max(abs(y1 - y0), 0.1)
        goes_on = (
            letters
            and c.quarter == last_quarter
            and abs(y - base) < 0.5 * size
            # The letters of a ligature all have the box of the ligature.
            and (x0 == last_x0 or -0.5 * size < x0 - end < _WORD_GAP * max(size, height))
        )
        if not goes_on:
            finish()
            start, end, base, size, last_quarter = x0, x1, y, height, c.quarter
        last_x0 = x0
        letters.append(chr(c.code) if not 0xD800 <= c.code <= 0xDFFF else "\ufffd")
        start, end, size = min(start, x0), max(end, x1), max(size, height)
    finish()
    return words


def _rules(page: Any) -> list[Rule]:
    """Level and upright lines, edges of boxes included. None where the page is a drawing."""
    from pypdfium2 import raw

    found: list[Rule] = []
    left = _MAX_SEGMENTS
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    x, y = ctypes.c_float(), ctypes.c_float()
    matrix = raw.FS_MATRIX()
    for item in page.get_objects(filter=(raw.FPDF_PAGEOBJ_PATH,), max_depth=1):
        handle = item.raw
        count = raw.FPDFPath_CountSegments(handle)
        left -= count
        if left < 0:
            return []
        if raw.FPDFPath_GetDrawMode(handle, fill, stroke) and not (fill.value or stroke.value):
            continue
        if not raw.FPDFPageObj_GetMatrix(handle, matrix):
            continue
        a, b, c, d, e, f = matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f
        points: list[tuple[float, float]] = []
        pieces: list[tuple[tuple[float, float], tuple[float, float]]] = []
        begun: tuple[float, float] | None = None
        for i in range(count):
            segment = raw.FPDFPath_GetPathSegment(handle, i)
            if not raw.FPDFPathSegment_GetPoint(segment, x, y):
                break
            point = (a * x.value + c * y.value + e, b * x.value + d * y.value + f)
            kind = raw.FPDFPathSegment_GetType(segment)
            if kind == raw.FPDF_SEGMENT_MOVETO:
                begun = point
            elif kind == raw.FPDF_SEGMENT_LINETO and points:
                pieces.append((points[-1], point))
            points.append(point)
            if raw.FPDFPathSegment_GetClose(segment) and begun:
                pieces.append((point, begun))
        found += _level(points, pieces)
    return found


def _level(
    points: Sequence[tuple[float, float]],
    pieces: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> list[Rule]:
    if not points:
        return []
    x0, x1 = min(p[0] for p in points), max(p[0] for p in points)
    y0, y1 = min(p[1] for p in points), max(p[1] for p in points)
    if min(x1 - x0, y1 - y0) <= _THICK:  # a line, or a box as thin as one
        if max(x1 - x0, y1 - y0) < _SHORT:
            return []
        if x1 - x0 >= y1 - y0:
            middle = (y0 + y1) / 2
            return [Rule(x0, middle, x1, middle)]
        middle = (x0 + x1) / 2
        return [Rule(middle, y0, middle, y1)]
    found = []
    for (ax, ay), (bx, by) in pieces:
        if abs(ay - by) <= _LEVEL and abs(ax - bx) >= _SHORT:
            found.append(Rule(min(ax, bx), (ay + by) / 2, max(ax, bx), (ay + by) / 2))
        elif abs(ax - bx) <= _LEVEL and abs(ay - by) >= _SHORT:
            found.append(Rule((ax + bx) / 2, min(ay, by), (ax + bx) / 2, max(ay, by)))
    return found
