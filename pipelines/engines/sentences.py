"""Where the sentences of a text stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])[\"')\]]*\s+|\n+")
_LINE_MARKS = re.compile(r"^(?:[-*+>|\u2022\u2023\u25aa\u25e6\u2013]|\d+[.)])\s+")
_BLANK = re.compile(r"\n[^\S\n]*\n")
_FIELD = re.compile(r"[^\W\d][\w .()/-]{0,40}:\s")  # "name: value", a line of a record
_UNDERLINE = re.compile(r"[=~^_-]{3,}\s*")
_NEARLY = 0.8  # of the width of a paragraph's lines
_SHORTEST_WRAP = 40  # characters; no paragraph is broken into shorter lines


def split_sentences(text: str) -> list[str]:
    """Sentences and lines of a text, each on one line, without list marks; headings and bare marks
    left out.
    """
    return [" ".join(text[start:end].split("\n")) for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of ``split_sentences`` begin and end in the text.

    A line ends a sentence, unless its paragraph is broken into lines of one width: where the next
    line's first word would not have fitted, the sentence goes on there.
    """
    wrapped = set(_wraps(text))
    ends = [m.span() for m in _SENTENCE_END.finditer(text) if m.start() not in wrapped]
    starts = [0, *(after for _, after in ends)]
    spans = []
    for start, end in zip(starts, [*(before for before, _ in ends), len(text)], strict=True):
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        piece = piece.strip()
        if mark := _LINE_MARKS.match(piece):
            start += mark.end()
            piece = piece[mark.end() :]
        if not piece.startswith("#") and sum(map(str.isalnum, piece)) >= 2:
            spans.append((start, start + len(piece)))
    return spans


def _wraps(text: str) -> Iterator[int]:
    """Where the line breaks stand within which a sentence goes on."""
    at = 0
    for paragraph in _BLANK.split(text):
        start = text.index(paragraph, at)
        at = start + len(paragraph)
        lines = paragraph.split("\n")
        width = max(map(len, lines))
        if width < _SHORTEST_WRAP:
            continue
        # One long line proves no width; where the next begins small, it goes on all the same.
        proven = sum(len(line) > _NEARLY * width for line in lines) > 1
        for line, after in pairwise(lines):
            start += len(line) + 1
            if _goes_on(line, after, width) and (proven or after.lstrip()[:1].islower()):
                yield start - 1


def _goes_on(line: str, after: str, width: int) -> bool:
    first = after.split(maxsplit=1)[:1]
    return (
        bool(first)
        and len(line) + 1 + len(first[0]) > width
        and "|" not in line + after
        and not line.lstrip().startswith("#")
        and not _UNDERLINE.fullmatch(after.strip())
        and not _LINE_MARKS.match(after.lstrip())
        and not after.lstrip().startswith(("#", "```"))
        and not line.rstrip().endswith((":", "  ", "\\"))
        and not _FIELD.match(after)
    )
