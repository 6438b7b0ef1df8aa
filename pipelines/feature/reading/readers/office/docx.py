"""DOCX in document order: headings, paragraphs, lists and tables, as Markdown.

Read as Word shows it once every tracked change is accepted: what was inserted or moved here stands
in the text, what was deleted or moved away does not. Numbers of lists and headings are counted,
text boxes follow the paragraph that they are fixed to, and so do notes and open comments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading, item, join_blocks, table
from fti.pipelines.feature.reading.readers.office.docx_fields import OpenFields
from fti.pipelines.feature.reading.readers.office.docx_notes import NOTES, Notes
from fti.pipelines.feature.reading.readers.office.drawings import (
    CHART,
    DIAGRAM,
    chart_blocks,
    diagram_items,
)
from fti.pipelines.feature.reading.readers.office.formulas import from_omml
from fti.pipelines.feature.reading.readers.office.inline import Line, Script
from fti.pipelines.feature.reading.readers.office.inserted_files import inserted_text
from fti.pipelines.feature.reading.readers.office.merged_cells import Cell, in_one_cell, spread
from fti.pipelines.feature.reading.readers.office.numbering import (
    BULLET,
    Numbering,
    Styles,
    W,
    is_on,
    value,
)
from fti.pipelines.feature.reading.readers.office.symbols import symbol, with_symbols
from fti.pipelines.feature.reading.readers.office.titles import stated_title
from fti.pipelines.feature.reading.readers.package import (
    OfficeParts,
    Package,
    Relation,
    inspect_package,
    not_whole,
)
from fti.store.errors import ExtractionError

_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_VML = "{urn:schemas-microsoft-com:vml}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_MAX_TABLE_DEPTH = 12
_MAX_GRID = 63  # columns, as Word has it
_MAX_WARNED = 5
# What is no part of the text that a reader sees.
_GONE = frozenset(W + name for name in ("del", "moveFrom", "pPr", "rPr", "sdtPr", "instrText"))


def read_docx(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Body text of a Word document; headers, footers and deleted text are left out.

    Raises:
        ExtractionError: not a DOCX file, truncated, encrypted, or a decompression bomb.
    """
    package = inspect_package(data, config, kind="DOCX", needs="[Content_Types].xml", parsed=())
    parts = OfficeParts(package)
    try:
        main = parts.main()
        if not main:
            raise ExtractionError("it has no document")
        root = package.xml(main)
    except ExtractionError as error:
        if "document type" in error.message:
            raise
        raise not_whole("DOCX", error) from error
    body = next(root.iterchildren(W + "body"), root)
    document = _Document(parts, main, config)
    blocks = list(document.blocks(body))
    title, author = _properties(parts)
    first = next((b.lstrip("#").strip() for b in blocks if isinstance(b, _Heading)), "")
    metadata = facts(author=author, warnings="; ".join(document.warnings[:_MAX_WARNED]))
    return [
        Extracted(
            join_blocks(blocks),
            title=title or first,
            metadata=metadata,
            empty_reason="no text in the document",
        )
    ]


def _properties(parts: OfficeParts) -> tuple[str, str]:
    """Title and author."""
    try:
        name = parts.related("", "core-properties")
        core = parts.package.xml(name) if name else None
    except ExtractionError:  # they are not what the file is for
        core = None
    if core is None:
        return "", ""
    return stated_title(core.findtext(_DC + "title")), core.findtext(_DC + "creator") or ""


class _Heading(str):
    """A block that is a heading."""


@dataclass(slots=True)
class _Paragraph:
    """What was found in a paragraph so far."""

    line: Line = field(default_factory=Line)
    asides: list[str] = field(default_factory=list)  # text boxes, charts
    notes: list[tuple[str, Any]] = field(default_factory=list)  # of what kind, and where it is
    fields: OpenFields = field(default_factory=OpenFields)

    def __bool__(self) -> bool:
        return bool(self.line) or bool(self.asides) or bool(self.notes)


class _Document:
    """Renders what stands in a document's body."""

    def __init__(self, parts: OfficeParts, main: str, config: SourcesConfig) -> None:
        self._parts = parts
        self._package: Package = parts.package
        self._config = config
        self.warnings: list[str] = []
        self._relations: Mapping[str, Relation] = {}
        try:
            self._relations = parts.relations(main)
        except ExtractionError as error:
            self.warnings.append(f"what {main} points at was not read: {error.message}")
        self._styles = Styles(self._related("styles"))
        self._numbering = Numbering(self._related("numbering"))
        self._notes = Notes(self._related)
        self._in_note = False

    # Parts

    def _related(self, kind: str) -> Any | None:
        """The root of a part that the document points at; None where it cannot be read."""
        name = next((r.target for r in self._relations.values() if r.kind == kind), "")
        return self._part(name) if name else None

    def _part(self, name: str) -> Any | None:
        try:
            return self._package.xml(name)
        except ExtractionError as error:
            self.warnings.append(f"{name} was not read: {error.message}")
            return None

    def _target(self, identifier: str | None) -> str:
        relation = self._relations.get(identifier or "")
        return relation.target if relation else ""

    # Blocks

    def blocks(self, parent: Any, *, cell: int = 0) -> Iterator[str]:
        """Paragraphs and tables below ``parent`` in reading order, each as Markdown.

        ``cell`` counts the tables that they lie in.
        """
        carried: Line | None = None  # of a paragraph whose end was deleted, or an initial
        for child in self._block_level(parent):
            if child.tag == W + "p":
                found = _Paragraph(line=carried or Line())
                carried = None
                properties = child.find(W + "pPr")
                if _goes_on(properties):
                    self._walk(child, found)
                    carried = found.line
                    yield from found.asides
                    yield from self._told_notes(found)
                else:
                    yield from self._paragraph(child, properties, found, cell=cell)
            elif child.tag == W + "tbl":
                yield from self._table(child, cell)
            elif child.tag == W + "altChunk":
                yield from self._chunk(child)
            elif child.tag in (_M + "oMathPara", _M + "oMath"):
                yield from filter(None, [from_omml(child)])
        if carried:
            yield carried.text().strip()

    def _block_level(self, parent: Any) -> Iterator[Any]:
        """Children, with those of wrappers (controls, insertions, choices) in their place."""
        for child in parent.iterchildren():
            if child.tag == _MC + "AlternateContent":
                for option in _options(child):
                    inner = list(self._block_level(option))
                    if inner:
                        yield from inner
                        break
            elif child.tag in (W + "p", W + "tbl", W + "altChunk", _M + "oMathPara", _M + "oMath"):
                yield child
            elif isinstance(child.tag, str) and child.tag not in _GONE and not _is_prompt(child):
                yield from self._block_level(child)

    def _paragraph(
        self, element: Any, properties: Any | None, found: _Paragraph, *, cell: int
    ) -> Iterator[str]:
        style = value(properties, "pStyle")
        numbers = self._list_of(properties, style)
        # Counted before what is in it: a text box may have a list of its own.
        mark = self._numbering.mark(*numbers) if numbers else ""
        self._walk(element, found)
        text = found.line.text().strip()
        level = self._styles.heading_level(properties, style)
        if not text:
            if cell and mark not in ("", BULLET):  # a column of nothing but numbers
                yield mark
        elif level and not cell:
            title = f"{mark} {text}" if mark not in ("", BULLET) else text
            yield _Heading(heading(level, title))
        elif cell:
            yield text if mark in ("", BULLET) else f"{mark} {text}"
        elif numbers and mark:
            yield item(numbers[1], text, mark)
        elif not numbers and self._styles.name_list(style):
            yield item(0, text)
        else:
            yield text
        yield from found.asides
        yield from self._told_notes(found)

    def _list_of(self, properties: Any | None, style: str) -> tuple[str, int] | None:
        """The list and level that a paragraph is an item of."""
        own = properties.find(W + "numPr") if properties is not None else None
        list_id, level = value(own, "numId"), value(own, "ilvl")
        if not list_id:
            for one in self._styles.chain(style):
                inherited = one.find(f"{W}pPr/{W}numPr")
                if inherited is not None and (list_id := value(inherited, "numId")):
                    level = level or value(inherited, "ilvl")
                    if not level:
                        named = one.get(W + "styleId") or ""
                        level = str(self._numbering.level_of(list_id, named))
                    break
        if not list_id or list_id == "0":
            return None
        return list_id, int(level) if level.isdecimal() and len(level) < 3 else 0

    # Tables

    def _table(self, element: Any, depth: int) -> Iterator[str]:
        if depth > _MAX_TABLE_DEPTH:  # nobody lays tables so deep: only their words
            words = (t.text or "" for t in element.iter(W + "t"))
            yield " ".join(" ".join(words).split())
            return
        rows = [row for row in _inside(element, "tr") if not _is_deleted_row(row)]
        laid_out = [list(_inside(row, "tc")) for row in rows]
        if not depth and all(len(cells) == 1 for cells in laid_out):
            nested = any(cell.find(f".//{W}tbl") is not None for (cell,) in laid_out)
            if nested or len(laid_out) == 1:  # a frame around text, not a table
                for (cell,) in laid_out:
                    yield from self.blocks(cell)
                return
        grid = spread(
            self._row(row, cells, depth) for row, cells in zip(rows, laid_out, strict=True)
        )
        text = in_one_cell(grid) if depth else table(grid)
        yield from filter(None, [text])

    def _row(self, row: Any, cells: list[Any], depth: int) -> Iterator[Cell]:
        before = value(row.find(W + "trPr"), "gridBefore")
        if before.isdecimal():
            for _ in range(min(int(before[:4]), _MAX_GRID)):
                yield Cell("")
        for cell in cells:
            properties = cell.find(W + "tcPr")
            if properties is not None and properties.find(W + "cellDel") is not None:
                continue
            span = value(properties, "gridSpan", "1")
            text = " ".join(" ".join(self.blocks(cell, cell=depth + 1)).split())
            yield Cell(
                text,
                columns=min(int(span), _MAX_GRID) if span.isdecimal() and len(span) < 12 else 1,
                above=_continues(properties, "vMerge"),
                left=_continues(properties, "hMerge"),
            )

    # What stands in a line

    def _walk(self, parent: Any, found: _Paragraph, font: str = "", script: Script = "") -> None:
        for child in parent.iterchildren():
            tag = child.tag
            if tag == W + "r":
                self._run(child, found)
            elif tag == W + "t":
                if not found.fields.in_code:
                    found.line.add(with_symbols(child.text or "", font), script)
            elif tag in (W + "tab", W + "ptab"):
                found.line.add("\t")
            elif tag in (W + "br", W + "cr"):
                found.line.add("\n")
            elif tag == W + "noBreakHyphen":
                found.line.add("-", script)
            elif tag == W + "sym":
                code = _hexadecimal(child.get(W + "char"))
                found.line.add(symbol(code, child.get(W + "font") or ""), script)
            elif tag == W + "fldChar":
                if shown := found.fields.meet(child):
                    found.line.add(shown)
            elif tag in NOTES:
                self._refer(NOTES[tag], child.get(W + "id") or "", found)
            elif tag in (_M + "oMath", _M + "oMathPara"):
                found.line.add(from_omml(child))
            elif tag == _MC + "AlternateContent":
                self._choose(child, found, font, script)
            elif tag in (W + "drawing", W + "pict", W + "object"):
                found.asides += self._boxes(child)
            elif tag == W + "ruby":
                self._ruby(child, found)
            elif isinstance(tag, str) and tag.endswith("}symEx"):
                found.line.add(symbol(_hexadecimal(_attribute(child, "char")), ""), script)
            elif isinstance(tag, str) and tag not in _GONE and not _is_prompt(child):
                self._walk(child, found, font, script)

    def _run(self, run: Any, found: _Paragraph) -> None:
        properties = run.find(W + "rPr")
        if properties is None:
            self._walk(run, found)
            return
        if is_on(properties, "vanish"):
            return
        fonts = properties.find(W + "rFonts")
        font = ""
        if fonts is not None:
            font = fonts.get(W + "ascii") or fonts.get(W + "hAnsi") or fonts.get(W + "cs") or ""
        position = value(properties, "vertAlign")
        if not position and (style := value(properties, "rStyle")):
            chain = (value(one.find(W + "rPr"), "vertAlign") for one in self._styles.chain(style))
            position = next(filter(None, chain), "")
        scripts: dict[str, Script] = {"superscript": "^", "subscript": "_"}
        self._walk(run, found, font, scripts.get(position, ""))

    def _choose(self, element: Any, found: _Paragraph, font: str, script: Script) -> None:
        """Take the first of several forms of one thing that has words."""
        for option in _options(element):
            inner = _Paragraph(fields=found.fields)
            self._walk(option, inner, font, script)
            if inner:
                found.line.extend(inner.line)
                found.asides += inner.asides
                found.notes += inner.notes
                return

    def _ruby(self, element: Any, found: _Paragraph) -> None:
        for name in ("rubyBase", "rt"):
            part = element.find(W + name)
            inner = _Paragraph(fields=OpenFields(found.fields.in_code))
            if part is not None:
                self._walk(part, inner)
            if inner.line:
                text = inner.line.text().strip()
                found.line.add(text if name == "rubyBase" else f"({text})")

    # What stands beside it

    def _boxes(self, drawing: Any) -> list[str]:
        """The texts of the boxes, charts and diagrams in a drawing."""
        found: list[str] = []
        for child in drawing.iterchildren():
            if child.tag == _MC + "AlternateContent":
                for option in _options(child):
                    if inner := self._boxes(option):
                        found += inner
                        break
            elif child.tag == W + "txbxContent":
                found += self.blocks(child)
            elif child.tag == _VML + "textpath":
                found += filter(None, [" ".join((child.get("string") or "").split())])
            elif child.tag == CHART + "chart" and (name := self._target(child.get(_R + "id"))):
                if (root := self._part(name)) is not None:
                    found += chart_blocks(root)
            elif child.tag == DIAGRAM + "relIds" and (name := self._target(child.get(_R + "dm"))):
                if (root := self._part(name)) is not None:
                    found += diagram_items(root)
            elif isinstance(child.tag, str):
                found += self._boxes(child)
        return found

    def _refer(self, kind: str, identifier: str, found: _Paragraph) -> None:
        if not self._in_note and (body := self._notes.untold(kind, identifier)) is not None:
            found.notes.append((kind, body))

    def _told_notes(self, found: _Paragraph) -> list[str]:
        """Foot and end notes and comments, behind the paragraph that they belong to."""
        told: list[str] = []
        for kind, note in found.notes:
            self._in_note = True  # a note in a note would have no end
            text = " ".join(" ".join(self.blocks(note, cell=1)).split())
            self._in_note = False
            if text and kind == "comments":
                author = " ".join((note.get(W + "author") or "").split())
                told.append(f"(comment{f' by {author}' if author else ''}: {text})")
            elif text:
                told.append(f"({text})")
        return told

    def _chunk(self, element: Any) -> Iterator[str]:
        """A file of another format that Word shows as a part of this one."""
        name = self._target(element.get(_R + "id"))
        if not name or self._in_note:
            return
        try:
            text = inserted_text(name, self._package.read(name), self._config)
        except ExtractionError as error:
            self.warnings.append(f"{name} was not read: {error.message}")
            return
        yield from filter(None, [text.strip()])


def _options(element: Any) -> Iterator[Any]:
    """The forms of one thing, the best first."""
    yield from element.iterchildren(_MC + "Choice")
    yield from element.iterchildren(_MC + "Fallback")


def _inside(element: Any, name: str) -> Iterator[Any]:
    """Rows or cells, also those in controls and insertions."""
    for child in element.iterchildren():
        if child.tag == W + name:
            yield child
        elif isinstance(child.tag, str) and child.tag not in (*_GONE, W + "tbl", W + "p"):
            yield from _inside(child, name)


def _is_prompt(element: Any) -> bool:
    """Whether a control holds only what it asks for: "Click here to enter text"."""
    return element.tag == W + "sdt" and is_on(element.find(W + "sdtPr"), "showingPlcHdr")


def _is_deleted_row(row: Any) -> bool:
    return row.find(f"{W}trPr/{W}del") is not None


def _goes_on(properties: Any | None) -> bool:
    """Whether a paragraph and the next one are one: its end was deleted, or it is an initial."""
    if properties is None:
        return False
    mark = properties.find(W + "rPr")
    frame = properties.find(W + "framePr")
    return (
        mark is not None
        and (mark.find(W + "del") is not None or mark.find(W + "moveFrom") is not None)
    ) or (frame is not None and frame.get(W + "dropCap") in ("drop", "margin"))


def _continues(properties: Any | None, name: str) -> bool:
    merge = properties.find(W + name) if properties is not None else None
    return merge is not None and merge.get(W + "val") != "restart"


def _hexadecimal(text: str | None) -> int:
    try:
        return int(text or "0", 16)
    except ValueError:
        return 0


def _attribute(element: Any, name: str) -> str:
    return next((str(v) for k, v in element.attrib.items() if k.rpartition("}")[2] == name), "")
