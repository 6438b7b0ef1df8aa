"""Where the sentences of a text stand."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])[\"')\]]*\s+|\n+")
_LINE_MARKS = re.compile(r"^(?:[-*+>|]|\d+[.)])\s+")


def split_sentences(text: str) -> list[str]:
    """Sentences and lines of a text, without list marks; headings and bare marks left out."""
    return [text[start:end] for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of ``split_sentences`` begin and end in the text."""
    ends = [match.span() for match in _SENTENCE_END.finditer(text)]
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
