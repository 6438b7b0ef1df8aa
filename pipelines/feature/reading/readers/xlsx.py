"""XLSX: sheets as sections, their tables row by row with the names of the columns repeated."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.csv_tables import names_columns, record_blocks
from fti.pipelines.feature.reading.readers.markdown import heading
from fti.pipelines.feature.reading.readers.package import inspect_package, not_whole
from fti.store.errors import ExtractionError

_DAMAGE = (
    AttributeError, AssertionError, EOFError, IndexError, KeyError, NotImplementedError, OSError,
    TypeError, ValueError, zipfile.BadZipFile,
)  # fmt: skip
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?%?")
_Row = list[str]


def read_xlsx(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """The visible sheets of a workbook: values as they were last computed, not formulas.

    Raises:
        ExtractionError: not an XLSX file, truncated, encrypted, or a decompression bomb.
    """
    inspect_package(data, config, kind="XLSX", needs="[Content_Types].xml")
    blocks: list[str] = []
    rows = 0
    read: list[str] = []
    hidden: list[str] = []
    workbook = _open(data)
    try:
        for sheet in workbook.worksheets:
            if sheet.sheet_state != "visible":
                hidden.append(sheet.title)
                continue
            read.append(sheet.title)
            found: list[str] = []
            for region in _regions(_rows(sheet, config)):
                rows += len(region)
                found += _render(region)
            if found:
                blocks += [heading(2, sheet.title), *found]
        properties = workbook.properties
    except _xml_damage() as error:
        raise not_whole("XLSX", error) from error
    finally:
        workbook.close()
    metadata = facts(
        sheets=", ".join(read),
        rows=rows,
        author=properties.creator if properties.creator != "openpyxl" else "",
        warnings=f"hidden sheets were not read: {', '.join(hidden)}" if hidden else "",
    )
    return [
        Extracted(
            "\n\n".join(filter(None, blocks)),
            title=clean_line(properties.title or ""),
            metadata=metadata,
            empty_reason="no sheet has values",
        )
    ]


def _xml_damage() -> tuple[type[Exception], ...]:
    import zlib
    from xml.etree.ElementTree import ParseError

    from lxml.etree import LxmlError
    from openpyxl.utils.exceptions import InvalidFileException

    return (*_DAMAGE, zlib.error, ParseError, LxmlError, InvalidFileException)


def _open(data: bytes) -> Any:
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about features of Excel that carry no text
        try:
            # Read-only: rows come as they are read, so that memory does not grow with the sheet.
            return openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        except _xml_damage() as error:
            raise not_whole("XLSX", error) from error


def _rows(sheet: Any, config: SourcesConfig) -> Iterator[_Row]:
    sheet.reset_dimensions()  # what a file says of its own size is often wrong
    characters = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cells in sheet.iter_rows():
            row = [_text(cell) for cell in cells]
            while row and not row[-1]:
                row.pop()
            characters += sum(map(len, row))
            if characters > config.max_unpacked_bytes:
                raise ExtractionError(
                    f"the sheet {sheet.title!r} has more than {config.max_unpacked_bytes} "
                    "characters"
                )
            yield row


def _text(cell: Any) -> str:
    """A cell's value as a person reads it in the sheet."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float | int):
        if "%" in (cell.number_format or ""):
            return f"{value * 100:.10g}%"
        return str(value) if isinstance(value, int) else f"{value:.15g}"
    if isinstance(value, datetime):
        return str(value.date() if value.time() == time(0) else value.replace(microsecond=0))
    if isinstance(value, date | time | timedelta):
        return str(value)
    return clean_line(str(value), max_characters=len(str(value)) + 1)


def _regions(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    """Runs of rows with values: what empty rows separate.

    One empty row between the names of columns and their values does not.
    """
    region: list[_Row] = []
    empty = 0
    for row in rows:
        if not row:
            empty += 1
            continue
        if region and empty and not (empty == 1 and _is_names(region[-1]) and _has_number(row)):
            yield region
            region = []
        region.append(row)
        empty = 0
    if region:
        yield region


def _render(region: Sequence[_Row]) -> list[str]:
    """Rows with one value as lines, as titles and notes are; the others as a table.

    The table's columns are named by the last row of words above the first with a number; where no
    row has one, by the first. Where that row cannot name them, rows stand as they are.
    """
    head = 0
    while head < len(region) and _filled(region[head]) <= 1:
        head += 1
    blocks = _lines(region[:head])
    table = region[head:]
    if not table:
        return blocks
    first = min(next(i for i, cell in enumerate(row) if cell) for row in table)
    table = [row[first:] for row in table]
    numbered = next((i for i, row in enumerate(table) if _has_number(row)), 0)
    at = max(numbered - 1, 0)
    while at > 0 and _filled(table[at]) <= 1:
        at -= 1
    header, body = table[at], table[at + 1 :]
    if not body or not _is_header(header, body):
        return blocks + _lines(table)
    return [*blocks, *_lines(table[:at]), *_records(header, body)]


def _lines(rows: Sequence[_Row]) -> list[str]:
    return ["\n".join(" | ".join(filter(None, row)) for row in rows)] if rows else []


def _records(header: _Row, body: Sequence[_Row]) -> list[str]:
    """A block of ``column: value`` lines for each row."""
    if header[0]:
        return record_blocks(header, body)
    # Without a name above it, the first column names the rows.
    named = ["\0", *header[1:]]
    return [block.removeprefix("\0: ") for block in record_blocks(named, body)]


def _filled(row: _Row) -> int:
    return sum(map(bool, row))


def _has_number(row: _Row) -> bool:
    return any(_NUMBER.fullmatch(cell) for cell in row)


def _is_names(row: _Row) -> bool:
    return _filled(row) >= 2 and not _has_number(row)


def _is_header(header: _Row, body: Sequence[_Row]) -> bool:
    width = max(map(len, body))
    named = sum(any(c.isalpha() for c in cell) for cell in header)
    return names_columns(header) and named >= 1 and 2 * _filled(header) >= min(width, 2 * named)
