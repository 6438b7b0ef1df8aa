"""Books, mails, notebooks, XML and source code."""

from __future__ import annotations

import json
from email.message import EmailMessage

import pytest

from fti.pipelines.feature.reading.readers import READERS, Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.notebook import read_notebook
from fti.pipelines.feature.reading.readers.plain import read_code
from fti.pipelines.feature.reading.readers.web.epub import read_epub
from fti.pipelines.feature.reading.readers.web.mail import read_eml
from fti.pipelines.feature.reading.readers.web.xml import read_xml
from fti.pipelines.feature.splitting.chunking import ChunkingConfig, chunk
from fti.store.errors import ExtractionError
from fti.store.types import Document, document_id
from tests.support.documents import a_pdf, an_epub, zipped

CONFIG = SourcesConfig()

# EPUB


def test_chapters_come_in_the_order_of_the_spine() -> None:
    data = an_epub(
        {"b.xhtml": "<h1>Second</h1><p>Two.</p>", "a.xhtml": "<h1>First</h1><p>One.</p>"},
        spine=["a.xhtml", "b.xhtml"],
        title="Kilns",
    )

    (found,) = read_epub(data, CONFIG)

    assert found.text == "# First\n\nOne.\n\n# Second\n\nTwo."
    assert found.title == "Kilns"
    assert found.metadata == {"author": "Ann Lee", "language": "en", "chapters": "2"}


def test_a_chapter_is_read_whole_however_short_its_paragraphs() -> None:
    body = "".join(f"<div><a href='#'>{i}</a> <p>Verse {i}.</p></div>" for i in range(40))

    (found,) = read_epub(an_epub({"a.xhtml": body}, spine=["a.xhtml"]), CONFIG)

    assert all(f"Verse {i}." in found.text for i in range(40))


def test_a_book_with_copy_protection_is_refused() -> None:
    import io
    import zipfile

    data = io.BytesIO(an_epub({"a.xhtml": "x"}, spine=["a.xhtml"]))
    with zipfile.ZipFile(data, "a") as book:
        reference = '<encryption><CipherReference URI="OEBPS/a.xhtml"/></encryption>'
        book.writestr("META-INF/encryption.xml", reference)

    with pytest.raises(ExtractionError, match="copy protection"):
        read_epub(data.getvalue(), CONFIG)


def test_a_zip_named_as_epub_is_refused() -> None:
    with pytest.raises(ExtractionError, match="not an EPUB file"):
        read_epub(zipped({"a.txt": "x"}), CONFIG)


# EML


def a_mail(**headers: str) -> EmailMessage:
    message = EmailMessage()
    given = {"Subject": "Kiln", "From": "Ann <ann@example.org>", "To": "bo@example.org", **headers}
    for name, value in given.items():
        message[name] = value
    return message


def eml(message: EmailMessage) -> Extracted:
    (found,) = read_eml(message.as_bytes(), CONFIG)
    return found


def test_a_mail_has_its_subject_as_title_and_its_addresses_as_metadata() -> None:
    message = a_mail(Date="Mon, 02 Mar 2026 10:00:00 +0000")
    message.set_content("It is hot.\n\nStay away.")

    found = eml(message)

    assert found.title == "Kiln"
    assert found.text == (
        "# Kiln\n\nFrom: Ann <ann@example.org>\nTo: bo@example.org\n"
        "Date: Mon, 02 Mar 2026 10:00:00 +0000\n\nIt is hot.\n\nStay away."
    )
    assert found.metadata["from"] == "Ann <ann@example.org>"
    assert found.metadata["date"].startswith("Mon, 02 Mar 2026")


def test_of_two_forms_the_plain_one_is_read() -> None:
    message = a_mail()
    message.set_content("Plain.")
    message.add_alternative("<p>Rich.</p>", subtype="html")

    assert eml(message).text.endswith("\n\nPlain.")
    assert "Rich" not in eml(message).text


def test_html_is_read_where_there_is_nothing_else() -> None:
    message = a_mail()
    message.set_content("<h2>Today</h2><p>Größe &amp; <b>Farbe</b></p>", subtype="html")

    assert eml(message).text.endswith("## Today\n\nGröße & Farbe")


def test_attachments_are_named_and_handed_on() -> None:
    pdf = a_pdf(["Attached words."])
    message = a_mail()
    message.set_content("See below.")
    message.add_attachment(pdf, maintype="application", subtype="pdf", filename="../plan.pdf")
    message.add_attachment(b"x", maintype="image", subtype="png", filename="plan.pdf")
    inner = a_mail(Subject="Inner")
    inner.set_content("Inside.")
    message.add_attachment(inner)

    found = eml(message)

    names = [a.name for a in found.attached]
    assert names[:2] == ["plan.pdf", "plan (2).pdf"]
    assert names[2].endswith(".eml")
    assert found.attached[0].data == pdf
    assert f"Attachments: {', '.join(names)}" in found.text


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        ("すみません。", "iso-2022-jp"),
        ("Привет", "koi8-r"),
        ("שלום לכולם", "utf-8"),
        ("قرية", "utf-8"),
    ],
)
def test_mails_of_every_script(text: str, charset: str) -> None:
    message = a_mail(Subject=text)
    message.set_content(text, charset=charset)

    found = eml(message)

    assert found.title == text
    assert found.text.endswith(text)


def test_what_does_not_begin_with_headers_is_no_mail() -> None:
    with pytest.raises(ExtractionError, match="no mail"):
        read_eml(b"just some words\nand more", CONFIG)


# Notebooks


def test_prose_stays_and_code_is_fenced() -> None:
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Kilns\n", "\n", "How hot?"]},
            {"cell_type": "code", "source": "print('```')", "outputs": [{"text": "unread"}]},
            {"cell_type": "code", "source": []},
        ],
        "metadata": {"language_info": {"name": "python"}},
    }

    (found,) = read_notebook(json.dumps(notebook).encode(), CONFIG)

    assert found.text == "# Kilns\n\nHow hot?\n\n````python\nprint('```')\n````"
    assert found.title == "Kilns"
    assert found.metadata == {"language": "python", "cells": "3"}


def test_notebooks_of_format_3() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Part"},
        {"cell_type": "code", "input": "1 + 1", "language": "python"},
    ]

    (found,) = read_notebook(json.dumps({"worksheets": [{"cells": cells}]}).encode(), CONFIG)

    assert found.text == "## Part\n\n```python\n1 + 1\n```"


@pytest.mark.parametrize("data", [b"{}", b"[1]", b'{"cells": 3}'])
def test_json_that_is_no_notebook_is_refused(data: bytes) -> None:
    with pytest.raises(ExtractionError, match="no notebook"):
        read_notebook(data, CONFIG)


# XML


def xml(markup: str) -> Extracted:
    (found,) = read_xml(markup.encode("utf-8"), CONFIG)
    return found


def test_records_are_lines_with_the_names_of_their_elements() -> None:
    found = xml(
        "<tools><tool><name>Saw</name><price>12</price></tool>"
        "<tool><name>Drill</name><price>30</price></tool></tools>"
    )

    assert found.text == "name: Saw\nprice: 12\n\nname: Drill\nprice: 30"


def test_prose_is_paragraphs_and_titles_are_headings() -> None:
    found = xml(
        "<book><title>Kilns</title><chapter><title>Firing</title><para>Fire it "
        "<emphasis>slowly</emphasis>.</para></chapter></book>"
    )

    assert found.text == "# Kilns\n\n## Firing\n\nFire it slowly."
    assert found.title == "Kilns"


def test_attributes_count_where_there_is_no_text() -> None:
    assert xml("<a><b name='x'/></a>").text == "b.name: x"


def test_entities_are_not_expanded_and_files_not_read() -> None:
    found = xml(
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'><!ENTITY b 'bbbb'>]>"
        "<a><c>See &x; and &b; here.</c></a>"
    )

    assert "root:" not in found.text
    assert "bbbb" not in found.text
    assert "here." in found.text


def test_broken_xml_says_where() -> None:
    with pytest.raises(ExtractionError, match=r"not well-formed: .*line 1"):
        xml("<a><b></a>")


def test_xhtml_is_read_as_html() -> None:
    assert xml("<html><body><h1>A</h1><p>b</p></body></html>").text == "# A\n\nb"


# Source code

CODE = '''import os


def first(a):
    """Docs."""

    if a:
        return 1

    return 2


def second(b):
    return {
        "b": b,
    }
'''


def test_code_is_kept_as_it_stands() -> None:
    (found,) = read_code(CODE.encode(), CONFIG)

    assert found.text == CODE


@pytest.mark.parametrize("suffix", [".py", ".ts", ".go", ".rs", ".java", ".c", ".sql", ".yaml"])
def test_languages_are_known_by_their_suffix(suffix: str) -> None:
    assert READERS[suffix].media_type.startswith("text/x-code-")


def test_code_is_split_where_a_definition_begins() -> None:
    document = Document(
        id=document_id("a"), source="a", title="A", text=CODE, content_hash="",
        media_type=READERS[".py"].media_type,
    )  # fmt: skip

    def letters(text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i, c in enumerate(text) if not c.isspace()]

    config = ChunkingConfig(max_tokens=60, overlap_tokens=0, min_tokens=0)
    chunks = chunk(document, token_spans=letters, config=config)

    assert [c.text.split("\n")[0] for c in chunks] == ["import os", "def second(b):"]
    assert all(CODE[c.start : c.end] == c.text for c in chunks)
