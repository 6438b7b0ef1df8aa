"""DOCX in document order: headings, paragraphs, lists and tables, as Markdown."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from pipelines.feature.cleaning import clean_line
from pipelines.feature.readers.base import Extracted, SourcesConfig, facts
from store.errors import ExtractionError

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MAX_PARTS = 20_000
_DECLARATION_BYTES = 4096
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
    _inspect(data, config)
    document = _open(data)
    blocks = list(_Body(document).blocks(document.element.body))
    properties = document.core_properties
    title = clean_line(properties.title or "")
    first = next((b for b in blocks if b.startswith("# ")), "")
    metadata = facts(author=properties.author)
    return [Extracted(_join(blocks), title=title or first[2:], metadata=metadata)]


def _inspect(data: bytes, config: SourcesConfig) -> None:
    """Refuse what must not reach the parser."""
    if data.startswith(_OLD_OFFICE):
        raise ExtractionError(
            "the file is encrypted, or an old .doc file with the suffix .docx",
            hint="Save it again as DOCX without a password.",
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            if len(parts) > _MAX_PARTS or unpacked > config.max_unpacked_bytes:
                raise ExtractionError(
                    f"the file unpacks to {unpacked} bytes in {len(parts)} parts, "
                    f"more than {config.max_unpacked_bytes} bytes or {_MAX_PARTS} parts"
                )
            names = {part.filename for part in parts}
            if "[Content_Types].xml" not in names:
                raise ExtractionError("the file is a ZIP archive, not a DOCX file")
            for part in parts:
                if part.filename.endswith((".xml", ".rels")):
                    with archive.open(part) as stream:
                        _refuse_entities(part.filename, stream.read(_DECLARATION_BYTES))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _unreadable(error) from error


def _refuse_entities(name: str, head: bytes) -> None:
    # Office writes no document type; with one come entities that read files or never stop growing.
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head or b"<\x00!\x00" in head:
        raise ExtractionError(f"the part {name!r} declares a document type, which no DOCX does")


def _unreadable(error: Exception) -> ExtractionError:
    return ExtractionError(
        f"the file is not a whole DOCX file: {clean_line(str(error), max_characters=150)}",
        hint="It may be truncated; copy or save it again.",
    )


def _open(data: bytes) -> Any:
    import zlib

    import docx
    from docx.opc.exceptions import OpcError
    from lxml.etree import LxmlError

    try:
        return docx.Document(io.BytesIO(data))
    except (OpcError, LxmlError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise _unreadable(error) from error


def _join(blocks: list[str]) -> str:
    """Blocks as paragraphs; items of one list on consecutive lines."""
    text = ""
    for before, block in zip(["", *blocks], blocks, strict=False):
        tight = before.lstrip().startswith("- ") and block.lstrip().startswith("- ")
        text += block if not text else ("\n" if tight else "\n\n") + block
    return text


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
