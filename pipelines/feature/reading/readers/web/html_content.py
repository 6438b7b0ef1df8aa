"""Which part of a page is its content.

What the page marks as its main part is believed where that holds most of the text. Elsewhere
trafilatura is asked what the content is, and beside it only what is furniture goes: lists of links
and paragraphs that trafilatura left out. Short blocks stay (tables, price lists, opening hours,
contact lines): it leaves out many of those too, and they say what people ask for.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from fti.pipelines.feature.reading.readers.charsets import silenced
from fti.pipelines.feature.reading.readers.web.html_blocks import is_note

if TYPE_CHECKING:
    from bs4 import Tag

_SPANS = re.compile(r"\s(?:row|col)span\s*=", re.IGNORECASE)
_NOT_LETTERS = re.compile(r"[\W_]+")

_MIN_MAIN_CHARACTERS = 200
_MOST = 0.5
_LINKS_SHARE = 0.5  # a block with more of its text in links is navigation
_HELD_SHARE = 0.95
_MIN_FOUND_SHARE = 0.25
_REACHES = ("tel:", "mailto:", "sms:")
_LONG_LINE = 30  # letters; shorter lines of trafilatura's are looked for nearby only
_NEARBY = 2000
_MAX_MISSES = 200
_MAX_LETTERS = 2_000_000  # a page with more is a book; nobody writes so much around one
_MAX_ELEMENTS = 200_000
_MANY_ELEMENTS = 10_000
# What holds rows or items: to leave some out would tear it.
_FOUND_BY_CHANCE = 0.1
_DATA = ["table", "dl"]
_WHOLES = frozenset({"ul", "ol", "dl", "pre", "blockquote", "tr"})


def letters(text: str) -> str:
    """The letters and digits of a text, in a row."""
    return _NOT_LETTERS.sub("", text)


def links_share(element: Tag) -> float:
    """How much of an element's text stands in links that lead to other pages."""
    words = len(letters(element.get_text()))
    links = (a for a in element.find_all("a") if leads_away(a))
    return sum(len(letters(a.get_text())) for a in links) / max(words, 1)


def leads_away(element: Tag) -> bool:
    """Whether an element is a link: one to a telephone or a mailbox is what it says."""
    return element.name == "a" and not str(element.get("href") or "").startswith(_REACHES)


class Extents:
    """How many letters each element below ``root`` holds: in all, in links, and found.

    All from one walk, since asking each element for its text takes quadratic time.
    """

    def __init__(self, root: Tag) -> None:
        from bs4 import Tag

        self._start: dict[int, int] = {id(root): 0}
        self._length: dict[int, int] = {id(root): 0}
        self._linked: dict[int, int] = {id(root): 0}
        self._in_lines: dict[int, int] = {id(root): 0}
        in_link: dict[int, bool] = {id(root): False}
        walked: list[Tag] = []
        parts: list[str] = []
        position = 0
        for node in root.descendants:
            above = id(node.parent)
            if isinstance(node, Tag):
                key = id(node)
                walked.append(node)
                self._start[key] = position
                self._length[key] = self._linked[key] = self._in_lines[key] = 0
                in_link[key] = in_link[above] or leads_away(node)
            elif not is_note(node) and (text := letters(str(node))):
                parts.append(text)
                position += len(text)
                self._length[above] += len(text)
                if in_link[above]:
                    self._linked[above] += len(text)
                if len(text) >= _LONG_LINE:
                    self._in_lines[above] += len(text)
        for element in reversed(walked):
            key, above = id(element), id(element.parent)
            self._length[above] += self._length[key]
            self._linked[above] += self._linked[key]
            self._in_lines[above] += self._in_lines[key]
        self.text = "".join(parts)
        self.elements = len(walked)
        self._found: list[int] = []

    def of(self, element: Tag) -> int:
        """Letters of an element in all."""
        return self._length[id(element)]

    def linked(self, element: Tag) -> int:
        """Letters of an element inside links."""
        return self._linked[id(element)]

    def in_lines(self, element: Tag) -> int:
        """Letters of an element in runs of text as long as sentences."""
        return self._in_lines[id(element)]

    def found(self, element: Tag) -> int:
        """Letters of an element that ``mark`` found."""
        start = self._start[id(element)]
        return self._found[start + self._length[id(element)]] - self._found[start]

    def mark(self, lines: Sequence[str]) -> None:
        """Look up lines of text, in the order in which they are likely to stand."""
        covered = bytearray(len(self.text))
        cursor = misses = 0
        for line in lines:
            probe = letters(line)
            if not probe:
                continue
            near = cursor + _NEARBY + len(probe)
            at = self.text.find(probe, cursor, near)
            if at < 0 and len(probe) >= _LONG_LINE and misses < _MAX_MISSES:
                misses += 1
                at = self.text.find(probe)
            if at < 0:
                continue
            cursor = at + len(probe)
            covered[at:cursor] = b"\1" * len(probe)
        self._found = list(accumulate(covered, initial=0))


def content(body: Tag, markup: str) -> list[Tag]:
    """The elements to render, in order. Furniture beside the content is taken out of the page."""
    extents = Extents(body)
    marked = _marked(body, extents)
    if not marked:
        _prune(body, extents, markup)
        return [body]
    if not any(m.name == "h1" or m.find("h1") for m in marked):
        title = body.find("h1")
        marked = [title, *marked] if title else marked
    inside = {id(m) for m in marked}  # by identity: elements that look alike count as equal
    footers = [
        f
        for f in body.find_all("footer")
        if inside.isdisjoint({id(f), *(id(parent) for parent in f.parents)})
    ]
    return [*marked, *footers]


def _marked(body: Tag, extents: Extents) -> list[Tag]:
    """What the page itself calls its main part; empty where that holds next to nothing.

    An ``article`` is no such mark: as often it is a teaser for another page.
    """
    found = body.find_all("main") or body.select('[role="main"]')
    inside = {id(element) for element in found}
    main = [m for m in found if inside.isdisjoint(map(id, m.parents))]
    enough = min(_MIN_MAIN_CHARACTERS, extents.of(body) // 2)
    return main if sum(map(extents.of, main)) >= enough else []


def _prune(body: Tag, extents: Extents, markup: str) -> None:
    """Take furniture out, from the outside in, down to where the content is spread."""
    if len(extents.text) > _MAX_LETTERS or extents.elements > _MAX_ELEMENTS:
        return
    extents.mark(_found_by_trafilatura(markup, fast=extents.elements > _MANY_ELEMENTS))
    prose = extents.of(body) - extents.linked(body)
    if extents.found(body) < _MIN_FOUND_SHARE * prose:
        return  # on short pages it often finds little
    element: Tag | None = body
    while element is not None:
        enough = _HELD_SHARE * extents.found(element)
        inner = None
        furniture = []
        for child in element.find_all(True, recursive=False):
            if inner is None and extents.found(child) >= enough:
                inner = child
            elif _is_furniture(child, extents):
                furniture.append(child)
        for child in furniture:
            child.clear()
        element = inner if inner is not None and inner.name not in _WHOLES else None


def _is_furniture(element: Tag, extents: Extents) -> bool:
    """Whether a block beside the content is about other pages.

    It holds nothing of what was found, and either most of it is links or it is paragraphs with a
    link, as teasers and comments are. Blocks without a link stay: leads, captions, contact lines.
    """
    count, linked = extents.of(element), extents.linked(element)
    if not linked or extents.found(element) > _FOUND_BY_CHANCE * count:
        return False
    if linked > _LINKS_SHARE * count:
        return True
    is_prose = extents.in_lines(element) > _MOST * count
    return is_prose and element.name not in _DATA and not element.find(_DATA)


def _found_by_trafilatura(markup: str, *, fast: bool) -> list[str]:
    """Its lines; ``fast`` without the second opinions, which take quadratic time."""
    import trafilatura
    from lxml.etree import LxmlError

    with silenced("trafilatura"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # It writes out each span of a table, cell by cell, of which some claim billions.
            markup = _SPANS.sub(" data-span=", markup)
            found = trafilatura.extract(markup, favor_recall=True, include_tables=True, fast=fast)
        except (LxmlError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
            return []  # it runs into its own assumptions on strange markup; ours are fewer
    return (found or "").split("\n")
