"""PPTX: slides as sections with their texts, tables, charts and speaker notes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from fti.pipelines.feature.reading.cleaning import clean, clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading, item, join_blocks, table
from fti.pipelines.feature.reading.readers.package import inspect_package, not_whole

_MAX_WARNED = 5
_MAX_GROUPS = 20
_MAX_CHART_ROWS = 200
# What python-pptx raises over a shape that is not as the format says.
_DAMAGE = (
    AttributeError, AssertionError, IndexError, KeyError, NotImplementedError, TypeError,
    ValueError, RecursionError,
)  # fmt: skip


def read_pptx(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Text of all slides in order. A shape that cannot be read is named in the warnings.

    Raises:
        ExtractionError: not a PPTX file, truncated, encrypted, or a decompression bomb.
    """
    inspect_package(data, config, kind="PPTX", needs="[Content_Types].xml")
    presentation = _open(data)
    blocks: list[str] = []
    broken: list[str] = []
    footers: set[str] = set()
    first_title = ""
    for number, slide in enumerate(presentation.slides, start=1):
        title = _title(slide, number, broken)
        first_title = first_title or title
        blocks.append(heading(2, title or f"Slide {number}"))
        for shape in _in_reading_order(slide.shapes):
            blocks += _guarded(shape, number, broken, footers)
        blocks += _notes(slide, number, broken)
    properties = presentation.core_properties
    metadata = facts(
        slides=len(presentation.slides),
        author=properties.author,
        warnings="; ".join(broken[:_MAX_WARNED]),
    )
    title = clean_line(properties.title or "")
    if title.lower() in {"powerpoint presentation", "presentation", "untitled"}:
        title = ""
    words = any(b and not b.startswith("## Slide ") for b in blocks)
    return [
        Extracted(
            join_blocks(blocks) if words else "",
            title=title or first_title,
            metadata=metadata,
            empty_reason="no text on its slides",
        )
    ]


def _open(data: bytes) -> Any:
    import zlib

    from lxml.etree import LxmlError
    from pptx import Presentation
    from pptx.exc import PythonPptxError

    try:
        return Presentation(io.BytesIO(data))
    except (PythonPptxError, LxmlError, zipfile.BadZipFile, zlib.error, *_DAMAGE) as error:
        raise not_whole("PPTX", error) from error


def _title(slide: Any, number: int, broken: list[str]) -> str:
    try:
        shape = slide.shapes.title
        return clean_line(shape.text_frame.text) if shape is not None else ""
    except _DAMAGE as error:
        broken.append(_broken(number, error))
        return ""


def _in_reading_order(shapes: Any) -> list[Any]:
    """From top to bottom, then left to right: shapes lie in the file as they were drawn."""

    def place(shape: Any) -> tuple[int, int]:
        try:
            return shape.top or 0, shape.left or 0
        except _DAMAGE:  # without a place it comes first
            return 0, 0

    return sorted(shapes, key=place)


def _guarded(shape: Any, number: int, broken: list[str], footers: set[str]) -> list[str]:
    try:
        return list(_shape(shape, 0, footers))
    except _DAMAGE as error:
        broken.append(_broken(number, error))
        return []


def _broken(number: int, error: Exception) -> str:
    reason = clean_line(str(error) or type(error).__name__, max_characters=80)
    return f"a shape of slide {number} was not read: {reason}"


def _shape(shape: Any, depth: int, footers: set[str]) -> Iterator[str]:
    if hasattr(shape, "shapes"):  # a group
        if depth < _MAX_GROUPS:
            for inner in _in_reading_order(shape.shapes):
                yield from _shape(inner, depth + 1, footers)
    elif getattr(shape, "has_table", False):
        yield table([[cell.text for cell in row.cells] for row in shape.table.rows])
    elif getattr(shape, "has_chart", False):
        yield from _chart(shape.chart)
    elif shape.has_text_frame:
        yield from _paragraphs(shape, footers)


def _paragraphs(shape: Any, footers: set[str]) -> Iterator[str]:
    listed = False
    if shape.is_placeholder:
        kind = str(shape.placeholder_format.type).partition(" ")[0]
        if kind in {"TITLE", "CENTER_TITLE", "VERTICAL_TITLE"}:
            return  # the section's heading
        if kind == "SLIDE_NUMBER":
            return
        if kind in {"DATE", "FOOTER", "HEADER"}:  # the same on every slide: said once
            if shape.text_frame.text in footers:
                return
            footers.add(shape.text_frame.text)
        listed = kind in {"BODY", "OBJECT", "VERTICAL_BODY", "VERTICAL_OBJECT"}
    for paragraph in shape.text_frame.paragraphs:
        text = clean(paragraph.text.replace("\v", "\n")).strip()
        if text:
            yield item(paragraph.level, text) if listed or paragraph.level else text


def _chart(chart: Any) -> Iterator[str]:
    if chart.has_title and chart.chart_title.has_text_frame:
        yield clean(chart.chart_title.text_frame.text)
    for plot in chart.plots:
        series = list(plot.series)
        names = ["", *(clean_line(str(s.name or "")) for s in series)]
        rows = [names]
        for i, category in enumerate(list(plot.categories)[:_MAX_CHART_ROWS]):
            values = [s.values[i] if i < len(s.values) else None for s in series]
            rows.append([str(category), *("" if v is None else f"{v:.15g}" for v in values)])
        if len(rows) > 1:
            yield table(rows)


def _notes(slide: Any, number: int, broken: list[str]) -> Iterator[str]:
    try:
        if not slide.has_notes_slide:
            return
        frame = slide.notes_slide.notes_text_frame
        text = clean(frame.text).strip() if frame is not None else ""
    except _DAMAGE as error:
        broken.append(_broken(number, error))
        return
    if text:
        yield "### Notes"
        yield text
