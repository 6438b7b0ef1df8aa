"""PDF by pypdf: the text of each page, hard-wrapped lines joined to paragraphs.

Text comes in the order in which the file draws it. Where drawing jumps from side to side, PDFium
is asked for positions: columns are then read one after the other, and tables as rows. What pages
repeat at their edges is said once. Where each page begins in the text is kept. A page whose text is
none, and a page that is a picture, is read by OCR where that is installed, and reported.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import silenced
from fti.pipelines.feature.reading.readers.pages.legible import judge
from fti.pipelines.feature.reading.readers.pages.margins import without_running_lines
from fti.pipelines.feature.reading.readers.pages.ocr import Ocr, Recognised, mean_confidence
from fti.pipelines.feature.reading.readers.pages.page_layout import arrange
from fti.pipelines.feature.reading.readers.pages.page_text import (
    joined,
    known_words,
    page_list,
    unwrap,
    unwrap_blocks,
)
from fti.pipelines.feature.reading.readers.pages.positions import PdfiumPages
from fti.store.errors import ExtractionError
from fti.store.page_starts import PAGE_STARTS, encode_page_starts
from fti.store.plain_text import clean, clean_line

_SCAN = "no text on its pages (a scan?)"
_MAX_WARNED = 5
_MAX_TITLE = 150
_JUNK_TITLE = re.compile(
    r"untitled|microsoft (word|powerpoint|excel)\b|.*\.(docx?|pdf|tex|dvi|indd|rtf|odt|ps)$|\W*$",
    re.IGNORECASE,
)
_FEW_LETTERS = 100  # on a page that is else a picture: a stamp, a number, a file's name
_PICTURED = 0.5  # how much of the page the picture covers
_ANYTHING = 16  # bytes of drawing; an empty page has less
_MIN_JUMPS = 3
_MIN_LEVEL, _MIN_UPRIGHT, _MAX_RULES = 3, 2, 120  # more are a chart
_STEP = 4  # points
_BOX = 6  # of the drawing's units; what is thinner is a line
_LETTER = 0.45  # of the letters' size
_SHOWING = frozenset({b"TJ", b"Tj", b"'", b'"'})
_DRAWING = frozenset({b"re", b"m", b"l"})
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_KEPT = 0.95  # of the letters that pypdf found, else something went missing


@dataclass(slots=True)
class _Page:
    """A page on its way: its text, and what is known of it.

    Args:
        text: cleaned; in lines.
        blocks: whether its text is in blocks with blank lines between them.
        sideways: whether something may stand side by side on it.
        fault: why its text cannot be used.
        pictured: whether all or most of what it says may be in a picture, or in drawn outlines.
        read: what OCR found.
    """

    text: str = ""
    blocks: bool = False
    sideways: bool = False
    fault: str = ""
    pictured: bool = False
    read: Recognised | None = None


class _Remarks:
    """What there is to say of pages, the pages of one reason together."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str], list[int]] = {}

    def unread(self, page: int, reason: str) -> None:
        """A page of which something is missing."""
        self._pages.setdefault(("unread", reason), []).append(page)

    def note(self, page: int, remark: str) -> None:
        """A page that was read, with a reservation."""
        self._pages.setdefault(("note", remark), []).append(page)

    def __bool__(self) -> bool:
        return bool(self._pages)

    @property
    def reasons(self) -> list[str]:
        """Why pages were not read."""
        return [reason for kind, reason in self._pages if kind == "unread"]

    def lines(self) -> list[str]:
        """One line for each reason."""
        found = []
        for (kind, reason), pages in self._pages.items():
            one = len(pages) == 1
            name = f"{'page' if one else 'pages'} {page_list(pages)}"
            verb = "was" if one else "were"
            found.append(
                f"{name} {verb} not read: {reason}" if kind == "unread" else f"{name}: {reason}"
            )
        return found


def read_pdf(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Text of all pages. A page that cannot be read is left out and named in the warnings.

    Raises:
        ExtractionError: not a PDF, damaged, locked with a password, or without any text that can
            be read.
    """
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    # On hostile or damaged files pypdf runs into its own assumptions, in any of these ways.
    damage = (
        PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError,
        AssertionError, OverflowError, NotImplementedError, EOFError, OSError, zlib.error,
    )  # fmt: skip
    remarks = _Remarks()
    ocr = Ocr(config)
    with silenced("pypdf"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader = PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise _locked()
            drawn = list(reader.pages)
        except FileNotDecryptedError as error:
            raise _locked() from error
        except damage as error:
            raise ExtractionError(
                f"the PDF is damaged: {_reason(error)}", hint="Open it and export it again."
            ) from error
        title, author = _properties(reader, damage)
        largest = "" if title else None
        pages: list[_Page] = []
        characters = 0
        for number, page in enumerate(drawn, start=1):
            watch = _Watch(sizes=number == 1 and largest is not None)
            try:
                raw = watch.text_of(page)
            except damage as error:
                remarks.unread(number, _reason(error))
                pages.append(_Page())
                continue
            characters += len(raw)
            if characters > config.max_unpacked_bytes:
                raise ExtractionError(
                    f"the PDF's text is longer than {config.max_unpacked_bytes} characters"
                )
            pages.append(_seen(page, raw, watch, number, remarks, damage))
            if number == 1 and largest is not None and not pages[0].fault:
                largest = watch.largest_line()
        if remarks and len(remarks.reasons) and not any(p.text or p.fault for p in pages):
            failed = sum(not (p.text or p.pictured) for p in pages)
            if failed == len(pages):
                raise ExtractionError(f"the PDF is damaged: {remarks.lines()[0]}")
    with _Pdfium(data) as pdfium:
        for number, one in enumerate(pages, start=1):
            if one.sideways and not one.fault:
                _arrange(one, number, pdfium, remarks)
            if one.fault or one.pictured:
                _recognise(one, number, pdfium, ocr, config, remarks)
    return [_document(pages, remarks, ocr, title or largest or "", author)]


def _seen(
    page: Any,
    raw: str,
    watch: _Watch,
    number: int,
    remarks: _Remarks,
    damage: tuple[type[Exception], ...],
) -> _Page:
    """What is to be done with a page, by its text and by how it is drawn."""
    found = judge(raw)
    if found.remark:
        remarks.note(number, found.remark)
    if found.fault:
        return _Page(fault=found.fault)
    text = clean(raw)
    letters = sum(map(str.isalnum, text[: 4 * _FEW_LETTERS]))
    pictured = False
    if not letters:
        pictured = watch.drawn >= _ANYTHING
    elif letters < _FEW_LETTERS:
        pictured = _has_picture(page, damage)
    sideways = watch.sideways and len(_RIGHT_TO_LEFT.findall(text)) < 0.1 * len(text)
    return _Page(text, sideways=sideways, pictured=pictured)


def _has_picture(page: Any, damage: tuple[type[Exception], ...]) -> bool:
    try:
        things = page["/Resources"]["/XObject"]
        return any(things[name].get("/Subtype") == "/Image" for name in things)
    except damage:
        return False


class _Pdfium:
    """PDFium's pages, opened when the first of them is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack = ExitStack()
        self._pages: PdfiumPages | None = None
        self._refused: ExtractionError | None = None

    def __enter__(self) -> _Pdfium:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def pages(self) -> PdfiumPages:
        """Raises ExtractionError where PDFium refuses the file."""
        if self._refused:
            raise self._refused
        if self._pages is None:
            try:
                self._pages = self._stack.enter_context(PdfiumPages(self._data))
            except ExtractionError as error:
                self._refused = error
                raise
        return self._pages


def _arrange(page: _Page, number: int, pdfium: _Pdfium, remarks: _Remarks) -> None:
    """Columns one after the other and tables as rows, where the page has any."""
    try:
        positions = pdfium.pages().positions(number - 1)
    except ExtractionError:
        return  # pypdf read it: what it gave is kept
    if positions is None:
        return
    found = arrange(positions.words, positions.rules)
    if found.remark:
        remarks.note(number, found.remark)
    text = clean(found.text)
    if text and _letters(text) >= _KEPT * _letters(page.text):
        page.text, page.blocks = text, True


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _recognise(
    page: _Page, number: int, pdfium: _Pdfium, ocr: Ocr, config: SourcesConfig, remarks: _Remarks
) -> None:
    """Read a page by OCR; what it says of itself counts where OCR finds no more."""
    kept = page.text
    fault = page.fault or "it is a picture"
    try:
        opened = pdfium.pages()
        if kept and opened.pictured(number - 1) < _PICTURED:
            page.pictured = False
            return
        if ocr.problem:
            if page.fault or kept:  # of a page without any text the whole document is told
                remarks.unread(number, f"{fault}; {ocr.problem}")
            return
        if ocr.spent:
            remarks.unread(number, f"{fault}; {ocr.spent}")
            return
        picture = opened.render(number - 1, dpi=config.ocr.dpi)
        page.read = ocr.read(picture)
    except ExtractionError as error:
        remarks.unread(number, f"{fault}; {error.message}")
        return
    text = clean(page.read.text)
    if _letters(text) > 1.5 * _letters(kept):
        page.text, page.blocks = text, True
        if page.fault:
            remarks.note(number, f"{page.fault}; read by OCR")
    elif page.fault:
        remarks.unread(number, f"{fault}, and OCR found none")


def _document(
    pages: Sequence[_Page], remarks: _Remarks, ocr: Ocr, title: str, author: str
) -> Extracted:  # fmt: skip
    texts = [page.text for page in pages]
    known = known_words(texts)
    unwrapped = [
        unwrap_blocks(text, known) if page.blocks else clean(unwrap(text, known))
        for page, text in zip(pages, without_running_lines(texts), strict=True)
    ]
    text, starts = joined(unwrapped)
    by_ocr = [n for n, p in enumerate(pages, 1) if p.read and p.blocks and p.text]
    if not ocr.problem:
        scans: list[int] = []
    else:
        scans = [n for n, p in enumerate(pages, 1) if p.pictured and not p.text]
    if text.strip():
        for number in scans:
            remarks.unread(number, f"it is a picture; {ocr.problem}")
    metadata = facts(
        pages=len(pages),
        author=author,
        ocr_pages=page_list(by_ocr),
        ocr_confidence=mean_confidence([p.read for p in pages if p.read]),
        warnings="; ".join(remarks.lines()[:_MAX_WARNED]),
    )
    if text.strip():
        metadata[PAGE_STARTS] = encode_page_starts(starts)
        return Extracted(text, title=title or _first_line(text), metadata=metadata)
    faults = [page.fault for page in pages if page.fault]
    if faults:
        raise ExtractionError(
            f"none of its {len(pages)} pages can be read: {remarks.reasons[0]}",
            hint="Open it and export it again, or install tesseract for OCR.",
        )
    if scans and ocr.misconfigured:
        raise ExtractionError(f"{_SCAN}; {ocr.problem}")
    reason = f"{_SCAN}; {ocr.problem}" if scans else _SCAN
    if any(page.read for page in pages):
        reason = "no text on its pages, and OCR found none"
    elif remarks.reasons:
        raise ExtractionError(f"none of its pages was read: {remarks.reasons[0]}")
    return Extracted("", title=title, metadata=metadata, empty_reason=reason)


class _Watch:
    """Looks on while pypdf reads a page: whether drawing jumps to the right again and again.

    Cheap on purpose: it is asked for every operation of every page, and only tells which pages
    are worth another look. Widths are guessed.
    """

    def __init__(self, *, sizes: bool) -> None:
        self._sizes: dict[float, list[str]] | None = {} if sizes else None
        self._size = 12.0
        self._x = self._y = self._end = 0.0
        self._begun = False
        self._targets: Counter[int] = Counter()  # where jumps lead, in steps of a few points
        self._corner = (0.0, 0.0)
        self._level = self._upright = 0
        self.drawn = 0  # bytes of what is drawn

    def text_of(self, page: Any) -> str:
        """The page's text as pypdf gives it; whatever it raises."""
        contents = page.get_contents()
        data: bytes = contents.get_data() if contents is not None else b""
        self.drawn = len(data.strip())
        if b"BT" not in data and b"Do" not in data:
            return ""  # a drawing, however large, has nothing to say
        text: str = page.extract_text(
            visitor_operand_before=self._operation,
            visitor_text=self._text if self._sizes is not None else None,
        )
        return text or ""

    @property
    def sideways(self) -> bool:
        """Whether a table or columns may be drawn row by row."""
        if not self._targets:
            return False
        ruled = self._level >= _MIN_LEVEL and self._upright >= _MIN_UPRIGHT
        if ruled and self._level + self._upright <= _MAX_RULES:
            return True
        return any(
            count + self._targets[place + 1] >= _MIN_JUMPS
            for place, count in list(self._targets.items())
        )

    def _operation(self, operator: bytes, operands: Any, cm: Any, tm: Any) -> None:
        if operator in _SHOWING:
            if operands:
                self._shown(operands[-1], cm, tm)
        elif operator in _DRAWING:
            self._ruled(operator, operands)
        elif operator == b"Tf" and len(operands) > 1 and isinstance(operands[1], (int, float)):
            self._size = float(operands[1])

    def _ruled(self, operator: bytes, operands: Any) -> None:
        try:
            if operator == b"re":
                width, height = abs(operands[2]), abs(operands[3])
                box = min(width, height) > _BOX
                self._level += box or width > height
                self._upright += box or height > width
                return
            x, y = operands[0], operands[1]
            if operator == b"l":
                self._level += y == self._corner[1]
                self._upright += x == self._corner[0]
            self._corner = (x, y)
        except (IndexError, TypeError):  # not what the operation asks for
            return

    def _shown(self, what: Any, cm: Any, tm: Any) -> None:
        x = tm[4] * cm[0] + tm[5] * cm[2] + cm[4]
        y = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
        along = tm[0] * cm[0] + tm[1] * cm[2]
        across = tm[0] * cm[1] + tm[1] * cm[3]
        if abs(across) > abs(along):  # a page that is shown on its side
            x, y = (y, -x) if across > 0 else (-y, x)
        size = abs(self._size) * max(abs(along), abs(across)) or 12.0
        if x == self._x and y == self._y and self._begun:
            x = self._end  # one operation after another on the line
        elif self._begun and x - self._end > 1.2 * size and y >= self._y - 0.5 * size:
            self._targets[int(x) // _STEP] += 1
        self._begun = True
        self._x, self._y = x, y
        letter = _LETTER * size
        for piece in what if isinstance(what, list) else (what,):
            if isinstance(piece, (int, float)):
                x -= piece * size / 1000
                if piece < -1500:  # thousandths of the letters' size
                    self._targets[int(x) // _STEP] += 1
            elif piece:
                two_bytes = (piece[0] if isinstance(piece, bytes) else ord(piece[0])) < 32
                gap = b"   " if isinstance(piece, bytes) else "   "
                if gap in piece and gap in piece.strip():  # columns of a typewriter
                    at = len(piece) - len(piece.rpartition(gap)[2])
                    self._targets[int(x + letter * at) // _STEP] += 1
                x += letter * (len(piece) // 2 if two_bytes else len(piece))
        self._end = x

    def _text(self, text: str, cm: Any, tm: Any, font: Any, size: float) -> None:
        upright = abs(tm[1]) < 1e-3 and abs(tm[2]) < 1e-3  # margins carry stamps on their side
        if self._sizes is not None and text.strip() and upright:
            self._sizes.setdefault(round(abs(size * tm[3] * cm[3]), 1), []).append(text)

    def largest_line(self) -> str:
        """What the page sets in its largest letters, when that is a line's worth."""
        sizes = self._sizes or {}
        if len(sizes) < 2:
            return ""
        largest = clean_line(" ".join(sizes[max(sizes)]), max_characters=_MAX_TITLE + 1)
        fits = len(largest) <= _MAX_TITLE and sum(map(str.isalpha, largest)) >= 4
        return largest if fits else ""


def _locked() -> ExtractionError:
    return ExtractionError(
        "the PDF is encrypted and needs a password", hint="Save a copy without a password."
    )


def _properties(reader: Any, damage: tuple[type[Exception], ...]) -> tuple[str, str]:
    """Title and author that the file states, where they are worth having."""
    try:
        found = reader.metadata
        title = clean_line(str(found.title or "")) if found else ""
        author = clean_line(str(found.author or "")) if found else ""
    except damage:  # a broken property is no reason to refuse the text
        return "", ""
    return ("" if _JUNK_TITLE.match(title) else title), author


def _first_line(text: str) -> str:
    """The first line with letters; empty when it is the beginning of a paragraph."""
    line = next((line for line in text.split("\n") if sum(map(str.isalpha, line)) >= 3), "")
    return clean_line(line) if len(line) <= _MAX_TITLE else ""


def _reason(error: Exception) -> str:
    return clean_line(str(error) or type(error).__name__, max_characters=150)
