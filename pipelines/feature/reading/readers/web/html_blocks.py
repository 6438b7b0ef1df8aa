"""Elements of a page as Markdown: headings, paragraphs, lists, definitions, tables and code."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from fti.pipelines.feature.reading.readers import markdown
from fti.pipelines.feature.reading.readers.web.html_lists import Numbering, integer
from fti.pipelines.feature.reading.readers.web.html_tables import Cell, Row, unfold
from fti.store.plain_text import clean, clean_line

if TYPE_CHECKING:
    from bs4 import Tag
    from bs4.element import PageElement

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"}
    | {"div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup"}
    | {"hr", "html", "legend", "li", "main", "ol", "p", "pre", "section", "summary", "table"}
    | {"tbody", "td", "tfoot", "th", "thead", "tr", "ul", *HEADINGS}
)
_LISTS = ("ul", "ol")
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_STRUCK = frozenset({"s", "strike"})
_LINE_THROUGH = re.compile(r"text-decoration(?:-line)?\s*:[^;]*line-through", re.IGNORECASE)
_CELLS = ("td", "th")
_STRUCTURE = frozenset({"pre", "ul", "ol", "article", *HEADINGS})  # what no cell of data holds
_LANGUAGE = re.compile(r"(?:language|lang|highlight|brush:?)[-:\s]+(\w[\w+#-]*)")
_SPACE = re.compile(r"[^\S\n]+")
_HASHES = re.compile(r"#{1,6} ")
_MAX_LINE = 1000
_MAX_ACROSS = 1000  # what browsers allow
_MAX_DOWN = 65534


class _Items(str):
    """The lines of a list: inside an item they follow its text at once."""


class Markdown:
    """Renders elements of one page as Markdown.

    Args:
        roots: the elements that will be rendered, with all below them.
    """

    def __init__(self, roots: Iterable[Tag]) -> None:
        from bs4 import Tag

        # What holds a block somewhere inside, found once: asking each takes quadratic time.
        self._holders: set[int] = set()
        self._with_heading: set[int] = set()
        self._with_table: set[int] = set()
        self._with_structure: set[int] = set()
        for element in chain.from_iterable(root.descendants for root in roots):
            if isinstance(element, Tag) and element.name in BLOCKS:
                _mark_above(element, self._holders)
                if element.name in HEADINGS:
                    _mark_above(element, self._with_heading)
                if element.name == "table":
                    _mark_above(element, self._with_table)
                if element.name in _STRUCTURE:
                    _mark_above(element, self._with_structure)

    def blocks(self, element: Tag) -> Iterator[str]:
        """The element as blocks: what blank lines separate."""
        if element.name in HEADINGS:
            text = " ".join(inline(element).split())
            if len(text) > _MAX_LINE:  # not closed: all of the page is in it
                yield from self._below(element)
            elif text := clean_line(text, max_characters=_MAX_LINE):
                yield f"{'#' * int(element.name[1])} {text}"
        elif element.name == "pre":
            yield from _code(element)
        elif element.name in _LISTS:
            yield from self._list(element)
        elif element.name == "dl":
            yield from self._definitions(element)
        elif element.name == "table":
            yield from self._table(element)
        elif element.name == "blockquote":
            for block in self._below(element):
                yield "\n".join(f"> {line}".rstrip() for line in block.split("\n"))
        elif element.name != "hr":
            yield from self._below(element)

    def _below(self, element: Tag) -> Iterator[str]:
        """Children that are blocks one by one; runs of text between them as paragraphs."""
        from bs4 import Tag

        run: list[str] = []
        for child in element.children:
            if isinstance(child, Tag) and self._is_block(child):
                yield from _paragraph(run)
                run = []
                yield from self.blocks(child)
            else:
                run.append(inline(child) if isinstance(child, Tag) else _text(child))
        yield from _paragraph(run)

    def _is_block(self, element: Tag) -> bool:
        return element.name in BLOCKS or id(element) in self._holders

    def _parts(self, element: Tag, names: Collection[str]) -> Iterator[Tag | str]:
        """The children of a list by their names, also those in wrappers of no meaning.

        Whatever else lies between them comes as text, so that nothing is lost.
        """
        from bs4 import Tag

        run: list[str] = []
        for child in element.children:
            if not isinstance(child, Tag) or not self._is_block(child):
                run.append(inline(child) if isinstance(child, Tag) else _text(child))
                continue
            yield from _paragraph(run)
            run = []
            if child.name in names:
                yield child
            elif child.name not in (*_LISTS, "dl", "table") and _begins_with(child, names):
                yield from self._parts(child, names)
            else:
                yield from self.blocks(child)
        yield from _paragraph(run)

    def _list(self, element: Tag) -> Iterator[str]:
        """Items on consecutive lines; one with a heading of its own is a section, not an item."""
        parts = list(self._parts(element, ("li", *_LISTS)))
        count = sum(not isinstance(part, str) and part.name == "li" for part in parts)
        numbering = Numbering(element, count) if element.name == "ol" else None
        items: list[str] = []
        marker = "- "
        for part in parts:
            if isinstance(part, str):
                blocks = [part]
            elif part.name == "li":
                marker = f"{numbering.marker(part)} ".lstrip() if numbering else "- "
                blocks = list(self._below(part))
                if blocks and id(part) not in self._with_heading:
                    items.append(_item(marker, blocks))
                    continue
                if blocks and numbering:
                    blocks[0] = _numbered(blocks[0], marker)
            else:  # a list right in a list belongs to the item before it
                nested = "\n".join(self.blocks(part))
                if nested:
                    items.append(_indented(nested, len(marker) if items else 0))
                continue
            if blocks and items:
                yield _Items("\n".join(items))
                items = []
            yield from blocks
        if items:
            yield _Items("\n".join(items))

    def _definitions(self, element: Tag) -> Iterator[str]:
        """Each definition after its terms; a term with several stands before each of them."""
        terms: list[str] = []
        told = False
        for part in self._parts(element, ("dt", "dd")):
            if isinstance(part, str):
                yield part
                continue
            if part.name == "dt":
                if told:
                    terms, told = [], False
                if term := clean_line(inline(part), max_characters=_MAX_LINE):
                    terms.append(term)
                continue
            blocks = list(self._below(part))
            term = clean_line(", ".join(terms), max_characters=_MAX_LINE)
            if term and len(blocks) == 1 and "\n" not in blocks[0]:
                yield f"{term}: {blocks[0]}"
            else:
                yield from filter(None, [*([] if told else [term]), *blocks])
            told = True
        if terms and not told:
            yield ", ".join(terms)

    def _table(self, element: Tag) -> Iterator[str]:
        """A data table as rows of ``| a | b |``; one that only lays out the page as its content."""
        rows: list[Row] = []
        texts: list[str] = []
        boxes: list[list[str]] = []
        sections: dict[int, int] = {}
        lays_out = id(element) in self._with_table or (
            id(element) in self._with_structure and not element.find("th")
        )
        for part in self._parts(element, ("caption", "tr", *_CELLS)):
            if isinstance(part, str):
                texts.append(part)
            elif part.name == "caption":
                texts += self._below(part)
            else:
                inner = [part] if part.name in _CELLS else list(self._parts(part, _CELLS))
                cells = [cell for cell in inner if not isinstance(cell, str)]
                texts += [text for text in inner if isinstance(text, str)]
                if lays_out:
                    texts += [block for cell in cells for block in self._below(cell)]
                elif cells:
                    above = part.parent or element
                    section = sections.setdefault(id(above), len(sections))
                    contents = [list(self._below(cell)) for cell in cells]
                    boxes += contents
                    read = [_cell(c, blocks) for c, blocks in zip(cells, contents, strict=True)]
                    rows.append(Row(read, section=section, heads=above.name == "thead"))
        yield from texts
        grid = unfold(rows)
        if max(map(len, grid.rows), default=0) <= 1 or (
            any(map(_is_page, boxes)) and not element.find("th")
        ):  # a box around text
            yield from chain.from_iterable(boxes)
        else:
            yield from grid.titles
            yield markdown.table(grid.rows)


def _cell(element: Tag, blocks: Sequence[str]) -> Cell:
    text = " ".join(" ".join(blocks).split())
    across = min(max(integer(element.get("colspan")) or 1, 1), _MAX_ACROSS)
    down = integer(element.get("rowspan"))
    if down is None or down < 0:
        down = 1
    return Cell(text, across, min(down or _MAX_DOWN, _MAX_DOWN), heads=element.name == "th")


def _is_page(blocks: Sequence[str]) -> bool:
    """Whether a cell holds paragraphs of prose, as those do that pages are laid out with."""
    return len(blocks) > 1 and sum(map(len, blocks)) > _MAX_LINE


def class_names(element: Tag) -> list[str]:
    """The classes of an element of a page that was parsed without multi-valued attributes."""
    return str(element.get("class") or "").split()


def _mark_above(element: Tag, marked: set[int]) -> None:
    parent = element.parent
    while parent is not None and id(parent) not in marked:
        marked.add(id(parent))
        parent = parent.parent


def _begins_with(element: Tag, names: Collection[str]) -> bool:
    """Whether an element wraps items of the list that it stands in."""
    first = element.find([*names, *_LISTS, "dl", "table"])
    return first is not None and first.name in names and first.name not in _LISTS


def _item(marker: str, blocks: Sequence[str]) -> str:
    """An item whose further blocks are indented under it; an inner list follows at once."""
    text = blocks[0]
    for block in blocks[1:]:
        text += f"\n{block}" if isinstance(block, _Items) else f"\n\n{block}"
    return marker + _indented(text, len(marker)).lstrip(" ")


def _indented(text: str, width: int) -> str:
    indent = " " * width
    return "\n".join(indent + line if line else "" for line in text.split("\n"))


def _numbered(block: str, marker: str) -> str:
    """A block with a number before its words, behind the signs of a heading."""
    hashes = _HASHES.match(block)
    start = hashes.end() if hashes else 0
    return block[:start] + marker + block[start:]


def _paragraph(run: Sequence[str]) -> Iterator[str]:
    """The run as a paragraph; two line breaks in a row make it two."""
    lines = [_SPACE.sub(" ", line).strip() for line in "".join(run).split("\n")]
    for paragraph in "\n".join(lines).split("\n\n"):
        if text := paragraph.strip():
            yield text


def _text(node: PageElement) -> str:
    """A run of text; edges keep one space where they had any. Comments are none."""
    return "" if is_note(node) else " ".join(f"x{node}x".split())[1:-1]


def is_note(node: PageElement) -> bool:
    """Whether a node is a comment, a declaration or an instruction: nothing that a page shows."""
    return bool(getattr(node, "PREFIX", ""))


def inline(element: Tag) -> str:
    """The text of an element; code in backticks, line breaks as such, emphasis without marks."""
    from bs4 import Tag

    if element.name == "br":
        return "\n"
    parts = []
    for child in element.children:
        if not isinstance(child, Tag):
            parts.append(_text(child))
        elif child.name in BLOCKS:
            parts.append(f" {inline(child)} ")
        else:
            parts.append(inline(child))
    text = "".join(parts)
    if element.name in _CODE and text.strip() and "`" not in text and "\n" not in text:
        return f"`{text.strip()}`"
    if _is_struck(element) and text.strip() and "\n" not in text and "~" not in text:
        return text.replace(text.strip(), f"~~{text.strip()}~~")
    return text


def _is_struck(element: Tag) -> bool:
    """Whether words are shown struck through: they hold no longer, and are said with that mark."""
    if element.name in _STRUCK:
        return True
    return element.name == "span" and bool(_LINE_THROUGH.search(str(element.get("style") or "")))


def _code(element: Tag) -> Iterator[str]:
    for br in element.find_all("br"):
        br.string = "\n"
    code = clean(element.get_text())
    if not code.strip():
        return
    tags = [element, *element.find_all("code"), *element.parents][:4]
    names = [name for tag in tags for name in class_names(tag)]
    language = _LANGUAGE.search(" ".join(names))
    yield markdown.fenced(code, language[1] if language else "")
