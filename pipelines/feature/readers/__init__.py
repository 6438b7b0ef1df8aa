"""Bytes of one file to text: a small function per family of formats, registered by suffix.

To add a format, write ``read(data: bytes, config: SourcesConfig) -> list[Extracted]`` in a module
here and name it in ``READERS``. A reader executes nothing, follows no reference and opens no
connection; it raises ``ExtractionError`` with a reason that a person can act on. Libraries are
imported inside the functions, so that listing the formats costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipelines.feature import headings
from pipelines.feature.readers import docx, html, pdf, plain, records, tables
from pipelines.feature.readers.base import Extracted, SourcesConfig

__all__ = ["READERS", "Extracted", "Reader", "SourcesConfig"]


@dataclass(frozen=True, slots=True)
class Reader:
    """How files of one suffix are read, and what media type their text has."""

    media_type: str
    read: Callable[[bytes, SourcesConfig], list[Extracted]]


_PLAIN = Reader(headings.PLAIN, plain.read_plain)
_MARKDOWN = Reader(headings.MARKDOWN, plain.read_markdown)
_HTML = Reader(headings.HTML, html.read_html)

#: By lower-case suffix; ``""`` stands for names without one, such as ``README``.
READERS: Mapping[str, Reader] = {
    "": _PLAIN,
    ".txt": _PLAIN,
    ".text": _PLAIN,
    ".log": _PLAIN,
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".rst": Reader(headings.RST, plain.read_outline(headings.RST)),
    ".org": Reader(headings.ORG, plain.read_outline(headings.ORG)),
    ".html": _HTML,
    ".htm": _HTML,
    ".xhtml": _HTML,
    ".pdf": Reader(headings.PDF, pdf.read_pdf),
    ".docx": Reader(headings.DOCX, docx.read_docx),
    ".csv": Reader(headings.CSV, tables.read_csv),
    ".tsv": Reader(headings.TSV, tables.read_tsv),
    ".jsonl": Reader(headings.JSON_LINES, records.read_json_lines),
    ".ndjson": Reader(headings.JSON_LINES, records.read_json_lines),
    ".json": Reader(headings.JSON, records.read_json),
}
