"""What ordinary pages hold beside paragraphs: short blocks, panels, numbered lists, spans."""

from __future__ import annotations

import time

import pytest

from fti.pipelines.feature.reading.readers import READERS, SourcesConfig
from fti.pipelines.feature.reading.readers.web.html import read_html, render_html

_LONG = (
    "The harbour office answers every question about moorings, fees and the crane, and asks all "
    "guests to sign the book on arrival so that the watch knows who sleeps aboard that night."
)
_ARTICLE = "".join(f"<p>{_LONG} Berth {i} is kept free for the lifeboat.</p>" for i in range(9))


def text_of(body: str) -> str:
    (found,) = read_html(f"<html><body>{body}</body></html>".encode(), SourcesConfig())
    return found.text


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        # a list of prices
        (
            f"<div><p>{_LONG}</p></div><div><table><tr><th>Boat</th><th>Fee</th></tr>"
            "<tr><td>Dinghy</td><td>7.50</td></tr></table></div>",
            "| Dinghy | 7.50 |",
        ),
        # lines that tell how to reach someone, also as links to a telephone
        (
            f"<div id='a'><p>{_LONG}</p></div><div><p>Crane: <a href='tel:+4312'>ext. 12</a></p>"
            "</div>",
            "Crane: ext. 12",
        ),
        (
            f"<div><p>{_LONG}</p></div><dl><dt>Depth</dt><dd>3.1 m</dd></dl>",
            "Depth: 3.1 m",
        ),
        # a wiki's export
        (
            "<div id='page'><div id='content'><div class='meta'>Changed by Bo</div>"
            f"<div class='wiki-content'><p>{_LONG}</p><div class='wrap'><table><tbody><tr>"
            "<td>Gate</td><td>8812</td></tr></tbody></table></div></div></div></div>",
            "| Gate | 8812 |",
        ),
        # a word processor's page
        (
            f"<div class=WordSection1><p class=MsoNormal>{_LONG}</p><p class=MsoNormal>Fees</p>"
            "<p class=MsoListParagraph><![if !supportLists]>1.<![endif]>Kayak 4 euros</p></div>",
            "Kayak 4 euros",
        ),
        # beside an article that holds most of the text
        (
            f"<article><h1>Harbour</h1>{_ARTICLE}</article>"
            "<div class='hours'><h2>Crane</h2><ul><li>Monday: 8 to 12</li></ul></div>",
            "- Monday: 8 to 12",
        ),
        # in a banner and in a sidebar
        (f"<header><p>Call 0431 123 4567</p></header><div><p>{_LONG}</p></div>", "0431 123 4567"),
        (
            f"<div>{_ARTICLE}</div><aside><h3>Office</h3><p>Friday 8:00 - 12:30</p></aside>",
            "Friday 8:00 - 12:30",
        ),
    ],
)
def test_short_blocks_beside_a_long_paragraph_stay(body: str, kept: str) -> None:
    text = text_of(body)

    assert kept in text
    assert "sign the book on arrival" in text


def test_lists_of_links_beside_the_content_go() -> None:
    links = "".join(f"<li><a href='/{i}'>Another harbour {i}</a></li>" for i in range(12))

    text = text_of(
        f"<div><ul>{links}</ul><div><h1>Harbour</h1>{_ARTICLE}"
        "<table><tr><td>Water</td><td>2.10</td></tr></table></div></div>"
    )

    assert "Another harbour" not in text
    assert "| Water | 2.10 |" in text
    assert "Berth 8" in text


@pytest.mark.parametrize("count", [1, 2, 5])
def test_teasers_in_articles_are_not_taken_for_the_content(count: int) -> None:
    teaser = (
        "<article><h3><a href='/x'>Ten knots to know</a></h3><p>Which knot holds best in which "
        "weather, and how to <a href='/x'>learn them</a> in an evening at home.</p></article>"
    )

    text = text_of(f"<div id='doc'><h1>Harbour</h1>{_ARTICLE}</div><div>{teaser * count}</div>")

    assert "Berth 0" in text
    assert "Berth 8" in text


def test_an_article_that_is_all_of_the_page_is_its_content() -> None:
    assert text_of("<article><h1>Tide</h1><p>High at nine.</p></article>") == (
        "# Tide\n\nHigh at nine."
    )


def test_questions_in_buttons_are_headings_and_hidden_panels_content() -> None:
    text = text_of(
        "<main><h2><button aria-expanded='false'>Who may moor?<svg></svg></button></h2>"
        "<div hidden><p>Members; <a href='/join'>join</a> at the office or by mail.</p></div>"
        "<h2><button>Is there water?</button></h2><div style='display:none'><ul><li>Pier 2</li>"
        "</ul></div><dl><dt><button>Power?</button></dt><dd hidden>16 ampere</dd></dl>"
        "<details><summary><button>Showers?</button></summary><p>Until ten.</p></details></main>"
    )

    assert text == (
        "## Who may moor?\n\nMembers; join at the office or by mail.\n\n"
        "## Is there water?\n\n- Pier 2\n\nPower?: 16 ampere\n\nShowers?\n\nUntil ten."
    )


def test_a_button_beside_the_words_of_a_heading_is_a_control() -> None:
    assert text_of("<main><h2>Install the crane <button>Copy</button></h2></main>") == (
        "## Install the crane"
    )


def test_a_button_that_opens_a_panel_names_it() -> None:
    text = text_of(
        "<main><button class='accordion'>May I fish?</button><div class='panel'>From pier 3.</div>"
        "<button aria-controls='p2'>May I swim?</button><div id='p2' hidden>No.</div>"
        "<button aria-expanded='false' aria-controls='m'>Menu</button>"
        "<ul id='m' hidden><li><a href='/a'>Start</a></li></ul><button>Buy</button></main>"
    )

    assert text == "May I fish?\n\nFrom pier 3.\n\nMay I swim?\n\nNo."


def test_the_name_of_a_tab_stands_over_its_panel() -> None:
    text = text_of(
        "<main><ul role='tablist'><li><a role='tab' href='#s'>Summer</a></li>"
        "<li><button role='tab' aria-controls='w'>Winter</button></li></ul>"
        "<div id='s'><p>Open until nine.</p></div><div id='w' hidden><p>Open until four.</p></div>"
        "</main>"
    )

    assert text == "Summer\n\nOpen until nine.\n\nWinter\n\nOpen until four."


def test_a_heading_by_role_is_a_heading() -> None:
    text = text_of("<main><div role='heading' aria-level='3'><button>Ice?</button></div></main>")

    assert text == "### Ice?"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<ul><li>Rope</li><ul><li>Six metres</li></ul><li>Tar</li></ul>",
         "- Rope\n  - Six metres\n- Tar"),
        ("<ol><li>Stop</li><ol type=a><li>Look</li></ol><li>Go</li></ol>",
         "1. Stop\n   a. Look\n2. Go"),
        ("<ul><ul><li>Alone</li></ul></ul>", "- Alone"),
        ("<ul>Bring <b>this</b>:<li>Rope</li>and a lamp</ul>",
         "Bring this:\n\n- Rope\n\nand a lamp"),
        ("<ul><p>Bring:</p><div><li>Rope</li></div><li>Tar</li></ul>",
         "Bring:\n\n- Rope\n- Tar"),
        ("<ol><li>One<ul><li>inner</li></ul></li></ol>", "1. One\n   - inner"),
        ("<dl>Depths<dt>East</dt><dd>2 m</dd><dd>3 m at flood</dd><dt>A</dt><dt>B</dt>"
         "<dd>dry</dd></dl>", "Depths\n\nEast: 2 m\n\nEast: 3 m at flood\n\nA, B: dry"),
    ],
)  # fmt: skip
def test_nothing_in_a_list_is_lost(markup: str, text: str) -> None:
    assert text_of(f"<main>{markup}</main>") == text


@pytest.mark.parametrize(
    ("attributes", "items", "text"),
    [
        ("start=9", "<li>a<li>b", "9. a\n10. b"),
        ("", "<li>a<li value=12>b<li>c", "1. a\n12. b\n13. c"),
        ("type=a start=26", "<li>x<li>y", "z. x\naa. y"),
        ("type=A", "<li>x<li>y", "A. x\nB. y"),
        ("type=i start=4", "<li>x<li>y", "iv. x\nv. y"),
        ("type=I start=1999", "<li>x", "MCMXCIX. x"),
        ("type=I start=4000", "<li>x", "4000. x"),
        ("type=a start=0", "<li>x", "0. x"),
        ("reversed", "<li>a<li>b<li>c", "3. a\n2. b\n1. c"),
        ("reversed start=11", "<li>a<li>b", "11. a\n10. b"),
        ("style='list-style-type: lower-roman'", "<li>a<li>b", "i. a\nii. b"),
        ("start=-1", "<li>a<li>b", "-1. a\n0. b"),
        ("start=4x", "<li>a", "4. a"),
        ("start=x", "<li>a", "1. a"),
        ("start=99999999999999999999", "<li>a", "1. a"),
        ("", "<li><h3>Seat</h3><p>Kiel</p><li><h3>Year</h3>", "### 1. Seat\n\nKiel\n\n### 2. Year"),
    ],
)
def test_numbers_of_items_are_those_that_the_page_shows(
    attributes: str, items: str, text: str
) -> None:
    assert text_of(f"<main><ol {attributes}>{items}</ol></main>") == text


def rows(markup: str) -> list[str]:
    return [line for line in text_of(f"<main><table>{markup}</table></main>").split("\n") if line]


def test_a_span_repeats_its_value_in_each_row_and_column() -> None:
    assert rows(
        "<tr><th>Pier</th><th>Berth</th><th>Fee</th></tr>"
        "<tr><td rowspan=3>East</td><td>1</td><td rowspan=2>7</td></tr><tr><td>2</td></tr>"
        "<tr><td colspan=2>closed</td></tr><tr><td>West</td><td>4 | 5</td><td>9</td></tr>"
    ) == [
        "| Pier | Berth | Fee |",
        "| --- | --- | --- |",
        "| East | 1 | 7 |",
        "| East | 2 | 7 |",
        "| East | closed | closed |",
        r"| West | 4 \| 5 | 9 |",
    ]


def test_headers_of_two_rows_become_one() -> None:
    assert rows(
        "<thead><tr><th rowspan=2>Pier</th><th colspan=2>2025</th></tr>"
        "<tr><th>Plan</th><th>Actual</th></tr></thead>"
        "<tr><td>East</td><td>4</td><td>5</td></tr>"
    ) == ["| Pier | 2025 Plan | 2025 Actual |", "| --- | --- | --- |", "| East | 4 | 5 |"]


def test_a_title_across_all_columns_is_said_once() -> None:
    assert rows(
        "<tr><td colspan=100>Fees of 2026</td></tr><tr><td>Pier</td><td>Fee</td></tr>"
        "<tr><td colspan=2>Summer</td></tr><tr><td>East</td><td>7</td></tr>"
    ) == ["Fees of 2026", "| Pier | Fee |", "| --- | --- |", "| Summer |  |", "| East | 7 |"]


def test_a_span_ends_with_its_section() -> None:
    assert rows(
        "<tbody><tr><td rowspan=0>East</td><td>1</td></tr><tr><td>2</td></tr></tbody>"
        "<tbody><tr><td>West</td><td>3</td></tr></tbody>"
    ) == ["| East | 1 |", "| --- | --- |", "| East | 2 |", "| West | 3 |"]


def test_one_column_keeps_its_paragraphs() -> None:
    assert rows("<tr><td><p>One.</p><p>Two.</p></td></tr>") == ["One.", "Two."]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("10<sup>6</sup> pulses", "10^6 pulses"),
        ("10<sup>-3</sup> m", "10^-3 m"),
        ("10<sup>6</sup>5", "10^(6)5"),
        ("x<sup>n+1</sup>", "x^(n+1)"),
        ("25<sup>1</sup> euros", "25^1 euros"),
        ("25<sup><a href='#n1'>1</a></sup> euros", "25[1] euros"),
        ("25<sup class=reference><a href='#c'>[3]</a></sup>", "25[3]"),
        ("25<sup>*</sup> euros", "25* euros"),
        ("40 m<sup>2</sup>", "40 m^2"),
        ("12,<sup>99</sup> euros", "12,99 euros"),
        ("12<sup>99</sup> euros", "12^99 euros"),
        ("the 21<sup>st</sup> of May", "the 21st of May"),
        ("Tarol<sup>TM</sup>", "Tarol™"),
        ("1<sup>3</sup>/<sub>4</sub> inch", "1 3/4 inch"),
        ("CO<sub>2</sub> sensor", "CO2 sensor"),
        ("a<sub>1</sub>2", "a_(1)2"),
        ("V<sub>max</sub>", "V_max"),
        ("log 3<sub>2</sub>", "log 3_2"),
        ("<ruby>漢<rt>かん</rt></ruby>字", "漢(かん)字"),
    ],
)
def test_raised_and_lowered_signs_stay_apart(markup: str, text: str) -> None:
    assert text_of(f"<main><p>{markup}</p></main>") == text


def test_a_note_in_a_book_is_text() -> None:
    page = b"<body><p>Fee: 7</p><aside epub:type='footnote'><p>Except in May.</p></aside></body>"

    assert render_html(page, SourcesConfig(), whole=True).text == "Fee: 7\n\nExcept in May."


_MANY = 1500


@pytest.mark.heavy
@pytest.mark.parametrize(
    "body",
    [
        "<table>" + "<tr><td rowspan=2000000000 colspan=2000000000>x<td>y" * _MANY,
        "<table><tr><td rowspan=2000000000>" + "long " * _MANY + "<tr><td>a<td>b" * _MANY,
        "<table>" + "<tr><td rowspan=60000>x" * _MANY,
        "<table><tr>" + "<td>x" * _MANY + "<tr><td>y" * _MANY,
        "<b>x</b><script>1</script><!-- c -->" * _MANY,
        "<p>" + "10<sup>6</sup><img src=x>" * _MANY,
        "<div id=p>" + "text " * _MANY + "</div>" + "<a role=tab href=#p>q</a>" * _MANY,
        "<h3>" + "<button>q</button>" * _MANY,
        "<div hidden>" * 150 + "<a>x</a>yyyy " * _MANY,
        "<aside>" * 150 + "<p>Tel 040 1234567890</p>" * _MANY,
        "<ul><li>a" * 90 + "<li>x" * _MANY,
        "<ul>" * 190 + "<li>x" * _MANY,
        "<table><tr><td>" * 60 + "<table>" + "<tr><td>y" * _MANY,
        "<ol reversed type=i start=2147483647>" + "<li value=-2147483648>x" * _MANY,
    ],
)
def test_hostile_pages_take_bounded_time_and_give_bounded_text(body: str) -> None:
    started = time.process_time()

    text = text_of(body)

    assert time.process_time() - started < 20
    assert len(text) < 40 * len(body)


def test_comments_in_markdown_are_no_text() -> None:
    source = """<!-- draft: not for guests -->
# Harbour

Fee: 7 <!-- was 9 --> euros.
<!--
## Old rules

No dogs.
-->
Use `<!-- x -->` so:

```html
<!-- shown -->
```

    <!-- indented code -->

- Rope

    <!-- of an item -->
    and tar

A sign <!-- that nobody closes.
"""
    (found,) = READERS[".md"].read(source.encode(), SourcesConfig())

    assert found.title == "Harbour"
    assert (
        found.text
        == """# Harbour

Fee: 7  euros.
Use `<!-- x -->` so:

```html
<!-- shown -->
```

    <!-- indented code -->

- Rope

    and tar

A sign <!-- that nobody closes.
"""
    )


def test_words_that_a_page_took_back_are_no_text_and_struck_ones_are_marked() -> None:
    text = text_of(
        "<p>The pump costs <del>199 &euro;</del> <ins>149 &euro;</ins>. Gate <s>4</s> 6, "
        "<strike>Monday</strike> Tuesday, <span style='color:red; text-decoration:line-through'>"
        "80 kg</span> 95 kg.</p><table><tr><th>Item</th><th>Price</th></tr><tr><td>Hose</td>"
        "<td><s>19</s> 12</td></tr></table>"
    )
    assert "The pump costs 149 €. Gate ~~4~~ 6, ~~Monday~~ Tuesday, ~~80 kg~~ 95 kg." in text
    assert "| Hose | ~~19~~ 12 |" in text


def test_a_deletion_that_is_not_closed_takes_no_blocks_with_it() -> None:
    assert "Berth 7" in text_of("<div><del>199<p>Berth 7 is free.</p><p>Berth 8 is not.</p></div>")


def test_a_short_answer_with_links_below_its_heading_is_no_menu() -> None:
    text = text_of(
        f"<main><h1>Help</h1><p>{_LONG}</p><h3><button aria-controls=a>To islands?</button></h3>"
        "<div id=a hidden><p>Add <a href='/ferry'>the ferry</a>: 11 days.</p></div>"
        "<h3><button aria-controls=m>Company</button></h3><div id=m hidden><ul>"
        "<li><a href=/1>About us</a></li><li><a href=/2>Careers</a></li></ul></div></main>"
    )
    assert "### To islands?\n\nAdd the ferry: 11 days." in text
    assert "Careers" not in text
