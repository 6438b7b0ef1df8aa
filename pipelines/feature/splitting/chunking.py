"""A document's text to the pieces that are embedded, searched and cited.

Sections first, then pieces of them (``splitting``), then what makes a piece read well: small ones
joined, a little overlap, the path of headings.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from fti.pipelines.feature.reading.headings import ROW_TEXTS, Heading, find_headings
from fti.pipelines.feature.splitting.continued import Continued
from fti.pipelines.feature.splitting.split_places import (
    CODE,
    SECTION,
    Ruler,
    TokenSpans,
    begin_reading,
    shape_of,
    split_evenly,
)
from fti.store.features.indexed_text import LIGATURES, embedding_text
from fti.store.features.indexed_text import prefix as indexed_prefix
from fti.store.types import Chunk, Document, Value, chunk_id, sha256_hex

_MIN_BUDGET = 32
_SPECIAL_TOKENS = 4  # what a tokenizer adds around a text, with room
_JOINTS = 4  # tokens that the line breaks between the parts of what is embedded may be


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
    ruler = Ruler(text, token_spans)
    continued = Continued(text, document.media_type)
    shape = shape_of(document, headings, config.boundary_level, continued.tables)
    spans: list[_Span] = []
    for start, end in outline.groups(config.boundary_level):
        budget = config.max_tokens
        if embedder_max_tokens is not None:
            prefix = max(
                len(token_spans(indexed_prefix(document.title, path)))
                for path in set(outline.paths(start, end))
            )
            room = embedder_max_tokens - _SPECIAL_TOKENS - prefix
            budget = max(min(budget, room), _MIN_BUDGET)
            # Pieces of a table that must be split are embedded with the names of its columns.
            names = {
                table.columns
                for table in continued.within(start, end)
                if ruler.count(table.start, table.end) > budget // 2
            }
            room -= max((len(token_spans(columns)) for columns in names), default=0)
            budget = max(min(budget, room), _MIN_BUDGET)
        overlap = min(config.overlap_tokens, budget // 2)
        for s, e in split_evenly(shape, ruler, start, end, max_tokens=budget - overlap):
            first = not spans or spans[-1].end <= start
            spans.append(_Span(s, e, max_tokens=budget, overlap=overlap, first=first))
    spans = _join_small(spans, shape, ruler, config.min_tokens)
    rows = document.media_type in ROW_TEXTS
    pieces = [
        piece
        for start, end, limit in _with_overlap(spans, shape, ruler, continued, rows=rows)
        for piece in _within(text, start, end, limit, token_spans)
    ]
    chunks = _number(document, pieces, outline, continued)
    if embedder_max_tokens is None:
        return chunks
    fits = _Fit(document, ruler, token_spans, embedder_max_tokens)
    return [fits.shortened(one) if one.context else one for one in chunks]


class _Fit:
    """How much of a chunk's context the embedder sees with its text.

    A context is mostly short and there is room for it; the tokenizer, which costs more than all
    else here, is asked only where the tokens that were counted already do not show that.
    """

    def __init__(
        self, document: Document, ruler: Ruler, token_spans: TokenSpans, max_tokens: int
    ) -> None:
        self._document = document
        self._ruler = ruler
        self._token_spans = token_spans
        self._max_tokens = max_tokens - _SPECIAL_TOKENS
        self._counted = not any(ligature in document.text for ligature in LIGATURES)
        self._prefixes: dict[tuple[str, ...], int] = {}  # the tokens of each section's

    def shortened(self, found: Chunk) -> Chunk:
        """The chunk with as much of its context as there is room for."""
        if self._has_room(found):
            return found
        bare = embedding_text(self._document.title, found.section, found.text)
        room = self._max_tokens - len(self._token_spans(bare))
        spans = self._token_spans(found.context)
        if len(spans) <= room:
            return found
        kept = found.context[: spans[room][0]].rstrip(" |") if room > 0 else ""
        return found.model_copy(update={"context": kept})

    def _has_room(self, found: Chunk) -> bool:
        """Whether there is room for the context, by what is known without the tokenizer."""
        text = self._document.text
        cut = _inside_word(text, found.start) or _inside_word(text, found.end)
        if cut or not self._counted:
            return False  # halves of a word, and ligatures spelt out, may be more than was counted
        section = found.section
        if section not in self._prefixes:
            prefix = indexed_prefix(self._document.title, section)
            self._prefixes[section] = len(self._token_spans(prefix))
        said = self._prefixes[section] + self._ruler.count(found.start, found.end) + _JOINTS
        # No tokenizer makes more tokens of a text than it has bytes.
        return said + len(found.context.encode("utf-8", "replace")) <= self._max_tokens


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


def _join_small(spans: Sequence[_Span], shape: str, ruler: Ruler, min_tokens: int) -> list[_Span]:
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


def _belong(a: _Span, b: _Span, shape: str, ruler: Ruler, min_tokens: int) -> bool:
    both = a.joined(b)
    if ruler.count(both.start, both.end) > both.max_tokens:
        return False
    if ruler.count(a.start, a.end) < min_tokens:
        return a.first or not b.first
    if b.first:
        return False
    return ruler.count(b.start, b.end) < min_tokens or CODE in shape[a.end : b.start]


def _with_overlap(
    spans: Sequence[_Span], shape: str, ruler: Ruler, continued: Continued, *, rows: bool
) -> Iterator[tuple[int, int, int]]:
    """Start, end and limit of each chunk, with the end of the one before where that belongs."""
    for before, span in zip([None, *spans], spans, strict=False):
        start = span.start
        between = shape[before.end : start] if before else SECTION
        alone = span.first or SECTION in between or (rows and "\n\n" in between)
        if before and not alone:
            room = min(span.overlap, span.max_tokens - ruler.count(start, span.end))
            if room > 0:
                low = max(ruler.back(start, room), before.start + 1)
                start = begin_reading(shape, low, start)
                if continued.in_table(start):  # the end of a row says nothing
                    start = span.start
        yield start, span.end, span.max_tokens


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


def _number(
    document: Document,
    spans: Sequence[tuple[int, int]],
    outline: _Outline,
    continued: Continued,
) -> list[Chunk]:
    occurrences: Counter[str] = Counter()
    chunks = []
    for ordinal, (start, end) in enumerate(spans):
        text = document.text[start:end]
        digest = sha256_hex(text)
        occurrence = occurrences[digest]
        occurrences[digest] += 1
        chunks.append(
            Chunk(
                id=chunk_id(document.id, digest, occurrence),
                document_id=document.id,
                ordinal=ordinal,
                start=start,
                end=end,
                text=text,
                content_hash=digest,
                section=outline.path(start, end),
                context=continued.context(start),
            )
        )
    return chunks
