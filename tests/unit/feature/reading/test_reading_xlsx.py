"""Spreadsheets as a person sees them: header, merged cells, formulas, and the strict form."""

from __future__ import annotations

import datetime
import io
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.sheets.xlsx import read_xlsx
from fti.store.errors import ExtractionError

STRICT = {
    b"http://schemas.openxmlformats.org/spreadsheetml/2006/main":
        b"http://purl.oclc.org/ooxml/spreadsheetml/main",
    b"http://schemas.openxmlformats.org/officeDocument/2006/relationships":
        b"http://purl.oclc.org/ooxml/officeDocument/relationships",
}  # fmt: skip


def a_workbook(
    rows: Sequence[Sequence[object]],
    *,
    merged: Sequence[str] = (),
    formats: Mapping[str, str] | None = None,
    more: Callable[[Any], None] = lambda sheet: None,
) -> bytes:
    import openpyxl

    workbook = openpyxl.Workbook()
    sheet = workbook.active
    for row in rows:
        sheet.append(list(row))
    for cells in merged:
        sheet.merge_cells(cells)
    for cell, code in (formats or {}).items():
        sheet[cell].number_format = code
    more(sheet)
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def with_parts(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def read(data: bytes) -> Extracted:
    (found,) = read_xlsx(data, SourcesConfig())
    return found


def text(data: bytes) -> str:
    return read(data).text.removeprefix("## Sheet\n\n")


# The header


def test_the_first_full_row_names_the_columns_though_numbers_come_late() -> None:
    data = a_workbook(
        [("Name", "Office", "Extension"), ("Ann Lee", "North", "none yet"), ("Bob", "South", 4412)]
    )
    assert text(data) == (
        "Name: Ann Lee\nOffice: North\nExtension: none yet\n\n"
        "Name: Bob\nOffice: South\nExtension: 4412"
    )


def test_a_date_is_no_name() -> None:
    since = datetime.date(2020, 3, 4)
    data = a_workbook([("Name", "Since", "Room"), ("Ann", since, "A1"), ("Bob", since, "B2")])
    assert text(data).startswith("Name: Ann\nSince: 2020-03-04\nRoom: A1")


def test_dates_may_name_columns_of_numbers() -> None:
    months = [datetime.date(2024, 1, 1), datetime.date(2024, 2, 1)]
    data = a_workbook(
        [("Item", *months), ("Rope", 4, 5)], formats={"B1": "mmm yyyy", "C1": "mmm yyyy"}
    )
    assert text(data) == "Item: Rope\nJan 2024: 4\nFeb 2024: 5"


@pytest.mark.parametrize(
    ("rows", "merged"),
    [
        ([("Region", "2025", None, "2026", None), (None, "Plan", "Actual", "Plan", "Actual")],
         ("A1:A2", "B1:C1", "D1:E1")),
        ([("Region", 2025, None, 2026, None), (None, "Plan", "Actual", "Plan", "Actual")],
         ("B1:C1", "D1:E1")),
        ([(None, "2025", None, "2026", None), ("Region", "Plan", "Actual", "Plan", "Actual")], ()),
    ],
    ids=["merged", "numbers", "not-merged"],
)  # fmt: skip
def test_two_rows_may_name_the_columns(
    rows: Sequence[Sequence[object]], merged: Sequence[str]
) -> None:
    for values in ((1, 2, 3, 4), ("low", "high", "low", "none")):
        data = a_workbook([*rows, ("North", *values), ("South", *values)], merged=merged)
        wanted = zip(("2025 Plan", "2025 Actual", "2026 Plan", "2026 Actual"), values, strict=True)
        assert text(data).split("\n\n")[0] == "\n".join(
            ["Region: North", *(f"{name}: {value}" for name, value in wanted)]
        )


def test_a_title_merged_over_the_table_is_one_line_above_it() -> None:
    data = a_workbook([("Budget of the club",), ("Item", "Sum"), ("Rope", 4)], merged=("A1:H1",))
    assert text(data) == "Budget of the club\n\nItem: Rope\nSum: 4"


def test_a_name_merged_over_two_columns_of_words_is_no_group() -> None:
    data = a_workbook(
        [("Id", "Name", None, "City"), ("a", "Ann", "Lee", "Rome")], merged=("B1:C1",)
    )
    assert text(data) == "Id: a\nName: Ann\nName 2: Lee\nCity: Rome"


# Merged cells, several tables


def test_merged_cells_repeat_their_value() -> None:
    data = a_workbook(
        [("Region", "City", "Phone"), ("North", "Kiel", 1), (None, "Husum", 2)], merged=("A2:A3",)
    )
    assert "Region: North\nCity: Husum\nPhone: 2" in text(data)


def test_a_row_merged_over_the_table_is_a_line_in_it() -> None:
    data = a_workbook(
        [("Item", "Shelf", "Count"), ("Tools",), ("Saw", "S", 3), ("Item", "Shelf", "Count")],
        merged=("A2:C2",),
    )
    assert text(data) == "Tools\n\nItem: Saw\nShelf: S\nCount: 3"


def test_tables_beside_and_below_one_another_have_their_own_names() -> None:
    data = a_workbook(
        [("Item", "Price", None, "Item", "Price"), ("Rope", 4, None, "Nail", 5), ("Saw", 7),
         (), ("Tool", "Shelf"), ("Axe", "T")]
    )  # fmt: skip
    assert text(data).split("\n\n") == [
        "Item: Rope\nPrice: 4", "Item: Saw\nPrice: 7", "Item: Nail\nPrice: 5", "Tool: Axe\nShelf: T"
    ]  # fmt: skip


def test_an_empty_column_within_a_table_parts_no_row() -> None:
    data = a_workbook([("Item", "Price", None, "Stock"), ("Rope", 4, None, 3), ("Saw", 7)])
    assert text(data) == "Item: Rope\nPrice: 4\nStock: 3\n\nItem: Saw\nPrice: 7"


# Values


def test_numbers_are_shown_by_their_format() -> None:
    data = a_workbook(
        [("Town", "Postcode", "Share", "Sum"), ("Dresden", 1067, 0.125, 1234.5)],
        formats={"B2": "00000", "C2": "0.0%", "D2": "#,##0.00 [$€-407]"},
    )
    assert text(data) == "Town: Dresden\nPostcode: 01067\nShare: 12.5%\nSum: 1,234.50 €"


def test_formulas_that_were_never_computed_stand_as_such_and_are_reported() -> None:
    found = read(a_workbook([("Item", "Net", "Gross"), ("Lamp", 100, "=B2*1.19")]))
    assert found.text.endswith("Item: Lamp\nNet: 100\nGross: =B2*1.19")
    assert found.metadata["warnings"] == (
        "1 formulas have no stored value and stand as formulas: Sheet!C2"
    )


def test_a_shared_formula_is_that_of_its_cell_and_a_stored_value_counts() -> None:
    cells = (
        b'<row r="2"><c r="A2"><f t="shared" ref="A2:A3" si="0">B2*2</f></c>'
        b'<c r="B2"><f>1+1</f><v>2</v></c><c r="C2" t="str"><f>""</f><v></v></c></row>'
        b'<row r="3"><c r="A3"><f t="shared" si="0"/></c><c r="B3"><v>5</v></c></row></sheetData>'
    )
    data = with_parts(
        a_workbook([("Twice", "Once")]), lambda name, part: part.replace(b"</sheetData>", cells)
    )
    assert text(data) == "Twice: =B2*2\nOnce: 2\n\nTwice: =B3*2\nOnce: 5"


def test_hidden_rows_are_read() -> None:
    def hide(sheet: Any) -> None:
        sheet.row_dimensions[2].hidden = True

    assert "Item: Rope" in text(a_workbook([("Item", "Sum"), ("Rope", 4), ("Saw", 5)], more=hide))


def test_the_strict_form_reads_like_the_other() -> None:
    def strict(name: str, part: bytes) -> bytes:
        for transitional, other in STRICT.items():
            part = part.replace(transitional, other)
        return part

    data = a_workbook([("Town", "Postcode"), ("Dresden", 1067)], formats={"B2": "00000"})
    assert text(with_parts(data, strict)) == text(data) == "Town: Dresden\nPostcode: 01067"


# Groups of rows


def test_a_group_of_rows_below_an_empty_one_has_the_names_of_the_table() -> None:
    found = text(a_workbook([
        ("Part", "Maker", "Qty"), ("Bolt", "Kern", 12), (), ("Nut", "Lund", 7), ("Pin", None, 3),
        (), ("Total", None, 22),
    ]))  # fmt: skip
    assert "Part: Nut\nMaker: Lund\nQty: 7" in found
    assert "Part: Pin\nQty: 3" in found
    assert "Part: Total\nQty: 22" in found


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        ([("Name", "Ext"), ("Ann", 4471)], "Name: Ann\nExt: 4471"),
        ([("Printed by", "Bo")], "Printed by | Bo"),
        ([("Staff",), ("Name", "Ext"), ("Ann", 4471)], "Staff\n\nName: Ann\nExt: 4471"),
    ],
    ids=["names", "note", "title"],
)
def test_what_else_stands_below_an_empty_row_is_not_of_the_table(
    below: Sequence[Sequence[object]], expected: str
) -> None:
    found = text(a_workbook([("Part", "Qty"), ("Bolt", 12), ("Nut", 7), (), *below]))
    assert found.endswith(f"Part: Nut\nQty: 7\n\n{expected}")


# Hostile


def test_corners_far_apart_take_no_time() -> None:
    def far(sheet: Any) -> None:
        sheet["XFD1048576"] = "there"

    data = a_workbook([("here",)], more=far)
    began = time.process_time()
    assert text(data) == "here\n\nthere"
    assert time.process_time() - began < 5


def test_a_cell_merged_over_the_whole_sheet_does_not_fill_it() -> None:
    rows = [("value", *([None] * 5), "x")] * 200
    data = with_parts(
        a_workbook(rows),
        lambda name, part: part.replace(
            b"</sheetData>",
            b'</sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>',
        ),
    )
    found = read(data)
    assert len(found.text) < 1 << 21
    assert "merged cells are too many or too large" in found.metadata["warnings"]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"<v>4</v>", b"<v>four</v>"), (b"</sheetData>", b""), (b'<row r="1"', b'<row r="x"')],
)
def test_a_damaged_sheet_is_an_error_that_says_so(old: bytes, new: bytes) -> None:
    data = a_workbook([("Item", "Sum"), ("Rope", 4)])
    with pytest.raises(ExtractionError, match="not a whole XLSX"):
        read(with_parts(data, lambda name, part: part.replace(old, new)))
