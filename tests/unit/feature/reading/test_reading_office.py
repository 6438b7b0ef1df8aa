from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from typing import Any

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.office.opendocument import read_odt
from fti.pipelines.feature.reading.readers.office.pptx import read_pptx
from fti.pipelines.feature.reading.readers.office.rtf import read_rtf
from fti.pipelines.feature.reading.readers.sheets.xlsx import read_xlsx
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


def a_slide() -> tuple[Any, Any]:
    from pptx import Presentation

    deck = Presentation()
    return deck, deck.slides.add_slide(deck.slide_layouts[6])


def a_text_box(slide: Any, *, top: int = 1) -> Any:
    from pptx.util import Inches

    box = slide.shapes.add_textbox(Inches(1), Inches(top), Inches(3), Inches(1))
    return box.text_frame


def pptx(deck: Any) -> str:
    (found,) = read_pptx(saved(deck), CONFIG)
    return found.text.removeprefix("## Slide 1\n\n")


def drawn(xml: str) -> Any:
    """An element of a slide; the prefixes a, a14, m, mc and p are known."""
    from lxml import etree
    from pptx.oxml import parse_xml

    names = {
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
        "a14": "http://schemas.microsoft.com/office/drawing/2010/main",
        "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
        "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
        "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    }
    named = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in names.items())
    root = etree.fromstring(f"<x {named}>{xml}</x>")
    return parse_xml(etree.tostring(root[0]))


def test_merged_cells_of_slides_repeat_their_value() -> None:
    from pptx.util import Inches

    deck, slide = a_slide()
    table = slide.shapes.add_table(4, 3, Inches(1), Inches(1), Inches(4), Inches(1)).table
    texts = ["Hall", "Day", "Chief", "North", "Mon", "Ida", "", "Fri", "Olaf", "all", "", "Eva"]
    for i, text in enumerate(texts):
        table.cell(i // 3, i % 3).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    table.cell(3, 0).merge(table.cell(3, 1))

    assert pptx(deck).split("\n")[2:] == [
        "| North | Mon | Ida |", "| North | Fri | Olaf |", "| all | all | Eva |",
    ]  # fmt: skip


def test_a_span_of_slides_without_end_is_bounded() -> None:
    from pptx.util import Inches

    deck, slide = a_slide()
    table = slide.shapes.add_table(1, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    table.cell(0, 0).text = "x"
    table.cell(0, 0)._tc.set("gridSpan", "2000000000")

    assert len(pptx(deck)) < 2000


def test_raised_characters_on_slides_stay_apart() -> None:
    deck, slide = a_slide()
    paragraph = a_text_box(slide).paragraphs[0]
    for text, baseline in (("Area 10", 0), ("6", 30000), (" m, CO", 0), ("2", -25000)):
        run = paragraph.add_run()
        run.text = text
        run.font._element.set("baseline", str(baseline))

    assert pptx(deck) == "Area 10^6 m, CO2"


def test_numbered_paragraphs_keep_their_numbers() -> None:
    deck, slide = a_slide()
    frame = a_text_box(slide)
    for i, (text, level, form, start) in enumerate(
        [
            ("Open", 0, "arabicPeriod", "3"),
            ("left", 1, "alphaLcParenR", ""),
            ("right", 1, "alphaLcParenR", ""),
            ("Close", 0, "arabicPeriod", "3"),
            ("up", 1, "alphaLcParenR", ""),
            ("Break", 0, "", ""),
            ("Again", 0, "romanUcPeriod", ""),
        ]
    ):
        paragraph = frame.paragraphs[0] if not i else frame.add_paragraph()
        paragraph.text, paragraph.level = text, level
        if form:
            at = f' startAt="{start}"' if start else ""
            paragraph._p.get_or_add_pPr().append(drawn(f'<a:buAutoNum type="{form}"{at}/>'))

    assert pptx(deck) == ("3. Open\n  a) left\n  b) right\n4. Close\n  a) up\n\nBreak\n\nI. Again")


def test_a_shape_with_a_formula_is_read_with_it() -> None:
    deck, slide = a_slide()
    shape = (
        '<p:sp><p:nvSpPr><p:cNvPr id="9" name="x"/><p:cNvSpPr txBox="1"/><p:nvPr/></p:nvSpPr>'
        "<p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>Force {} </a:t></a:r>{}</a:p></p:txBody>"
        "</p:sp>"
    )
    formula = (
        "<a14:m><m:oMathPara><m:oMath><m:f><m:num><m:r><m:t>F</m:t></m:r></m:num><m:den><m:r>"
        "<m:t>m</m:t></m:r></m:den></m:f></m:oMath></m:oMathPara></a14:m>"
    )
    slide.shapes._spTree.append(
        drawn(
            f'<mc:AlternateContent><mc:Choice Requires="a14">{shape.format("now", formula)}'
            f"</mc:Choice><mc:Fallback>{shape.format('then', '')}</mc:Fallback>"
            "</mc:AlternateContent>"
        )
    )

    assert pptx(deck) == "Force now F/m"


def test_diagrams_on_slides_are_lists() -> None:
    from pptx.opc.package import Part
    from pptx.opc.packuri import PackURI

    deck, slide = a_slide()
    data = (
        '<dgm:dataModel xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram" '
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><dgm:ptLst>'
        + "".join(
            f'<dgm:pt modelId="{i}"><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>'
            for i, text in enumerate(["Chief", "Clerk"], start=1)
        )
        + '</dgm:ptLst><dgm:cxnLst><dgm:cxn srcId="1" destId="2"/>'
        '<dgm:cxn srcId="2" destId="1"/></dgm:cxnLst></dgm:dataModel>'
    )
    part = Part(PackURI("/ppt/diagrams/data1.xml"), "a/b+xml", deck.part.package, data.encode())
    relation = slide.part.relate_to(part, "http://x/diagramData")
    slide.shapes._spTree.append(
        drawn(
            '<p:graphicFrame><p:nvGraphicFramePr><p:cNvPr id="9" name="x"/><p:cNvGraphicFramePr/>'
            '<p:nvPr/></p:nvGraphicFramePr><p:xfrm><a:off x="0" y="0"/><a:ext cx="1" cy="1"/>'
            f'</p:xfrm><a:graphic><a:graphicData uri="x"><dgm:relIds r:dm="{relation}"/>'
            "</a:graphicData></a:graphic></p:graphicFrame>"
        )
    )

    assert pptx(deck) == "- Chief\n  - Clerk"  # although each is said to be below the other


def test_charts_have_their_title_their_axes_and_points() -> None:
    from pptx.chart.data import XyChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck, slide = a_slide()
    data = XyChartData()
    series = data.add_series("Kiln")
    series.add_data_point(1, 650.5)
    series.add_data_point(2, 980)
    place = (Inches(1), Inches(1), Inches(4), Inches(3))
    chart = slide.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, *place, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Firing"
    chart.value_axis.has_title = True
    chart.value_axis.axis_title.text_frame.text = "Degrees Celsius"

    assert pptx(deck) == (
        "Firing\n\n(Degrees Celsius)\n\n|  | x | y |\n| --- | --- | --- |\n"
        "| Kiln | 1 | 650.5 |\n| Kiln | 2 | 980 |"
    )


def test_a_shape_that_is_not_as_the_format_says_costs_no_other_its_text() -> None:
    deck, slide = a_slide()
    a_text_box(slide).text = "Kept."
    a_text_box(slide, top=3).text = "Nowhere."
    shape = slide.shapes[1]._element
    shape.remove(shape.spPr)
    slide.shapes._spTree.append(drawn("<p:sp/>"))

    assert pptx(deck) == "Nowhere.\n\nKept."


def test_grouped_shapes_are_read() -> None:
    from pptx.util import Inches

    deck, slide = a_slide()
    group = slide.shapes.add_group_shape().shapes.add_group_shape()
    box = group.shapes.add_textbox(Inches(1), Inches(1), Inches(1), Inches(1))
    box.text_frame.text = "In a group."

    assert pptx(deck) == "In a group."


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
