"""The table of formats: that it is whole, and that text of every script comes through."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from fti.pipelines.feature.finding.archives import ARCHIVES
from fti.pipelines.feature.finding.opening import read
from fti.pipelines.feature.finding.sources import RawDocument, SourceFile
from fti.pipelines.feature.reading.headings import MARKDOWN_TEXTS
from fti.pipelines.feature.reading.readers import READERS
from fti.store.plain_text import clean
from tests.support.documents import an_epub, an_odt, an_xlsx, zipped

PAGE = Path(__file__).parents[4] / "docs" / "ingesting.md"
SCRIPTS = {
    "Chinese": "人人生而自由，在尊严和权利上一律平等。",
    "Japanese": "すべての人間は、生まれながらにして自由である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם",
    "Persian": "همه\u200cی افراد بشر آزاد به دنیا می\u200cآیند",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में",
    "emoji": "👩\u200d🔬 and 🏳️\u200d🌈",
}


def test_the_page_names_every_suffix_that_is_read_and_no_other() -> None:
    section = PAGE.read_text("utf-8").split("## Formats", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1] for line in section.split("\n") if line.startswith("| `")]
    named = re.findall(r"`(\.[a-z0-9]+)`", " ".join(cells))

    assert sorted(named) == sorted({*filter(None, READERS), *ARCHIVES})


def test_every_reader_that_writes_headings_has_a_media_type_of_its_own() -> None:
    types = {READERS[s].media_type for s in (".pptx", ".xlsx", ".odt", ".rtf", ".epub", ".eml")}

    assert len(types) == 6
    assert types <= MARKDOWN_TEXTS


def files_of(text: str) -> dict[str, bytes]:
    import io

    import docx
    import pptx

    out: dict[str, bytes] = {}
    word = docx.Document()
    word.add_paragraph(text)
    deck = pptx.Presentation()
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = text
    for name, document in (("a.docx", word), ("a.pptx", deck)):
        stream = io.BytesIO()
        document.save(stream)
        out[name] = stream.getvalue()
    escaped = "".join(
        f"\\u{int.from_bytes(pair, 'little', signed=True)}?"
        for pair in zip_pairs(text.encode("utf-16-le"))
    )
    return out | {
        "a.xlsx": an_xlsx({"S": [[text]]}),
        "a.odt": an_odt(f"<text:p>{text}</text:p>"),
        "a.rtf": ("{\\rtf1 " + escaped + "\\par}").encode("ascii"),
        "a.epub": an_epub({"a.xhtml": f"<p>{text}</p>"}, spine=["a.xhtml"]),
        "a.xml": f"<p>{text}</p>".encode(),
        "a.html": f"<meta charset='utf-8'><p>{text}</p>".encode(),
        "a.txt": text.encode("utf-16"),
        "a.csv": text.encode("utf-8"),
    }


def zip_pairs(data: bytes) -> list[bytes]:
    return [data[i : i + 2] for i in range(0, len(data), 2)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_text_of_every_script_comes_through_every_format(script: str, tmp_path: Path) -> None:
    text = SCRIPTS[script]
    path = tmp_path / "all.zip"
    files = files_of(unicodedata.normalize("NFD", text))
    path.write_bytes(zipped(files))

    found = read(SourceFile("all.zip", path, 0))

    assert len(found) == len(files)
    for document in found:
        assert isinstance(document, RawDocument), document
        stored = clean(document.text)
        assert unicodedata.normalize("NFC", text) in stored, document.source
        assert unicodedata.is_normalized("NFC", stored)
