"""CSV and TSV: every row becomes lines of ``column: value``, so that a row says all by itself."""

from __future__ import annotations

from collections.abc import Sequence

from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.plain import encoding_fact
from fti.pipelines.feature.reading.readers.sheets.grid import find_head, lines, record_blocks
from fti.store.delimited import Dialect, find_dialect, rows_of


def read_csv(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Comma-separated values; semicolons, tabs and bars are recognised too."""
    text, encoding = decode(data)
    return [_render(text, find_dialect(text), encoding, config)]


def read_tsv(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Tab-separated values."""
    text, encoding = decode(data)
    return [_render(text, find_dialect(text, preferred="\t"), encoding, config)]


def _render(text: str, dialect: Dialect, encoding: str, config: SourcesConfig) -> Extracted:
    if not text[dialect.start :].strip():
        return Extracted("", empty_reason="nothing but white space")
    rows: list[list[str]] = []
    for _, row in rows_of(text, dialect):
        cells = [clean_line(cell, max_characters=config.max_unpacked_bytes) for cell in row]
        if any(cells):
            rows.append(cells)
    if not rows:
        return Extracted("", empty_reason="the table has no values")
    rows = _without_blank_columns(rows)
    head = find_head(rows)
    above, body = rows[: head.lead], rows[head.lead + head.rows :]
    blocks = [lines(above)] if above else []
    if head.rows:
        below = _notes_below(body) if len(head.names) > 1 else 0
        body, notes = body[: len(body) - below], body[len(body) - below :]
        blocks += [*record_blocks(head.names, body), *([lines(notes)] if notes else [])]
        metadata = facts(rows=len(body), columns=", ".join(head.names))
    else:
        # Nothing names the columns: rows as they stand.
        blocks += [dialect.delimiter.join(row) for row in body]
        metadata = facts(rows=len(rows))
    return Extracted("\n\n".join(blocks), metadata=metadata | encoding_fact(encoding))


def _without_blank_columns(rows: Sequence[list[str]]) -> list[list[str]]:
    """The rows less the columns in which no row has a value."""
    width = max(map(len, rows))
    blank = set(range(width))
    for row in rows:
        blank -= {c for c in blank if c < len(row) and row[c]}
        if not blank:
            return list(rows)
    kept = [c for c in range(width) if c not in blank]
    return [[row[c] for c in kept if c < len(row)] for row in rows]


def _notes_below(body: Sequence[Sequence[str]]) -> int:
    """How many lines of one cell end a table: notes on it, such as its source."""
    return next((n for n, row in enumerate(reversed(body)) if len(row) > 1), len(body))
