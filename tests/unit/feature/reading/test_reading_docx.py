"""Word documents: what stands beside, inside and around plain paragraphs."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.office.docx import read_docx
from fti.store.errors import ExtractionError
from tests.support.documents import a_docx_of, rewritten, zipped

CONFIG = SourcesConfig()


def docx(body: str, **parts: str | bytes) -> Extracted:
    (found,) = read_docx(a_docx_of(body, **parts), CONFIG)
    return found


def p(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{r(text)}</w:p>"


def r(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def tc(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{p(text)}</w:tc>"


def tr(*cells: str, properties: str = "") -> str:
    return f"<w:tr><w:trPr>{properties}</w:trPr>{''.join(cells)}</w:tr>"


def tbl(*rows: str) -> str:
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def box(text: str) -> str:
    """As Word writes it: for itself, and once more for programs that know no such boxes."""
    content = f"<w:txbxContent>{p(text)}</w:txbxContent>"
    return (
        '<w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wps:wsp><wps:txbx>'
        f"{content}</wps:txbx></wps:wsp></w:drawing></mc:Choice><mc:Fallback><w:pict><v:shape>"
        f"<v:textbox>{content}</v:textbox></v:shape></w:pict></mc:Fallback></mc:AlternateContent>"
        "</w:r>"
    )


def field(code: str, result: str) -> str:
    return (
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r>'
        f"<w:r><w:instrText>{code}</w:instrText></w:r>"
        f'<w:r><w:fldChar w:fldCharType="separate"/></w:r>{r(result)}'
        '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )


# Text boxes


def test_a_text_box_follows_its_paragraph_and_is_there_once() -> None:
    found = docx(f"<w:p>{r('Bay 6.')}{box('Wear goggles.')}</w:p>{p('Ask for the key.')}")

    assert found.text == "Bay 6.\n\nWear goggles.\n\nAsk for the key."


def test_boxes_of_old_programs_and_of_groups_are_read() -> None:
    old = (
        "<w:p><w:r><w:pict><v:shape><v:textbox><w:txbxContent>"
        f"{p('Old box.')}</w:txbxContent></v:textbox></v:shape></w:pict></w:r></w:p>"
    )
    group = (
        '<w:p><w:r><mc:AlternateContent><mc:Choice Requires="wpg"><w:drawing>'
        + "".join(
            f"<wps:wsp><wps:txbx><w:txbxContent>{p(t)}</w:txbxContent></wps:txbx></wps:wsp>"
            for t in ("First.", "Second.")
        )
        + "</w:drawing></mc:Choice></mc:AlternateContent></w:r></w:p>"
    )

    assert docx(old + group).text == "Old box.\n\nFirst.\n\nSecond."


def test_a_choice_without_words_gives_way_to_its_fallback() -> None:
    body = (
        f"<w:p>{r('Smile ')}<w:r><mc:AlternateContent><mc:Choice Requires='w16se'>"
        "<w16se:symEx xmlns:w16se='x' w16se:char='1F60A'/></mc:Choice><mc:Fallback><w:t>:)</w:t>"
        "</mc:Fallback></mc:AlternateContent></w:r><w:r><mc:AlternateContent><mc:Choice "
        "Requires='new'><new:ink xmlns:new='x'/></mc:Choice><mc:Fallback><w:t> and wave</w:t>"
        "</mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )

    assert docx(body).text == "Smile 😊 and wave"


def test_a_box_in_a_cell_belongs_to_the_cell() -> None:
    cell = f"<w:tc><w:p>{r('Lamp')}{box('from May')}</w:p></w:tc>"

    assert docx(tbl(tr(tc("Item"), tc("Price")), tr(cell, tc("12")))).text == (
        "| Item | Price |\n| --- | --- |\n| Lamp from May | 12 |"
    )


# Tracked changes


def test_what_was_moved_is_there_once_and_what_was_deleted_is_not() -> None:
    found = docx(
        f"<w:p><w:moveTo>{r('The deposit is 300.')}</w:moveTo></w:p>{p('Second.')}"
        f"<w:p><w:moveFrom>{r('The deposit is 300.')}</w:moveFrom></w:p>"
        f"<w:p>{r('Open until ')}<w:del><w:r><w:delText>8</w:delText></w:r></w:del>"
        f"<w:ins>{r('9')}</w:ins></w:p>"
    )

    assert found.text == "The deposit is 300.\n\nSecond.\n\nOpen until 9"


def test_a_deleted_end_of_a_paragraph_joins_it_to_the_next() -> None:
    found = docx(p("Open until ", "<w:rPr><w:del/></w:rPr>") + p("nine."))

    assert found.text == "Open until nine."


def test_deleted_rows_and_cells_are_gone() -> None:
    found = docx(
        tbl(
            tr(tc("Item"), tc("Price")),
            tr(tc("Lamp"), tc("11"), properties="<w:del/>"),
            tr(tc("Rope"), tc("x", "<w:cellDel/>"), tc("4")),
        )
    )

    assert found.text == "| Item | Price |\n| --- | --- |\n| Rope | 4 |"


# Notes and comments


def notes(kind: str, *texts: str) -> str:
    inner = "".join(
        f'<w:{kind} w:id="{i}"><w:p><w:r><w:{kind}Ref/></w:r>{r(text)}</w:p></w:{kind}>'
        for i, text in enumerate(texts, start=2)
    )
    return (
        f'<w:{kind}s><w:{kind} w:type="separator" w:id="0">{p("-")}</w:{kind}>{inner}</w:{kind}s>'
    )


def test_foot_and_end_notes_follow_their_paragraph_and_join_no_price() -> None:
    found = docx(
        f"<w:p>{r('The fee is 70')}<w:r><w:footnoteReference w:id='2'/></w:r>{r(' euros.')}"
        f"<w:r><w:endnoteReference w:id='2'/></w:r></w:p>{p('Next.')}",
        footnotes=notes("footnote", "On Thursdays 90."),
        endnotes=notes("endnote", "As of May."),
    )

    assert found.text == "The fee is 70 euros.\n\n(On Thursdays 90.)\n\n(As of May.)\n\nNext."


def test_a_note_in_a_cell_stays_in_its_row() -> None:
    cell = f"<w:tc><w:p>{r('12')}<w:r><w:footnoteReference w:id='2'/></w:r></w:p></w:tc>"

    found = docx(
        tbl(tr(tc("Item"), tc("Price")), tr(tc("Lamp"), cell)),
        footnotes=notes("footnote", "With bulb."),
    )

    assert "| Lamp | 12 (With bulb.) |" in found.text


def test_open_comments_are_read_with_their_author_and_settled_ones_are_not() -> None:
    w14 = "http://schemas.microsoft.com/office/word/2010/wordml"
    w15 = "http://schemas.microsoft.com/office/word/2012/wordml"
    comments = (
        "<w:comments>"
        f"<w:comment w:id='1' w:author='Ann Lee'>{p('From June it is 80.')}</w:comment>"
        f"<w:comment w:id='2' w:author='Bob'><w:p xmlns:w14='{w14}' w14:paraId='0000AAAA'>"
        f"{r('Settled.')}</w:p></w:comment></w:comments>"
    )
    done = (
        f"<w15:commentsEx xmlns:w15='{w15}'><w15:commentEx w15:paraId='0000AAAA' w15:done='1'/>"
        "</w15:commentsEx>"
    )
    body = "".join(f"<w:r><w:commentReference w:id='{i}'/></w:r>" for i in (1, 2))

    found = docx(
        f"<w:p>{r('The fee is 70.')}{body}</w:p>", comments=comments, commentsExtended=done
    )

    assert found.text == "The fee is 70.\n\n(comment by Ann Lee: From June it is 80.)"


def test_a_note_that_refers_to_itself_ends_and_is_told_once() -> None:
    inner = f"<w:p>{r('Again')}<w:r><w:footnoteReference w:id='2'/></w:r></w:p>"
    reference = "<w:r><w:footnoteReference w:id='2'/></w:r>"

    found = docx(
        f"<w:p>{r('One.')}{reference * 3}</w:p>",
        footnotes=f"<w:footnotes><w:footnote w:id='2'>{inner}</w:footnote></w:footnotes>",
    )

    assert found.text == "One.\n\n(Again)"


# Formulas


def m(name: str, inner: str = "", **parts: str) -> str:
    held = "".join(f"<m:{key}>{text}</m:{key}>" for key, text in parts.items())
    return f"<m:{name}>{inner}{held}</m:{name}>"


def mr(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (mr("F=m·a"), "F=m·a"),
        (m("f", num=mr("a+b"), den=mr("2")), "(a+b)/2"),
        (m("sSup", e=mr("x"), sup=mr("n+1")), "x^(n+1)"),
        (m("sSup", e=mr("10"), sup=mr("-6")), "10^-6"),
        (m("sSub", e=mr("v"), sub=mr("0")), "v_0"),
        (m("sSubSup", e=mr("x"), sub=mr("i"), sup=mr("2")), "x_i^2"),
        (m("rad", "<m:radPr><m:degHide/></m:radPr>", deg="", e=mr("a+b")), "√(a+b)"),
        (m("rad", deg=mr("3"), e=mr("8")), "∛8"),
        (
            m("nary", '<m:naryPr><m:chr m:val="∑"/></m:naryPr>', sub=mr("i=1"), sup=mr("n"))
            .replace("</m:nary>", f"<m:e>{mr('i')}</m:e></m:nary>"),
            "∑_(i=1)^n i",
        ),
        (m("nary", sub=mr("0"), sup=mr("1"), e=mr("x dx")), "∫_0^1 x dx"),
        (m("d", e=mr("a+b")) + mr("·c"), "(a+b)·c"),
        (
            m("d", '<m:dPr><m:begChr m:val="|"/><m:endChr m:val="|"/></m:dPr>', e=mr("x")),
            "|x|",
        ),
        (m("func", fName=mr("sin"), e=mr("x")), "sin x"),
        (
            m("func", fName=m("limLow", e=mr("lim"), lim=mr("x→0")), e=mr("f")),
            "lim_(x→0) f",
        ),
        (m("acc", '<m:accPr><m:chr m:val="&#x0305;"/></m:accPr>', e=mr("x")), "x̅"),
        (
            m("m", m("mr", "<m:e>" + mr("1") + "</m:e><m:e>" + mr("0") + "</m:e>") * 2),
            "[1, 0; 1, 0]",
        ),
        (mr("𝐸=𝑚") + m("sSup", e=mr("𝑐"), sup=mr("2")), "E=mc^2"),
    ],
)  # fmt: skip
def test_formulas_read_as_a_person_types_them(formula: str, text: str) -> None:
    found = docx(f"<w:p>{r('So ')}<m:oMath>{formula}</m:oMath>{r('.')}</w:p>")

    assert found.text == f"So {text}."


def test_a_formula_on_its_own_line_is_read() -> None:
    inside = f"<w:p><m:oMathPara><m:oMath>{mr('a=b')}</m:oMath></m:oMathPara></w:p>"

    assert docx(p("Then") + inside).text == "Then\n\na=b"


# Signs, scripts, directions


def test_signs_of_fonts_are_characters() -> None:
    sym = "<w:r><w:sym w:font='{}' w:char='{}'/></w:r>"
    symbols = "<w:rFonts w:ascii='Symbol'/>"

    found = docx(
        f"<w:p>{r('Keep at 4 ')}{sym.format('Symbol', 'F0B0')}{r('C ')}"
        f"{sym.format('Wingdings', 'F0FE')}{r(' yes ')}{sym.format('MS Gothic', '2612')}"
        f"{r(' &#xF06D;m', symbols)}"
        "</w:p>"
    )

    assert found.text == "Keep at 4 °C ☑ yes ☒ μm"


def raised(text: str, how: str = "superscript") -> str:
    return r(text, f'<w:vertAlign w:val="{how}"/>')


def test_raised_and_lowered_characters_stay_apart() -> None:
    found = docx(
        f"<w:p>{r('Area 10')}{raised('6')}{r(' m, 10')}{raised('-')}{raised('3')}{r(', 25')}"
        f"{raised('1')}{r(' euros, the 21')}{raised('st')}{r(', CO')}{raised('2', 'subscript')}"
        f"{r(', x')}{raised('max', 'subscript')}{r(', Brand')}{raised('®')}</w:p>"
    )

    assert found.text == ("Area 10^6 m, 10^-3, 25^1 euros, the 21st, CO2, x_max, Brand®")


def test_a_style_may_raise_characters() -> None:
    styles = (
        '<w:styles><w:style w:type="character" w:styleId="Up"><w:name w:val="Up"/><w:rPr>'
        '<w:vertAlign w:val="superscript"/></w:rPr></w:style></w:styles>'
    )
    up = r("2", '<w:rStyle w:val="Up"/>')

    assert docx(f"<w:p>{r('5')}{up}</w:p>", styles=styles).text == "5^2"


@pytest.mark.parametrize("wrapper", ["bdo", "dir", "smartTag", "hyperlink", "customXml", "ins"])
def test_text_in_wrappers_is_read(wrapper: str) -> None:
    inside = f"<w:{wrapper} w:val='rtl'>{r('שלום 70')}</w:{wrapper}>"

    assert docx(f"<w:p>{r('Fee: ')}{inside}{r(' euros')}</w:p>").text == "Fee: שלום 70 euros"


def test_controls_are_read_and_what_they_ask_for_is_not() -> None:
    def control(text: str, properties: str = "") -> str:
        return (
            f"<w:sdt><w:sdtPr>{properties}</w:sdtPr><w:sdtContent>{r(text)}</w:sdtContent></w:sdt>"
        )

    prompt = control("Click here to enter text.", "<w:showingPlcHdr/>")

    assert docx(f"<w:p>{r('Name: ')}{control('Ann')}{prompt}</w:p>").text == "Name: Ann"


def test_of_fields_the_results_are_read_and_never_their_code() -> None:
    nested = (
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>IF </w:instrText></w:r>'
        + field("MERGEFIELD sex", "leaked")
        + r("leaked too")
        + '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
        + r("Dear Ann")
        + '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )
    simple = f"<w:fldSimple w:instr='PAGE'>{r(', page 3')}</w:fldSimple>"

    assert docx(f"<w:p>{nested}{simple}</w:p>").text == "Dear Ann, page 3"


def test_a_field_that_never_ends_hides_nothing_of_the_next_paragraph() -> None:
    broken = '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r></w:p>'

    assert docx(broken + p("Still here.")).text == "Still here."


def test_boxes_and_lists_of_forms_show_what_was_chosen() -> None:
    def form(data: str) -> str:
        begin = f'<w:fldChar w:fldCharType="begin"><w:ffData>{data}</w:ffData></w:fldChar>'
        return f'<w:r>{begin}</w:r><w:r><w:fldChar w:fldCharType="end"/></w:r>'

    ticked = form('<w:checkBox><w:default w:val="0"/><w:checked/></w:checkBox>')
    chosen = form(
        '<w:ddList><w:result w:val="1"/><w:listEntry w:val="North"/><w:listEntry w:val="South"/>'
        "</w:ddList>"
    )

    assert docx(f"<w:p>{ticked}{r(' Hall: ')}{chosen}</w:p>").text == "☒ Hall: South"


def test_hidden_text_is_left_out() -> None:
    assert docx(f"<w:p>{r('Seen.')}{r(' Unseen.', '<w:vanish/>')}</w:p>").text == "Seen."


def test_an_initial_joins_its_word() -> None:
    initial = p("O", '<w:framePr w:dropCap="drop"/>')

    assert docx(initial + p("nly members fire.")).text == "Only members fire."


def test_what_is_written_over_characters_stands_behind_them() -> None:
    above, base = f"<w:rt>{r('とうきょう')}</w:rt>", f"<w:rubyBase>{r('東京')}</w:rubyBase>"
    ruby = f"<w:r><w:ruby>{above}{base}</w:ruby></w:r>"

    assert docx(f"<w:p>{ruby}{r('駅')}</w:p>").text == "東京(とうきょう)駅"


# Tables


def test_merged_cells_repeat_their_value_under_their_own_header() -> None:
    found = docx(
        tbl(
            tr(tc("Hall"), tc("Day"), tc("Chief")),
            tr(tc("North", '<w:vMerge w:val="restart"/>'), tc("Monday"), tc("Ida")),
            tr(tc("", "<w:vMerge/>"), tc("Friday"), tc("Olaf")),
            tr(tc("closed", '<w:gridSpan w:val="2"/>'), tc("nobody")),
            tr(tc("South", '<w:hMerge w:val="restart"/>'), tc("", "<w:hMerge/>"), tc("Eva")),
            tr(tc("Sunday"), tc("Jo"), properties='<w:gridBefore w:val="1"/>'),
        )
    )

    assert found.text.split("\n")[2:] == [
        "| North | Monday | Ida |",
        "| North | Friday | Olaf |",
        "| closed | closed | nobody |",
        "| South | South | Eva |",
        "|  | Sunday | Jo |",
    ]


def test_a_merge_below_a_wide_cell_takes_the_value_of_its_own_column() -> None:
    found = docx(
        tbl(
            tr(tc("wide", '<w:gridSpan w:val="2"/>'), tc("C", '<w:vMerge w:val="restart"/>')),
            tr(tc("a"), tc("b"), tc("", '<w:vMerge w:val="continue"/>')),
        )
    )

    assert found.text.endswith("| wide | wide | C |\n| --- | --- | --- |\n| a | b | C |")


def test_spans_without_end_are_bounded() -> None:
    wide = tr(tc("x", '<w:gridSpan w:val="2000000000"/>'))
    text = "y" * 5000
    tall = (
        tr(tc(text, '<w:vMerge w:val="restart"/>'), tc("a"))
        + tr(tc("", "<w:vMerge/>"), tc("b")) * 2000
    )
    began = time.monotonic()

    found = docx(tbl(wide * 5000) + tbl(tall))

    assert len(found.text) < 3_000_000
    assert time.monotonic() - began < 20


def test_a_table_in_a_cell_stays_in_its_row() -> None:
    inner = f"<w:tc>{p('Hours')}{tbl(tr(tc('Mon'), tc('8-17')), tr(tc('Tue'), tc('9-12')))}</w:tc>"

    found = docx(tbl(tr(tc("Branch"), tc("When")), tr(tc("Husum"), inner)))

    assert found.text.endswith("| Husum | Hours Mon, 8-17; Tue, 9-12 |")


def test_a_frame_of_one_cell_around_a_table_leaves_it_a_table() -> None:
    inner = (
        f"<w:tc>{p('Fares')}{tbl(tr(tc('Place'), tc('Fare')), tr(tc('Juist'), tc('18')))}</w:tc>"
    )

    assert docx(tbl(tr(inner))).text == ("Fares\n\n| Place | Fare |\n| --- | --- |\n| Juist | 18 |")


def test_bars_in_cells_part_no_cells() -> None:
    assert "| a\\|b | c |" in docx(tbl(tr(tc("a|b"), tc("c")))).text


def test_tables_nested_beyond_reason_are_read_as_words() -> None:
    body = p("deep")
    for _ in range(60):
        body = f"<w:tbl><w:tr><w:tc>{body}<w:p/></w:tc></w:tr></w:tbl>"

    assert docx(body).text == "deep"


# Numbers of lists


def level(number: int, form: str, pattern: str, more: str = "") -> str:
    return (
        f'<w:lvl w:ilvl="{number}"><w:start w:val="1"/><w:numFmt w:val="{form}"/>{more}'
        f'<w:lvlText w:val="{pattern}"/></w:lvl>'
    )


NUMBERING = (
    '<w:numbering><w:abstractNum w:abstractNumId="1">'
    + level(0, "decimal", "%1.")
    + level(1, "lowerLetter", "%2)")
    + level(2, "upperRoman", "%1.%2.%3", "<w:isLgl/>")
    + '</w:abstractNum><w:abstractNum w:abstractNumId="2">'
    + level(0, "bullet", "·")
    + '</w:abstractNum><w:abstractNum w:abstractNumId="3">'
    + level(0, "upperRoman", "Article %1:")
    + level(1, "decimal", "%1.%2")
    + '</w:abstractNum><w:abstractNum w:abstractNumId="4">'
    + level(0, "decimal", "%1", '<w:pStyle w:val="Part"/>')
    + level(1, "decimal", "%1.%2", '<w:pStyle w:val="Section"/>')
    + '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    '<w:num w:numId="2"><w:abstractNumId w:val="2"/></w:num>'
    '<w:num w:numId="3"><w:abstractNumId w:val="3"/></w:num>'
    '<w:num w:numId="4"><w:abstractNumId w:val="4"/></w:num>'
    '<w:num w:numId="5"><w:abstractNumId w:val="1"/><w:lvlOverride w:ilvl="0">'
    '<w:startOverride w:val="7"/></w:lvlOverride></w:num></w:numbering>'
)


def li(text: str, list_id: int = 1, depth: int = 0) -> str:
    return p(text, f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{list_id}"/></w:numPr>')


def test_lists_keep_their_numbers_over_levels_and_begin_anew_below_each() -> None:
    found = docx(
        li("Open") + li("left", depth=1) + li("right", depth=1) + li("far", depth=2)
        + p("Text between.") + li("Close") + li("up", depth=1) + li("Dot", 2),
        numbering=NUMBERING,
    )  # fmt: skip

    assert found.text == (
        "1. Open\n  a) left\n  b) right\n    1.2.1 far\n\nText between.\n\n2. Close\n  a) up\n- Dot"
    )


def test_a_list_begins_where_it_says_and_goes_on_over_lists_of_its_kind() -> None:
    found = docx(li("one") + li("seven", 5) + li("eight", 5), numbering=NUMBERING)

    assert found.text == "1. one\n7. seven\n8. eight"


def test_patterns_with_words_and_upper_levels() -> None:
    found = docx(li("Fees", 3) + li("Paid yearly", 3, 1) + li("Deposit", 3), numbering=NUMBERING)

    assert found.text == "Article I: Fees\n  I.1 Paid yearly\nArticle II: Deposit"


def test_headings_are_numbered_by_their_styles() -> None:
    styles = "<w:styles>" + "".join(
        f'<w:style w:styleId="{key}"><w:name w:val="heading {n}"/><w:pPr><w:numPr>'
        '<w:numId w:val="4"/></w:numPr></w:pPr></w:style>'
        for n, key in ((1, "Part"), (2, "Section"))
    ) + "</w:styles>"  # fmt: skip

    found = docx(
        p("Fees", '<w:pStyle w:val="Part"/>')
        + p("Yearly", '<w:pStyle w:val="Section"/>')
        + p("Monthly", '<w:pStyle w:val="Section"/>')
        + p("Unnumbered", '<w:pStyle w:val="Section"/><w:numPr><w:numId w:val="0"/></w:numPr>'),
        numbering=NUMBERING,
        styles=styles,
    )

    assert found.text == "# 1 Fees\n\n## 1.1 Yearly\n\n## 1.2 Monthly\n\n## Unnumbered"
    assert found.title == "1 Fees"


def test_a_numbered_column_without_words_shows_its_numbers() -> None:
    cell = f"<w:tc>{li('')}</w:tc>"

    found = docx(
        tbl(tr(tc("No."), tc("Step")), tr(cell, tc("Open")), tr(cell, tc("Close"))),
        numbering=NUMBERING,
    )

    assert found.text.endswith("| 1. | Open |\n| 2. | Close |")


def test_a_list_that_begins_at_two_thousand_millions_is_no_bomb() -> None:
    numbering = NUMBERING.replace(
        '<w:startOverride w:val="7"/>', '<w:startOverride w:val="2000000000"/>'
    )
    numbering = numbering.replace(level(0, "decimal", "%1."), level(0, "lowerLetter", "%1."))

    assert docx(li("far", 5), numbering=numbering).text == "2000000000. far"


# Titles and other variants


@pytest.mark.parametrize("stated", ["Word Document", "Document1", "Microsoft Word - fees.doc", " "])
def test_a_title_that_a_program_made_up_gives_way_to_the_first_heading(stated: str) -> None:
    import docx as library

    document = library.Document()
    document.core_properties.title = stated
    document.add_paragraph("Preface.")
    document.add_heading("Holiday rules", level=2)
    out = io.BytesIO()
    document.save(out)

    assert read_docx(out.getvalue(), CONFIG)[0].title == "Holiday rules"


def test_without_properties_and_headings_the_file_gives_the_title() -> None:
    assert docx(p("Words.")).title == ""


def test_a_style_made_from_a_heading_is_one_and_a_heading_of_contents_is_not() -> None:
    styles = (
        '<w:styles><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Own"><w:name w:val="Chapter"/><w:basedOn w:val="berschrift1"/>'
        '</w:style><w:style w:styleId="Toc"><w:name w:val="TOC Heading"/><w:basedOn '
        'w:val="berschrift1"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style></w:styles>'
    )

    found = docx(
        p("Contents", '<w:pStyle w:val="Toc"/>') + p("Kilns", '<w:pStyle w:val="Own"/>'),
        styles=styles,
    )

    assert (found.text, found.title) == ("Contents\n\n# Kilns", "Kilns")


def test_the_strict_variant_is_read() -> None:
    strict = a_docx_of(p("Fees", '<w:pStyle w:val="Heading1"/>') + p("It is 70."), strict=True)

    (found,) = read_docx(strict, CONFIG)

    assert (found.text, found.title) == ("# Fees\n\nIt is 70.", "Fees")


def test_a_page_that_another_program_put_in_is_read() -> None:
    page = "<html><body><h1>Fees</h1><p>It is 70 euros.</p></body></html>"
    mail = (
        "MIME-Version: 1.0\nContent-Type: multipart/related; boundary=b\n\n--b\n"
        f"Content-Type: text/html; charset=utf-8\n\n{page.replace('70', '80')}\n--b--\n"
    )
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    chunks = "".join(f"<w:altChunk xmlns:r='{rel}' r:id='{i}'/>" for i in ("aFChunk1", "aFChunk2"))

    found = docx(chunks, **{"aFChunk1:chunk.html": page, "aFChunk2:chunk.mht": mail})

    assert "It is 70 euros." in found.text
    assert "It is 80 euros." in found.text


def test_diagrams_and_charts_give_their_words_and_numbers() -> None:
    dgm = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
    a = "http://schemas.openxmlformats.org/drawingml/2006/main"
    c = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    def point(identifier: str, text: str, kind: str = "node") -> str:
        return (
            f'<dgm:pt modelId="{identifier}" type="{kind}"><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r>'
            "</a:p></dgm:t></dgm:pt>"
        )

    data = (
        f'<dgm:dataModel xmlns:dgm="{dgm}" xmlns:a="{a}"><dgm:ptLst>{point("0", "", "doc")}'
        f"{point('2', 'Clerk')}{point('1', 'Chief')}{point('9', 'Chief', 'pres')}</dgm:ptLst>"
        '<dgm:cxnLst><dgm:cxn srcId="0" destId="1" srcOrd="0"/>'
        '<dgm:cxn srcId="1" destId="2" srcOrd="0"/></dgm:cxnLst></dgm:dataModel>'
    )
    chart = (
        f'<c:chartSpace xmlns:c="{c}" xmlns:a="{a}"><c:chart><c:title><c:tx><c:strRef><c:strCache>'
        '<c:pt idx="0"><c:v>Visitors</c:v></c:pt></c:strCache></c:strRef></c:tx></c:title>'
        "<c:plotArea><c:barChart><c:ser><c:tx><c:v>Museum</c:v></c:tx><c:cat><c:strRef><c:strCache>"
        '<c:pt idx="0"><c:v>May</c:v></c:pt></c:strCache></c:strRef></c:cat><c:val><c:numRef>'
        '<c:numCache><c:formatCode>0%</c:formatCode><c:pt idx="0"><c:v>0.25</c:v></c:pt>'
        "</c:numCache></c:numRef></c:val></c:ser></c:barChart><c:valAx><c:title><c:tx><c:rich>"
        "<a:p><a:r><a:t>Share of all</a:t></a:r></a:p></c:rich></c:tx></c:title></c:valAx>"
        "</c:plotArea></c:chart></c:chartSpace>"
    )
    body = (
        f'<w:p><w:r><w:drawing><dgm:relIds xmlns:dgm="{dgm}" xmlns:r="{rel}" r:dm="diagramData"/>'
        f'</w:drawing></w:r><w:r><w:drawing><c:chart xmlns:c="{c}" xmlns:r="{rel}" r:id="chart"/>'
        "</w:drawing></w:r></w:p>"
    )

    found = docx(body, diagramData=data, chart=chart)

    assert found.text == (
        "- Chief\n  - Clerk\n\nVisitors\n\n(Share of all)\n\n"
        "|  | Museum |\n| --- | --- |\n| May | 25% |"
    )


# Hostile files


def test_an_object_with_entities_is_left_out_and_named() -> None:
    bomb = "<!DOCTYPE x [<!ENTITY a 'b'>]><w:footnotes/>"

    found = docx(p("Words."), footnotes=bomb)
    referring = docx(
        f"<w:p>{r('Words.')}<w:r><w:footnoteReference w:id='2'/></w:r></w:p>", footnotes=bomb
    )

    assert found.text == referring.text == "Words."
    assert "document type" in referring.metadata["warnings"]


def test_a_package_without_a_document_is_refused() -> None:
    with pytest.raises(ExtractionError, match="not a whole DOCX file"):
        read_docx(zipped({"[Content_Types].xml": "<Types/>"}), CONFIG)


def test_a_long_note_that_is_referred_to_often_is_told_once() -> None:
    reference = "<w:r><w:footnoteReference w:id='2'/></w:r>"
    found = docx(f"<w:p>{reference}</w:p>" * 500, footnotes=notes("footnote", "z" * 10_000))

    assert len(found.text) < 20_000


def test_a_document_nested_beyond_reason_ends_no_process(tmp_path: Path) -> None:
    deep: Any = "<w:ins>" * 3000 + r("x") + "</w:ins>" * 3000
    with Parser(CONFIG) as parser:
        with pytest.raises(ExtractionError, match="not a whole DOCX file"):
            parser.parse(".docx", a_docx_of(f"<w:p>{deep}</w:p>"))
        formula = "<m:sSup><m:e>" * 90 + mr("x") + "</m:e></m:sSup>" * 90
        (found,) = parser.parse(".docx", a_docx_of(f"<w:p><m:oMath>{formula}</m:oMath></w:p>"))

    assert "x" in found.text


def test_a_document_whose_relations_are_damaged_is_read_without_them() -> None:
    data = rewritten(a_docx_of(p("Words.")), "word/_rels/document.xml.rels", b"<Relationships")

    (found,) = read_docx(data, CONFIG)

    assert found.text == "Words."
    assert "was not read" in found.metadata["warnings"]
