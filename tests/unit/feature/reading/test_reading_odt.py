"""OpenDocument texts: what stands beside, inside and around plain paragraphs."""

from __future__ import annotations

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.office.opendocument import read_odt
from tests.support.documents import an_odt

CONFIG = SourcesConfig()


def odt(body: str, **options: str) -> Extracted:
    (found,) = read_odt(an_odt(body, **options), CONFIG)
    return found


def p(inner: str) -> str:
    return f"<text:p>{inner}</text:p>"


def row(*cells: str) -> str:
    return f"<table:table-row>{''.join(cells)}</table:table-row>"


def cell(text: str, **spans: int) -> str:
    given = "".join(f' table:number-{name.replace("_", "-")}="{n}"' for name, n in spans.items())
    return f"<table:table-cell{given}>{p(text)}</table:table-cell>"


COVERED = "<table:covered-table-cell/>"


def test_a_text_box_follows_its_paragraph_and_is_there_once() -> None:
    box = (
        "<draw:frame><draw:text-box><text:p>Wear goggles.</text:p></draw:text-box>"
        "<draw:image/></draw:frame>"
    )

    assert odt(p(f"Bay{box} 6.") + p("Next.")).text == "Bay 6.\n\nWear goggles.\n\nNext."


def test_shapes_with_words_are_read() -> None:
    shape = "<draw:g><draw:custom-shape><text:p>Exit here.</text:p></draw:custom-shape></draw:g>"

    assert odt(p(f"Hall.{shape}")).text == "Hall.\n\nExit here."
    assert odt(shape + p("Hall.")).text == "Exit here.\n\nHall."


def test_raised_lowered_and_hidden_words() -> None:
    styles = "".join(
        f'<style:style style:name="{name}" style:family="text"><style:text-properties {what}/>'
        "</style:style>"
        for name, what in (
            ("up", 'style:text-position="super 58%"'),
            ("high", 'style:text-position="33% 58%"'),
            ("low", 'style:text-position="sub 58%"'),
            ("gone", 'text:display="none"'),
        )
    )

    def span(style: str, text: str) -> str:
        return f'<text:span text:style-name="{style}">{text}</text:span>'

    found = odt(
        p(
            f"Area 10{span('up', '6')} m, 25{span('high', '1')} euros, CO{span('low', '2')}"
            f"{span('gone', ' secret')}"
        ),
        styles=styles,
    )

    assert found.text == "Area 10^6 m, 25^1 euros, CO2"


NUMBERED = (
    '<text:list-style style:name="L1">'
    '<text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/>'
    '<text:list-level-style-number text:level="2" style:num-format="a" style:num-suffix=")"/>'
    '<text:list-level-style-number text:level="3" style:num-format="1" text:display-levels="3"/>'
    "</text:list-style>"
    '<text:list-style style:name="L2"><text:list-level-style-number text:level="1" '
    'style:num-format="I" style:num-prefix="(" style:num-suffix=")" text:start-value="4"/>'
    '</text:list-style><text:list-style style:name="L3"><text:list-level-style-bullet '
    'text:level="1" text:bullet-char="•"/></text:list-style>'
)


def items(style: str, *texts: str, more: str = "") -> str:
    inner = "".join(f"<text:list-item>{t}</text:list-item>" for t in texts)
    named = f' text:style-name="{style}"' if style else ""
    return f"<text:list{named} {more}>{inner}</text:list>"


def test_lists_keep_their_numbers() -> None:
    deep = items("", p("left") + items("", p("far")), p("right"))
    found = odt(
        items("L1", p("Open") + deep, p("Close") + p("and lock") + items("", p("up")))
        + items("L2", p("four"), p("five"))
        + items("L3", p("dot")),
        styles=NUMBERED,
    )

    assert found.text == (
        "1. Open\n  a) left\n    1.a.1 far\n  b) right\n2. Close\n  and lock\n  a) up\n"
        "(IV) four\n(V) five\n- dot"
    )


def test_a_list_goes_on_or_begins_where_it_says() -> None:
    found = odt(
        items("L1", p("one"), more='xml:id="x"')
        + p("Between.")
        + items("L1", p("two"), more='text:continue-numbering="true"')
        + items("L1", p("three"), more='text:continue-list="x"')
        + items("L1", p("anew"))
        + '<text:list text:style-name="L1"><text:list-header><text:p>Head</text:p>'
        '</text:list-header><text:list-item text:start-value="9"><text:p>nine</text:p>'
        "</text:list-item></text:list>",
        styles=NUMBERED,
    )

    assert found.text == "1. one\n\nBetween.\n\n2. two\n3. three\n1. anew\n  Head\n9. nine"


def test_headings_keep_the_numbers_of_the_outline() -> None:
    styles = (
        '<text:outline-style style:name="O"><text:outline-level-style text:level="1" '
        'style:num-format="1"/><text:outline-level-style text:level="2" style:num-format="1" '
        'text:display-levels="2"/></text:outline-style>'
    )

    def h(level: int, text: str, more: str = "") -> str:
        return f'<text:h text:outline-level="{level}" {more}>{text}</text:h>'

    found = odt(
        h(1, "Fees") + h(2, "Yearly") + h(2, "Preface", 'text:is-list-header="true"')
        + h(1, "<text:number>2</text:number>Hours") + h(2, "Summer"),
        styles=styles,
    )  # fmt: skip

    assert found.text == "# 1 Fees\n\n## 1.1 Yearly\n\n## Preface\n\n# 2 Hours\n\n## 2.1 Summer"
    assert found.title == "1 Fees"


def test_merged_cells_repeat_their_value() -> None:
    found = odt(
        "<table:table><table:table-header-rows>"
        + row(cell("Hall"), cell("Day"), cell("Chief"))
        + "</table:table-header-rows>"
        + row(cell("North", rows_spanned=2), cell("Mon"), cell("Ida"))
        + row(COVERED, cell("Fri"), cell("Olaf"))
        + row(cell("all", columns_spanned=2), COVERED, cell("Eva"))
        + row(cell("x", columns_spanned=2, rows_spanned=2), COVERED, cell("1"))
        + row(COVERED, COVERED, cell("2"))
        + "</table:table>"
    )

    assert found.text.split("\n")[2:] == [
        "| North | Mon | Ida |", "| North | Fri | Olaf |", "| all | all | Eva |",
        "| x | x | 1 |", "| x | x | 2 |",
    ]  # fmt: skip


def test_spans_without_end_are_bounded() -> None:
    wide = row(cell("x", columns_spanned=2_000_000_000), cell("y", columns_repeated=2_000_000_000))

    assert len(odt(f"<table:table>{wide * 300}</table:table>").text) < 3_000_000


def test_a_table_in_a_cell_stays_in_its_row_and_is_there_once() -> None:
    hours = row(cell("Mon"), cell("8-17")) + row(cell("Tue"), cell("9"))
    inner = f"<table:table-cell><table:table>{hours}</table:table></table:table-cell>"
    found = odt(
        f"<table:table>{row(cell('Branch'), cell('When'))}{row(cell('Husum'), inner)}</table:table>"
    )

    assert found.text == "| Branch | When |\n| --- | --- |\n| Husum | Mon, 8-17; Tue, 9 |"


def an_object(name: str) -> str:
    return f'<draw:frame><draw:object xlink:href="./{name}"/><draw:image/></draw:frame>'


def test_formulas_are_text() -> None:
    formula = (
        '<math xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow><mi>F</mi><mo>=</mo>'
        "<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></mfrac><mo>+</mo><msqrt>"
        "<msup><mi>x</mi><mn>2</mn></msup></msqrt></mrow><annotation>F = {a+b} over 2</annotation>"
        "</semantics></math>"
    )

    found = odt(p(f"So {an_object('Object 1')}."), **{"Object 1/content.xml": formula})

    assert found.text == "So F=(a+b)/2+√(x^2)."


def test_a_document_is_read_without_an_object_that_declares_a_document_type() -> None:
    formula = (
        '<!DOCTYPE math PUBLIC "-//OpenOffice.org//DTD Modified W3C MathML 1.01//EN" "math.dtd">'
        '<math xmlns="http://www.w3.org/1998/Math/MathML"><mi>F</mi></math>'
    )

    found = odt(p(f"So {an_object('Object 1')}."), **{"Object 1/content.xml": formula})

    assert found.text == "So ."
    assert "Object 1/content.xml was not read" in found.metadata["warnings"]


def test_an_object_that_nothing_shows_is_no_reason_to_refuse_a_document() -> None:
    found = odt(p("Words."), **{"Object 9/content.xml": "<!DOCTYPE x [<!ENTITY a 'b'>]><x/>"})

    assert (found.text, found.metadata) == ("Words.", {})


def test_charts_give_their_titles_and_numbers() -> None:
    names = " ".join(
        f'xmlns:{k}="urn:oasis:names:tc:opendocument:xmlns:{k}:1.0"'
        for k in ("office", "chart", "text", "table")
    )
    chart = (
        f"<office:document-content {names}><office:body><office:chart><chart:chart><chart:title>"
        f"{p('Visitors')}</chart:title><table:table>{row(cell('2025'), cell('41'))}</table:table>"
        "</chart:chart></office:chart></office:body></office:document-content>"
    )

    found = odt(p(f"See:{an_object('Object 2')}"), **{"Object 2/content.xml": chart})

    assert found.text == "See:\n\nVisitors\n\n| 2025 | 41 |\n| --- | --- |"


def test_notes_and_open_comments_follow_their_paragraph() -> None:
    comment = (
        "<office:annotation{}><dc:creator>Ann</dc:creator><dc:date>2026-01-01</dc:date>"
        "<text:p>{}</text:p></office:annotation>"
    )
    resolved = ' xmlns:loext="x" loext:resolved="true"'
    note = (
        '<text:note text:note-class="endnote"><text:note-citation>1</text:note-citation>'
        "<text:note-body><text:p>On Thursdays 90.</text:p></text:note-body></text:note>"
    )

    found = odt(
        p(f"The fee is 70{note} euros.{comment.format('', 'From June 80.')}"
          f"{comment.format(resolved, 'Settled.')}")
    )  # fmt: skip

    assert found.text == (
        "The fee is 70 euros.\n\n(On Thursdays 90.)\n\n(comment by Ann: From June 80.)"
    )


def test_what_was_deleted_is_gone_and_what_was_inserted_is_there() -> None:
    found = odt(
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>8</text:p>"
        "</text:deletion></text:changed-region></text:tracked-changes>"
        + p("Open until <text:change/><text:change-start/>9<text:change-end/>.")
    )

    assert found.text == "Open until 9."


def test_hidden_sections_are_left_out_and_ruby_stands_behind_its_base() -> None:
    found = odt(
        f'<text:section text:display="none">{p("Secret.")}</text:section>'
        "<text:section>"
        + p("<text:ruby><text:ruby-base>東京</text:ruby-base><text:ruby-text>とうきょう"
            "</text:ruby-text></text:ruby>駅")
        + "</text:section>"
    )  # fmt: skip

    assert found.text == "東京(とうきょう)駅"


def test_the_title_is_a_persons_or_the_first_heading() -> None:
    styles = '<style:style style:name="P1" style:parent-style-name="Title"/>' + (
        '<style:style style:name="Title"/>'
    )
    body = '<text:p text:style-name="P1">Kiln rules</text:p><text:h>Fees</text:h>'

    found = odt(body, styles=styles, title="Untitled 1")

    assert (found.text, found.title) == ("# Kiln rules\n\n# Fees", "Kiln rules")
    assert odt("<text:h>Fees</text:h>", title="Rules").title == "Rules"


@pytest.mark.parametrize("depth", [60, 200])
def test_lists_nested_beyond_reason_are_refused_with_a_reason(depth: int) -> None:
    from fti.store.errors import ExtractionError

    body = p("deep")
    for _ in range(depth):
        body = f"<text:list><text:list-item>{body}</text:list-item></text:list>"

    with pytest.raises(ExtractionError, match=r"nested deeper|well-formed"):
        odt(body)
