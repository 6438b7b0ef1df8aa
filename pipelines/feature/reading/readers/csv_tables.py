"""CSV and TSV: every row becomes lines of ``column: value``, so that a row says all by itself."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.plain import encoding_fact
from fti.store.errors import ExtractionError

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 20


def read_csv(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Comma-separated values; semicolons, tabs and bars are recognised too."""
    text, encoding = decode(data)
    return [_render(text, _delimiter(text), encoding, config)]


def read_tsv(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Tab-separated values."""
    text, encoding = decode(data)
    return [_render(text, "\t", encoding, config)]


def _delimiter(text: str) -> str:
    """The character that splits the first lines into the most columns, as often in each."""
    lines = [line for line in text[: 1 << 16].splitlines() if line.strip()][:_SAMPLE_LINES]
    best, columns = ",", 1
    for delimiter in _DELIMITERS:
        widths = Counter(len(row) for row in _rows("\n".join(lines), delimiter) if row)
        width, times = widths.most_common(1)[0] if widths else (1, 0)
        if width > columns and 2 * times >= len(lines):
            best, columns = delimiter, width
    return best


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    limit = csv.field_size_limit(max(len(text), 1))
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    finally:
        csv.field_size_limit(limit)


def _render(text: str, delimiter: str, encoding: str, config: SourcesConfig) -> Extracted:
    if not text.strip():
        return Extracted("", empty_reason="nothing but white space")
    rows: list[list[str]] = []
    try:
        for row in _rows(text, delimiter):
            cells = [clean_line(cell, max_characters=config.max_unpacked_bytes) for cell in row]
            if any(cells):
                rows.append(cells)
    except csv.Error as error:
        raise ExtractionError(
            f"row {len(rows) + 1} is not CSV: {error}", hint="Export the table again as CSV."
        ) from error
    if not rows:
        return Extracted("", empty_reason="the table has no values")
    header, *body = rows
    if not body or not names_columns(header):
        # Names that repeat name nothing, and a row alone is all there is: rows as they stand.
        blocks = [delimiter.join(row) for row in rows]
        metadata = facts(rows=len(rows))
    else:
        blocks = record_blocks(header, body)
        metadata = facts(rows=len(body), columns=", ".join(c for c in header if c))
    return Extracted("\n\n".join(blocks), metadata=metadata | encoding_fact(encoding))


def names_columns(header: Sequence[str]) -> bool:
    """Whether a row can name the columns below it: no name twice."""
    names = [name or f"column {i}" for i, name in enumerate(header, start=1)]
    return len(set(names)) == len(names)


def record_blocks(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A block of ``column: value`` lines for each row; cells without a value are left out."""
    columns = [name or f"column {i}" for i, name in enumerate(header, start=1)]
    return [block for row in body if (block := _block(columns, row))]


def _block(columns: Sequence[str], row: Sequence[str]) -> str:
    names = [*columns, *(f"column {i}" for i in range(len(columns) + 1, len(row) + 1))]
    return "\n".join(f"{name}: {cell}" for name, cell in zip(names, row, strict=False) if cell)
