"""Where the sentences of a text stand."""

from __future__ import annotations

import re

from fti.store.plain_text import LINE_MARKS, soft_breaks

_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])[\"')\]]*\s+|\n+")


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
    wrapped = set(soft_breaks(text))
    ends = [m.span() for m in _SENTENCE_END.finditer(text) if m.start() not in wrapped]
    starts = [0, *(after for _, after in ends)]
    spans = []
    for start, end in zip(starts, [*(before for before, _ in ends), len(text)], strict=True):
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        piece = piece.strip()
        if mark := LINE_MARKS.match(piece):
            start += mark.end()
            piece = piece[mark.end() :]
        if not piece.startswith("#") and sum(map(str.isalnum, piece)) >= 2:
            spans.append((start, start + len(piece)))
    return spans
