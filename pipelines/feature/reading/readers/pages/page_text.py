"""Pages as an extractor gives them, line by line, to paragraphs and to one text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from itertools import groupby

from fti.store.plain_text import clean

_LIST_ITEM = re.compile(r"\s*(?:[-*+•‣▪◦·–—]\s|\(?\d{1,3}[.)]\s|\(?[a-zA-Z][.)]\s|\[\d+\])")
_SENTENCE_END = re.compile(r"[.!?:;。！？…][\"')\]”’»]*$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BULLET = re.compile(r"\s*([•●▪◦‣])\s*")
_ROW = re.compile(r"\|.*\|$")
_WORD_LINES = 0.6
_HYPHEN_END = re.compile(r"(?<=[^\W\d_])[-\u2010]$")
_FULL_LINE_SHARE = 0.72  # a line this much of the usual width was wrapped, not ended


def known_words(texts: Iterable[str]) -> set[str]:
    """The words of the pages in lower case, by which hyphens at line ends are judged."""
    return {word.lower() for text in texts for word in _WORD.findall(text)}


def page_list(numbers: Iterable[int]) -> str:
    """Page numbers in ascending order, such as ``1-3, 7``."""
    ordered = sorted(set(numbers))
    steps = groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in run] for _, run in steps]
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def joined(pages: Sequence[str]) -> tuple[str, list[int]]:
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
        if joins and (_ROW.match(line) or _ROW.match(following)):
            joins = False  # a row of a table
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


def unwrap_blocks(text: str, known: Set[str] = frozenset()) -> str:
    """As ``unwrap``, for a page whose blocks have blank lines between them and their own widths."""
    return "\n\n".join(clean(unwrap(block, known)) for block in text.split("\n\n"))
