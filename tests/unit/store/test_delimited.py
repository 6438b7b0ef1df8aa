"""What parts the columns of tables, however they were written."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti.store.delimited import Dialect, find_dialect, numbered, read_table, rows_of
from fti.store.errors import InvalidCases

WORDS = "Lamp Desk rope nails likes tea milk cable Grün Saw Berlin note of the 3 May".split()


def rows(text: str) -> list[list[str]]:
    return [row for _, row in rows_of(text, find_dialect(text))]


def written(table: list[list[str]], delimiter: str, line_end: str = "\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=line_end).writerows(table)
    return out.getvalue()


def a_cell(rng: random.Random) -> str:
    word = lambda: rng.choice(WORDS)  # noqa: E731
    return rng.choice(
        [
            lambda: f"{rng.randrange(1000)},{rng.randrange(100):02d}",
            lambda: str(rng.randrange(10_000)),
            lambda: f"{rng.randrange(1, 29):02d}.{rng.randrange(1, 13):02d}.2024",
            lambda: f"{word()}, {word()}",
            lambda: f'{word()} "{word()}" {word()}',
            lambda: f"{word()}\n{word()}",
            lambda: f"{word()}{rng.choice(';|,')}{word()}",
            lambda: "",
            lambda: " ".join(word() for _ in range(rng.randrange(1, 6))),
        ]
    )()


def a_table(rng: random.Random) -> list[list[str]]:
    width = rng.randrange(2, 8)
    header = [f"{rng.choice(WORDS)} {chr(65 + i)}" for i in range(width)]
    body = [[a_cell(rng) for _ in range(width)] for _ in range(rng.randrange(1, 30))]
    return [header, *([row[0] or WORDS[0], *row[1:]] for row in body)]


def test_random_tables_come_back_as_they_were_written() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        table = a_table(rng)
        text = written(table, rng.choice(",;\t|"), rng.choice(["\n", "\r\n"]))
        assert rows(text) == table, (seed, text)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.text("ab1,;|\t\"\n .é'", min_size=0, max_size=12), min_size=3, max_size=3),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(",;\t|"),
)
def test_any_cells_come_back_below_a_plain_header(body: list[list[str]], delimiter: str) -> None:
    table = [["first", "second", "third"], *([f"x{row[0]}", *row[1:]] for row in body)]
    assert rows(written(table, delimiter)) == table


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_has_a_dialect_that_reads_it(text: str) -> None:
    list(rows_of(text, find_dialect(text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Item;Price\nLamp;12,50\nDesk;99,00\n", [["Item", "Price"], ["Lamp", "12,50"]]),
        ("Min;Max\n1,5;2,5\n3,5;4,5\n", [["Min", "Max"], ["1,5", "2,5"]]),
        ("Name;Note\nAnn;likes tea, milk\nBob;rum, ice\n", [["Name", "Note"]]),
        ("Name|Note\nAnn|likes tea, milk, rum\nBob|ice\n", [["Name", "Note"]]),
        ("Name\tPrice, EUR\nAnn\t1,5\nBob\t2,5\n", [["Name", "Price, EUR"], ["Ann", "1,5"]]),
        ('"A;B";C\n"x;\ny";1\n', [["A;B", "C"], ["x;\ny", "1"]]),
        ("a,b\n1,2,3\n", [["a", "b"], ["1", "2", "3"]]),
        ("A,B\rx,y\r", [["A", "B"], ["x", "y"]]),
    ],
)  # fmt: skip
def test_the_delimiter_gives_every_line_one_width(text: str, expected: list[list[str]]) -> None:
    assert rows(text)[: len(expected)] == expected


@pytest.mark.parametrize(
    "text",
    ["Note\nlikes tea, milk\nlikes rum, ice\n", "Price\n12,50\n99,00\n", "Name\nAnn\nBob\n",
     "Tags\nred;green\nblue\nred;blue;grey\n", "Title\nSaw\nSaw|nails\n"],
)  # fmt: skip
def test_one_column_stays_one(text: str) -> None:
    assert rows(text) == [[line] for line in text.splitlines()]


@pytest.mark.parametrize(
    "line", ["sep=;\n", "\ufeffsep=;\r\n", '"sep=;"\n', "SEP=;\n", "sep=;,,\n"]
)
def test_a_line_that_says_the_delimiter_is_obeyed_and_no_row(line: str) -> None:
    assert rows(line + "A,1;B\n1,5;2\n") == [["A,1", "B"], ["1,5", "2"]]


def test_lines_above_the_header_do_not_choose_the_delimiter() -> None:
    text = "Umsatz 2024, vorläufig\n\nItem;Price\nLamp;12,50\nDesk;99,00\n"
    assert rows(text)[2:] == [["Item", "Price"], ["Lamp", "12,50"], ["Desk", "99,00"]]


def test_a_quote_that_never_closes_swallows_no_rows() -> None:
    text = 'Size;Name\n6";Pipe\n"odd;Thing\nlast;Tube\n'
    assert rows(text)[1:] == [['6"', "Pipe"], ['"odd', "Thing"], ["last", "Tube"]]


def test_a_promised_delimiter_counts_where_it_is_there() -> None:
    assert find_dialect("a\tb,c\n", preferred="\t").delimiter == "\t"
    assert find_dialect("a,b\nc,d\n", preferred="\t").delimiter == ","


def test_long_cells_are_read_whatever_the_module_allows() -> None:
    assert len(rows(f"a,b\n{'x' * 300_000},1\n")[1][0]) == 300_000


def test_names_are_each_there_once() -> None:
    assert numbered(["Phone", "", "Phone", "Phone 2", "Phone"]) == [
        "Phone", "column 2", "Phone 3", "Phone 2", "Phone 4"
    ]  # fmt: skip


# Tables of named columns


def table(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_rows_are_read_by_name_below_a_title(tmp_path: Path) -> None:
    path = table(tmp_path, "Export of May\n\nquestion;id\nWhat, now?;1\n\n;2\n")

    assert list(read_table(path, needs=("id", "question"))) == [
        (4, {"question": "What, now?", "id": "1"}),
        (6, {"question": "", "id": "2"}),
    ]


def test_needed_columns_say_more_than_widths(tmp_path: Path) -> None:
    path = table(tmp_path, "id,question\n1;a;b\n2;c;d\n")

    assert [row["id"] for _, row in read_table(path, needs=("id", "question"))] == [
        "1;a;b",
        "2;c;d",
    ]


def test_unicode_text_of_excel_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, "id\tquestion\n1\tWo?\n".encode("utf-16"), "t.tsv")

    assert [row for _, row in read_table(path)] == [{"id": "1", "question": "Wo?"}]


def test_what_is_wrong_with_a_table_is_said_with_its_delimiter(tmp_path: Path) -> None:
    path = table(tmp_path, "id;question\n1;a;b\n")

    with pytest.raises(InvalidCases, match=r"Line 2 .* more fields") as caught:
        list(read_table(path, needs=("id", "question")))
    assert "a semicolon in double quotes" in caught.value.hint
    with pytest.raises(InvalidCases, match="has no column 'answers'"):
        list(read_table(path, needs=("answers",)))


def test_nothing_is_a_dialect_of_one_column() -> None:
    assert find_dialect("") == Dialect()
