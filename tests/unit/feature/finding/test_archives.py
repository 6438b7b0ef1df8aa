from __future__ import annotations

import io
import struct
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest

from fti.pipelines.feature.finding.opening import read
from fti.pipelines.feature.finding.sources import (
    FailedSource,
    RawDocument,
    SkippedSource,
    SourceFile,
)
from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.store.errors import ExtractionError
from fti.store.types import sha256_hex
from tests.support.documents import a_pdf, zipped

Found = list[RawDocument | FailedSource | SkippedSource]


def taken(tmp_path: Path, data: bytes, config: SourcesConfig | None = None) -> Found:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    return read(SourceFile("a.zip", path, len(data)), config=config)


def failures(found: Found) -> dict[str, str]:
    return {f.source: f.reason for f in found if isinstance(f, FailedSource)}


def texts(found: Found) -> dict[str, str]:
    return {d.source: d.text for d in found if isinstance(d, RawDocument)}


def test_every_member_is_a_document_under_its_own_name(tmp_path: Path) -> None:
    data = zipped({"docs/": "", "docs/a-tool.txt": "One.", "b.pdf": a_pdf(["Two."])})

    found = taken(tmp_path, data)

    assert texts(found) == {"a.zip!/docs/a-tool.txt": "One.", "a.zip!/b.pdf": "Two."}
    first = found[0]
    assert isinstance(first, RawDocument)
    assert (first.title, first.media_type) == ("A tool", "text/plain")
    assert first.content_hash == sha256_hex(b"One.")


def test_a_bad_member_is_a_failure_of_its_own(tmp_path: Path) -> None:
    data = zipped({"a.txt": "One.", "b.pdf": b"%PDF-1.4 broken", "c.xyz": b"x", "d.md": ""})

    found = taken(tmp_path, data)

    assert texts(found) == {"a.zip!/a.txt": "One."}
    reasons = failures(found)
    assert reasons["a.zip!/b.pdf"].startswith("the PDF is damaged")
    assert reasons["a.zip!/c.xyz"] == "files ending in '.xyz' are not read"
    assert reasons["a.zip!/d.md"] == "the file is empty"


def test_members_that_are_never_read_are_skipped_and_no_failures(tmp_path: Path) -> None:
    members = {"a.txt": "One.", "b.ttf": "x", "c/d.mp4": "x", "c/~$a.docx": "x", "Thumbs.db": "x"}

    found = taken(tmp_path, zipped(members))

    assert texts(found) == {"a.zip!/a.txt": "One."}
    assert failures(found) == {}
    assert [(s.source, s.reason) for s in found if isinstance(s, SkippedSource)] == [
        ("a.zip!/b.ttf", "font (.ttf)"),
        ("a.zip!/c/d.mp4", "video (.mp4)"),
    ]


def test_an_archive_of_nothing_that_is_read_is_empty_and_no_failure(tmp_path: Path) -> None:
    found = taken(tmp_path, zipped({"b.ttf": "x"}))

    (document,) = (d for d in found if isinstance(d, RawDocument))
    assert (document.source, document.text) == ("a.zip", "")
    assert "never read" in document.empty_reason


def test_archives_inside_archives_are_opened_to_a_depth(tmp_path: Path) -> None:
    data = zipped({"deep.txt": "Deep."})
    for name in ("c.zip", "b.zip"):
        data = zipped({name: data})

    assert texts(taken(tmp_path, data)) == {"a.zip!/b.zip!/c.zip!/deep.txt": "Deep."}
    shallow = failures(taken(tmp_path, data, SourcesConfig(max_nesting=2)))
    assert list(shallow) == ["a.zip!/b.zip!/c.zip"]
    assert "deeper" in shallow["a.zip!/b.zip!/c.zip"]


def test_an_archive_that_holds_itself_ends(tmp_path: Path) -> None:
    data = zipped({"a.txt": "x"})
    for _ in range(50):
        data = zipped({"a.zip": data})

    assert texts(taken(tmp_path, data)) == {}


@pytest.mark.parametrize(
    "name", ["../up.txt", "x/../../up.txt", "/etc/up.txt", "..\\up.txt", "C:\\up.txt"]
)
def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    found = taken(tmp_path, zipped({name: "x", "ok.txt": "fine"}))

    assert list(failures(found).values()) == ["its name leads out of the archive"]
    assert list(texts(found).values()) == ["fine"]


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    found = taken(tmp_path, zipped({"bomb.txt": "\n" * 5_000_000, "ok.txt": "fine"}))

    assert "decompression bomb" in failures(found)["a.zip!/bomb.txt"]
    assert texts(found) == {"a.zip!/ok.txt": "fine"}


def test_what_an_archive_unpacks_to_is_bounded_over_all_members(tmp_path: Path) -> None:
    inner = zipped({"c.txt": "x" * 600})
    data = zipped({"a.txt": "x" * 600, "b.zip": inner, "d.txt": "y" * 200})

    found = taken(tmp_path, data, SourcesConfig(max_unpacked_bytes=1000))

    assert set(texts(found)) == {"a.zip!/a.txt", "a.zip!/d.txt"}
    assert "more than 1000 bytes" in failures(found)["a.zip!/b.zip!/c.txt"]


def test_texts_of_all_members_are_bounded_together(tmp_path: Path) -> None:
    table = "k" * 200 + "\n" + "1\n" * 100  # 400 bytes that become 20,000 characters
    data = zipped({"a.csv": table, "b.csv": table})

    found = taken(tmp_path, data, SourcesConfig(max_unpacked_bytes=30_000))

    assert set(texts(found)) == {"a.zip!/a.csv"}
    assert "longer than 30000 characters" in failures(found)["a.zip!/b.csv"]


def test_too_many_members_are_refused_inner_ones_counted(tmp_path: Path) -> None:
    config = SourcesConfig(max_members=5)

    with pytest.raises(ExtractionError, match=r"more than 5 files \(max_members\)"):
        taken(tmp_path, zipped({f"{i}.txt": "x" for i in range(6)}), config)
    inner = zipped({f"{i}.txt": "x" for i in range(4)})
    found = taken(tmp_path, zipped({"1.zip": inner, "2.zip": inner}), config)
    assert len(texts(found)) + len(failures(found)) < 8
    assert "max_members" in str(failures(found))


def test_a_long_list_of_contents_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", lambda *a: pytest.fail("the list was read"))

    with pytest.raises(ExtractionError, match="max_members"):
        taken(tmp_path, b"PK\x01\x02" * 100, SourcesConfig(max_members=10))


def test_a_lying_size_does_not_get_past_the_bounds(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": "x" * 100_000}))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)  # the size it says it has

    found = taken(tmp_path, bytes(data))

    assert texts(found) == {}
    assert "damaged" in failures(found)["a.zip!/a.txt"]


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": "x"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1

    assert failures(taken(tmp_path, bytes(data)))["a.zip!/a.txt"] == "the member is encrypted"


# Ids of their own: an archive holds the time it was made, and each worker makes another.
@pytest.mark.parametrize(
    "data",
    [b"PK\x03\x04 cut short", zipped({"a.txt": "x" * 999})[:-30]],
    ids=["only its beginning", "without its end"],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ExtractionError, match="not a whole ZIP archive"):
        taken(tmp_path, data)


def test_an_archive_without_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match="holds no files"):
        taken(tmp_path, zipped({"folder/": "", ".DS_Store": "x", "__MACOSX/a.txt": "x"}))


def test_hidden_members_are_read_when_asked_for(tmp_path: Path) -> None:
    found = taken(tmp_path, zipped({".a.txt": "x"}), SourcesConfig(include_hidden=True))

    assert texts(found) == {"a.zip!/.a.txt": "x"}


def test_names_in_utf_8_without_the_flag_are_read(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("Größe-日本.txt", "x")
    raw = bytearray(data.getvalue())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + offset + 1] &= ~0x08

    assert list(texts(taken(tmp_path, bytes(raw)))) == ["a.zip!/Größe-日本.txt"]


def test_records_of_a_corpus_in_an_archive_keep_their_keys(tmp_path: Path) -> None:
    found = taken(tmp_path, zipped({"c.jsonl": '{"_id": "d1", "text": "One."}'}))

    assert texts(found) == {"a.zip!/c.jsonl#d1": "One."}


# What is attached to mails


def a_mail(*attached: tuple[str, bytes]) -> bytes:
    message = EmailMessage()
    message["Subject"] = "Plans"
    message.set_content("See below.")
    for name, data in attached:
        message.add_attachment(data, maintype="application", subtype="x", filename=name)
    return message.as_bytes()


def test_attachments_that_can_be_read_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "m.eml"
    mail = a_mail(("plan.pdf", a_pdf(["Two."])), ("photo.png", b"\x89PNG"), ("bad.docx", b"PK"))
    path.write_bytes(a_mail(("fwd.eml", mail)))

    found = read(SourceFile("m.eml", path, 0))

    assert list(texts(found)) == ["m.eml", "m.eml!/fwd.eml", "m.eml!/fwd.eml!/plan.pdf"]
    assert "photo.png" in texts(found)["m.eml!/fwd.eml"]
    assert list(failures(found)) == ["m.eml!/fwd.eml!/bad.docx"]


def test_mails_in_mails_end(tmp_path: Path) -> None:
    mail = a_mail(("a.txt", b"x"))
    for _ in range(8):
        mail = a_mail(("m.eml", mail))
    path = tmp_path / "m.eml"
    path.write_bytes(mail)

    found = read(SourceFile("m.eml", path, 0))

    assert len(texts(found)) == 4
    assert "deeper" in next(iter(failures(found).values()))
