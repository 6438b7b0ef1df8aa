"""Where a text may be split, and where it is split best.

langchain-text-splitters decides; offsets are exact by construction. The splitter sees a copy of
the text in which every token of the embedder is preceded by a NUL (cleaned text holds none), so
that a length in tokens is one ``str.count``, and with neither overlap nor stripping its pieces
join to that copy again, so that offsets are sums.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from fti.pipelines.feature.reading.headings import (
    MARKDOWN_TEXTS,
    PLAIN,
    Heading,
    Line,
    is_source_code,
    lines,
)
from fti.pipelines.feature.splitting.continued import Table
from fti.store.types import Document

TokenSpans = Callable[[str], Sequence[tuple[int, int]]]

_TOKEN = "\0"  # stands before every token
CODE = "\1"  # a line break inside a code fence or a table
_GLUE = "\2"  # a line break that joins a heading to what it announces
SECTION = "\3"  # the line break before a heading that need not begin a chunk
_RESERVED = _TOKEN + CODE + _GLUE + SECTION

# From the best place to split to the worst. Every one keeps its text at the end of the piece.
_SEPARATORS = (
    SECTION,
    "\n{2,}",
    "\n",
    f"{CODE}{{2,}}",
    CODE,
    rf"(?<=[.!?…])(?:{_TOKEN}?[\"')\]”’»])*[ \t]+|(?<=[。！？｡])(?:{_TOKEN}?[」』”’])*",
    rf"(?:[ \t{_GLUE}])+",
    f"(?<!{_TOKEN})(?={_TOKEN})",  # a wide character may be several tokens
)
_SENTENCE_START = re.compile(
    r"(?<=[.!?…])[\"')\]”’»]*[ \t]+(?=\S)|(?<=[。！？｡])|[\n\1\2\3][ \t]*(?=[^\s\1\2\3])"
)
_WORD_START = re.compile(r"(?<=[\s\1\2\3])(?=[^\s\1\2\3])")
_LIST_OR_TABLE = re.compile(r"\s*(?:[-*+•>|#]|\d{1,9}[.)]|[A-Za-z][.)]\s)|\s{2,}\S")

_PIECE_CHARACTERS = 1 << 16  # how much text the tokenizer is given at once
_TOKEN_CHARACTERS = 16  # a longer token counts as several: WordPiece has one for a whole long word
_FEW_PIECES = 3
_LEAD_IN = 120
_WRAPPED_LINE = 40  # a line at least this long may be the wrapped line of a paragraph
_MIN_EVEN_TOKENS = 16


class Ruler:
    """Counts tokens of any stretch of one text in logarithmic time.

    What the tokenizer passes over, or takes for one very long token, counts by its length: a
    stretch without marks would end up in one chunk, of any size.
    """

    def __init__(self, text: str, token_spans: TokenSpans) -> None:
        self.marks: list[int] = []
        for start, end in _stretches(text):
            self._measure(text, start, end, token_spans)
        self._fill(len(text))

    def _measure(self, text: str, start: int, end: int, token_spans: TokenSpans) -> None:
        space_end = start
        for s, _ in token_spans(text[start:end]):
            at = start + s
            # Some tokenizers count white space into the token. The mark moves behind it, so that
            # it never stands inside a row of line breaks.
            if at < space_end:
                at = space_end
            while at < end and text[at].isspace():
                at += 1
                space_end = at
            if at < end:
                self._fill(at)
                self.marks.append(max(at, self.marks[-1]) if self.marks else at)

    def _fill(self, end: int) -> None:
        last = self.marks[-1] if self.marks else 0
        self.marks.extend(range(last + _TOKEN_CHARACTERS, end, _TOKEN_CHARACTERS))

    def count(self, start: int, end: int) -> int:
        """Tokens that begin in ``text[start:end]``."""
        return bisect_left(self.marks, end) - bisect_left(self.marks, start)

    def back(self, offset: int, tokens: int) -> int:
        """The first offset from which at most ``tokens`` tokens begin before ``offset``."""
        first = max(bisect_left(self.marks, offset) - tokens, 0)
        if 0 < first < len(self.marks) and self.marks[first - 1] == self.marks[first]:
            first = bisect_right(self.marks, self.marks[first])  # not in the midst of a character
        return min(self.marks[first], offset) if first < len(self.marks) else offset


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    """Spans that join to the whole text and end after white space where there is any."""
    start = 0
    while start < len(text):
        end = min(start + _PIECE_CHARACTERS, len(text))
        if end < len(text):
            space = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
            end = space + 1 if space > start else end
        yield start, end
        start = end


def shape_of(
    document: Document,
    headings: Sequence[Heading],
    boundary_level: int,
    tables: Sequence[Table] = (),
) -> str:
    """The text with its line breaks replaced by what the splitter may do with them.

    As long as the text, so that offsets are the same.
    """
    markdown = document.media_type in MARKDOWN_TEXTS
    text = document.text
    if any(mark in text for mark in _RESERVED):
        text = re.sub(f"[{_RESERVED}]", " ", text)
    if is_source_code(document.media_type):
        return _shape_of_code(text)
    found = lines(text, fences=markdown or document.media_type == PLAIN)
    heading_of = {h.start: h for h in headings}
    in_table = _line_starts(text, tables)
    parts: list[str] = []
    heading_end, gluing = -1, False
    for line, following in zip(found, [*found[1:], None], strict=True):
        parts.append(line.text)
        if following is None:
            break
        heading = heading_of.get(line.start)
        if heading:
            heading_end = heading.end
        # From the first line of a heading to the first line of what it announces.
        gluing = line.start < heading_end or _announces(line) or (gluing and not line.text.strip())
        below = heading_of.get(following.start)
        if gluing:
            parts.append(_GLUE)
        elif below and below.level > boundary_level:
            parts.append(SECTION)
        elif (
            (line.fence and line.fence == following.fence)
            or (markdown and _is_row(line.text) and _is_row(following.text))
            or (line.start in in_table and following.start in in_table)
        ):
            parts.append(CODE)
        elif _wraps(line.text, following.text) and not line.fence and not following.fence:
            parts.append(" ")
        else:
            parts.append("\n")
    shape = "".join(parts)
    assert len(shape) == len(text), "offsets into the shape are offsets into the text"
    return shape


def _line_starts(text: str, tables: Sequence[Table]) -> set[int]:
    """Where the lines of tables begin."""
    starts: set[int] = set()
    for table in tables:
        start = table.start
        while 0 <= start < table.end:
            starts.add(start)
            start = text.find("\n", start, table.end) + 1 or -1
    return starts


def _shape_of_code(text: str) -> str:
    """Source code may be split best where, after a blank line, something begins at the margin."""
    found = text.split("\n")
    parts: list[str] = []
    at_margin = True  # whether the next line that is not blank begins at the margin
    for line, above in zip(reversed(found), [*reversed(found[:-1]), None], strict=True):
        parts.append(line)
        if line.strip():
            # A bracket or word that closes a block belongs to what it closes.
            at_margin = not line[0].isspace() and line[0] not in ")]}"
        if above is None:
            break
        in_gap = not line.strip() or not above.strip()
        parts.append("\n" if in_gap and at_margin else CODE)
    return "".join(reversed(parts))


def _announces(line: Line) -> bool:
    """Whether a short line outside code leads to what follows it: ``For example:``."""
    return (
        not line.fence
        and len(line.text) <= _LEAD_IN
        and line.text.endswith((":", "："))
        and not line.text[0].isspace()
    )


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def _wraps(line: str, following: str) -> bool:
    """Whether the break between two lines is only a paragraph's wrapping."""
    return (
        len(line) >= _WRAPPED_LINE
        and bool(following.strip())
        and not _LIST_OR_TABLE.match(following)
        and not _is_row(line)
    )


def split_evenly(
    shape: str, ruler: Ruler, start: int, end: int, *, max_tokens: int
) -> list[tuple[int, int]]:
    """As ``_split``; a section of a few pieces has them of about the same length.

    Longer sections are filled up from their beginning: there an edit must not move every split.
    """
    spans = _split(shape, ruler, start, end, max_tokens=max_tokens)
    if not 2 <= len(spans) <= _FEW_PIECES:
        return spans
    even = -(-ruler.count(start, end) // len(spans))
    even = min(max(even + even // 8, _MIN_EVEN_TOKENS), max_tokens)
    evenly = _split(shape, ruler, start, end, max_tokens=even)
    return evenly if len(evenly) == len(spans) else spans


def _split(
    shape: str, ruler: Ruler, start: int, end: int, *, max_tokens: int
) -> list[tuple[int, int]]:
    """Spans of at most ``max_tokens`` that join to ``shape[start:end]``, white space trimmed."""
    low, high = bisect_left(ruler.marks, start), bisect_left(ruler.marks, end)
    if high - low <= max_tokens:
        return [span for span in [_trim(shape, start, end)] if span]
    cuts = [start, *ruler.marks[low:high], end]
    marked = _TOKEN.join(shape[a:b] for a, b in pairwise(cuts))
    # Imported here: it takes half a second, which `fti --help` should not.
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=list(_SEPARATORS),
        is_separator_regex=True,
        keep_separator="end",
        strip_whitespace=False,
        chunk_size=max_tokens,
        chunk_overlap=0,
        length_function=lambda piece: piece.count(_TOKEN),
    )
    spans: list[tuple[int, int]] = []
    for piece in splitter.split_text(marked):
        stop = start + len(piece) - piece.count(_TOKEN)
        if span := _trim(shape, start, stop):
            spans.append(span)
        start = stop
    assert start == end, "the splitter's pieces must join to the text"
    return spans


def _trim(shape: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without white space around it; the indentation of a line of code stays."""
    first = start
    while first < end and _is_space(shape[first]):
        first += 1
    if first == end:
        return None
    while _is_space(shape[end - 1]):
        end -= 1
    before = max(start - 1, 0)
    line = max(shape.rfind(CODE, before, first), shape.rfind("\n", before, first)) + 1
    in_code = line > 0 and shape[line - 1] == CODE
    return (max(line, start) if in_code else first), end


def _is_space(character: str) -> bool:
    return character.isspace() or character in _RESERVED


def begin_reading(shape: str, low: int, high: int) -> int:
    """The first place between where a sentence or line begins, else a word; ``high`` if none.

    Never inside a code fence or table: half of one reads as none at all.
    """
    code = shape.rfind(CODE, low, high)
    if code >= 0:
        low = shape.find("\n", code, high) + 1 or high
    for pattern in (_SENTENCE_START, _WORD_START):
        for match in pattern.finditer(shape, max(low - 2, 0), high):
            if low <= match.end() < high:
                return match.end()
    return high
