"""Pages whose text is none, scanned pages and pictures: told, and read where tesseract is there."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.reading.readers import READERS, Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.base import OcrConfig
from fti.pipelines.feature.reading.readers.pages import ocr
from fti.pipelines.feature.reading.readers.pages.legible import judge
from fti.pipelines.feature.reading.readers.pages.page_text import page_list
from fti.pipelines.feature.reading.readers.pages.pdf import read_pdf
from fti.pipelines.feature.reading.readers.pages.pictures import read_picture
from fti.store.errors import ExtractionError
from fti.store.store import Store
from tests.support.documents import a_drawn_pdf, a_picture, shown

with_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="needs Debian's tesseract-ocr"
)
PROSE = (
    "The ferry to Amrum leaves at nine in the morning and",
    "comes back at seven in the evening. A ticket costs",
    "fourteen crowns for grown people and nothing for those",
    "who are younger than six years. Dogs travel with a lead.",
    "Bicycles stand on the lower deck beside the stairs, and",
    "whoever brings one should come a quarter of an hour early.",
)
OFF = SourcesConfig(ocr=OcrConfig(enabled=False))
ON = SourcesConfig()


def drawn(*lines: str) -> str:
    return "\n".join(shown(60, 720 - 24 * i, line, size=14) for i, line in enumerate(lines))


def one(found: list[Extracted]) -> Extracted:
    (document,) = found
    return document


def words(text: str) -> str:
    return " ".join(text.split())


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def no_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr.shutil, "which", lambda name: None)


# What is text


def shift(text: str, by: int) -> str:
    return "".join(
        chr((ord(c) - 97 + by) % 26 + 97) if c.islower() else c for c in text.lower()
    )  # fmt: skip


GARBLED = {
    "names of glyphs": "".join(f"/g{ord(c)}" for c in "".join(PROSE)),
    "names with spaces": " ".join(f"/C{ord(c):02X}" for c in "".join(PROSE)),
    "names of letters": "/a/b/cd/e/f/gh/i/j/k/l/mn/o/p/q/r/s",
    "numbers of characters": "".join(f"(cid:{ord(c)})" for c in PROSE[0]),
    "private characters": "".join(chr(0xF000 + ord(c)) for c in PROSE[0]),
    "private planes": "".join(chr(0xF0000 + ord(c)) for c in PROSE[0]),
    "replacement characters": "\ufffd" * 40 + " the end",
    "control characters": "".join(chr(ord(c) % 24 + 1) for c in PROSE[0]),
    "letters moved": shift(" ".join(PROSE), 7),
    "codes moved": "".join(chr(ord(c) - 29) if ord(c) > 61 else c for c in "\n".join(PROSE)),
    "numbered as they come": "".join(
        c if c.isspace() else chr(33 + "".join(PROSE).index(c) % 15) for c in "\n".join(PROSE)
    ),
    "another code page": "\n".join(["Ïðèâåò, ìèð! Êàê âàøè äåëà ñåãîäíÿ"] * 6),
}


@pytest.mark.parametrize("kind", GARBLED)
def test_what_is_no_text_is_told(kind: str) -> None:
    assert judge(GARBLED[kind]).fault


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(PROSE),
        "",
        "12 450.00\n13 998.50\n" * 40,
        "Introduction ........................................ 7\n" * 30,
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. " * 3,
        "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. " * 3,
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. " * 3,
        "Все люди рождаются свободными и равными в своем достоинстве и правах. " * 3,
        "人人生而自由,在尊严和权利上一律平等。" * 9,
        "def read(path: Path) -> bytes:\n    with path.open('rb') as f:\n        return f.read()\n"
        * 4,
        "See /usr/share/doc/v2/index.html and /etc/fti/config.yaml, or GET /v1/ask/12/trace. " * 5,
        "\uf0b7 Oil the hinges of both doors\n\uf0b7 Sweep the floor\n\uf0b7 Lock the gate\n" * 3,
        "∑ α β γ ≤ √(x² + y²) = λ · ∫ f(x) dx, where f is continuous on the closed interval",
    ],
)
def test_what_is_text_is_left_alone(text: str) -> None:
    assert judge(text).fault == ""


def test_some_unmapped_characters_are_remarked_on() -> None:
    found = judge("\n".join(PROSE) * 2 + "\ue001" * 35)

    assert (found.fault, "35 of its" in found.remark) == ("", True)


def test_pages_are_listed_in_runs() -> None:
    assert page_list([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"


# Pages of PDFs


def test_garbled_pages_are_named_and_the_others_read(no_tesseract: None) -> None:
    private = {chr(c): chr(0xE000 + c) for c in range(33, 127)}
    bad = drawn(*PROSE)
    good = bad.replace("/F1", "/F2")

    found = one(read_pdf(a_drawn_pdf(bad, good, bad, bad, reads_as=private), ON))

    assert "ferry to Amrum" in found.text
    assert not any("\ue000" <= c <= "\uf8ff" for c in found.text)
    assert "pages 1, 3-4 were not read: its text has no mapping" in found.metadata["warnings"]
    assert ocr.INSTALL in found.metadata["warnings"]


def test_a_pdf_of_glyph_names_is_refused_with_what_to_do(no_tesseract: None) -> None:
    names = {chr(c): f"g{c + 100}" for c in range(32, 127)}
    data = a_drawn_pdf(drawn(*PROSE), names=names)

    with pytest.raises(ExtractionError, match="its text is names of glyphs") as refused:
        read_pdf(data, ON)

    assert ocr.INSTALL in refused.value.message


def test_a_scan_names_the_command_that_installs_ocr(no_tesseract: None) -> None:
    found = one(read_pdf(a_drawn_pdf(a_picture(*PROSE)), ON))

    assert found.text == ""
    assert "(a scan?)" in found.empty_reason
    assert ocr.INSTALL in found.empty_reason


def test_scanned_pages_among_others_are_named(no_tesseract: None) -> None:
    found = one(read_pdf(a_drawn_pdf(drawn(*PROSE), a_picture("x")), ON))

    assert "page 2 was not read: it is a picture" in found.metadata["warnings"]


def test_an_empty_page_is_no_scan(no_tesseract: None) -> None:
    found = one(read_pdf(a_drawn_pdf(drawn(*PROSE), ""), ON))

    assert "warnings" not in found.metadata


@with_tesseract
def test_a_page_whose_letters_stand_for_others_is_read_as_it_looks() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    moved = {c: shift(c, 5) for c in letters} | {c: shift(c, 5) for c in letters.upper()}
    data = a_drawn_pdf(drawn(*PROSE), reads_as={" ": " ", ".": ".", **moved})

    found = one(read_pdf(data, ON))

    assert "comes back at seven in the evening" in words(found.text)
    assert "page 1: its letters are no language; read by OCR" in found.metadata["warnings"]
    assert float(found.metadata["ocr_confidence"]) > 70


@with_tesseract
def test_scanned_pages_are_read() -> None:
    scan = a_picture(*PROSE, size=(1654, 2339), height=40)
    found = one(read_pdf(a_drawn_pdf(drawn("Written by hand and by machine"), scan), ON))

    assert "Dogs travel with a lead" in words(found.text)
    assert found.metadata["ocr_pages"] == "2"
    assert float(found.metadata["ocr_confidence"]) > 80
    assert found.text.startswith("Written by hand")


@with_tesseract
def test_a_scan_with_a_stamp_of_text_is_read() -> None:
    from pypdf import PdfReader, PdfWriter

    scan = PdfReader(io.BytesIO(a_drawn_pdf(a_picture(*PROSE, size=(1654, 2339), height=40))))
    stamp = PdfReader(io.BytesIO(a_drawn_pdf(shown(60, 20, "Page 7 of 12"))))
    writer = PdfWriter()
    page = writer.add_page(scan.pages[0])
    page.merge_page(stamp.pages[0])
    out = io.BytesIO()
    writer.write(out)

    assert "Dogs travel with a lead" in words(one(read_pdf(out.getvalue(), ON)).text)


@with_tesseract
def test_no_more_pages_are_read_than_a_document_may_have() -> None:
    config = SourcesConfig(ocr=OcrConfig(max_pages=1))
    scan = a_picture(*PROSE, size=(1654, 2339), height=40)
    found = one(read_pdf(a_drawn_pdf(scan, scan, scan), config))

    assert found.metadata["ocr_pages"] == "1"
    assert (
        "pages 2-3 were not read: it is a picture; OCR reads 1 pages"
        in (found.metadata["warnings"])
    )


@with_tesseract
def test_a_page_as_large_as_a_house_is_not_drawn() -> None:
    data = a_drawn_pdf(a_picture("x"), size=(14400, 14400))

    with pytest.raises(ExtractionError, match="14400 x 14400 points"):
        read_pdf(data, ON)


# Pictures


@with_tesseract
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP"), (".gif", "GIF")],
)
def test_pictures_are_read(suffix: str, kind: str) -> None:
    found = one(READERS[suffix].read(encoded(a_picture(*PROSE), kind), ON))

    assert "A ticket costs fourteen crowns for grown people" in words(found.text)
    assert float(found.metadata["ocr_confidence"]) > 80


@with_tesseract
def test_the_pages_of_a_tiff() -> None:
    pages = [a_picture(f"This is page {name} of a letter") for name in ("one", "two", "three")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])

    found = one(read_picture(data, ON))

    assert [words(p) for p in found.text.split("\n\n")] == [
        f"This is page {name} of a letter" for name in ("one", "two", "three")
    ]
    assert (found.metadata["pages"], found.metadata["ocr_pages"]) == ("3", "1-3")
    assert len(found.metadata["page_starts"].split()) == 3


@with_tesseract
def test_white_letters_on_nothing_and_a_picture_on_its_side() -> None:
    clear = Image.new("RGBA", (1240, 700), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), mask=Image.eval(a_picture(*PROSE), lambda v: 255 - v))
    turned = a_picture(*PROSE, size=(1654, 1200), height=40).rotate(90, expand=True)

    for picture in (clear, turned):
        found = one(read_picture(encoded(picture, "PNG"), ON))
        assert "Bicycles stand on the lower deck" in words(found.text)


@with_tesseract
def test_a_picture_without_writing_says_so() -> None:
    noise = Image.effect_noise((400, 300), 90)

    for picture in (noise, Image.new("L", (300, 300), 200), Image.new("L", (3, 3))):
        found = one(read_picture(encoded(picture, "PNG"), ON))
        assert (found.text, found.empty_reason) == ("", "OCR found no text in the picture")


def test_a_picture_without_ocr_names_the_command(no_tesseract: None) -> None:
    found = one(read_picture(encoded(a_picture("Words"), "PNG"), ON))

    assert (found.text, ocr.INSTALL in found.empty_reason) == ("", True)


def bomb(width: int, height: int) -> bytes:
    def part(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    rows = zlib.compress(b"\0" * 1000)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


@pytest.mark.parametrize(("width", "value"), [(12_000, "12000 x 12000"), (60_000, "3600000000")])
def test_a_decompression_bomb_is_refused_with_its_size(width: int, value: str) -> None:
    with pytest.raises(ExtractionError, match="decompression bomb") as refused:
        read_picture(bomb(width, width), ON)

    assert value in refused.value.message


def test_damaged_pictures_are_refused() -> None:
    whole = encoded(a_picture("Words"), "PNG")

    for data in (b"GIF89a" + b"\0" * 40, whole[: len(whole) // 2], b"II*\0\xff" + b"\0" * 30):
        with pytest.raises(ExtractionError, match="the picture is damaged"):
            read_picture(data, OFF) if data[:4] != whole[:4] else _whole(data)


@pytest.mark.parametrize("data", [b"\x89PNG", b"\x89PNG\r\n\x1a\n000", b"II*\0\xff"])
def test_a_file_too_short_for_a_picture_is_empty_and_no_fault(data: bytes) -> None:
    (found,) = read_picture(data, OFF)
    assert (found.text, found.empty_reason) == ("", "the file is too short to hold a picture")


def _whole(data: bytes) -> None:
    """Opened without OCR, a picture is not decoded; what is cut shows only then."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError) as error:
        raise ExtractionError(f"the picture is damaged: {error}") from error


# tesseract


@with_tesseract
def test_a_language_that_is_missing_names_those_that_are_there() -> None:
    config = SourcesConfig(ocr=OcrConfig(languages="eng+xyz_old"))

    with pytest.raises(ExtractionError, match="no language 'xyz_old'") as refused:
        read_picture(encoded(a_picture("Words"), "PNG"), config)

    assert "installed are: " in refused.value.message
    assert "eng" in refused.value.message.split("installed are: ")[1]
    assert "tesseract-ocr-xyz-old" in refused.value.message


@pytest.mark.parametrize("languages", ["-l", "eng; rm", "--psm", "../eng", "eng+", "", "eng deu"])
def test_languages_are_names_and_nothing_else(languages: str) -> None:
    with pytest.raises(ValueError, match="languages"):
        OcrConfig(languages=languages)


def test_a_tesseract_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    program = tmp_path / "tesseract"
    program.write_text(
        '#!/bin/sh\nif [ "$1" = --list-langs ]; then echo "List (1):"; echo eng; exit; fi\n'
        "exec sleep 60\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(ocr.shutil, "which", lambda name: str(program))
    config = SourcesConfig(ocr=OcrConfig(page_timeout_s=0.05))
    began = time.monotonic()

    with pytest.raises(ExtractionError, match=r"more than 0\.05 s"):
        read_picture(encoded(a_picture("Words"), "PNG"), config)

    assert time.monotonic() - began < 30


def test_what_tesseract_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], Any]] = []
    started = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        asked.append((command, options["env"]))
        return started(["false"], **options)

    monkeypatch.setattr(ocr.shutil, "which", lambda name: "/usr/bin/tesseract")
    monkeypatch.setattr(ocr, "_installed_languages", lambda program: ("deu", "eng"))
    monkeypatch.setattr(ocr.subprocess, "Popen", start)
    config = SourcesConfig(ocr=OcrConfig(languages="deu+eng"))
    picture = encoded(a_picture("Words", size=(2480, 3508)), "PNG", dpi=(300, 300))

    with pytest.raises(ExtractionError, match=r"tesseract failed on it"):
        read_picture(picture, config)

    ((command, environment),) = asked
    assert command[:5] == ["/usr/bin/tesseract", "stdin", "stdout", "--dpi", "300"]
    assert command[5:7] == ["-l", "deu+eng"]
    assert environment["OMP_THREAD_LIMIT"] == "1"


# All together


@with_tesseract
def test_pictures_and_scans_are_found_and_warnings_reported(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "-v --psm.png").write_bytes(encoded(a_picture(*PROSE), "PNG"))
    private = {chr(c): chr(0xE000 + c) for c in range(33, 127)}
    (docs / "plan.pdf").write_bytes(
        a_drawn_pdf(drawn("Kilns and ovens"), drawn(*PROSE).replace("/F1", "/F2"), reads_as=private)
    )
    store = Store(tmp_path / "store")

    report = ingest([str(docs)], store=store, embedder=HashingEmbedder(), config=FeatureConfig())

    assert (report.added, report.failed, report.empty) == (2, (), ())
    assert any(p.source.endswith(".png") for p in store.features.search_text("bicycles", 5))
    ((source, warning),) = [(w.source, w.reason) for w in report.warnings]
    assert source.endswith("plan.pdf")
    assert warning.startswith("page 1: its text has no mapping to characters; read by OCR")


@with_tesseract
def test_in_the_process_that_reads_strange_files() -> None:
    with Parser(SourcesConfig()) as parser:
        scan = a_drawn_pdf(a_picture(*PROSE, size=(1654, 2339), height=40))
        assert "Dogs travel with a lead" in words(one(parser.parse(".pdf", scan)).text)
        picture = encoded(a_picture(*PROSE), "PNG")
        assert "Dogs travel with a lead" in words(one(parser.parse(".png", picture)).text)
        with pytest.raises(ExtractionError):
            parser.parse(".tiff", b"II*\0" + b"\xff" * 100)


def test_installing_ocr_reads_again_what_it_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    config, embedder = FeatureConfig(), HashingEmbedder()
    monkeypatch.setattr(ocr.shutil, "which", lambda name: None)
    before = config.digest(embedder.identity)
    monkeypatch.setattr(ocr.shutil, "which", lambda name: "/usr/bin/tesseract")

    assert config.digest(embedder.identity) != before
