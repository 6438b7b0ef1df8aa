"""DOCX in document order: headings, paragraphs, lists and tables, as Markdown."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import join_blocks
from fti.pipelines.feature.reading.readers.package import inspect_package, not_whole

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_HEADING_STYLE = re.compile(r"heading\s*([1-9])", re.IGNORECASE)
_MAX_TABLE_DEPTH = 4
# Wrappers whose content stands in the text as if they were not there.
_TRANSPARENT = frozenset(
    _W + name for name in ("sdt", "sdtContent", "ins", "smartTag", "customXml", "hyperlink", "r")
)


def read_docx(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Body text of a Word document; headers, footers, notes and deleted text are left out.

    Raises:
        ExtractionError: not a DOCX file, truncated, encrypted, or a decompression bomb.
    """
    inspect_package(data, config, kind="DOCX", needs="[Content_Types].xml")
    document = _open(data)
    blocks = list(_Body(document).blocks(document.element.body))
    properties = document.core_properties
    title = clean_line(properties.title or "")
    first = next((b for b in blocks if b.startswith("# ")), "")
    metadata = facts(author=properties.author)
    return [Extracted(join_blocks(blocks), title=title or first[2:], metadata=metadata)]


def _open(data: bytes) -> Any:
    import zlib

    import docx
    from docx.opc.exceptions import OpcError
    from lxml.etree import LxmlError

    try:
        return docx.Document(io.BytesIO(data))
    except (OpcError, LxmlError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise not_whole("DOCX", error) from error


class _Body:
    """Renders the children of a document's body."""

    def __init__(self, document: Any) -> None:
        self._levels: dict[str, int] = {}
        self._lists: set[str] = set()
        for style in document.styles:
            name = style.name or ""
            match = _HEADING_STYLE.match(name)
            if match:
                self._levels[style.style_id] = min(int(match[1]), 6)
            elif name.lower() == "title":
                self._levels[style.style_id] = 1
            elif name.lower().startswith("list"):
                self._lists.add(style.style_id)

    def blocks(self, parent: Any) -> Iterator[str]:
        """Paragraphs and tables below ``parent`` in reading order, each as Markdown."""
        for child in parent.iterchildren():
            if child.tag == _W + "p":
                if text := self._paragraph(child):
                    yield text
            elif child.tag == _W + "tbl":
                if rows := "\n".join(self._rows(child, 0)):
                    yield rows
            elif child.tag in _TRANSPARENT:
                yield from self.blocks(child)

    def _paragraph(self, paragraph: Any) -> str:
        text = "".join(_runs(paragraph)).strip()
        if not text:
            return ""
        properties = paragraph.find(_W + "pPr")
        style = numbering = outline = None
        if properties is not None:
            style = properties.find(_W + "pStyle")
            numbering = properties.find(_W + "numPr")
            outline = properties.find(_W + "outlineLvl")
        style_id = style.get(_W + "val") if style is not None else ""
        level = self._levels.get(style_id, 0)
        if not level and outline is not None and (outline.get(_W + "val") or "9") in "012345":
            level = int(outline.get(_W + "val")) + 1
        if level:
            return f"{'#' * level} {' '.join(text.split())}"
        if numbering is not None or style_id in self._lists:
            depth = numbering.find(_W + "ilvl") if numbering is not None else None
            value = depth.get(_W + "val") if depth is not None else "0"
            indent = "  " * min(int(value), 8) if value and value.isdigit() else ""
            return f"{indent}- {' '.join(text.split())}"
        return text

    def _rows(self, table: Any, depth: int) -> Iterator[str]:
        """Rows as ``| a | b |`` with a rule below the first; a table in a cell joins its text."""
        for i, row in enumerate(table.iterchildren(_W + "tr")):
            cells = [self._cell(cell, depth) for cell in _cells(row)]
            if any(cells):
                yield f"| {' | '.join(cells)} |"
                if i == 0 and depth == 0:
                    yield f"|{' --- |' * len(cells)}"

    def _cell(self, cell: Any, depth: int) -> str:
        texts: list[str] = []
        for child in cell.iterchildren():
            if child.tag == _W + "p":
                texts.append("".join(_runs(child)))
            elif child.tag == _W + "tbl" and depth < _MAX_TABLE_DEPTH:
                texts.extend(self._rows(child, depth + 1))
            elif child.tag in _TRANSPARENT:
                texts.extend(self.blocks(child))
        return " ".join(" ".join(texts).split())


def _cells(row: Any) -> Iterator[Any]:
    for child in row.iterchildren():
        if child.tag == _W + "tc":
            yield child
        elif child.tag in _TRANSPARENT:
            yield from _cells(child)


def _runs(parent: Any) -> Iterator[str]:
    """The text below a paragraph; what was deleted in a tracked change is not part of it."""
    for child in parent.iterchildren():
        if child.tag == _W + "t":
            yield child.text or ""
        elif child.tag in (_W + "tab", _W + "ptab"):
            yield "\t"
        elif child.tag in (_W + "br", _W + "cr"):
            yield "\n"
        elif child.tag == _W + "noBreakHyphen":
            yield "-"
        elif child.tag in _TRANSPARENT or child.tag == _W + "fldSimple":
            yield from _runs(child)
