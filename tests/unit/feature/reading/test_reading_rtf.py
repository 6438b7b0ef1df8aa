r"""RTF: tables, lists, notes and characters as word processors write them."""

from __future__ import annotations

import time

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.office.rtf import read_rtf

CONFIG = SourcesConfig()
FONTS = (
    r"{\fonttbl{\f0\fcharset0 Arial;}{\f3\froman\fcharset2 Symbol;}"
    r"{\f4\fnil\fcharset2 Wingdings;}}"
)


def rtf(body: str) -> Extracted:
    data = "{\\rtf1\\ansi\\ansicpg1252\\deff0 " + FONTS + body + "}"
    (found,) = read_rtf(data.encode("ascii"), CONFIG)
    return found


def row(*cells: str, edges: tuple[int, ...], merged: tuple[str, ...] = ()) -> str:
    given = "".join(
        f"{merged[i] if i < len(merged) else ''}\\cellx{edge}" for i, edge in enumerate(edges)
    )
    texts = "".join(f"\\pard\\intbl {cell}\\cell " for cell in cells)
    return f"\\trowd {given}{texts}\\row "


def test_raised_and_lowered_characters_stay_apart() -> None:
    found = rtf(
        r"Area 10{\super 6} m, 25{\up6 1} euros, the 21{\super st}, CO\sub 2\nosupersub , "
        r"x{\dn4 max}\plain  end\par"
    )

    assert found.text == "Area 10^6 m, 25^1 euros, the 21st, CO2, x_max end"


def test_signs_of_fonts_are_characters() -> None:
    assert rtf(r"4 {\f3\'b0}C {\f4\'fe} yes {\f3 \u-3987 ?}m\par").text == "4 °C ☑ yes μm"


def test_a_field_that_shows_a_sign_shows_it() -> None:
    symbol = r'{\field{\*\fldinst SYMBOL 176 \\f "Symbol"}{\fldrslt{\f3\'b0}}}'

    assert rtf(rf"4 {symbol}C\par").text == "4 °C"


def test_lists_keep_their_numbers() -> None:
    found = rtf(
        r"\pard\ls1{\listtext\pard\plain 1.\tab}Open\par"
        r"\pard\ls1\ilvl1{\listtext\pard\plain a)\tab}left\par"
        r"\pard{\pntext\f4\'6c\tab}dot\par{\listtext\f0 o\tab}ring\par\pard Text.\par"
    )

    assert found.text == "1. Open\n  a) left\n- dot\n- ring\n\nText."


def test_a_numbered_heading_keeps_its_number() -> None:
    found = rtf(r"\pard\outlinelevel0{\listtext 2.1\tab}Fees\par\pard It is 70.\par")

    assert (found.text, found.title) == ("# 2.1 Fees\n\nIt is 70.", "2.1 Fees")


def test_notes_and_comments_follow_their_paragraph_and_join_no_price() -> None:
    found = rtf(
        r"The fee is 70{\super\chftn{\footnote\pard\plain{\super\chftn} On Thursdays\par 90.}}"
        r" euros.{\*\atnid A}{\*\atnauthor Ann}\chatn{\*\annotation{\*\atndate 1}From June 80.}"
        r"\par Next.\par"
    )

    assert found.text == (
        "The fee is 70 euros.\n\n(On Thursdays 90.)\n\n(comment by Ann: From June 80.)\n\nNext."
    )


def test_a_text_box_follows_its_paragraph_and_is_there_once() -> None:
    found = rtf(
        r"Bay 6.{\shp{\*\shpinst\shpleft1{\sp{\sn shapeType}{\sv 202}}{\shptxt\pard Wear goggles."
        r"\par}}{\shprslt{\*\do\dptxbx{\dptxbxtext\pard Wear goggles.\par}}}} Ask.\par"
    )
    old = rtf(r"Bay 6.{\*\do\dobxpage\dptxbx{\dptxbxtext\pard Old box.\par}\dpx1}\par")

    assert found.text == "Bay 6. Ask.\n\nWear goggles."
    assert old.text == "Bay 6.\n\nOld box."


def test_what_was_deleted_is_gone_and_what_was_inserted_is_there() -> None:
    assert rtf(r"Until {\deleted 8}{\revised 9}.\par").text == "Until 9."


def test_merged_cells_repeat_their_value() -> None:
    three = (1000, 2000, 3000)
    found = rtf(
        row("Hall", "Day", "Chief", edges=three)
        + row("North", "Mon", "Ida", edges=three, merged=(r"\clvmgf",))
        + row("", "Fri", "Olaf", edges=three, merged=(r"\clvmrg",))
        + row("all", "", "Eva", edges=three, merged=(r"\clmgf", r"\clmrg"))
        + row("closed", "nobody", edges=(2010, 3000))
        + r"\pard After.\par"
    )

    assert found.text.split("\n")[2:] == [
        "| North | Mon | Ida |", "| North | Fri | Olaf |", "| all | all | Eva |",
        "| closed | closed | nobody |", "", "After.",
    ]  # fmt: skip


def test_a_table_in_a_cell_stays_in_its_row() -> None:
    def inner(*cells: str) -> str:
        texts = "".join(rf"\pard\intbl\itap2 {c}\nestcell{{\nonesttables\par}}" for c in cells)
        return texts + r"{\*\nesttableprops\trowd\cellx500\cellx900\nestrow}{\nonesttables\par}"

    found = rtf(
        row("Branch", "When", edges=(1000, 2000))
        + r"\trowd\cellx1000\cellx2000\pard\intbl Husum\cell \pard\intbl\itap1 Hours\par "
        + inner("Mon", "8-17")
        + inner("Tue", "9-12")
        + r"\pard\intbl\itap1 Closed on feasts.\cell\row\pard After.\par"
    )

    assert found.text == (
        "| Branch | When |\n| --- | --- |\n"
        "| Husum | Hours Mon, 8-17; Tue, 9-12 Closed on feasts. |\n\nAfter."
    )


def test_a_note_and_a_number_in_a_cell_stay_in_it() -> None:
    found = rtf(
        row("No.", "Price", edges=(1, 2))
        + row(r"{\listtext 1.\tab}Lamp", r"12{\footnote With bulb.}", edges=(1, 2))
    )

    assert "| 1. Lamp | 12 (With bulb.) |" in found.text


def test_formulas_are_text() -> None:
    formula = (
        r"{\mmath{\*\moMath{\mr\mscr0\msty2 F=}"
        r"{\mf{\mfPr{\mtype bar}}{\mnum{\mr a+b}}{\mden{\mr 2}}}"
        r"{\md{\mdPr{\mbegChr [}{\mendChr ]}}{\me{\msSup{\me{\mr x}}{\msup{\mr 2}}}}}}}"
    )

    assert rtf(rf"So {formula}.\par").text == "So F=(a+b)/2[x^2]."


def test_a_title_that_a_program_made_up_gives_way() -> None:
    found = rtf(r"{\info{\title Microsoft Word - fees.doc}}\pard\outlinelevel0 Fees\par")

    assert found.title == "Fees"


@pytest.mark.parametrize(
    "body",
    [
        "{\\footnote " * 900,
        r"\trowd\cellx1" * 20_000 + r"\cell\row" * 20_000,
        r"{\*\moMath" + r"{\msSup{\me " * 400 + "x",
        r"\itap2000000000\nestcell" * 5000,
        r"{\listtext " * 900,
        r"\u" + "9" * 10 + " x",
        r"\trowd" + r"\clvmrg\cellx2000000000" * 3000 + r"\cell" * 3000 + r"\row",
    ],
)
def test_hostile_files_end_soon(body: str) -> None:
    began = time.monotonic()

    rtf(body)

    assert time.monotonic() - began < 20
