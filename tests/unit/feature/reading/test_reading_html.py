from __future__ import annotations

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.web.html import read_html


def page(body: str, *, head: str = "", encoding: str = "utf-8") -> Extracted:
    markup = f"<!DOCTYPE html><html lang='en'><head>{head}</head><body>{body}</body></html>"
    (found,) = read_html(markup.encode(encoding), SourcesConfig())
    return found


def test_structure_survives_as_markdown() -> None:
    found = page(
        """<main><h1>API</h1><p>Use <code>foo()</code> like
        <b>this</b>:</p><pre><code class="language-python">def f(x):
    if x:
        return 1

print(f(2))
</code></pre><h2>Lists<a class="headerlink" href="#l">¶</a></h2>
        <ul><li>One<ul><li>nested</li></ul></li><li>Two</li></ul><ol><li>a</li><li>b</li></ol>
        <table><caption>Sizes</caption><tr><th>A</th><th>B</th></tr>
        <tr><td>1</td><td>2</td></tr></table>
        <blockquote><p>Said</p></blockquote><dl><dt>Term</dt><dd>What it is</dd></dl></main>"""
    )

    assert found.text == (
        "# API\n\nUse `foo()` like this:\n\n"
        "```python\ndef f(x):\n    if x:\n        return 1\n\nprint(f(2))\n```\n\n"
        "## Lists\n\n- One\n  - nested\n- Two\n\n1. a\n2. b\n\nSizes\n\n"
        "| A | B |\n| --- | --- |\n| 1 | 2 |\n\n> Said\n\nTerm: What it is"
    )


def test_scripts_styles_navigation_and_forms_are_not_text() -> None:
    found = page(
        "<nav><a href='/'>Home</a></nav><script>var a = 'script'</script><style>p{}</style>"
        "<noscript>enable it</noscript><!-- comment --><header><a href='/'>Logo</a><h1>Kiln</h1>"
        "</header><main><p>It fires pots.</p><button>Buy</button></main>"
        "<aside>Related</aside><footer><a href='/p'>Privacy</a></footer>"
    )

    assert found.text == "# Kiln\n\nIt fires pots."


def test_a_footer_is_kept_for_what_tells_how_to_reach_someone() -> None:
    found = page(
        "<main><p>We make chairs.</p></main>"
        "<footer><p>Phone (202) 293-5550</p><p><a href='/p'>Privacy</a></p></footer>"
    )

    assert found.text == "We make chairs.\n\nPhone (202) 293-5550"


def test_menus_waiting_behind_a_click_go_and_plain_hidden_text_stays() -> None:
    found = page(
        "<main><div style='display:none'><a href='/x'>Menu</a></div>"
        "<p>When?</p><div style='display: none'>At nine.</div></main>"
    )

    assert found.text == "When?\n\nAt nine."


def test_without_marked_content_the_sidebar_is_told_apart() -> None:
    article = "".join(
        f"<p>Paragraph {i} tells at length how the kiln is fired, why it takes a day and who may "
        f"switch it on, so that nobody has to ask about point {i} again.</p>"
        for i in range(8)
    )
    links = "".join(f"<li><a href='/{i}'>Link {i}</a></li>" for i in range(20))

    text = page(
        f"<div id='side'><ul>{links}</ul></div><div id='content'><h1>Kiln</h1>{article}</div>"
    ).text

    assert "Paragraph 0" in text
    assert "Paragraph 7" in text
    assert "Link 3" not in text


def test_a_short_page_is_read_whole() -> None:
    assert page("<h1>First</h1><p>Only this.</p><div>And that.</div>").text == (
        "# First\n\nOnly this.\n\nAnd that."
    )


def test_tables_that_lay_out_the_page_are_not_tables() -> None:
    text = page(
        "<table><tr><td><table><tr><td>menu</td></tr></table></td>"
        "<td><h2>Part</h2><p>Words.</p></td></tr></table>"
    ).text

    assert "|" not in text
    assert "## Part\n\nWords." in text


def test_line_breaks_make_paragraphs_where_pages_are_written_so() -> None:
    assert page("One.<br>Still one.<br><br>Two.").text == "One.\nStill one.\n\nTwo."


def test_a_formula_is_its_source_once() -> None:
    text = page(
        "<main><p>Energy is <math><semantics><mrow><mi>E</mi></mrow><annotation "
        "encoding='application/x-tex'>{\\displaystyle E=mc^2}</annotation></semantics></math> in "
        "joules.</p></main>"
    ).text

    assert text == "Energy is $E=mc^2$ in joules."


def test_the_title_is_the_heading_where_the_title_repeats_it() -> None:
    heading = "<h1>Firing kilns</h1>"

    assert page(heading, head="<title>Firing kilns | Workshop</title>").title == "Firing kilns"
    assert page(heading, head="<title>Something else</title>").title == "Something else"
    assert page(heading).title == "Firing kilns"
    assert page("<p>x</p>").title == ""


def test_author_and_language_become_metadata() -> None:
    found = page("<p>x</p>", head="<meta name='author' content='Ann Lee'>")

    assert found.metadata == {"author": "Ann Lee", "language": "en"}


def test_the_declared_charset_is_believed() -> None:
    found = page("<p>Größe</p>", head="<meta charset='iso-8859-1'>", encoding="iso-8859-1")

    assert found.text == "Größe"
    assert found.metadata["encoding"] == "cp1252"


def test_nesting_beyond_reason_gives_the_words() -> None:
    assert page("<div>" * 5000 + "deep words").text.strip() == "deep words"


def test_entities_are_neither_read_from_files_nor_expanded() -> None:
    markup = (
        b"<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///etc/passwd'><!ENTITY a 'aaaa'>"
        b"<!ENTITY b '&a;&a;'>]><html><body><p>See &x; and &b; here.</p></body></html>"
    )

    (found,) = read_html(markup, SourcesConfig())

    assert "root:" not in found.text
    assert "aaaa aaaa" not in found.text
    assert "here." in found.text


def test_a_page_without_text_says_so() -> None:
    found = page("<script>x</script>")

    assert (found.text, found.empty_reason) == ("", "no text on the page")
