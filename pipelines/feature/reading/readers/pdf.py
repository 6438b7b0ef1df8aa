"""PDF by pypdf: the text of each page, hard-wrapped lines joined to paragraphs.

Text comes in the order in which the file draws it; the columns of tables are not kept apart. What
pages repeat at their edges is said once. Where each page begins in the text is kept.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Sequence, Set
from typing import Any

from fti.pipelines.feature.reading.cleaning import clean, clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import silenced
from fti.pipelines.feature.reading.readers.margins import without_running_lines
from fti.store.errors import ExtractionError
from fti.store.page_starts import PAGE_STARTS, encode_page_starts

_SCAN = "no text on its pages (a scan?)"
_MAX_WARNED_PAGES = 5
_MAX_TITLE = 150
_JUNK_TITLE = re.compile(
    r"untitled|microsoft (word|powerpoint|excel)\b|.*\.(docx?|pdf|tex|dvi|indd|rtf|odt|ps)$|\W*$",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"\s*(?:[-*+•‣▪◦·–—]\s|\(?\d{1,3}[.)]\s|\(?[a-zA-Z][.)]\s|\[\d+\])")
_SENTENCE_END = re.compile(r"[.!?:;。！？…][\"')\]”’»]*$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BULLET = re.compile(r"\s*([•●▪◦‣])\s*")
_WORD_LINES = 0.6
_HYPHEN_END = re.compile(r"(?<=[^\W\d_])[-\u2010]$")
_FULL_LINE_SHARE = 0.72  # a line this much of the usual width was wrapped, not ended


def read_pdf(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Text of all pages. A page that cannot be read is left out and named in the warnings.

    Raises:
        ExtractionError: not a PDF, damaged, or locked with a password.
    """
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    # On hostile or damaged files pypdf runs into its own assumptions, in any of these ways.
    damage = (
        PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError,
        AssertionError, OverflowError, NotImplementedError, EOFError, OSError, zlib.error,
    )  # fmt: skip
    with silenced("pypdf"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader = PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise _locked()
            pages = list(reader.pages)
        except FileNotDecryptedError as error:
            raise _locked() from error
        except damage as error:
            raise ExtractionError(
                f"the PDF is damaged: {_reason(error)}", hint="Open it and export it again."
            ) from error
        texts: list[str] = []
        unread: list[str] = []
        characters = 0
        for number, page in enumerate(pages, start=1):
            try:
                text = page.extract_text() or ""
            except damage as error:
                unread.append(f"page {number} was not read: {_reason(error)}")
                texts.append("")
                continue
            characters += len(text)
            if characters > config.max_unpacked_bytes:
                raise ExtractionError(
                    f"the PDF's text is longer than {config.max_unpacked_bytes} characters"
                )
            texts.append(clean(text))
        if unread and len(unread) == len(pages):
            raise ExtractionError(f"the PDF is damaged: {unread[0]}")
        title, author = _properties(reader, damage)
        if pages and not title:
            title = _largest_line(pages[0], damage)
    known = {word.lower() for text in texts for word in _WORD.findall(text)}
    unwrapped = [clean(unwrap(text, known)) for text in without_running_lines(texts)]
    text, starts = _joined(unwrapped)
    metadata = facts(
        pages=len(pages), author=author, warnings="; ".join(unread[:_MAX_WARNED_PAGES])
    )
    if not text.strip():
        return [Extracted("", title=title, metadata=metadata, empty_reason=_SCAN)]
    metadata[PAGE_STARTS] = encode_page_starts(starts)
    return [Extracted(text, title=title or _first_line(text), metadata=metadata)]


def _joined(pages: Sequence[str]) -> tuple[str, list[int]]:
    """The pages' texts as one, which cleaning leaves as it is, and where each begins."""
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for page in pages:
        separator = "\n\n" if page and length else ""
        starts.append(length + len(separator))
        parts += [separator, page]
        length += len(separator) + len(page)
    # A page without text begins where the next one with text does.
    for i in range(len(pages) - 2, -1, -1):
        if not pages[i]:
            starts[i] = starts[i + 1]
    return "".join(parts), starts


def unwrap(text: str, known: Set[str] = frozenset()) -> str:
    """Lines that only the page's width broke, joined; a word hyphenated at such a break is whole.

    A break stays after a short line, after a sentence's end in a short line, and before a list
    item or a blank line. A hyphen stays where a capital or digit follows, and where ``known``
    has the word with its hyphen but not without.

    Args:
        text: of one page.
        known: the words of the document in lower case.
    """
    lines = [line.strip() for line in text.split("\n")]
    if sum(bool(line) and " " not in line for line in lines) > _WORD_LINES * len(lines) >= 10:
        # Some writers place every word by itself; all that tells lines apart is then lost.
        return _BULLET.sub(r"\n\1 ", " ".join(lines)).strip()
    lengths = sorted(len(line) for line in lines if len(line) > 20)
    usual = lengths[int(len(lengths) * 0.8)] if lengths else 0
    parts: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        full = usual > 0 and len(line) >= _FULL_LINE_SHARE * usual
        joins = bool(following) and full and not _LIST_ITEM.match(following)
        if joins and _SENTENCE_END.search(line) and len(line) < 0.9 * usual:
            joins = False
        if not joins:
            parts.append(f"{line}\n")
        elif _HYPHEN_END.search(line):
            parts.append(line[:-1] if _was_whole(line, following, known) else line)
        else:
            parts.append(f"{line} ")
    return "".join(parts).strip()


def _was_whole(line: str, following: str, known: Set[str]) -> bool:
    """Whether the hyphen at the line's end was put there by the break."""
    if not following[:1].islower():
        return False
    first = _WORD.findall(line[:-1])[-1].lower()
    second = (_WORD.match(following) or [""])[0].lower()
    return first + second in known or f"{first}-{second}" not in known


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


def _largest_line(page: Any, damage: tuple[type[Exception], ...]) -> str:
    """What the page sets in its largest letters, when that is a line's worth."""
    sizes: dict[float, list[str]] = {}

    def visit(text: str, cm: Any, tm: Any, font: Any, size: float) -> None:
        upright = abs(tm[1]) < 1e-3 and abs(tm[2]) < 1e-3  # margins carry stamps on their side
        if text.strip() and upright:
            sizes.setdefault(round(abs(size * tm[3] * cm[3]), 1), []).append(text)

    try:
        page.extract_text(visitor_text=visit)
    except damage:  # the page was read before; without this the title is another
        return ""
    if len(sizes) < 2:
        return ""
    largest = clean_line(" ".join(sizes[max(sizes)]), max_characters=_MAX_TITLE + 1)
    fits = len(largest) <= _MAX_TITLE and sum(map(str.isalpha, largest)) >= 4
    return largest if fits else ""


def _first_line(text: str) -> str:
    """The first line with letters; empty when it is the beginning of a paragraph."""
    line = next((line for line in text.split("\n") if sum(map(str.isalpha, line)) >= 3), "")
    return clean_line(line) if len(line) <= _MAX_TITLE else ""


def _reason(error: Exception) -> str:
    return clean_line(str(error) or type(error).__name__, max_characters=150)
