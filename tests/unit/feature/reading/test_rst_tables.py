"""Tables of reStructuredText: a cell is drawn over several lines, and is read in one."""

from __future__ import annotations

import pytest

from fti.pipelines.feature.reading.readers import READERS, SourcesConfig

GRID = """\
Valves
======

+-------+--------+----------+
| Type  | Price  | Delivery |
+=======+========+==========+
| K7    | 12     | 3 weeks  |
+-------+--------+----------+
| K9    | 19     | 5 weeks, |
|       |        | by ship  |
+-------+--------+----------+

After.
"""
MERGED = """\
+-------+-----------------+
| Line  | 2025            |
|       +--------+--------+
|       | Plan   | Actual |
+-------+--------+--------+
| North | 10     | 12     |
|       +--------+--------+
|       | closed          |
+-------+-----------------+
"""
SIMPLE = """\
  =====  ======  ====
  Type   Price   Note
  =====  ======  ====
  K7     12      dry
  K9     19      dry
                 and cool, at all times
  =====  ======  ====
"""


def read(text: str) -> str:
    (found,) = READERS[".rst"].read(text.encode("utf-8"), SourcesConfig())
    return found.text


def test_the_words_of_a_cell_stand_together() -> None:
    assert read(GRID) == (
        "Valves\n======\n\n| Type | Price | Delivery |\n| --- | --- | --- |\n"
        "| K7 | 12 | 3 weeks |\n| K9 | 19 | 5 weeks, by ship |\n\nAfter.\n"
    )


def test_a_cell_over_several_rows_or_columns_stands_in_each() -> None:
    assert read(MERGED) == (
        "| Line | 2025 | 2025 |\n| --- | --- | --- |\n| Line | Plan | Actual |\n"
        "| North | 10 | 12 |\n| North | closed | closed |\n"
    )


def test_a_simple_table_is_read_by_its_columns() -> None:
    assert read(SIMPLE) == (
        "  | Type | Price | Note |\n  | --- | --- | --- |\n  | K7 | 12 | dry |\n"
        "  | K9 | 19 | dry and cool, at all times |\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "+-----+\n| box |\n+-----+\n",
        "+---+---+\n| a | b |\n",
        "+---+---+\n| a | b\n+---+---+\n",
        "=====  =====\nwords over both\n=====  =====\n",
        "=====  =====\nK7     12\n",
        "Title\n=====\n\n1 + 2 == 3\n",
    ],
)
def test_what_is_no_whole_table_stays_as_it_is(text: str) -> None:
    assert read(text) == text


def test_a_cell_over_very_many_rows_repeats_only_so_much() -> None:
    edge = "+" + "-" * 900 + "+-----+\n"
    inner = "|" + " " * 900 + "+-----+\n"
    rows = inner.join(f"|{'x' * 899 if not n else ' ' * 899} | {n:3} |\n" for n in range(900))
    assert len(read(edge + rows + edge)) < 500_000
