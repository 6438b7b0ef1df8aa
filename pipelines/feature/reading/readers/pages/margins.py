"""What a document repeats at the edges of its pages: running heads, feet, page numbers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

_EDGE_LINES = 4  # how deep a head or foot may be
_SHARE = 0.4  # of the pages; odd and even pages often differ
_RUN = 3  # pages in a row, or every other one: a chapter's own head
_MAX_LINE = 200
_NUMBER = re.compile(r"\d{1,5}")
_COUNTED = re.compile(r"\0-?\d+\0")  # stands for a number that grows with the page
# A line that says only which page it is.
_PAGE_NUMBER = re.compile(
    r"\W*(?:page|pg|p|seite|página|pagina|pagine|стр|страница|صفحة|עמוד|第)?\W*#\W*"
    r"(?:(?:of|de|von|di|sur|из|/|共)\W*\d+)?\W*(?:頁|页|ページ|쪽)?\W*",
    re.IGNORECASE,
)


def without_running_lines(pages: Sequence[str]) -> list[str]:
    """The pages without the lines that they repeat at their edges.

    A line counts as repeated when it stands in the same place of many pages, so many lines from
    the top or the bottom, the same but for a number that grows with the page. Where it has words,
    it stays on the first page that has it: nothing is lost, only said once. Lines of pure page
    numbers go everywhere.
    """
    if len(pages) < 2:
        return list(pages)
    lines = [page.split("\n") for page in pages]
    places = [_places(page) for page in lines]
    where: dict[_Key, list[int]] = defaultdict(list)
    for number, page in enumerate(lines):
        for seen in {k for p in places[number] for k in _keys(p, page, number)}:
            where[seen].append(number)
    running = {key for key, found in where.items() if _is_running(found, len(pages))}
    said: set[str] = set()
    kept = []
    for number, page in enumerate(lines):
        dropped: set[int] = set()
        ended: set[str] = set()
        found: set[str] = set()
        for place in places[number]:
            key = next((k for k in _keys(place, page, number) if k in running), None)
            if place.edge in ended or key is None:
                ended.add(place.edge)  # what stands further inside is text, whatever it repeats
                continue
            words = key[2]
            if words in said or _PAGE_NUMBER.fullmatch(_COUNTED.sub("#", words)):
                dropped.add(place.line)
            found.add(words)
        said |= found
        kept.append("\n".join(line for i, line in enumerate(page) if i not in dropped))
    return kept


class _Place(NamedTuple):
    """A line at an edge: ``top`` or ``bottom``, so many lines from there."""

    edge: str
    depth: int
    line: int


_Key = tuple[str, int, str]


def _places(page: Sequence[str]) -> list[_Place]:
    """The first and the last lines with words, each edge from the outside in."""
    filled = [i for i, line in enumerate(page) if line.strip()]
    depth = min(_EDGE_LINES, max(1, len(filled) // 3))  # most of a short page is text all the same
    top = [_Place("top", d, i) for d, i in enumerate(filled[:depth])]
    bottom = [_Place("bottom", d, i) for d, i in enumerate(filled[::-1][:depth])]
    return top + bottom


def _keys(place: _Place, page: Sequence[str], number: int) -> Iterator[_Key]:
    """The line as it is and, for each number in it, with that number counted from the page's.

    The latter is the same on two pages only when the number grows by one with each page, and all
    else is alike: rows of a table that happen to stand at the edge are not.
    """
    text = " ".join(page[place.line].split())
    if len(text) > _MAX_LINE:
        return
    for match in _NUMBER.finditer(text):
        counted = f"{text[: match.start()]}\0{int(match[0]) - number}\0{text[match.end() :]}"
        yield place.edge, place.depth, counted
    if any(c.isalpha() for c in text):
        yield place.edge, place.depth, text


def _is_running(found: Sequence[int], pages: int) -> bool:
    if len(found) >= (2 if pages <= _RUN else max(_RUN, _SHARE * pages)):
        return True
    run = 1
    for before, page in pairwise(found):
        run = run + 1 if page - before <= 2 else 1
        if run >= _RUN:
            return True
    return False
