"""OpenDocument text (ODT): headings, paragraphs, lists, tables and notes, as Markdown.

Tracked changes are taken as accepted. Text boxes, notes and open comments follow the paragraph that
they are fixed to; formulas and charts, which are documents inside the document, stand there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading, item, join_blocks, table
from fti.pipelines.feature.reading.readers.office.formulas import from_mathml
from fti.pipelines.feature.reading.readers.office.inline import Line, Script
from fti.pipelines.feature.reading.readers.office.merged_cells import Cell, in_one_cell, spread
from fti.pipelines.feature.reading.readers.office.odf_styles import TEXT, ListCounts, OdfStyles
from fti.pipelines.feature.reading.readers.office.titles import stated_title
from fti.pipelines.feature.reading.readers.package import Package, inspect_package
from fti.pipelines.feature.reading.readers.web.xml import local_name
from fti.store.errors import ExtractionError

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
_SVG = "{urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0}"
_META = "{urn:oasis:names:tc:opendocument:xmlns:meta:1.0}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_MAX_REPEATS = 1000
_MAX_SPAN = 256
_MAX_DEPTH = 50
_MAX_WARNED = 5
# What is no part of the text that a reader sees, or is taken up elsewhere.
_APART = frozenset(
    {
        TEXT + "tracked-changes", TEXT + "note", _OFFICE + "annotation", TEXT + "sequence-decls",
        TEXT + "number", _OFFICE + "forms", TEXT + "hidden-text",
    }
)  # fmt: skip
_ROWS = frozenset(
    _TABLE + name
    for name in ("table-header-rows", "table-rows", "table-row-group", "table-header-row")
)


def read_odt(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Body text in document order; headers, footers and deleted text are left out.

    An object in the document that cannot be read, or must not be since it declares a document
    type, is named in the warnings and the document is read without it.

    Raises:
        ExtractionError: not an ODT file, truncated, encrypted, or a decompression bomb.
    """
    package = inspect_package(data, config, kind="ODT", needs="content.xml", parsed=())
    manifest = "META-INF/manifest.xml"
    if manifest in package and b"encryption-data" in package.read(manifest):
        raise ExtractionError(
            "the file is encrypted", hint="Save it again as ODT without a password."
        )
    content = package.xml("content.xml")
    body = content.find(f"{_OFFICE}body/{_OFFICE}text")
    if body is None:
        raise ExtractionError("the file is an OpenDocument of another kind than text")
    document = _Document(package, content)
    blocks = list(document.blocks(body))
    title, author = document.properties()
    first = next((b.lstrip("#").strip() for b in blocks if isinstance(b, _Heading)), "")
    return [
        Extracted(
            join_blocks(blocks),
            title=title or first,
            metadata=facts(author=author, warnings="; ".join(document.warnings[:_MAX_WARNED])),
        )
    ]


class _Heading(str):
    """A block that is a heading."""


@dataclass(slots=True)
class _Found:
    """What stands in a paragraph, and beside it."""

    line: Line = field(default_factory=Line)
    asides: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _List:
    """The list that blocks stand in: how deep, how it is numbered, and the mark to come."""

    depth: int
    style: str
    counts: ListCounts
    mark: str | None = None  # None: it was given already


class _Document:
    """Renders what stands in a document's body."""

    def __init__(self, package: Package, content: Any) -> None:
        self._package = package
        self.warnings: list[str] = []
        self._styles = OdfStyles([self._part("styles.xml"), content])
        self._lists: dict[str, ListCounts] = {}
        self._headings: dict[int, int] = {}
        self._objects: set[str] = set()

    def properties(self) -> tuple[str, str]:
        """Title and author."""
        meta = self._part("meta.xml")
        if meta is None:
            return "", ""
        author = meta.findtext(f".//{_META}initial-creator")
        return (
            stated_title(meta.findtext(f".//{_DC}title")),
            author or meta.findtext(f".//{_DC}creator") or "",
        )

    def _part(self, name: str) -> Any | None:
        """A part that the document does without."""
        try:
            return self._package.xml(name) if name in self._package else None
        except ExtractionError as error:
            self.warnings.append(f"{name} was not read: {error.message}")
            return None

    # Blocks

    def blocks(
        self, parent: Any, around: _List | None = None, *, cell: bool = False, depth: int = 0
    ) -> Iterator[str]:
        """Paragraphs, lists and tables below ``parent`` in reading order, each as Markdown."""
        if depth > _MAX_DEPTH:
            raise ExtractionError(f"the document is nested deeper than {_MAX_DEPTH} elements")
        for child in parent.iterchildren("*"):
            if child.tag in (TEXT + "h", TEXT + "p"):
                yield from self._paragraph(child, around, cell=cell, depth=depth)
            elif child.tag == TEXT + "list":
                yield from self._list(child, around, cell=cell, depth=depth + 1)
            elif child.tag == _TABLE + "table":
                rows = spread(self._rows(child, depth + 1))
                yield from filter(None, [in_one_cell(rows) if cell else table(rows)])
            elif child.tag == _DRAW + "frame":
                found = _Found()
                self._frame(child, found, depth + 1)
                yield from filter(None, [found.line.text().strip(), *found.asides])
            elif child.tag not in _APART and child.get(TEXT + "display") != "none":
                # Sections, indexes, shapes: their content stands here.
                yield from self.blocks(child, around, cell=cell, depth=depth + 1)

    def _paragraph(
        self, element: Any, around: _List | None, *, cell: bool, depth: int
    ) -> Iterator[str]:
        found = _Found()
        mark = around.mark if around else None
        if around:
            around.mark = None
        level = self._heading_level(element)
        if level and mark is None and not around:
            mark = self._heading_mark(element, level)
        self._inline(element, found, "", depth)
        text = found.line.text().strip()
        if not text:
            if cell and mark and mark != "-":  # a column of nothing but numbers
                yield mark
        elif level and not cell:
            yield _Heading(heading(level, f"{mark} {text}" if mark and mark != "-" else text))
        elif cell:
            yield f"{mark} {text}" if mark and mark != "-" else text
        elif around and mark:
            yield item(around.depth, text, mark)
        elif around:  # a further paragraph of an item
            yield item(around.depth, text, " ")
        else:
            yield text
        yield from found.asides

    def _heading_level(self, element: Any) -> int:
        if element.tag == TEXT + "p":
            return 1 if self._styles.is_title(element.get(TEXT + "style-name")) else 0
        level = element.get(TEXT + "outline-level") or "1"
        return max(1, int(level)) if level.isdecimal() and len(level) < 3 else 1

    def _heading_mark(self, element: Any, level: int) -> str:
        """The number that the outline gives to a heading."""
        written = element.find(TEXT + "number")
        if element.tag == TEXT + "p" or element.get(TEXT + "is-list-header") == "true":
            return ""
        if not self._styles.is_numbered(element.get(TEXT + "style-name")):
            return ""
        mark = self._styles.outline.mark(
            level, self._headings, restart=element.get(TEXT + "start-value")
        )
        return mark or (" ".join((written.text or "").split()) if written is not None else "")

    def _list(self, element: Any, outer: _List | None, *, cell: bool, depth: int) -> Iterator[str]:
        style = element.get(TEXT + "style-name") or (outer.style if outer else "")
        level = outer.depth + 1 if outer else 0
        if outer:
            counts = outer.counts
        else:
            continued = element.get(TEXT + "continue-list") or ""
            if not continued and element.get(TEXT + "continue-numbering") == "true":
                continued = f"style {style}"
            counts = self._lists.get(continued, {})
        for key in (element.get("{http://www.w3.org/XML/1998/namespace}id"), f"style {style}"):
            if key and not outer:
                self._lists[key] = counts
        for entry in element.iterchildren(TEXT + "list-item", TEXT + "list-header"):
            inside = _List(level, style, counts)
            if any(c.tag in (TEXT + "p", TEXT + "h") for c in entry.iterchildren()):
                inside.mark = (
                    self._styles.list_mark(
                        style, level + 1, counts, restart=entry.get(TEXT + "start-value")
                    )
                    if entry.tag == TEXT + "list-item"
                    else " "
                )
            yield from self.blocks(entry, inside, cell=cell, depth=depth)

    # Tables

    def _rows(self, element: Any, depth: int) -> Iterator[Iterator[Cell]]:
        covered: dict[int, int] = {}  # by column, how many rows below are covered
        for row in _table_rows(element):
            yield iter(self._row(row, covered, depth))

    def _row(self, row: Any, covered: dict[int, int], depth: int) -> list[Cell]:
        cells: list[Cell] = []
        wide = 0  # how many cells to the right the last one covers
        for cell in row.iterchildren(_TABLE + "table-cell", _TABLE + "covered-table-cell"):
            texts = self.blocks(cell, cell=True, depth=depth)
            text = " ".join(" ".join(texts).split())
            times = _count(cell, "number-columns-repeated", _MAX_SPAN)
            if cell.tag == _TABLE + "covered-table-cell":
                for _ in range(times):
                    column = len(cells)
                    left = wide > 0
                    above = not left and covered.get(column, 0) > 0
                    if above:
                        covered[column] -= 1
                    cells.append(Cell(text, above=above, left=left))
                    wide -= 1
                continue
            columns = _count(cell, "number-columns-spanned", _MAX_SPAN)
            rows = _count(cell, "number-rows-spanned", _MAX_REPEATS)
            follows = cell.getnext()
            shown = follows is not None and follows.tag == _TABLE + "covered-table-cell"
            wide = columns - 1
            # Spreadsheets pad their rows with thousands of repeated empty cells.
            for _ in range(times if text else 1):
                if rows > 1:
                    covered.update(dict.fromkeys(range(len(cells), len(cells) + columns), rows - 1))
                cells.append(Cell(text, columns=1 if shown else columns))
        return cells

    # What stands in a line

    def _inline(self, element: Any, found: _Found, script: Script, depth: int) -> None:
        line = found.line
        line.add(element.text or "", script)
        for child in element.iterchildren():
            tag = child.tag
            if tag == TEXT + "s":
                line.add(" " * _count(child, "c", _MAX_REPEATS, TEXT))
            elif tag == TEXT + "tab":
                line.add("\t")
            elif tag == TEXT + "line-break":
                line.add("\n")
            elif tag == TEXT + "note":
                body = child.find(TEXT + "note-body")
                found.asides += self._aside(body, "", depth)
            elif tag == _OFFICE + "annotation":
                found.asides += self._comment(child, depth)
            elif tag == TEXT + "ruby":
                self._ruby(child, found, depth)
            elif tag == _DRAW + "frame":
                self._frame(child, found, depth + 1)
            elif isinstance(tag, str) and tag.startswith(_DRAW):  # a shape with words in it
                found.asides += filter(None, self.blocks(child, depth=depth + 1))
            elif isinstance(tag, str) and tag not in _APART:
                look = self._styles.look(child.get(TEXT + "style-name"))
                if not look.hidden and depth <= _MAX_DEPTH:
                    self._inline(child, found, look.script or script, depth + 1)
            line.add(child.tail or "", script)

    def _aside(self, element: Any | None, label: str, depth: int) -> list[str]:
        if element is None:
            return []
        texts = self.blocks(element, cell=True, depth=depth + 1)
        text = " ".join(" ".join(texts).split())
        return [f"({label}{text})"] if text else []

    def _comment(self, element: Any, depth: int) -> list[str]:
        if any(k.endswith("}resolved") and v == "true" for k, v in element.attrib.items()):
            return []
        author = " ".join((element.findtext(_DC + "creator") or "").split())
        for name in (_DC + "creator", _DC + "date", _META + "creator-initials"):
            for child in element.findall(name):
                element.remove(child)
        return self._aside(element, f"comment{f' by {author}' if author else ''}: ", depth)

    def _ruby(self, element: Any, found: _Found, depth: int) -> None:
        for name in ("ruby-base", "ruby-text"):
            part = element.find(TEXT + name)
            if part is not None and depth <= _MAX_DEPTH:
                inner = _Found()
                self._inline(part, inner, "", depth + 1)
                text = inner.line.text().strip()
                found.line.add(text if name == "ruby-base" or not text else f"({text})")

    def _frame(self, frame: Any, found: _Found, depth: int) -> None:
        """A text box, or a formula or chart; of several forms of one thing the first with words."""
        for child in frame.iterchildren("*"):
            if child.tag == _DRAW + "text-box":
                found.asides += filter(None, self.blocks(child, depth=depth + 1))
                break
            if child.tag == _DRAW + "object" and self._object(child, found, depth + 1):
                break
        for name in ("title", "desc"):
            if text := " ".join((frame.findtext(_SVG + name) or "").split()):
                found.asides.append(text)

    def _object(self, element: Any, found: _Found, depth: int) -> bool:
        """Whether an object had any words; they are in ``found`` then."""
        root = next(element.iterchildren("*"), None)
        if root is None:
            name = (element.get(_HREF) or "").removeprefix("./").rstrip("/") + "/content.xml"
            if name in self._objects:
                return False
            self._objects.add(name)
            root = self._part(name)
        if root is None:
            return False
        if local_name(root) == "math":
            text = from_mathml(root) or _source(root)
            found.line.add(text)
            return bool(text)
        blocks = list(filter(None, self.blocks(root, depth=depth)))
        found.asides += blocks
        return bool(blocks)


def _source(formula: Any) -> str:
    """A formula as it was typed, where there is nothing else of it."""
    texts = (e.text or "" for e in formula.iter() if local_name(e) == "annotation")
    return " ".join(" ".join(texts).split())


def _table_rows(element: Any) -> Iterator[Any]:
    """A table's own rows, not those of tables in its cells."""
    for child in element.iterchildren("*"):
        if child.tag == _TABLE + "table-row":
            yield child
        elif child.tag in _ROWS:
            yield from _table_rows(child)


def _count(element: Any, name: str, most: int, namespace: str = _TABLE) -> int:
    times = element.get(namespace + name) or "1"
    return max(1, min(int(times[:9]), most)) if times.isdecimal() else 1
