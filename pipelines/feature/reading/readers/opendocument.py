"""OpenDocument text (ODT): headings, paragraphs, lists, tables and notes, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading, item, join_blocks, table
from fti.pipelines.feature.reading.readers.package import Package, inspect_package
from fti.pipelines.feature.reading.readers.xml import parse_xml
from fti.store.errors import ExtractionError

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_META = "{urn:oasis:names:tc:opendocument:xmlns:meta:1.0}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_MAX_REPEATS = 1000
_MAX_DEPTH = 50
# What is no part of the text that a reader sees, or is taken up elsewhere.
_APART = frozenset(
    {_TEXT + "tracked-changes", _TEXT + "note", _OFFICE + "annotation", _TEXT + "sequence-decls"}
)


def read_odt(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Body text in document order; headers, footers, comments and deleted text are left out.

    Raises:
        ExtractionError: not an ODT file, truncated, encrypted, or a decompression bomb.
    """
    inspect_package(data, config, kind="ODT", needs="content.xml")
    package = Package(data, config, kind="ODT", needs="content.xml")
    manifest = "META-INF/manifest.xml"
    if manifest in package and b"encryption-data" in package.read(manifest):
        raise ExtractionError(
            "the file is encrypted", hint="Save it again as ODT without a password."
        )
    body = parse_xml(package.read("content.xml")).find(f"{_OFFICE}body/{_OFFICE}text")
    if body is None:
        raise ExtractionError("the file is an OpenDocument of another kind than text")
    blocks = list(_blocks(body, 0))
    title, author = "", ""
    if "meta.xml" in package:
        meta = parse_xml(package.read("meta.xml"))
        title = clean_line(meta.findtext(f".//{_DC}title") or "")
        author = (
            meta.findtext(f".//{_META}initial-creator") or meta.findtext(f".//{_DC}creator") or ""
        )
    first = next((b.lstrip("#").strip() for b in blocks if b.startswith("#")), "")
    return [Extracted(join_blocks(blocks), title=title or first, metadata=facts(author=author))]


def _blocks(parent: Any, list_depth: int, depth: int = 0) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ExtractionError(f"the document is nested deeper than {_MAX_DEPTH} elements")
    for child in parent.iterchildren("*"):
        if child.tag == _TEXT + "h":
            level = child.get(_TEXT + "outline-level") or "1"
            yield heading(int(level) if level.isdigit() else 1, _inline(child))
            yield from _notes(child)
        elif child.tag == _TEXT + "p":
            yield _inline(child).strip()
            yield from _notes(child)
        elif child.tag == _TEXT + "list":
            yield from _items(child, list_depth, depth + 1)
        elif child.tag == _TABLE + "table":
            yield table([_cells(row, depth + 1) for row in child.iter(_TABLE + "table-row")])
        elif child.tag not in _APART:  # sections, indexes, frames: their content stands here
            yield from _blocks(child, list_depth, depth + 1)


def _items(element: Any, list_depth: int, depth: int) -> Iterator[str]:
    for entry in element.iterchildren(_TEXT + "list-item", _TEXT + "list-header"):
        for block in _blocks(entry, list_depth + 1, depth):
            nested = block.lstrip(" ").startswith("- ")
            yield block if nested or not block else item(list_depth, block)


def _cells(row: Any, depth: int) -> list[str]:
    cells: list[str] = []
    for cell in row.iterchildren(_TABLE + "table-cell", _TABLE + "covered-table-cell"):
        text = " ".join(" ".join(_blocks(cell, 0, depth)).split())
        times = cell.get(_TABLE + "number-columns-repeated") or "1"
        # Spreadsheets pad their rows with thousands of repeated empty cells.
        count = min(int(times), _MAX_REPEATS) if times.isdigit() and text else 1
        cells += [text] * count
    return cells


def _notes(paragraph: Any) -> Iterator[str]:
    """Foot and end notes, behind the paragraph that they belong to."""
    for note in paragraph.iter(_TEXT + "note"):
        body = note.find(_TEXT + "note-body")
        if body is not None:
            yield f"({' '.join(' '.join(_blocks(body, 0)).split())})"


def _inline(element: Any) -> str:
    parts = [element.text or ""]
    for child in element.iterchildren():
        if child.tag == _TEXT + "s":
            times = child.get(_TEXT + "c") or "1"
            parts.append(" " * (min(int(times), _MAX_REPEATS) if times.isdigit() else 1))
        elif child.tag == _TEXT + "tab":
            parts.append("\t")
        elif child.tag == _TEXT + "line-break":
            parts.append("\n")
        elif isinstance(child.tag, str) and child.tag not in _APART:
            parts.append(_inline(child))
        parts.append(child.tail or "")
    return "".join(parts)
