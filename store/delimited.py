"""Text of rows and columns (CSV, TSV and their kin): what parts its columns, and its rows.

No two programs write such files alike. The delimiter is not asked for but found: it is the one that
gives every line, the header included, the same number of columns. Everything that reads such files
reads them by this module: documents, questions, cases and conversations.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from fti.store.errors import InvalidCases

#: What may part columns. Of several that do so equally well the first one counts: a comma stands
#: in texts and numbers too, a tab hardly ever.
DELIMITERS = "\t;|,"

_SAMPLE_CHARACTERS = 1 << 16
_SAMPLE_ROWS = 200
_MAX_LEAD = 20  # lines above the header, at most
_NO_TABLE = 0.5  # less than this share of lines of one width is no table
_EVEN_BELOW_LEAD = 0.75
_SEVERAL = 0.1  # what it costs to be told by several tables
_FEW_NAMES = 12
_SEP_LINE = re.compile(r'"?sep=(?P<delimiter>[^\w\s"]|\t)"?[,;|\t]*(?:\r\n?|\n|\Z)', re.I)
_BYTE_ORDER_MARK = "\ufeff"
_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text writes its rows.

    Args:
        delimiter: what parts the columns.
        quoting: whether quotes around a cell hold it together; where False, a quote is a character
            like others.
        start: offset of the first row: behind a byte-order mark and a ``sep=`` line.
    """

    delimiter: str = ","
    quoting: bool = True
    start: int = 0


def find_dialect(text: str, *, preferred: str = "") -> Dialect:
    """How ``text`` writes its rows, judged by its beginning.

    A ``sep=`` line, which Excel writes and obeys, decides. Lines above the header, such as a title,
    may have other widths. A text of one column has the dialect of CSV.

    Args:
        text: decoded; a byte-order mark may stand before it.
        preferred: the delimiter that the file's suffix promises; it counts where it stands in the
            text at all.
    """
    start = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
    if said := _SEP_LINE.match(text, start):
        delimiter, start = said["delimiter"], said.end()
        sample, whole = _sample(text, start)
        return Dialect(delimiter, _judge(sample, delimiter, whole=whole).quoting, start)
    sample, whole = _sample(text, start)
    if preferred and preferred in sample:
        return Dialect(preferred, _judge(sample, preferred, whole=whole).quoting, start)
    if not sample.strip(DELIMITERS + '" \r\n'):
        return Dialect(start=start)
    best, found = _NO_TABLE, Dialect(start=start)
    for delimiter in DELIMITERS:
        if delimiter not in sample:
            continue
        judged = _judge(sample, delimiter, whole=whole)
        if judged.score > best:
            best, found = judged.score, Dialect(delimiter, judged.quoting, start)
    if best <= _NO_TABLE:
        if uneven := _of_header(sample, whole=whole):
            return Dialect(uneven, _judge(sample, uneven, whole=whole).quoting, start)
        # One column, whose commas belong to its texts: a delimiter that the text does not hold.
        return Dialect(_absent(sample), _judge(sample, ",", whole=whole).quoting, start)
    return found


def rows_of(
    text: str, dialect: Dialect, *, strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of the line it ends on; blank lines are rows without cells.

    Raises:
        csv.Error: with ``strict``, a quote is not closed, or text follows a closing quote.
    """
    # The module's limit on a cell is one for all threads. It is only ever raised: whoever lowered
    # it again would cut off whoever reads beside him.
    if csv.field_size_limit() < len(text):
        csv.field_size_limit(len(text))
    above = text.count("\n", 0, dialect.start)
    reader = csv.reader(
        io.StringIO(text[dialect.start :] if dialect.start else text, newline=""),
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quoting else csv.QUOTE_NONE,
        strict=strict and dialect.quoting,
    )
    for row in reader:
        yield above + reader.line_num, row


def read_table(
    path: Path, *, needs: Collection[str] = ()
) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Rows of a file by the names of their columns, with the numbers of their lines.

    Lines above the header are passed over: the header is the first row with all the columns that
    are needed, else the first row. A row that is shorter than the header has None for the rest.

    Args:
        path: of a ``.csv`` or ``.tsv`` file in UTF-8, or in UTF-16 or UTF-32 with its mark.
        needs: columns that must be there.

    Raises:
        InvalidCases: it cannot be read, lacks a column, or a row has more cells than the header.
    """
    text = _text_of(path)
    preferred = "\t" if path.suffix.lower() == ".tsv" else ""
    dialect = _with_columns(text, find_dialect(text, preferred=preferred), needs)
    if dialect.delimiter != "\t":
        # A quote that does not close is a fault to mend here: rows are asked and answered one by
        # one. Files with tabs often write quotes that mean nothing.
        dialect = replace(dialect, quoting=True)
    try:
        rows = [
            (number, row)
            for number, row in rows_of(text, dialect, strict=True)
            if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise _unreadable(path, str(error)) from error
    at = _header(rows, needs) or 0
    names = _names(rows[at][1]) if rows else []
    for column in needs:
        if column not in names:
            raise InvalidCases(
                f"{str(path)!r} has no column {column!r}; its columns are: "
                f"{', '.join(names[:_FEW_NAMES]) or 'none'}.",
                hint=f"Its first row must name the columns {' and '.join(needs)}.",
            )
    named = [(i, name) for i, name in enumerate(names) if name]
    for number, row in rows[at + 1 :]:
        if any(cell.strip() for cell in row[len(names) :]):
            raise InvalidCases(
                f"Line {number} of {str(path)!r} has more fields than the header.",
                hint=f"Put a field that holds {_called(dialect.delimiter)} in double quotes.",
            )
        yield number, {name: row[i] if i < len(row) else None for i, name in named}


def numbered(names: Sequence[str]) -> list[str]:
    """Names of columns, each once: what has none is ``column 3``, the second of a name ``name 2``.

    A number that is another column's name already is passed over.
    """
    taken = set(names)
    seen: Counter[str] = Counter()
    found = []
    for place, name in enumerate(names, start=1):
        name = name or f"column {place}"
        seen[name] += 1
        unique = name
        while seen[name] > 1 and (unique == name or unique in taken):
            unique = f"{name} {seen[name]}"
            seen[name] += unique in taken
        taken.add(unique)
        found.append(unique)
    return found


def _header(rows: Sequence[tuple[int, Sequence[str]]], needs: Collection[str]) -> int | None:
    """Which of the first rows names all the columns that are needed."""
    first = rows[: _MAX_LEAD + 1]
    return next((i for i, (_, row) in enumerate(first) if set(needs) <= set(_names(row))), None)


def _with_columns(text: str, found: Dialect, needs: Collection[str]) -> Dialect:
    """The dialect that was found, or another under which the needed columns are there."""
    sample, whole = _sample(text, found.start)
    others = [
        Dialect(delimiter, _judge(sample, delimiter, whole=whole).quoting, found.start)
        for delimiter in DELIMITERS
        if delimiter in sample and delimiter != found.delimiter
    ]
    for dialect in (found, *others):
        rows = rows_of(sample, Dialect(dialect.delimiter, dialect.quoting))
        filled = [(n, row) for n, row in rows if any(map(str.strip, row))]
        if _header(filled, needs) is not None:
            return dialect
    return found


@dataclass(frozen=True, slots=True)
class _Judged:
    score: float
    quoting: bool


def _sample(text: str, start: int) -> tuple[str, bool]:
    """The beginning of a text up to the end of a line, and whether that is all of it."""
    end = start + _SAMPLE_CHARACTERS
    if end >= len(text):
        return text[start:], True
    cut = max(text.rfind("\n", start, end), text.rfind("\r", start, end)) + 1
    return text[start : cut or end], False


def _judge(sample: str, delimiter: str, *, whole: bool) -> _Judged:
    """How well a delimiter tells columns apart, and whether quotes hold cells together under it."""
    rows, sound = _strictly(sample, delimiter, whole=whole)
    if sound or '"' not in sample:
        return _Judged(_evenness(rows, delimiter), quoting=True)
    # A quote that does not close, or stands at the beginning of a cell for its own sake.
    plain = _leniently(sample, delimiter, False)
    quoted = _evenness(_leniently(sample, delimiter, True), delimiter)
    unquoted = _evenness(plain, delimiter)
    opened = [cell for row in plain for cell in row if cell.startswith('"')]
    closed = sum(len(cell) > 1 and cell.endswith('"') for cell in opened)
    quoting = quoted > unquoted or (quoted == unquoted and 2 * closed > len(opened))
    return _Judged(0.7 * max(quoted, unquoted), quoting)


def _strictly(sample: str, delimiter: str, *, whole: bool) -> tuple[list[list[str]], bool]:
    rows: list[list[str]] = []
    try:
        for _, row in rows_of(sample, Dialect(delimiter), strict=True):
            rows.append(row)
            if len(rows) >= _SAMPLE_ROWS:
                break
    except csv.Error as error:
        # A sample may end within a cell; a whole text must not.
        return rows, not whole and bool(rows) and "unexpected end" in str(error)
    return rows, True


def _leniently(sample: str, delimiter: str, quoting: bool) -> list[list[str]]:
    rows = []
    for _, row in rows_of(sample, Dialect(delimiter, quoting)):
        rows.append(row)
        if len(rows) >= _SAMPLE_ROWS:
            break
    return rows


def _evenness(rows: Sequence[Sequence[str]], delimiter: str) -> float:
    """The share of rows that have the commonest width, of those from the first such row on.

    0 where that is one column, or where the delimiter reads as punctuation.
    """
    whole = _evenness_of(rows, delimiter)
    tables = _apart(rows)
    if whole == 1 or len(tables) < 2:
        return whole
    # Several tables in one file, below one another: each has a width of its own.
    count = sum(map(len, tables))
    parts = sum(len(table) * _evenness_of(table, delimiter) for table in tables) / count
    return max(whole, parts - _SEVERAL)


def _apart(rows: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    """What empty rows part, each of more than one row."""
    parts: list[list[Sequence[str]]] = [[]]
    for row in rows:
        if any(map(str.strip, row)):
            parts[-1].append(row)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if len(part) > 1]


def _evenness_of(rows: Sequence[Sequence[str]], delimiter: str) -> float:
    filled = [row for row in rows if any(map(str.strip, row))]
    widths = Counter(len(row) for row in filled if len(row) > 1)
    if not widths:
        return 0.0
    width = max(widths, key=lambda w: (widths[w], w == len(filled[0]), w))
    lead = next(i for i, row in enumerate(filled) if len(row) == width)
    table = filled[lead:]
    share = widths[width] / len(table)
    if lead and (len(table) < 2 or share < _EVEN_BELOW_LEAD):
        return 0.0  # a column of lists below its name, rather than a table below a title
    if (lead or share < 1) and _is_punctuation([r for r in table if len(r) == width], delimiter):
        return 0.0
    # Lines above the header are seldom; a delimiter that explains all lines explains more.
    return share - (0.1 + 0.01 * min(lead, _MAX_LEAD) if lead else 0.0)


def _of_header(sample: str, *, whole: bool) -> str:
    """What parts the first line, where most lines have as many columns or more; empty if none."""
    for delimiter in DELIMITERS:
        if delimiter not in sample:
            continue
        rows = [r for r in _leniently(sample, delimiter, True) if any(map(str.strip, r))]
        width = len(rows[0]) if rows else 0
        enough = sum(len(row) >= width for row in rows) > _NO_TABLE * len(rows)
        if width > 1 and enough and not _is_punctuation(rows[:1], delimiter):
            return delimiter
    return ""


def _is_punctuation(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Whether a delimiter stands in rows as it does in sentences and numbers."""
    joints = [(a, b) for row in rows for a, b in pairwise(row)]
    spaced = sum(b[:1] == " " and a[-1:] not in ("", " ") for a, b in joints)
    if 2 * spaced >= len(joints):
        return True
    decimal = sum(a[-1:].isdigit() and b[:1].isdigit() for a, b in joints)
    return delimiter == "," and len(rows[0]) == 2 and decimal == len(joints)


def _absent(sample: str) -> str:
    """A delimiter that the text does not hold; a comma where it holds all of them."""
    return next((d for d in (",", "\t", "\x1f", "\x1e") if d not in sample), ",")


def _names(row: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in row]


def _called(delimiter: str) -> str:
    names: dict[str, Literal["a comma", "a semicolon", "a tab", "a bar"]] = {
        ",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar",
    }  # fmt: skip
    return names.get(delimiter, repr(delimiter))


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    wide = data.startswith(_WIDE_MARKS[:2]), data.startswith(_WIDE_MARKS[2:])
    encoding = "utf-32" if wide[0] else "utf-16" if wide[1] else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, why: str) -> InvalidCases:
    return InvalidCases(
        f"{str(path)!r} cannot be read: {why}.", hint="Name an existing file, saved as UTF-8."
    )
