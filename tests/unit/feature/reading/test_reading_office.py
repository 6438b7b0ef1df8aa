from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from typing import Any

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.opendocument import read_odt
from fti.pipelines.feature.reading.readers.pptx import read_pptx
from fti.pipelines.feature.reading.readers.rtf import read_rtf
from fti.pipelines.feature.reading.readers.xlsx import read_xlsx
from fti.store.errors import ExtractionError
from tests.support.documents import an_odt, an_xlsx, zipped

CONFIG = SourcesConfig()
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)


def xlsx(*rows: tuple[object, ...], sheet: str = "Tools") -> Extracted:
    (found,) = read_xlsx(an_xlsx({sheet: rows}), CONFIG)
    return found


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


@pytest.mark.parametrize("read", [read_xlsx, read_pptx, read_odt])
def test_an_encrypted_office_file_is_refused(
    read: Callable[[bytes, SourcesConfig], list[Extracted]],
) -> None:
    with pytest.raises(ExtractionError, match="encrypted"):
        read(OLD_OFFICE, CONFIG)


@pytest.mark.parametrize("read", [read_xlsx, read_pptx, read_odt])
def test_a_zip_of_something_else_is_refused(
    read: Callable[[bytes, SourcesConfig], list[Extracted]],
) -> None:
    with pytest.raises(ExtractionError, match=r"is a ZIP archive, not an? "):
        read(zipped({"a.txt": "text"}), CONFIG)


@pytest.mark.parametrize("read", [read_xlsx, read_pptx])
def test_an_office_file_without_its_main_part_is_refused(
    read: Callable[[bytes, SourcesConfig], list[Extracted]],
) -> None:
    with pytest.raises(ExtractionError, match="not a whole"):
        read(zipped({"[Content_Types].xml": "<Types/>"}), CONFIG)


# XLSX


def test_sheets_are_sections_and_each_row_repeats_the_columns() -> None:
    data = an_xlsx(
        {"Tools": [("name", "price"), ("Saw", 12), ("Drill", 30.5)], "Staff": [("name",), ("Ann",)]}
    )

    (found,) = read_xlsx(data, CONFIG)

    assert found.text == (
        "## Tools\n\nname: Saw\nprice: 12\n\nname: Drill\nprice: 30.5\n\n## Staff\n\nname\nAnn"
    )
    assert found.metadata == {"sheets": "Tools, Staff", "rows": "5"}


def test_titles_above_a_table_and_notes_below_are_lines() -> None:
    found = xlsx(
        ("Prices of 2026",), (), ("name", "price"), ("Saw", 12), (), ("Prices without tax.",)
    )

    assert found.text == (
        "## Tools\n\nPrices of 2026\n\nname: Saw\nprice: 12\n\nPrices without tax."
    )


def test_an_empty_row_below_the_names_of_columns_does_not_part_them_from_values() -> None:
    found = xlsx(("", "Sales", "Profit"), (), ("North", 5, 2))

    assert found.text == "## Tools\n\nNorth\nSales: 5\nProfit: 2"


def test_columns_are_named_by_the_last_row_of_words() -> None:
    found = xlsx(("In francs", "2026"[:0], "First half"), ("Zone", "Sales", "Costs"), ("A", 1, 2))

    assert found.text == "## Tools\n\nIn francs | First half\n\nZone: A\nSales: 1\nCosts: 2"


def test_rows_stand_as_they_are_where_nothing_names_the_columns() -> None:
    assert xlsx(("x", "x"), (1, 2), (3, 4)).text == "## Tools\n\nx | x\n1 | 2\n3 | 4"


def test_values_read_as_in_the_sheet() -> None:
    import openpyxl

    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.append(["what", "value"])
    sheet.append(["share", 0.125])
    sheet["B2"].number_format = "0.0%"
    sheet.append(["day", datetime.datetime(2026, 3, 1)])
    sheet.append(["sum", 0.1 + 0.2])
    sheet.append(["open", True])

    (found,) = read_xlsx(saved(workbook), CONFIG)

    values = [line.removeprefix("value: ") for line in found.text.split("\n") if "value: " in line]
    assert values == ["12.5%", "2026-03-01", "0.3", "TRUE"]


def test_hidden_sheets_are_left_out_and_named() -> None:
    import openpyxl

    workbook = openpyxl.Workbook()
    workbook.active.append(["Seen."])
    hidden = workbook.create_sheet("Secret")
    hidden.append(["Unseen."])
    hidden.sheet_state = "hidden"

    (found,) = read_xlsx(saved(workbook), CONFIG)

    assert "Unseen." not in found.text
    assert found.metadata["warnings"] == "hidden sheets were not read: Secret"


def test_a_workbook_without_values_says_so() -> None:
    found = xlsx()

    assert (found.text, found.empty_reason) == ("", "no sheet has values")


# PPTX


def test_slides_are_sections_with_lists_tables_and_notes() -> None:
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Firing the kiln"
    body = slide.placeholders[1].text_frame
    body.text = "Load it"
    inner = body.add_paragraph()
    inner.text, inner.level = "Large pots first", 1
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(5), Inches(4), Inches(1)).table
    for i, text in enumerate(["stage", "degrees", "bisque", "1000"]):
        table.cell(i // 2, i % 2).text = text
    slide.notes_slide.notes_text_frame.text = "Mention the key."
    second = deck.slides.add_slide(deck.slide_layouts[6])
    second.shapes.add_textbox(Inches(1), Inches(3), Inches(3), Inches(1)).text_frame.text = "Below"
    second.shapes.add_textbox(Inches(1), Inches(1), Inches(3), Inches(1)).text_frame.text = "Above"

    (found,) = read_pptx(saved(deck), CONFIG)

    assert found.title == "Firing the kiln"
    assert found.text == (
        "## Firing the kiln\n\n- Load it\n  - Large pots first\n\n"
        "| stage | degrees |\n| --- | --- |\n| bisque | 1000 |\n\n"
        "### Notes\n\nMention the key.\n\n## Slide 2\n\nAbove\n\nBelow"
    )
    assert found.metadata["slides"] == "2"


def test_charts_give_their_numbers() -> None:
    from pptx import Presentation
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    data = CategoryChartData()
    data.categories = ["2025", "2026"]
    data.add_series("Firings", (41, 52))
    place = (Inches(1), Inches(1), Inches(4), Inches(3))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *place, data)

    (found,) = read_pptx(saved(deck), CONFIG)

    assert "|  | Firings |\n| --- | --- |\n| 2025 | 41 |\n| 2026 | 52 |" in found.text


def test_slides_without_words_are_empty() -> None:
    from pptx import Presentation

    deck = Presentation()
    deck.slides.add_slide(deck.slide_layouts[6])

    (found,) = read_pptx(saved(deck), CONFIG)

    assert (found.text, found.empty_reason) == ("", "no text on its slides")


# ODT


def odt(body: str, **options: str) -> Extracted:
    (found,) = read_odt(an_odt(body, **options), CONFIG)
    return found


def test_odt_headings_paragraphs_lists_and_tables() -> None:
    found = odt(
        '<text:h text:outline-level="2">Kiln</text:h><text:p>Fire<text:s text:c="2"/>it.</text:p>'
        "<text:list><text:list-item><text:p>one</text:p><text:list><text:list-item>"
        "<text:p>inner</text:p></text:list-item></text:list></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        '<table:table-cell table:number-columns-repeated="2"><text:p>b</text:p></table:table-cell>'
        "</table:table-row></table:table>",
        title="Handbook",
    )

    assert found.title == "Handbook"
    assert found.text == (
        "## Kiln\n\nFire  it.\n\n- one\n  - inner\n\n| a | b | b |\n| --- | --- | --- |"
    )


def test_odt_notes_follow_their_paragraph_and_deleted_text_is_gone() -> None:
    found = odt(
        "<text:tracked-changes><text:p>Deleted.</text:p></text:tracked-changes>"
        "<text:p>Fire it<text:note><text:note-body><text:p>Twice.</text:p></text:note-body>"
        "</text:note> slowly.</text:p>"
    )

    assert found.text == "Fire it slowly.\n\n(Twice.)"


def test_an_encrypted_odt_is_refused() -> None:
    data = an_odt("", **{"META-INF/manifest.xml": "<m><encryption-data/></m>"})

    with pytest.raises(ExtractionError, match="encrypted"):
        read_odt(data, CONFIG)


def test_entities_in_an_odt_are_refused() -> None:
    data = zipped({"content.xml": "<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>"})

    with pytest.raises(ExtractionError, match="declares a document type"):
        read_odt(data, CONFIG)


# RTF


def rtf(body: str) -> Extracted:
    (found,) = read_rtf(("{\\rtf1\\ansi\\ansicpg1252\\deff0 " + body + "}").encode("ascii"), CONFIG)
    return found


def test_rtf_headings_by_style_and_outline_level() -> None:
    found = rtf(
        r"{\stylesheet{\s0 Normal;}{\s2\b heading 2;}}"
        r"{\info{\title Handbook}{\author Ann Lee}}"
        r"\pard\s2 Kiln\par\pard Fire it.\par\pard\outlinelevel0 Top\par"
    )

    assert found.text == "## Kiln\n\nFire it.\n\n# Top"
    assert (found.title, found.metadata) == ("Handbook", {"author": "Ann Lee"})


def test_rtf_tables() -> None:
    found = rtf(
        r"\trowd\pard\intbl a\cell b\cell\row\trowd\pard\intbl 1\cell 2\cell\row\pard After.\par"
    )

    assert found.text == "| a | b |\n| --- | --- |\n| 1 | 2 |\n\nAfter."


def test_rtf_characters_of_every_kind() -> None:
    found = rtf(
        r"{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Cyr;}{\f2\fcharset128 Mincho;}}"
        r"caf\'e9 \u26085?\u26412? {\f1 \'cf\'f0\'e8\'e2\'e5\'f2} {\f2 \'93\'fa\'96{\'7b}}"
        r" \emdash\~\{x\} \u-10179?\u-8704?\par"
    )

    assert found.text.startswith("café 日本 Привет 日")
    assert "— {x} 😀" in found.text.replace("\u00a0", " ").replace("—", "— ").replace("—  ", "— ")


def test_rtf_pictures_hidden_text_and_field_codes_are_left_out() -> None:
    found = rtf(
        r"{\pict\pngblip 89504e47}{\v hidden}{\*\generator Word;}{\header Head}"
        r'{\field{\*\fldinst HYPERLINK "http://x"}{\fldrslt link}} text\bin4 }}}} end\par'
    )

    assert found.text == "link text end"


def test_rtf_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(ExtractionError, match="nested"):
        rtf("{" * 2000)


def test_text_named_rtf_is_refused() -> None:
    with pytest.raises(ExtractionError, match="not RTF"):
        read_rtf(b"just text", CONFIG)
