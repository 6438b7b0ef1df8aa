"""Tables and columns of PDFs, by where their words and lines stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.base import OcrConfig
from fti.pipelines.feature.reading.readers.pages.pdf import read_pdf
from tests.support.documents import a_drawn_pdf, shown

LEFT = (
    "The committee met in the blue",
    "room on Tuesday and voted to",
    "raise the yearly fee from 40",
    "to 55 crowns for members who",
    "live in the town itself.",
    "Guests pay nothing at all but",
    "must sign the visitors book.",
    "Dogs have to wait outside.",
)
RIGHT = (
    "The boat house is closed from",
    "October to April. The key is",
    "kept by Mrs Lind at number 9",
    "and must be given back before",
    "seven in the evening. Whoever",
    "loses it pays for a new lock.",
    "Oars are in the loft above the",
    "workshop, behind the canvas.",
)
FERRIES = (
    ("Route", "Price", "Hours"),
    ("Husum to Amrum", "14.50", "2"),
    ("Dagebüll to Föhr", "9.00", "1"),
    ("Büsum to Helgoland", "31.00", "3"),
)


def pdf(*pages: str, rotate: int = 0) -> Extracted:
    config = SourcesConfig(ocr=OcrConfig(enabled=False))
    (found,) = read_pdf(a_drawn_pdf(*pages, rotate=rotate), config)
    return found


def words(text: str) -> str:
    return " ".join(text.split())


def side_by_side(*columns: Sequence[str], xs: Sequence[float], top: float = 700) -> str:
    """Columns drawn line by line."""
    rows = max(map(len, columns))
    return "\n".join(
        shown(x, top - 16 * i, column[i])
        for i in range(rows)
        for x, column in zip(xs, columns, strict=True)
        if i < len(column)
    )


def table(
    rows: Sequence[Sequence[str]], xs: Sequence[float], top: float = 700, step: float = 16
) -> str:  # fmt: skip
    return "\n".join(
        shown(x, top - step * i, cell)
        for i, row in enumerate(rows)
        for x, cell in zip(xs, row, strict=True)
        if cell
    )


def grid(xs: Sequence[float], ys: Sequence[float]) -> str:
    lines = [f"{x} {ys[0]} m {x} {ys[-1]} l S" for x in xs]
    return "\n".join(lines + [f"{xs[0]} {y} m {xs[-1]} {y} l S" for y in ys])


# Columns


def test_columns_drawn_row_by_row_are_read_one_after_the_other() -> None:
    found = pdf(side_by_side(LEFT, RIGHT, xs=(60, 330)))

    said = words(found.text)
    assert "voted to raise the yearly fee from 40 to 55 crowns for members" in said
    assert "The key is kept by Mrs Lind at number 9 and must be given back" in said
    assert said.index("Dogs have to wait") < said.index("The boat house")
    assert "warnings" not in found.metadata


def test_three_columns_and_one_that_is_longer() -> None:
    third = (
        "Bread is baked on Friday in",
        "the old oven by the gate and",
        "is sold from nine",
    )
    found = pdf(side_by_side(LEFT, RIGHT[:5], third, xs=(40, 230, 420)))

    said = words(found.text)
    assert "must sign the visitors book. Dogs have to wait outside. The boat house" in said
    assert "seven in the evening. Whoever Bread is baked on Friday in the old oven" in said


def test_a_heading_across_the_columns_stays_above_them() -> None:
    page = [
        shown(60, 760, "News of the rowing club from the spring of this year", size=16),
        side_by_side(LEFT, RIGHT, xs=(60, 330)),
        shown(60, 540, "Printed by the club for all its members and friends of the house."),
    ]
    said = words(pdf("\n".join(page)).text)

    assert said.startswith("News of the rowing club")
    assert said.endswith("friends of the house.")
    assert said.index("Dogs have to wait") < said.index("The boat house")


def test_columns_set_as_one_text_object_with_wide_gaps() -> None:
    rows = [
        f"1 0 0 1 60 {700 - 16 * i} Tm [({a}) {-24_500 + 500 * len(a)} ({b})] TJ"
        for i, (a, b) in enumerate(zip(LEFT, RIGHT, strict=True))
    ]
    said = words(pdf("BT /F1 11 Tf\n" + "\n".join(rows) + "\nET").text)

    assert said.index("Dogs have to wait") < said.index("The boat house")


def test_columns_of_a_page_that_is_shown_turned() -> None:
    page = f"0 1 -1 0 612 0 cm\n{side_by_side(LEFT, RIGHT, xs=(60, 330), top=560)}"
    said = words(pdf(page, rotate=90).text)

    assert said.index("Dogs have to wait") < said.index("The boat house")


def test_columns_drawn_one_after_the_other_are_as_they_were() -> None:
    page = "\n".join(
        shown(x, 700 - 16 * i, line)
        for x, column in ((60, LEFT), (330, RIGHT))
        for i, line in enumerate(column)
    )
    said = words(pdf(page).text)

    assert said.index("Dogs have to wait") < said.index("The boat house")
    assert "|" not in said


def test_what_may_be_columns_or_a_table_is_named_and_kept() -> None:
    left = ("Open the upper valve", "Wait until it is warm", "Close the lower valve",
            "Let the water run off")  # fmt: skip
    right = ("The pressure goes to two bar", "The lamp beside it turns green",
             "The pump stops by itself", "The tank is empty after an hour")  # fmt: skip
    found = pdf(side_by_side(left, right, xs=(60, 330)))

    assert "page 1: text stands side by side" in found.metadata["warnings"]
    assert "Wait until it is warm The lamp beside it" in words(found.text)


# Tables


def test_a_table_without_lines_keeps_its_rows_and_columns() -> None:
    page = [shown(60, 760, "What the ferries cost in summer:"), table(FERRIES, (60, 250, 400))]
    found = pdf("\n".join(page))

    assert "| Route | Price | Hours |\n| --- | --- | --- |" in found.text
    assert "| Dagebüll to Föhr | 9.00 | 1 |\n| Büsum to Helgoland | 31.00 | 3 |" in found.text
    assert found.text.startswith("What the ferries cost in summer:\n")


def test_an_empty_cell_moves_no_value() -> None:
    rows = [("Name", "Room", "Telephone"), ("Ann Lee", "", "4402"), ("Bo Ek", "12", ""),
            ("Cy Orr", "14", "4407"), ("Di Fox", "15", "4409")]  # fmt: skip

    found = pdf(table(rows, (60, 250, 400)))

    assert "| Ann Lee |  | 4402 |\n| Bo Ek | 12 |  |\n| Cy Orr | 14 | 4407 |" in found.text


def test_cells_that_run_over_lines_are_whole() -> None:
    xs, ys = (50, 200, 420), (715, 695, 640, 600)
    page = [
        grid(xs, ys),
        *(shown(55, y, t) for y, t in ((700, "Room"), (680, "Blue room"), (625, "Loft"))),
        shown(205, 700, "What it is for"),
        shown(205, 680, "Meetings of the committee"), shown(205, 665, "and of the youth group"),
        shown(205, 650, "on Tuesday"), shown(205, 625, "Oars, sails"), shown(205, 610, "and ropes"),
    ]  # fmt: skip
    found = pdf("\n".join(page))

    assert (
        "| Room | What it is for |\n| --- | --- |\n"
        "| Blue room | Meetings of the committee and of the youth group on Tuesday |\n"
        "| Loft | Oars, sails and ropes |"
    ) in found.text


def test_cells_drawn_column_by_column_are_rows_where_lines_show_them() -> None:
    xs, ys = (50, 240, 380, 500), (715, 695, 675, 655, 635)
    page = [grid(xs, ys)]
    page += [
        shown(x + 5, 700 - 20 * i, row[k]) for k, x in enumerate(xs[:3])
        for i, row in enumerate(FERRIES)
    ]  # fmt: skip
    found = pdf("\n".join(page))

    assert "| Husum to Amrum | 14.50 | 2 |" in found.text


def test_merged_cells_say_their_value_in_every_row() -> None:
    xs = (50, 200, 350, 500)
    lines = [f"{x} 715 m {x} 655 l S" for x in xs]
    lines += [f"50 {y} m 500 {y} l S" for y in (715, 695, 655)]
    page = [
        *lines, "200 675 m 500 675 l S",
        shown(55, 700, "Region"), shown(205, 700, "Town"), shown(355, 700, "People"),
        shown(55, 680, "North"), shown(205, 680, "Husum"), shown(355, 680, "4402"),
        shown(205, 660, "Kiel"), shown(355, 660, "9120"),
    ]  # fmt: skip

    found = pdf("\n".join(page))

    assert "| North | Husum | 4402 |\n| North | Kiel | 9120 |" in found.text


def test_the_columns_of_a_typewriter() -> None:
    rows = [f"{a:<24}{b:<10}{c}" for a, b, c in FERRIES]
    page = "\n".join(shown(60, 700 - 13 * i, row, font="F2", size=10) for i, row in enumerate(rows))

    assert "| Husum to Amrum | 14.50 | 2 |" in pdf(page).text


def test_a_bar_in_a_cell_is_escaped() -> None:
    rows = [("Key", "Meaning", "Since"), ("a|b", "either", "2019"), ("a&b", "both", "2020"),
            ("!a", "not", "2021")]  # fmt: skip

    assert r"| a\|b | either | 2019 |" in pdf(table(rows, (60, 250, 400))).text


@pytest.mark.parametrize("mark", ["•", "1.", "(a)", "-"])
def test_marks_of_lists_are_no_column(mark: str) -> None:
    items = ["Oil the hinges", "Sweep the floor", "Close the windows", "Lock the door"]
    page = "\n".join(
        shown(60, 700 - 16 * i, mark) + "\n" + shown(84, 700 - 16 * i, item)
        for i, item in enumerate(items)
    )
    found = pdf(page)

    assert "|" not in found.text
    assert re.search(r"Oil the hinges\n\S+ Sweep the floor", found.text)


def test_nothing_goes_missing_and_nothing_hangs_on_pages_full_of_lines_and_words() -> None:
    lines = "\n".join(f"{i % 600} {i // 600} m {i % 600 + 50} {i // 600} l S" for i in range(9000))
    found = pdf(lines + "\n" + table([(f"w{i}", f"v{i}") for i in range(400)], (60, 300), step=1.7))

    assert {"w0", "v399"} <= set(re.findall(r"\w+", found.text))
