"""CSV and TSV: every row becomes lines of ``column: value``, so that a row says all by itself."""

from __future__ import annotations

from collections.abc import Sequence

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.plain import encoding_fact
from fti.pipelines.feature.reading.readers.sheets.grid import (
    begins_table,
    find_head,
    kind_of,
    lines,
    record_blocks,
)
from fti.store.delimited import Dialect, find_dialect, rows_of
from fti.store.plain_text import clean_line


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
    sections: list[list[list[str]]] = [[]]  # what empty rows part
    for _, row in rows_of(text, dialect):
        cells = [clean_line(cell, max_characters=config.max_unpacked_bytes) for cell in row]
        if any(cells):
            sections[-1].append(cells)
        elif sections[-1]:
            sections.append([])
    if not sections[0]:
        return Extracted("", empty_reason="the table has no values")
    blocks: list[str] = []
    columns: list[str] = []
    count = 0
    for rows in _tables(sections):
        said, names, body = _said(rows, dialect)
        blocks += said
        columns += names
        count += body
    metadata = facts(rows=count, columns=", ".join(dict.fromkeys(columns)))
    return Extracted("\n\n".join(blocks), metadata=metadata | encoding_fact(encoding))


def _tables(sections: Sequence[list[list[str]]]) -> list[list[list[str]]]:
    """The rows of each table: an empty row parts tables only where new names stand below it."""
    tables: list[list[list[str]]] = [[]]
    titles: list[list[str]] = []  # lines between tables: of the one below, if there is one
    for section in sections:
        if _only_lines(tables[-1]):
            tables[-1] += section
        elif _only_lines(section):
            titles += section
        elif _is_another(tables[-1], section):
            tables.append([*titles, *section])
            titles = []
        else:
            tables[-1] += [*titles, *section]
            titles = []
    tables[-1] += titles
    return tables


def _only_lines(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows have one value each, as titles and notes have."""
    return all(sum(map(bool, row)) <= 1 for row in rows)


def _is_another(above: Sequence[list[str]], rows: Sequence[list[str]]) -> bool:
    """Whether rows below an empty one are no more of the table above it."""
    if begins_table(_without_blank_columns(rows)):
        return True
    # Names above words: told by a width that no row of the table above has.
    lead = next(i for i, row in enumerate(rows) if sum(map(bool, row)) > 1)
    widths = {len(row) for row in rows[lead:]}
    words = all(cell and kind_of(cell) == "text" for cell in rows[lead])
    return (
        len(rows) > lead + 1
        and len(widths) == 1
        and words
        and widths.isdisjoint(len(row) for row in above if sum(map(bool, row)) > 1)
    )


def _said(rows: list[list[str]], dialect: Dialect) -> tuple[list[str], Sequence[str], int]:
    """A table as blocks, with the names of its columns and how many rows it has."""
    rows = _without_blank_columns(rows)
    head = find_head(rows)
    above, body = rows[: head.lead], rows[head.lead + head.rows :]
    blocks = [lines(above)] if above else []
    if not head.rows:
        # Nothing names the columns: rows as they stand.
        return [*blocks, *(dialect.delimiter.join(row) for row in body)], (), len(rows)
    below = _notes_below(body) if len(head.names) > 1 else 0
    body, notes = body[: len(body) - below], body[len(body) - below :]
    blocks += [*record_blocks(head.names, body), *([lines(notes)] if notes else [])]
    return blocks, head.names, len(body)


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
