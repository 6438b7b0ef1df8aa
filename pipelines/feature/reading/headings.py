"""Where the headings of a text are: what gives a chunk its section path.

Reads the text as its media type writes headings. Readers render HTML, Office files, books, mails
and records as Markdown, so their texts are read as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fti.store.plain_text import clean_line

MARKDOWN = "text/markdown"
HTML = "text/html"
PDF = "application/pdf"
PICTURE = "image/*"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
RST = "text/x-rst"
ORG = "text/x-org"
PLAIN = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/x-ndjson"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
RTF = "application/rtf"
EPUB = "application/epub+zip"
EML = "message/rfc822"
XML = "application/xml"
NOTEBOOK = "application/x-ipynb+json"

#: Media types whose extracted text is Markdown.
MARKDOWN_TEXTS = frozenset(
    {MARKDOWN, HTML, DOCX, JSON, JSON_LINES, XLSX, PPTX, ODT, RTF, EPUB, EML, XML, NOTEBOOK}
)
#: Media types whose text is rows, each complete in itself.
ROW_TEXTS = frozenset({CSV, TSV, XLSX})

MAX_HEADING_CHARACTERS = 200
_MAX_CAPITALS = 60
_MAX_LINE = 1000  # no heading is longer; keeps the expressions below from long work

_FENCE = re.compile(r"[ \t]*(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)")
_ATX = re.compile(r" {0,3}(?P<marks>#{1,6})(?:[ \t]+(?P<text>.*?))??(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(?P<mark>=+|-+)[ \t]*$")
_NOT_A_PARAGRAPH = re.compile(r" {4}|\t| {0,3}(?:[-*+>|]|\d{1,9}[.)])(?:\s|\||$)| {0,3}[#|]")
_ORG_HEADING = re.compile(r"(?P<marks>\*+)[ \t]+(?P<text>\S.*)$")
_RST_LINE = re.compile(r"(?P<mark>[!-/:-@\[-`{-~])(?P=mark)+[ \t]*$")
_ATTRIBUTES = re.compile(r"\s*\{[:#.\s][^{}]*\}\s*$")
_LINK = re.compile(r"!?\[(?P<text>[^\[\]]*)\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*\])")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_EMPHASIS = re.compile(
    r"(?<![\w\\])(?P<mark>\*{1,3}|_{1,3}|~~)(?=\S)(?P<text>.+?)(?<=\S)(?P=mark)(?!\w)"
)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


_SOURCE_CODE = "text/x-code-"


def source_code(language: str) -> str:
    """The media type of source code in a language, such as ``python``."""
    return _SOURCE_CODE + language


def is_source_code(media_type: str) -> bool:
    """Whether a text is source code: lines that nothing wraps, blocks that blank lines part."""
    return media_type.startswith(_SOURCE_CODE)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: ``text[start:end]`` is all of its lines without the last line break.

    ``level`` counts from 1, the outermost; ``title`` is its words without markup.
    """

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a text without its line break; ``fence`` numbers the code fence it lies in."""

    start: int
    text: str
    fence: int = 0

    @property
    def fenced(self) -> bool:
        """Whether the line belongs to a code fence, its opening and closing lines included."""
        return self.fence > 0

    @property
    def end(self) -> int:
        """Offset just past the line's last character."""
        return self.start + len(self.text)


def find_headings(text: str, media_type: str) -> list[Heading]:
    """The headings of ``text`` in order; none for media types that write none."""
    if media_type in MARKDOWN_TEXTS:
        return list(_markdown_headings(lines(text, fences=True)))
    if media_type == RST:
        return list(_rst_headings(lines(text, fences=False)))
    if media_type == ORG:
        return list(_org_headings(lines(text, fences=False)))
    if media_type == PLAIN:
        return list(_plain_headings(lines(text, fences=True)))
    return []


def lines(text: str, *, fences: bool) -> list[Line]:
    """The lines of ``text``; with ``fences`` those of ``` and ~~~ blocks carry a fence number.

    A fence that never closes ends with the text, as CommonMark says.
    """
    found: list[Line] = []
    mark = ""
    fence = start = 0
    for line in text.split("\n"):
        inside = bool(mark)
        match = _FENCE.match(line) if fences else None
        if match and not mark and not (match["mark"][0] == "`" and "`" in match["info"]):
            mark, inside = match["mark"], True
            fence += 1
        elif match and mark and match["mark"].startswith(mark) and not match["info"].strip():
            mark = ""
        found.append(Line(start, line, fence if inside else 0))
        start += len(line) + 1
    return found


def plain_heading(text: str) -> str:
    """A heading's words: links, emphasis, code marks, tags and ``{#anchors}`` removed."""
    text = _ATTRIBUTES.sub("", text)
    text = _LINK.sub(lambda m: m["text"], text)
    if "<" in text:
        text = _TAG.sub("", text)
    pieces = text.split("`")
    for i in range(0, len(pieces), 2):  # what stands between backticks is code, not markup
        pieces[i] = _EMPHASIS.sub(lambda m: m["text"], pieces[i])
        pieces[i] = _ESCAPE.sub(r"\1", pieces[i])
    return clean_line("".join(pieces), max_characters=MAX_HEADING_CHARACTERS)


def _markdown_headings(found: Sequence[Line]) -> Iterator[Heading]:
    comment = False
    for i, line in enumerate(found):
        if line.fenced:
            continue
        if comment or line.text.lstrip().startswith("<!--"):
            comment = "-->" not in line.text
            continue
        short = len(line.text) <= _MAX_LINE
        atx = _ATX.match(line.text) if short and "#" in line.text[:4] else None
        if atx:
            title = plain_heading(atx["text"] or "")
            if title:
                yield Heading(line.start, line.end, len(atx["marks"]), title)
            continue
        setext = _setext(found, i)
        if setext:
            yield setext


def _plain_headings(found: Sequence[Line]) -> Iterator[Heading]:
    """Underlined lines, and lines in capitals that stand alone."""
    for i, line in enumerate(found):
        # In plain text a short row of dashes is a list, a signature or a scissor line.
        words = line.text.strip()
        if len(words) >= 3 and (heading := _setext(found, i)):
            yield heading
        elif (
            3 <= len(words) <= _MAX_CAPITALS
            and words.isupper()
            and not words.endswith((".", ",", ";"))
            and (i == 0 or not found[i - 1].text.strip())
            and (i + 1 == len(found) or not found[i + 1].text.strip())
        ):
            yield Heading(line.start, line.end, 2, clean_line(words))


def _setext(found: Sequence[Line], i: int) -> Heading | None:
    """The heading whose underline is line ``i``: one paragraph line over a row of = or -."""
    underline = _SETEXT.match(found[i].text)
    if not underline or i == 0 or found[i].fenced:
        return None
    above = found[i - 1]
    if above.fenced or not above.text.strip() or _NOT_A_PARAGRAPH.match(above.text):
        return None
    if len(above.text) > MAX_HEADING_CHARACTERS or _SETEXT.match(above.text):
        return None
    if i >= 2 and found[i - 2].text.strip() and not _is_heading_line(found, i - 2):
        return None  # the last line of a longer paragraph over a rule
    title = plain_heading(above.text.strip())
    level = 1 if underline["mark"][0] == "=" else 2
    return Heading(above.start, found[i].end, level, title) if title else None


def _is_heading_line(found: Sequence[Line], i: int) -> bool:
    line = found[i]
    if line.fenced or len(line.text) > _MAX_LINE:
        return line.fenced
    return bool(_ATX.match(line.text) or _SETEXT.match(line.text))


def _rst_headings(found: Sequence[Line]) -> Iterator[Heading]:
    """Titles under (and perhaps over) a row of punctuation; levels by order of appearance."""
    levels: dict[tuple[str, bool], int] = {}
    for i in range(1, len(found)):
        line, above = found[i], found[i - 1]
        if len(above.text) > _MAX_LINE or len(line.text) > _MAX_LINE:
            continue
        words = above.text.strip()
        if not words or _RST_LINE.match(above.text) or not _RST_LINE.match(line.text):
            continue
        over = i >= 2 and found[i - 2].text.rstrip() == line.text.rstrip()
        if len(line.text.rstrip()) < len(above.text.rstrip()) and len(line.text.rstrip()) < 4:
            continue
        if not over and (above.text[0].isspace() or (i >= 2 and found[i - 2].text.strip())):
            continue
        level = levels.setdefault((line.text[0], over), len(levels) + 1)
        title = clean_line(words.replace("`", ""), max_characters=MAX_HEADING_CHARACTERS)
        if title:
            start = found[i - 2].start if over else above.start
            yield Heading(start, line.end, min(level, 6), title)


def _org_headings(found: Sequence[Line]) -> Iterator[Heading]:
    block = False
    for line in found:
        if len(line.text) > _MAX_LINE:
            continue
        directive = line.text.lstrip().lower()
        if directive.startswith(("#+begin_", "#+end_")):
            block = directive.startswith("#+begin_")
        match = None if block else _ORG_HEADING.match(line.text)
        if match:
            title = clean_line(match["text"], max_characters=MAX_HEADING_CHARACTERS)
            yield Heading(line.start, line.end, min(len(match["marks"]), 6), title)
