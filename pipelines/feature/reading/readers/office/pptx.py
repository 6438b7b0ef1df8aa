"""PPTX: slides as sections with their texts, tables, charts, diagrams, notes and comments."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from typing import Any

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading, item, join_blocks, table
from fti.pipelines.feature.reading.readers.numerals import numeral
from fti.pipelines.feature.reading.readers.office.drawings import (
    DIAGRAM,
    A,
    chart_blocks,
    diagram_items,
)
from fti.pipelines.feature.reading.readers.office.formulas import from_omml
from fti.pipelines.feature.reading.readers.office.inline import Line, Script
from fti.pipelines.feature.reading.readers.office.merged_cells import Cell, spread
from fti.pipelines.feature.reading.readers.office.symbols import with_symbols
from fti.pipelines.feature.reading.readers.office.titles import stated_title
from fti.pipelines.feature.reading.readers.package import inspect_package, not_whole
from fti.pipelines.feature.reading.readers.web.xml import local_name, parse_xml
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean, clean_line

_MAX_WARNED = 5
_MAX_GROUPS = 20
_MAX_SPANS = 60
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_SHAPES = frozenset({"sp", "grpSp", "graphicFrame", "cxnSp", "pic"})
_TITLES = frozenset({"TITLE", "CENTER_TITLE", "VERTICAL_TITLE"})
# How automatic numbers of paragraphs are named: what they count in, and what stands around them.
_COUNTED = {
    "arabic": "decimal", "alphaLc": "lowerLetter", "alphaUc": "upperLetter",
    "romanLc": "lowerRoman", "romanUc": "upperRoman", "circleNumDb": "decimalEnclosedCircle",
}  # fmt: skip
_AROUND = {"Period": "{}.", "ParenR": "{})", "ParenBoth": "({})", "Plain": "{}", "Minus": "- {} -"}


@cache
def _damage() -> tuple[type[Exception], ...]:
    """What python-pptx raises over a shape that is not as the format says."""
    from lxml.etree import LxmlError
    from pptx.exc import PythonPptxError

    return (
        AttributeError, AssertionError, IndexError, KeyError, NotImplementedError, TypeError,
        ValueError, RecursionError, LxmlError, PythonPptxError,
    )  # fmt: skip


def read_pptx(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Text of all slides in order. A shape that cannot be read is named in the warnings.

    Raises:
        ExtractionError: not a PPTX file, truncated, encrypted, or a decompression bomb.
    """
    inspect_package(data, config, kind="PPTX", needs="[Content_Types].xml")
    presentation = _open(data)
    try:
        slides = list(presentation.slides)
        properties = presentation.core_properties
    except _damage() as error:
        raise not_whole("PPTX", error) from error
    blocks: list[str] = []
    broken: list[str] = []
    footers: set[str] = set()
    first_title = ""
    for number, slide in enumerate(slides, start=1):
        try:
            _settle_choices(slide)
            title = _title(slide, number, broken)
            first_title = first_title or title
            blocks.append(heading(2, title or f"Slide {number}"))
            for shape in _in_reading_order(slide.shapes):
                blocks += _guarded(shape, number, broken, footers)
            blocks += _notes(slide, number, broken)
            blocks += _comments(slide)
        except _damage() as error:
            broken.append(_broken(number, error))
    metadata = facts(
        slides=len(slides),
        author=properties.author,
        warnings="; ".join(broken[:_MAX_WARNED]),
    )
    title = stated_title(properties.title)
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

    from pptx import Presentation

    unusable: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, *_damage())
    try:
        return Presentation(io.BytesIO(data))
    except unusable as error:
        raise not_whole("PPTX", error) from error


def _settle_choices(slide: Any) -> None:
    """Put the first form of a thing with shapes (or else the last) in the place of all its forms.

    A shape with a formula in it stands in such a choice, which python-pptx does not look into.
    """
    for choice in list(slide.element.iter(_MC + "AlternateContent")):
        parent = choice.getparent()
        if parent is None or local_name(parent) not in ("spTree", "grpSp"):
            continue
        options = [*choice.iterchildren(_MC + "Choice"), *choice.iterchildren(_MC + "Fallback")]
        holds = (o for o in options if any(local_name(c) in _SHAPES for c in o.iterchildren()))
        chosen = next(holds, None)
        for child in list(chosen.iterchildren()) if chosen is not None else ():
            choice.addprevious(child)
        parent.remove(choice)


def _title(slide: Any, number: int, broken: list[str]) -> str:
    try:
        shape = slide.shapes.title
        return clean_line(_text(shape.text_frame._txBody)) if shape is not None else ""
    except _damage() as error:
        broken.append(_broken(number, error))
        return ""


def _in_reading_order(shapes: Any) -> list[Any]:
    """From top to bottom, then left to right: shapes lie in the file as they were drawn."""

    def place(shape: Any) -> tuple[int, int]:
        try:
            return shape.top or 0, shape.left or 0
        except _damage():  # without a place it comes first
            return 0, 0

    return sorted(shapes, key=place)


def _guarded(shape: Any, number: int, broken: list[str], footers: set[str]) -> list[str]:
    try:
        return list(_shape(shape, 0, footers))
    except _damage() as error:
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
        yield table(spread(_row(row) for row in shape._element.iter(A + "tr")))
    elif getattr(shape, "has_chart", False):
        yield from chart_blocks(shape.chart._chartSpace)
    elif shape.has_text_frame:
        yield from _paragraphs(shape, footers)
    else:
        yield from _diagram(shape)


def _row(row: Any) -> Iterator[Cell]:
    for cell in row.iterchildren(A + "tc"):
        body = next((c for c in cell.iterchildren() if local_name(c) == "txBody"), None)
        text = " ".join(_text(body).split()) if body is not None else ""
        span = cell.get("gridSpan") or "1"
        followed = (after := cell.getnext()) is not None and after.get("hMerge") in (
            "1",
            "true",
        )  # the cells that it covers are there, as they are meant to be
        wide = 1 if followed or not span.isdecimal() else min(int(span[:4]), _MAX_SPANS)
        above, left = (cell.get(name) in ("1", "true") for name in ("vMerge", "hMerge"))
        yield Cell(text, columns=wide, above=above, left=left)


def _diagram(shape: Any) -> Iterator[str]:
    for reference in shape._element.iter(DIAGRAM + "relIds"):
        part = shape.part.related_part(reference.get(_R + "dm"))
        try:
            yield from diagram_items(parse_xml(part.blob))
        except ExtractionError as error:
            raise ValueError(error.message) from error


def _paragraphs(shape: Any, footers: set[str]) -> Iterator[str]:
    listed = False
    body = shape.text_frame._txBody
    if shape.is_placeholder:
        kind = str(shape.placeholder_format.type).partition(" ")[0]
        if kind in _TITLES:
            return  # the section's heading
        if kind == "SLIDE_NUMBER":
            return
        if kind in {"DATE", "FOOTER", "HEADER"}:  # the same on every slide: said once
            text = _text(body)
            if text in footers:
                return
            footers.add(text)
        listed = kind in {"BODY", "OBJECT", "VERTICAL_BODY", "VERTICAL_OBJECT"}
    numbers = _Numbers(body)
    for paragraph in body.iterchildren(A + "p"):
        text = clean(_line(paragraph).text()).strip()
        if not text:
            continue
        level = _level(paragraph)
        mark = numbers.mark(paragraph, level)
        if mark is None:
            mark = "-" if listed or level else ""
        yield item(level, text, mark) if mark else text


class _Numbers:
    """Counts the paragraphs of one text frame."""

    def __init__(self, body: Any) -> None:
        self._styles = body.find(A + "lstStyle")
        self._counts: dict[int, tuple[str, int]] = {}

    def mark(self, paragraph: Any, level: int) -> str | None:
        """A number, ``-``, nothing for what has no bullet, or None where it is not said."""
        for deeper in [one for one in self._counts if one > level]:
            del self._counts[deeper]
        bullet = self._bullet(paragraph, level)
        if bullet is None or local_name(bullet) != "buAutoNum":
            self._counts.pop(level, None)
            return None if bullet is None else "" if local_name(bullet) == "buNone" else "-"
        form, start = bullet.get("type") or "arabicPeriod", bullet.get("startAt") or "1"
        kind = f"{form} {start}"
        before = self._counts.get(level)
        first = int(start) if start.isdecimal() and len(start) < 7 else 1
        number = before[1] + 1 if before and before[0] == kind else first
        self._counts[level] = kind, number
        counted = next((c for c in _COUNTED if form.startswith(c)), "arabic")
        around = next((a for a in _AROUND if form.endswith(a)), "Period")
        return _AROUND[around].format(numeral(number, _COUNTED[counted]))

    def _bullet(self, paragraph: Any, level: int) -> Any | None:
        own = paragraph.find(A + "pPr")
        style = self._styles.find(f"{A}lvl{level + 1}pPr") if self._styles is not None else None
        for properties in (own, style):
            for child in properties.iterchildren() if properties is not None else ():
                if local_name(child) in ("buAutoNum", "buNone", "buChar", "buBlip"):
                    return child
        return None


def _level(paragraph: Any) -> int:
    properties = paragraph.find(A + "pPr")
    level = (properties.get("lvl") or "0") if properties is not None else "0"
    return min(int(level), 8) if level.isdecimal() and len(level) < 3 else 0


def _text(body: Any) -> str:
    """All paragraphs of a text body, each on its line."""
    return "\n".join(_line(paragraph).text() for paragraph in body.iterchildren(A + "p"))


def _line(parent: Any) -> Line:
    """The text of a paragraph, with formulas, and with raised and lowered characters apart."""
    line = Line()
    for child in parent.iterchildren():
        if child.tag in (A + "r", A + "fld"):
            properties = child.find(A + "rPr")
            line.add(_run_text(child, properties), _script(properties))
        elif child.tag == A + "br":
            line.add("\n")
        elif child.tag in (_M + "oMath", _M + "oMathPara"):
            line.add(from_omml(child))
        elif child.tag == _MC + "AlternateContent":
            for option in child.iterchildren(_MC + "Choice", _MC + "Fallback"):
                if inner := _line(option):
                    line.extend(inner)
                    break
        elif local_name(child) == "m":  # where PowerPoint puts formulas
            line.extend(_line(child))
    return line


def _run_text(run: Any, properties: Any | None) -> str:
    text = (run.findtext(A + "t") or "").replace("\v", "\n")
    font = properties.find(A + "sym") if properties is not None else None
    return with_symbols(text, (font.get("typeface") or "") if font is not None else "")


def _script(properties: Any | None) -> Script:
    baseline = (properties.get("baseline") or "0") if properties is not None else "0"
    if baseline.strip("0%") == "":
        return ""
    return "_" if baseline.startswith("-") else "^"


def _notes(slide: Any, number: int, broken: list[str]) -> Iterator[str]:
    try:
        if not slide.has_notes_slide:
            return
        frame = slide.notes_slide.notes_text_frame
        text = clean(_text(frame._txBody)).strip() if frame is not None else ""
    except _damage() as error:
        broken.append(_broken(number, error))
        return
    if text:
        yield "### Notes"
        yield text


def _comments(slide: Any) -> Iterator[str]:
    """What was remarked on a slide and is not settled."""
    for relation in slide.part.rels.values():
        if relation.is_external or not relation.reltype.endswith("/comments"):
            continue
        try:
            root = parse_xml(relation.target_part.blob)
        except ExtractionError:
            continue
        except _damage():
            continue
        for comment in root.iterchildren("*"):
            if comment.get("status") in ("resolved", "closed"):
                continue
            words = (e.text or "" for e in comment.iter() if local_name(e) in ("t", "text"))
            if text := clean_line(" ".join(words), max_characters=2000):
                yield f"(comment: {text})"
