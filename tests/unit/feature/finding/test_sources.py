from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fti.pipelines.feature.finding.discovering import discover
from fti.pipelines.feature.finding.opening import read
from fti.pipelines.feature.finding.sources import RawDocument, SourceFile, fingerprint
from fti.pipelines.feature.reading.readers import READERS, SourcesConfig
from fti.pipelines.feature.reading.readers.pages.pictures import PICTURES
from fti.pipelines.feature.splitting.chunking import ChunkingConfig, chunk
from fti.store.errors import ExtractionError, SourceNotFound
from fti.store.plain_text import clean
from fti.store.types import Document, document_id
from tests.support.documents import a_pdf, encrypted


def read_file(path: Path, config: SourcesConfig | None = None) -> RawDocument:
    (document,) = read(SourceFile(str(path), path, path.stat().st_size), config=config)
    assert isinstance(document, RawDocument)
    return document


def refusal(path: Path, config: SourcesConfig | None = None) -> str:
    with pytest.raises(ExtractionError) as refused:
        read_file(path, config)
    return refused.value.message


#: Formats that no white space can be a file of.
BINARY = {".pdf", ".docx", ".pptx", ".xlsx", ".xlsm", ".odt", ".rtf", ".epub", *PICTURES}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read every file; the block runs as another user."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


# Finding files


def test_a_folder_is_searched_to_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "deep/er/c.md"):
        write(tmp_path / name, "text")

    found = discover([str(tmp_path)])

    assert [f.source for f in found.files] == [
        str(tmp_path / n) for n in ("a.txt", "b.md", "deep/er/c.md")
    ]
    assert found.roots == [str(tmp_path)]
    assert (found.files[0].path, found.files[0].size) == (tmp_path / "a.txt", 4)
    assert found.failed == found.skipped == []


def test_a_file_named_twice_is_found_once(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md", "text")

    found = discover([str(tmp_path), str(file), f"{tmp_path}/x/../a.md"])

    assert [f.source for f in found.files] == [str(file)]


def test_a_relative_path_is_stored_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.md", "text")
    monkeypatch.chdir(tmp_path)

    assert discover(["a.md"]).files[0].source == str(tmp_path / "a.md")


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    assert discover([str(tmp_path)]).files == []


def test_a_missing_path_is_an_error_that_says_what_there_is(tmp_path: Path) -> None:
    write(tmp_path / "guide.md", "text")

    with pytest.raises(SourceNotFound, match="does not exist") as missing:
        discover([str(tmp_path / "guid.md")])

    assert "'guide.md'" in missing.value.hint


def test_an_address_is_refused_with_a_hint() -> None:
    with pytest.raises(SourceNotFound, match="only files and folders") as refused:
        discover(["https://example.org/a.html"])

    assert "fti ingest" in refused.value.hint


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(SourceNotFound, match="cannot be reached"):
        discover(["a\0b"])


def test_hidden_files_and_folders_are_skipped_unless_asked_for(tmp_path: Path) -> None:
    write(tmp_path / ".git/config.txt", "text")
    write(tmp_path / ".hidden.md", "text")
    write(tmp_path / "seen.md", "text")

    found = discover([str(tmp_path)])
    everything = discover([str(tmp_path)], config=SourcesConfig(include_hidden=True))

    assert [f.path.name for f in found.files] == ["seen.md"]
    assert {(s.source, s.reason) for s in found.skipped} == {
        (str(tmp_path / ".git"), "hidden"),
        (str(tmp_path / ".hidden.md"), "hidden"),
    }
    assert len(everything.files) == 3
    assert len(discover([str(tmp_path / ".hidden.md")]).files) == 1


def test_a_link_out_of_the_folder_is_skipped_with_its_reason(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.md", "text")
    write(tmp_path / "docs/real.md", "text")
    (tmp_path / "docs/out.md").symlink_to(secret)
    (tmp_path / "docs/broken.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "docs/in.md").symlink_to("real.md")
    (tmp_path / "docs/loop").symlink_to(tmp_path / "docs")

    found = discover([str(tmp_path / "docs")])

    assert [f.path.name for f in found.files] == ["in.md", "real.md"]
    assert {(Path(s.source).name, s.reason) for s in found.skipped} == {
        ("out.md", "a link that leaves the folder, or leads nowhere"),
        ("broken.md", "a link that leaves the folder, or leads nowhere"),
        ("loop", "a link to a folder"),
    }


def test_a_sibling_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    secret = write(tmp_path / "docs-private/a.md", "text")
    write(tmp_path / "docs/real.md", "text")
    (tmp_path / "docs/out.md").symlink_to(secret)

    assert [f.path.name for f in discover([str(tmp_path / "docs")]).files] == ["real.md"]


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")

    found = discover([str(tmp_path)])

    assert found.files == []
    assert found.skipped[0].reason == "neither a file nor a folder"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("~$plan.docx", "lock file"), (".~lock.plan.odt#", "lock file"), (".#a.md", "lock file"),
        ("Thumbs.db", "system file"), ("desktop.ini", "system file"), (".DS_Store", "system file"),
        ("._plan.docx", "system file"), ("DESKTOP.INI", "system file"),
        ("notes.md.swp", "editor's copy"), (".notes.md.swo", "editor's copy"),
        ("notes.md~", "editor's copy"), ("#notes.md#", "editor's copy"),
        ("~WRL0001.tmp", "temporary file"), ("big.pdf.crdownload", "unfinished download"),
        ("a.ttf", "font (.ttf)"), ("a.MP4", "video (.mp4)"), ("a.exe", "program (.exe)"),
        ("a.o", "program (.o)"), ("liba.so.1.2", "program (.so)"), ("a.mp3", "sound (.mp3)"),
        ("a.svg", "picture (.svg)"), ("a.sqlite", "database (.sqlite)"), ("a.lnk", "link (.lnk)"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_skipped_with_its_kind_unless_it_is_named(
    tmp_path: Path, name: str, kind: str
) -> None:
    file = write(tmp_path / name, b"x")

    found = discover([str(tmp_path)], config=SourcesConfig(include_hidden=True))

    assert found.files == found.failed == []
    assert [(s.source, s.reason) for s in found.skipped] == [(str(file), kind)]
    assert [f.path for f in discover([str(file)]).files] == [file]


@pytest.mark.parametrize(
    "name",
    ["config.ini", "a.xyz", "a.bin", "old.doc", "old.tar.gz", "Makefile", "swap.md", "~a.md"],
)
def test_what_may_be_a_document_is_not_skipped(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "text")

    assert discover([str(tmp_path)]).skipped == []


def test_programs_are_known_by_their_first_bytes_where_their_names_say_nothing(
    tmp_path: Path,
) -> None:
    write(tmp_path / "tool", b"\x7fELF\x02\x01" + bytes(64))
    write(tmp_path / "core.123", b"\x7fELF\x02\x01" + bytes(64))
    write(tmp_path / "photo", b"\x89PNG\r\n\x1a\n" + bytes(64))
    broken = write(tmp_path / "a.md", b"\x7fELF\x02\x01" + bytes(64))

    found = discover([str(tmp_path)])

    assert [f.path for f in found.files] == [broken]  # it should be text: its reader says so
    assert [s.reason for s in found.skipped] == ["program", "picture", "program"]


def test_folders_of_systems_are_not_entered(tmp_path: Path) -> None:
    for folder in ("__MACOSX", "$RECYCLE.BIN", "@eaDir", "__pycache__"):
        write(tmp_path / folder / "a.md", "text")

    found = discover([str(tmp_path)])

    assert found.files == []
    assert {s.reason for s in found.skipped} == {"system's folder"}


def test_a_folder_without_permission_is_reported(open_folder: Path) -> None:
    write(open_folder / "closed/a.md", "text")
    write(open_folder / "b.md", "text")
    (open_folder / "closed").chmod(0)

    with unprivileged():
        found = discover([str(open_folder)])

    (open_folder / "closed").chmod(0o700)
    assert [f.path.name for f in found.files] == ["b.md"]
    assert [(s.source, s.reason) for s in found.failed] == [
        (str(open_folder / "closed"), "the folder cannot be opened: permission denied")
    ]


def test_a_file_without_permission_is_refused(open_folder: Path) -> None:
    file = write(open_folder / "closed.md", "text")
    file.chmod(0)

    with unprivileged():
        assert refusal(file) == "the file cannot be opened: permission denied"
        with pytest.raises(ExtractionError, match="permission denied"):
            fingerprint(SourceFile(str(file), file, 4))


def test_a_file_that_vanished_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone.md"

    with pytest.raises(ExtractionError, match="the file is gone"):
        read(SourceFile(str(gone), gone, 1))


def test_a_name_with_line_breaks_and_dots_is_only_data(tmp_path: Path) -> None:
    name = "a\n..%2F\r\x1b[31m ..\\..\\etc.md"
    write(tmp_path / name, "# Inside\n\nWords.")

    (file,) = discover([str(tmp_path)]).files
    (document,) = read(file)

    assert file.source == str(tmp_path / name)
    assert (document.source, document.title) == (file.source, "Inside")


def test_a_name_that_is_no_utf8_can_still_be_stored(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    write(path, "text")

    (file,) = discover([str(tmp_path)]).files

    assert file.source == f"{tmp_path}/caf\\xe9.txt"
    assert read(file)[0].title == "Caf\\xe9"


def test_fingerprint_is_the_hash_of_the_one_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md", "# A\n\ntext")

    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert fingerprint(SourceFile(str(file), file, 8)) == expected
    assert read_file(file).content_hash == expected


# What is refused


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "a.md", b"")) == "the file is empty"


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_no_reader_takes_random_bytes(tmp_path: Path, suffix: str) -> None:
    data = hashlib.shake_256(b"seed").digest(4096)

    assert refusal(write(tmp_path / f"a{suffix}", data))


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_white_space_is_no_document_but_no_fault(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"a{suffix}", b" \n\t \n")
    if suffix in BINARY:
        assert refusal(file)
    else:
        document = read_file(file)
        assert not document.text.strip()
        assert document.empty_reason


def test_a_picture_named_as_markdown_is_refused(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(64)

    assert refusal(write(tmp_path / "a.md", png)) == "the file is a PNG image, not text"


def test_a_nul_byte_says_binary(tmp_path: Path) -> None:
    assert "binary: a NUL at byte 5" in refusal(
        write(tmp_path / "a.md", b"hello\x00world, says it")
    )


def test_an_unknown_suffix_is_refused_and_says_which_are_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.xyz", "text")

    with pytest.raises(ExtractionError, match=r"files ending in '\.xyz' are not read") as refused:
        read_file(file)

    assert ".md" in refused.value.hint


def test_a_file_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md", "x" * 101)

    assert refusal(file, SourcesConfig(max_bytes=100)) == "the file is larger than 100 bytes"


def test_a_corrupt_pdf_is_refused(tmp_path: Path) -> None:
    assert "the PDF is damaged" in refusal(write(tmp_path / "a.pdf", b"%PDF-1.4\n1 0 obj\n<<"))


def test_a_pdf_with_a_password_is_refused(tmp_path: Path) -> None:
    locked = encrypted(a_pdf(["Secret."]), user_password="key")

    assert "encrypted" in refusal(write(tmp_path / "a.pdf", locked))


def test_a_pdf_locked_for_owners_only_is_read(tmp_path: Path) -> None:
    open_to_all = encrypted(a_pdf(["Hello there."]), user_password="")

    assert read_file(write(tmp_path / "a.pdf", open_to_all)).text == "Hello there."


def test_a_truncated_docx_is_refused(tmp_path: Path) -> None:
    import docx

    whole = tmp_path / "whole.docx"
    docx.Document().save(str(whole))
    cut = write(tmp_path / "a.docx", whole.read_bytes()[:2000])

    assert "not a whole DOCX file" in refusal(cut)


def test_a_zip_named_as_docx_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("a.txt", "text")

    assert refusal(tmp_path / "a.docx") == "the file is a ZIP archive, not a DOCX file"


# What is read whatever it looks like


def test_latin_1_text_is_read(tmp_path: Path) -> None:
    text = "L'été était très chaud, où irons-nous ? À la plage, bien sûr."

    document = read_file(write(tmp_path / "a.txt", text.encode("latin-1")))

    assert document.text == text
    assert document.metadata == {"encoding": "cp1252"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_wide_text_is_read_with_and_without_its_mark(tmp_path: Path, encoding: str) -> None:
    text = "# Gruß\n\nThis is a test document. Schöne Grüße."

    document = read_file(write(tmp_path / "a.md", text.encode(encoding)))

    assert (document.text, document.title) == (text, "Gruß")


def test_a_file_without_a_suffix_is_read_as_text(tmp_path: Path) -> None:
    document = read_file(write(tmp_path / "LICENSE", "Do as you please."))

    assert (document.title, document.media_type) == ("LICENSE", "text/plain")


def test_suffixes_are_read_in_any_case(tmp_path: Path) -> None:
    assert read_file(write(tmp_path / "A.MD", "# Title\n")).title == "Title"


@pytest.mark.timeout(120)
def test_five_megabytes_on_one_line_become_chunks(tmp_path: Path) -> None:
    sentence = "The quick brown fox jumps over the lazy dog and är tired. "
    file = write(tmp_path / "a.txt", sentence * 90_000)
    raw = read_file(file)
    text = clean(raw.text)
    document = Document(
        id=document_id(raw.source), source=raw.source, title=raw.title, text=text,
        content_hash=raw.content_hash, media_type=raw.media_type,
    )  # fmt: skip

    def words(piece: str) -> list[tuple[int, int]]:
        spans, at = [], 0
        for word in piece.split(" "):
            if word:
                spans.append((at, at + len(word)))
            at += len(word) + 1
        return spans

    chunks = chunk(document, token_spans=words, config=ChunkingConfig())

    assert len(text) > 5_000_000
    assert all(text[c.start : c.end] == c.text for c in chunks)
    assert chunks[-1].end == len(text)


def test_the_title_is_a_humanised_name_where_the_text_has_none(tmp_path: Path) -> None:
    assert read_file(write(tmp_path / "query-params_2.txt", "words")).title == "Query params 2"
