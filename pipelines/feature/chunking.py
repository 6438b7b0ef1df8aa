"""A document's text to the pieces that are embedded, searched and cited.

langchain-text-splitters decides where to split; offsets are exact by construction. The splitter
sees a copy of the text in which every token of the embedder is preceded by a NUL (cleaned text
holds none), so that a length in tokens is one ``str.count``, and with neither overlap nor
stripping its pieces join to that copy again, so that offsets are sums. Overlap is added after.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from pipelines.feature.cleaning import clean_line
from pipelines.feature.headings import (
    CSV,
    MARKDOWN_TEXTS,
    PLAIN,
    TSV,
    Heading,
    Line,
    find_headings,
    lines,
)
from store.types import Chunk, Document, Value, sha256_hex

TokenSpans = Callable[[str], Sequence[tuple[int, int]]]

_TOKEN = "\0"  # stands before every token
_CODE = "\1"  # a line break inside a code fence or a table
_GLUE = "\2"  # a line break that joins a heading to what it announces
_SECTION = "\3"  # the line break before a heading that need not begin a chunk
_RESERVED = _TOKEN + _CODE + _GLUE + _SECTION

# From the best place to split to the worst. Every one keeps its text at the end of the piece.
_SEPARATORS = (
    _SECTION,
    "\n{2,}",
    "\n",
    f"{_CODE}{{2,}}",
    _CODE,
    rf"(?<=[.!?…])(?:{_TOKEN}?[\"')\]”’»])*[ \t]+|(?<=[。！？｡])(?:{_TOKEN}?[」』”’])*",
    rf"(?:[ \t{_GLUE}])+",
    f"(?={_TOKEN})",
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
_MIN_BUDGET = 32
_SPECIAL_TOKENS = 4  # what a tokenizer adds around a text, with room
_PREFIX_CHARACTERS = 160
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)


class ChunkingConfig(Value):
    """How documents are split. Lengths are in the embedder's own tokens."""

    max_tokens: int = Field(
        default=200,
        ge=_MIN_BUDGET,
        le=8192,
        description="No chunk is longer. Leave room for title and headings in the embedder's limit "
        "(256 for all-MiniLM-L6-v2): they are embedded with the text.",
    )
    overlap_tokens: int = Field(
        default=24,
        ge=0,
        le=1024,
        description="About how much of the end of a chunk the next one of its section repeats, "
        "in whole sentences where they fit.",
    )
    min_tokens: int = Field(
        default=24,
        ge=0,
        le=1024,
        description="A shorter piece is joined to its neighbour where the two fit.",
    )
    boundary_level: int = Field(
        default=2,
        ge=0,
        le=6,
        description="Headings down to this level begin a new chunk; the sections of deeper "
        "headings share one where they fit. 0: headings begin no chunk.",
    )

    @model_validator(mode="after")
    def _parts_fit_into_the_whole(self) -> Self:
        if 2 * self.overlap_tokens > self.max_tokens or 2 * self.min_tokens > self.max_tokens:
            raise ValueError(
                f"overlap_tokens {self.overlap_tokens} and min_tokens {self.min_tokens} must each "
                f"be at most half of max_tokens {self.max_tokens}"
            )
        return self


def chunk(
    document: Document,
    *,
    token_spans: TokenSpans,
    config: ChunkingConfig,
    embedder_max_tokens: int | None = None,
    headings: Sequence[Heading] | None = None,
) -> list[Chunk]:
    """The chunks of a document, in order; none when its text is empty.

    Every character that is not white space lies in at least one chunk. A heading stands at the
    head of the chunk it announces, and in its section path.

    Args:
        document: with cleaned text.
        token_spans: the embedder's; called on stretches of the text.
        config: lengths and boundaries.
        embedder_max_tokens: the embedder's limit. Where given, chunks under long headings are
            shorter, so that ``embedding_text`` of each chunk fits the limit.
        headings: of ``document.text``, in order; found by the media type when not given.
    """
    text = document.text
    if not text.strip():
        return []
    if headings is None:
        headings = find_headings(text, document.media_type)
    outline = _Outline(text, headings)
    ruler = _Ruler(text, token_spans)
    shape = _shape(document, headings, config.boundary_level)
    spans: list[_Span] = []
    for start, end in outline.groups(config.boundary_level):
        budget = config.max_tokens
        if embedder_max_tokens is not None:
            prefix = max(
                len(token_spans(_prefix(document.title, path)))
                for path in set(outline.paths(start, end))
            )
            room = embedder_max_tokens - _SPECIAL_TOKENS - prefix
            budget = max(min(budget, room), _MIN_BUDGET)
        overlap = min(config.overlap_tokens, budget // 2)
        for s, e in _split_evenly(shape, ruler, start, end, max_tokens=budget - overlap):
            first = not spans or spans[-1].end <= start
            spans.append(_Span(s, e, max_tokens=budget, overlap=overlap, first=first))
    spans = _join_small(spans, shape, ruler, config.min_tokens)
    rows = document.media_type in (CSV, TSV)
    pieces = [
        piece
        for start, end, limit in _with_overlap(spans, shape, ruler, rows=rows)
        for piece in _within(text, start, end, limit, token_spans)
    ]
    return _number(document, pieces, outline)


def embedding_text(title: str, section: Sequence[str], text: str) -> str:
    """What is embedded and full-text indexed for a chunk: where it stands, then what it says.

    Typographic ligatures are spelt out, since queries spell them so; the stored text keeps them.
    """
    prefix = _prefix(title, section)
    return (f"{prefix}\n{text}" if prefix else text).translate(_LIGATURES)


def _prefix(title: str, section: Sequence[str]) -> str:
    parts = [clean_line(title), *(clean_line(s) for s in section if s != title)]
    parts = [p for p in parts if p]
    while len(parts) > 2 and sum(map(len, parts)) > _PREFIX_CHARACTERS:
        del parts[1]  # the ends say most: which document, which section
    return clean_line(" > ".join(parts), max_characters=_PREFIX_CHARACTERS)


@dataclass(frozen=True, slots=True)
class _Span:
    """A piece before overlap; ``first`` when it begins a part that takes no overlap."""

    start: int
    end: int
    max_tokens: int
    overlap: int
    first: bool

    def joined(self, following: _Span) -> _Span:
        """This piece and the next as one."""
        return _Span(
            self.start,
            following.end,
            max_tokens=min(self.max_tokens, following.max_tokens),
            overlap=min(self.overlap, following.overlap),
            first=self.first,
        )


class _Ruler:
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
        """The offset where the last ``tokens`` tokens before ``offset`` begin."""
        i = bisect_left(self.marks, offset) - tokens
        return self.marks[max(i, 0)] if self.marks else offset


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


class _Outline:
    """The sections of a text: where each begins and the path of headings above it."""

    def __init__(self, text: str, headings: Sequence[Heading]) -> None:
        self.end = len(text)
        self.starts: list[int] = [0]
        self.levels: list[int] = [0]
        self._paths: list[tuple[str, ...]] = [()]
        stack: list[Heading] = []
        for heading in headings:
            while stack and stack[-1].level >= heading.level:
                stack.pop()
            stack.append(heading)
            if heading.start == 0:  # nothing stands before it
                self.starts, self.levels, self._paths = [], [], []
            self.starts.append(heading.start)
            self.levels.append(heading.level)
            self._paths.append(tuple(h.title for h in stack))

    def groups(self, boundary_level: int) -> Iterator[tuple[int, int]]:
        """Spans between headings of at most ``boundary_level``."""
        sections = zip(self.starts, self.levels, strict=True)
        cuts = {start for start, level in sections if level <= boundary_level}
        yield from pairwise(sorted({0, *cuts, self.end}))

    def paths(self, start: int, end: int) -> list[tuple[str, ...]]:
        """The paths of the sections that ``text[start:end]`` touches, in order."""
        first = max(bisect_right(self.starts, start) - 1, 0)
        last = max(bisect_left(self.starts, end), first + 1)
        return self._paths[first:last]

    def path(self, start: int, end: int) -> tuple[str, ...]:
        """The path of the one section that ``text[start:end]`` lies in.

        Of several, what their paths have in common; those at its head that only lead on to the
        next, deeper section do not count.
        """
        paths = self.paths(start, end)
        while len(paths) > 1 and paths[1][: len(paths[0])] == paths[0]:
            paths = paths[1:]
        common = 0
        while all(len(p) > common and p[common] == paths[0][common] for p in paths):
            common += 1
        return paths[0][:common]


def _shape(document: Document, headings: Sequence[Heading], boundary_level: int) -> str:
    """The text with its line breaks replaced by what the splitter may do with them.

    As long as the text, so that offsets are the same.
    """
    markdown = document.media_type in MARKDOWN_TEXTS
    text = document.text
    if any(mark in text for mark in _RESERVED):
        text = re.sub(f"[{_RESERVED}]", " ", text)
    found = lines(text, fences=markdown or document.media_type == PLAIN)
    heading_of = {h.start: h for h in headings}
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
            parts.append(_SECTION)
        elif (line.fence and line.fence == following.fence) or (
            markdown and _is_row(line.text) and _is_row(following.text)
        ):
            parts.append(_CODE)
        elif _wraps(line.text, following.text) and not line.fence and not following.fence:
            parts.append(" ")
        else:
            parts.append("\n")
    shape = "".join(parts)
    assert len(shape) == len(text), "offsets into the shape are offsets into the text"
    return shape


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


def _split_evenly(
    shape: str, ruler: _Ruler, start: int, end: int, *, max_tokens: int
) -> list[tuple[int, int]]:
    """As ``_split``; a section of a few pieces has them of about the same length.

    Longer sections are filled up from their beginning: there an edit must not move every split.
    """
    spans = _split(shape, ruler, start, end, max_tokens=max_tokens)
    if not 2 <= len(spans) <= _FEW_PIECES:
        return spans
    even = -(-ruler.count(start, end) // len(spans))
    even = min(max(even + even // 8, _MIN_BUDGET // 2), max_tokens)
    evenly = _split(shape, ruler, start, end, max_tokens=even)
    return evenly if len(evenly) == len(spans) else spans


def _split(
    shape: str, ruler: _Ruler, start: int, end: int, *, max_tokens: int
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
    line = max(shape.rfind(_CODE, before, first), shape.rfind("\n", before, first)) + 1
    in_code = line > 0 and shape[line - 1] == _CODE
    return (max(line, start) if in_code else first), end


def _is_space(character: str) -> bool:
    return character.isspace() or character in _RESERVED


def _join_small(spans: Sequence[_Span], shape: str, ruler: _Ruler, min_tokens: int) -> list[_Span]:
    """Neighbours joined where one alone says too little, and code that fits put together again."""
    joined: list[_Span] = []
    for span in spans:
        if joined and _belong(joined[-1], span, shape, ruler, min_tokens):
            span = joined.pop().joined(span)
        joined.append(span)
    if len(joined) > 1 and ruler.count(joined[-1].start, joined[-1].end) < min_tokens:
        last = joined[-2].joined(joined[-1])
        if ruler.count(last.start, last.end) <= last.max_tokens:
            joined[-2:] = [last]
    return joined


def _belong(a: _Span, b: _Span, shape: str, ruler: _Ruler, min_tokens: int) -> bool:
    both = a.joined(b)
    if ruler.count(both.start, both.end) > both.max_tokens:
        return False
    if ruler.count(a.start, a.end) < min_tokens:
        return a.first or not b.first
    if b.first:
        return False
    return ruler.count(b.start, b.end) < min_tokens or _CODE in shape[a.end : b.start]


def _with_overlap(
    spans: Sequence[_Span], shape: str, ruler: _Ruler, *, rows: bool
) -> Iterator[tuple[int, int, int]]:
    """Start, end and limit of each chunk, with the end of the one before where that belongs."""
    for before, span in zip([None, *spans], spans, strict=False):
        start = span.start
        if before and not span.first and not (rows and "\n\n" in shape[before.end : start]):
            room = min(span.overlap, span.max_tokens - ruler.count(start, span.end))
            if room > 0:
                low = max(ruler.back(start, room), before.start + 1)
                start = _begin_reading(shape, low, start)
        yield start, span.end, span.max_tokens


def _begin_reading(shape: str, low: int, high: int) -> int:
    """The first place between where a sentence or line begins, else a word; ``high`` if none.

    Never inside a code fence or table: half of one reads as none at all.
    """
    code = shape.rfind(_CODE, low, high)
    if code >= 0:
        low = shape.find("\n", code, high) + 1 or high
    for pattern in (_SENTENCE_START, _WORD_START):
        for match in pattern.finditer(shape, max(low - 2, 0), high):
            if low <= match.end() < high:
                return match.end()
    return high


def _within(
    text: str, start: int, end: int, max_tokens: int, token_spans: TokenSpans
) -> Iterator[tuple[int, int]]:
    """The span, halved as often as needed where a cut inside a word made more tokens of it."""
    if not (_inside_word(text, start) or _inside_word(text, end)):
        yield start, end
        return
    spans = token_spans(text[start:end])
    if len(spans) <= max_tokens or end - start < 2:
        yield start, end
        return
    middle = start + spans[len(spans) // 2][0]
    if not start < middle < end:
        middle = (start + end) // 2
    yield from _within(text, start, middle, max_tokens, token_spans)
    yield from _within(text, middle, end, max_tokens, token_spans)


def _inside_word(text: str, offset: int) -> bool:
    return 0 < offset < len(text) and text[offset - 1].isalnum() and text[offset].isalnum()


def _number(document: Document, spans: Sequence[tuple[int, int]], outline: _Outline) -> list[Chunk]:
    occurrences: Counter[str] = Counter()
    chunks = []
    for ordinal, (start, end) in enumerate(spans):
        text = document.text[start:end]
        digest = sha256_hex(text)
        occurrence = occurrences[digest]
        occurrences[digest] += 1
        chunks.append(
            Chunk(
                id="c" + sha256_hex(f"{document.id}\n{digest}\n{occurrence}")[:24],
                document_id=document.id,
                ordinal=ordinal,
                start=start,
                end=end,
                text=text,
                content_hash=digest,
                section=outline.path(start, end),
            )
        )
    return chunks
