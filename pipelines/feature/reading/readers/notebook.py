"""Jupyter notebooks: their prose as it is, their code in fences; outputs are left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fti.pipelines.feature.reading.headings import MARKDOWN
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.markdown import (
    fenced,
    heading,
    join_blocks,
    without_comments,
)
from fti.pipelines.feature.reading.readers.plain import first_heading
from fti.store.errors import ExtractionError


def read_notebook(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Cells in order, of notebook formats 3 and 4.

    Raises:
        ExtractionError: not JSON, or no notebook.
    """
    text, _ = decode(data)
    if not text.strip():
        return [Extracted("", empty_reason="nothing but white space")]
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExtractionError(f"the notebook is not JSON: {error}") from error
    cells = _cells(notebook)
    metadata = _mapping(notebook.get("metadata"))
    language = _language(metadata)
    blocks = [_block(_mapping(cell), language) for cell in cells]
    rendered = join_blocks([b for b in blocks if b.strip()])
    title = metadata.get("title")
    return [
        Extracted(
            rendered,
            title=title if isinstance(title, str) else first_heading(rendered, MARKDOWN),
            metadata=facts(language=language, cells=len(cells)),
            empty_reason="no cell has text",
        )
    ]


def _cells(notebook: object) -> list[Any]:
    if isinstance(notebook, dict):
        cells = notebook.get("cells")
        if cells is None:  # format 3
            sheets = notebook.get("worksheets")
            first = _mapping(sheets[0]) if isinstance(sheets, list) and sheets else {}
            cells = first.get("cells")
        if isinstance(cells, list):
            return cells
    raise ExtractionError("the file is JSON but no notebook: it has no list of cells")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _language(metadata: Mapping[str, Any]) -> str:
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        language = _mapping(metadata.get(key)).get(name)
        if isinstance(language, str) and language.replace("+", "").replace("#", "").isalnum():
            return language
    return "python"


def _block(cell: Mapping[str, Any], language: str) -> str:
    source = cell.get("source", cell.get("input", ""))
    lines = source if isinstance(source, list) else [source]
    text = "".join(line for line in lines if isinstance(line, str)).strip("\n")
    kind = cell.get("cell_type")
    if kind == "code":
        return fenced(text, language)
    if kind == "heading":
        level = cell.get("level")
        return heading(level if isinstance(level, int) else 1, text)
    return without_comments(text) if kind == "markdown" else text
