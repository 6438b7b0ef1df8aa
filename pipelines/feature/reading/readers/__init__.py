"""Bytes of one file to text: a small function per family of formats, registered by suffix.

To add a format, write ``read(data: bytes, config: SourcesConfig) -> list[Extracted]`` in a module
here and name it in ``READERS``. A reader executes nothing, follows no reference and opens no
connection; it raises ``ExtractionError`` with a reason that a person can act on. Libraries are
imported inside the functions, so that listing the formats costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fti.pipelines.feature.reading import headings
from fti.pipelines.feature.reading.readers import json_records, notebook, plain
from fti.pipelines.feature.reading.readers.base import Attachment, Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.office import docx, opendocument, pptx, rtf
from fti.pipelines.feature.reading.readers.pages import pdf, pictures
from fti.pipelines.feature.reading.readers.sheets import csv_tables, xlsx
from fti.pipelines.feature.reading.readers.web import epub, html, mail, xml

__all__ = ["READERS", "Attachment", "Extracted", "Reader", "SourcesConfig"]


@dataclass(frozen=True, slots=True)
class Reader:
    """How files of one suffix are read, and what media type their text has.

    ``isolated``: by a parser large enough to hang or die on a hostile file, hence in a process of
    its own (``fti.pipelines.feature.reading.parsing``).
    """

    media_type: str
    read: Callable[[bytes, SourcesConfig], list[Extracted]]
    isolated: bool = False


# Suffixes of source code and of the files that configure it, by language.
_CODE = {
    "python": ".py .pyi", "javascript": ".js .mjs .cjs .jsx", "typescript": ".ts .mts .cts .tsx",
    "java": ".java", "kotlin": ".kt .kts", "scala": ".scala", "groovy": ".groovy .gradle",
    "go": ".go", "rust": ".rs", "c": ".c .h", "cpp": ".cc .cpp .cxx .hh .hpp .hxx",
    "csharp": ".cs", "swift": ".swift", "ruby": ".rb", "php": ".php", "perl": ".pl .pm",
    "lua": ".lua", "r": ".r", "julia": ".jl", "haskell": ".hs", "elixir": ".ex .exs",
    "erlang": ".erl", "clojure": ".clj", "ocaml": ".ml .mli", "dart": ".dart", "zig": ".zig",
    "shell": ".sh .bash .zsh .fish", "powershell": ".ps1", "sql": ".sql", "proto": ".proto",
    "graphql": ".graphql", "terraform": ".tf", "css": ".css .scss .less", "vue": ".vue .svelte",
    "yaml": ".yaml .yml", "toml": ".toml", "ini": ".ini .cfg .conf .properties", "latex": ".tex",
}  # fmt: skip

_PLAIN = Reader(headings.PLAIN, plain.read_plain)
_MARKDOWN = Reader(headings.MARKDOWN, plain.read_markdown)
_HTML = Reader(headings.HTML, html.read_html, isolated=True)
_DOCX = Reader(headings.DOCX, docx.read_docx, isolated=True)
_PPTX = Reader(headings.PPTX, pptx.read_pptx, isolated=True)
_XLSX = Reader(headings.XLSX, xlsx.read_xlsx, isolated=True)

#: By lower-case suffix; ``""`` stands for names without one, such as ``README``.
READERS: Mapping[str, Reader] = {
    "": _PLAIN,
    ".txt": _PLAIN,
    ".text": _PLAIN,
    ".log": _PLAIN,
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".rst": Reader(headings.RST, plain.read_rst),
    ".org": Reader(headings.ORG, plain.read_outline(headings.ORG)),
    ".html": _HTML,
    ".htm": _HTML,
    ".xhtml": _HTML,
    ".pdf": Reader(headings.PDF, pdf.read_pdf, isolated=True),
    ".docx": _DOCX,
    ".pptx": _PPTX,
    ".xlsx": _XLSX,
    ".xlsm": _XLSX,
    ".odt": Reader(headings.ODT, opendocument.read_odt, isolated=True),
    ".rtf": Reader(headings.RTF, rtf.read_rtf, isolated=True),
    ".epub": Reader(headings.EPUB, epub.read_epub, isolated=True),
    ".eml": Reader(headings.EML, mail.read_eml, isolated=True),
    ".xml": Reader(headings.XML, xml.read_xml, isolated=True),
    ".ipynb": Reader(headings.NOTEBOOK, notebook.read_notebook),
    ".csv": Reader(headings.CSV, csv_tables.read_csv),
    ".tsv": Reader(headings.TSV, csv_tables.read_tsv),
    ".jsonl": Reader(headings.JSON_LINES, json_records.read_json_lines),
    ".ndjson": Reader(headings.JSON_LINES, json_records.read_json_lines),
    ".json": Reader(headings.JSON, json_records.read_json),
    **dict.fromkeys(pictures.PICTURES, Reader(headings.PICTURE, pictures.read_picture, True)),
    **{
        suffix: Reader(headings.source_code(language), plain.read_code)
        for language, suffixes in _CODE.items()
        for suffix in suffixes.split()
    },
}
