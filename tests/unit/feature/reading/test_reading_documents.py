from __future__ import annotations

import io
import logging

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.office.docx import read_docx
from fti.pipelines.feature.reading.readers.pages.page_text import unwrap
from fti.pipelines.feature.reading.readers.pages.pdf import read_pdf
from fti.store.errors import ExtractionError
from tests.support.documents import a_pdf, rewritten

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(data: bytes) -> Extracted:
    (found,) = read_pdf(data, SourcesConfig())
    return found


def docx_bytes(document: object) -> bytes:
    out = io.BytesIO()
    document.save(out)  # type: ignore[attr-defined]
    return out.getvalue()


# PDF


def test_pages_are_joined_with_a_blank_line() -> None:
    found = pdf(a_pdf(["Page one."], ["Page two."]))

    assert found.text == "Page one.\n\nPage two."
    assert found.metadata["pages"] == "2"


def test_the_title_is_what_the_file_states() -> None:
    assert pdf(a_pdf(["Words."], title="Kiln manual")).title == "Kiln manual"


def test_a_title_that_a_program_made_up_gives_way_to_the_largest_line() -> None:
    data = a_pdf(["Kiln manual", "Body text."], title="Microsoft Word - a.doc", title_size=24)

    assert pdf(data).title == "Kiln manual"


def test_without_a_larger_line_the_first_is_the_title() -> None:
    assert pdf(a_pdf(["Kiln manual", "Body text."])).title == "Kiln manual"


def test_a_pdf_without_text_says_that_it_may_be_a_scan() -> None:
    found = pdf(a_pdf([]))

    assert (found.text, found.empty_reason) == ("", "no text on its pages (a scan?)")


def test_a_page_that_cannot_be_read_is_named_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pypdf

    whole = pypdf.PageObject.extract_text

    def failing(page: pypdf.PageObject, *args: object, **options: object) -> str:
        text = str(whole(page, *args, **options))  # type: ignore[arg-type]
        if "two" in text:
            raise KeyError("/Font")
        return text

    monkeypatch.setattr(pypdf.PageObject, "extract_text", failing)

    found = pdf(a_pdf(["Page one."], ["Page two."], ["Page three."]))

    assert found.text == "Page one.\n\nPage three."
    assert found.metadata["warnings"] == "page 2 was not read: '/Font'"


def test_remarks_of_the_pdf_library_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    data = a_pdf(["Words."]).replace(b"startxref\n", b"startxref\n9")

    with caplog.at_level(logging.DEBUG):
        pdf(data)

    assert caplog.records == []


WIDTH = "This line is about as wide as the page it stands on, and so it goes"


def test_wrapped_lines_become_paragraphs() -> None:
    text = f"Heading\n{WIDTH}\n{WIDTH}\nto its end.\n{WIDTH}\nand ends.\n\nNext."

    assert unwrap(text) == (f"Heading\n{WIDTH} {WIDTH} to its end.\n{WIDTH} and ends.\n\nNext.")


def test_list_items_keep_their_lines() -> None:
    text = f"{WIDTH}\n- {WIDTH}\n2. {WIDTH}\n• {WIDTH}"

    assert unwrap(text) == text


@pytest.mark.parametrize(
    ("line_end", "following", "joined"),
    [
        ("a demon-", "stration of it", "a demonstration of it"),
        ("the post-", "War years", "the post-War years"),
        ("pages 10-", "20 of it", "pages 10- 20 of it"),
        ("a dual-", "encoder model", "a dual-encoder model"),
    ],
)
def test_hyphens_at_line_ends(line_end: str, following: str, joined: str) -> None:
    known = {"dual-encoder", "model", "demonstration"}

    assert unwrap(f"{WIDTH} {line_end}\n{following}", known) == f"{WIDTH} {joined}"


def test_a_page_of_one_word_lines_is_joined_with_its_bullets_apart() -> None:
    words = "This module shows what the steps of a good plan are : ● One step ● Another"

    assert unwrap(words.replace(" ", "\n")) == (
        "This module shows what the steps of a good plan are :\n● One step\n● Another"
    )


# DOCX


def a_docx() -> bytes:
    import docx

    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.core_properties.author = "Ann Lee"
    document.add_heading("Kilns", level=1)
    document.add_paragraph("Only members fire.")
    document.add_paragraph("Vesta", style="List Bullet")
    document.add_paragraph("Ember", style="List Bullet")
    document.add_heading("Programs", level=2)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        [c for row in table.rows for c in row.cells], ["Name", "Top", "P1", "1,000"], strict=True
    ):
        cell.text = text
    document.add_paragraph("After the table.")
    document.sections[0].header.paragraphs[0].text = "Header of every page"
    return docx_bytes(document)


def test_docx_comes_in_document_order_as_markdown() -> None:
    (found,) = read_docx(a_docx(), SourcesConfig())

    assert found.text == (
        "# Kilns\n\nOnly members fire.\n\n- Vesta\n- Ember\n\n## Programs\n\n"
        "| Name | Top |\n| --- | --- |\n| P1 | 1,000 |\n\nAfter the table."
    )
    assert (found.title, found.metadata) == ("Handbook", {"author": "Ann Lee"})


def test_without_a_stated_title_the_first_heading_is_it() -> None:
    import docx

    document = docx.Document()
    document.core_properties.title = ""
    document.add_heading("Kilns", level=1)

    assert read_docx(docx_bytes(document), SourcesConfig())[0].title == "Kilns"


def test_deleted_text_is_gone_and_inserted_text_and_controls_are_read() -> None:
    body = (
        f"<w:document xmlns:w='{W}'><w:body>"
        "<w:p><w:r><w:t>Kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t xml:space='preserve'> added</w:t></w:r></w:ins></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "</w:body></w:document>"
    )

    (found,) = read_docx(rewritten(a_docx(), "word/document.xml", body.encode()), SourcesConfig())

    assert found.text == "Kept added\n\nIn a control"


def test_a_docx_that_unpacks_to_too_much_is_refused() -> None:
    bomb = rewritten(a_docx(), "word/document.xml", b" " * 5_000_000)

    with pytest.raises(ExtractionError, match="unpacks to"):
        read_docx(bomb, SourcesConfig(max_unpacked_bytes=1_000_000))


def test_a_docx_that_declares_entities_is_refused() -> None:
    body = (
        "<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'x'><!ENTITY f SYSTEM 'file:///etc/passwd'>]>"
        f"<w:document xmlns:w='{W}'><w:body><w:p><w:r><w:t>&f;</w:t></w:r></w:p></w:body>"
        "</w:document>"
    )

    with pytest.raises(ExtractionError, match="declares a document type"):
        read_docx(rewritten(a_docx(), "word/document.xml", body.encode()), SourcesConfig())


def test_entities_hidden_behind_a_long_comment_are_not_expanded() -> None:
    entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10 if i else 'bomb'}'>" for i in range(12))
    body = (
        f"<?xml version='1.0'?><!--{' ' * 10_000}--><!DOCTYPE d [{entities}]>"
        f"<w:document xmlns:w='{W}'><w:body><w:p><w:r><w:t>see &e11;</w:t></w:r></w:p>"
        "</w:body></w:document>"
    )

    try:
        (found,) = read_docx(
            rewritten(a_docx(), "word/document.xml", body.encode()), SourcesConfig()
        )
    except ExtractionError:
        return
    assert "bomb" not in found.text


def test_a_docx_with_a_damaged_part_is_refused() -> None:
    with pytest.raises(ExtractionError, match="not a whole DOCX file"):
        read_docx(rewritten(a_docx(), "word/document.xml", b"<w:document"), SourcesConfig())


def test_an_encrypted_office_file_is_refused() -> None:
    with pytest.raises(ExtractionError, match="encrypted"):
        read_docx(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), SourcesConfig())
