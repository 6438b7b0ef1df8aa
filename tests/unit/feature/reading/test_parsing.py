"""Reading in a process of its own: what a hostile file can do, and what it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fti.pipelines.feature.reading import parsing
from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.reading.readers import READERS, SourcesConfig
from fti.store.errors import ExtractionError

#: A module that stands before ``bs4`` on the search path: what the parser of HTML does over a page.
_HOSTILE_PARSER = """
import os, time

class BeautifulSoup:
    def __init__(self, markup, features, **options):
        if "hang" in markup:
            time.sleep(600)
        if "wait" in markup:
            time.sleep(1.5)
        if "spin" in markup:
            while True:
                pass
        if "die" in markup:
            os._exit(3)
        if "crash" in markup:
            os.abort()
        if "memory" in markup:
            blocks = [bytes(1 << 28) for _ in range(64)]
        if "print" in markup:
            print("noise " * 1000, flush=True)
            os.write(1, b"more noise")
        raise KeyError(markup[:40])
"""
MIB = 1 << 20


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bs4.py").write_text(_HOSTILE_PARSER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def parser(hostile: Path) -> Iterator[Parser]:
    with Parser(SourcesConfig(max_memory_bytes=1024 * MIB)) as parser:
        yield parser


def refusal(parser: Parser, suffix: str, data: bytes) -> str:
    with pytest.raises(ExtractionError) as refused:
        parser.parse(suffix, data)
    return refused.value.message


def survives(parser: Parser) -> None:
    # The parser of RTF is our own: it imports nothing, so it is quick on a busy machine too.
    (found,) = parser.parse(".rtf", rb"{\rtf1 Still here.}")
    assert found.text == "Still here."


def process_of(parser: Parser) -> int:
    assert parser._process is not None
    return parser._process.pid


@pytest.mark.parametrize(
    ("page", "timeout_s", "why"),
    [
        (b"spin", 1, "reading it took more than 1 s of processor time and was given up"),
        (b"hang", 0.3, "reading it took longer than 3 s and was given up (10 times timeout_s)"),
    ],
)
def test_a_file_that_hangs_its_parser_is_given_up(
    hostile: Path, page: bytes, timeout_s: float, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page == b"spin":  # where others run too, the clock must not be first
        monkeypatch.setattr(parsing, "WALL_FACTOR", 200)
    with Parser(SourcesConfig(timeout_s=timeout_s)) as parser:
        assert refusal(parser, ".html", page).startswith(why)
        survives(parser)


def test_a_parser_that_waits_longer_than_its_processor_time_is_left_alone(hostile: Path) -> None:
    with Parser(SourcesConfig(timeout_s=1)) as parser:
        assert "KeyError" in refusal(parser, ".html", b"wait")


@pytest.mark.parametrize(("page", "how"), [(b"die", "exit status 3"), (b"crash", "SIGABRT")])
def test_a_file_that_kills_its_parser_is_refused(parser: Parser, page: bytes, how: str) -> None:
    assert f"ended the reading process ({how}" in refusal(parser, ".html", page).replace(
        "signal ", ""
    )
    survives(parser)


def test_a_file_that_takes_too_much_memory_is_refused(parser: Parser) -> None:
    assert "needs more than 1073741824 bytes of memory" in refusal(parser, ".html", b"memory")
    survives(parser)


def test_a_parser_that_prints_disturbs_nothing(parser: Parser) -> None:
    assert "KeyError" in refusal(parser, ".html", b"print")
    survives(parser)


def test_a_fault_of_the_parser_is_the_reason(parser: Parser) -> None:
    assert refusal(parser, ".html", b"odd page") == (
        "the reader failed on it: KeyError: 'odd page'"
    )


def test_one_process_reads_many_files(parser: Parser) -> None:
    survives(parser)
    first = process_of(parser)
    refusal(parser, ".html", b"odd page")
    survives(parser)

    assert process_of(parser) == first


def test_a_process_that_died_meanwhile_is_replaced(parser: Parser) -> None:
    survives(parser)
    first = process_of(parser)
    os.kill(first, 9)
    assert parser._process is not None
    parser._process.wait()

    survives(parser)

    assert process_of(parser) != first


def test_closing_ends_the_process(hostile: Path) -> None:
    with Parser(SourcesConfig()) as parser:
        survives(parser)
        process = parser._process
        assert process is not None

    assert process.poll() is not None
    survives(parser)  # it starts again when it is needed
    parser.close()


def test_plain_formats_need_no_process() -> None:
    with Parser(SourcesConfig()) as parser:
        (found,) = parser.parse(".md", b"# Title")

        assert found.title == "Title"
        assert parser._process is None


def test_isolation_can_be_switched_off() -> None:
    with Parser(SourcesConfig(isolate=False)) as parser:
        survives(parser)
        assert parser._process is None


def test_both_ways_give_the_same() -> None:
    from email.message import EmailMessage

    mail = EmailMessage()
    mail["Subject"] = "Größe 日本 🙂"
    mail.set_content("Words.")
    mail.add_attachment(bytes(range(256)), maintype="a", subtype="b", filename="x.bin")

    with Parser(SourcesConfig()) as apart, Parser(SourcesConfig(isolate=False)) as here:
        for suffix, data in ((".eml", mail.as_bytes()), (".html", b"<p>a\xff</p>")):
            assert apart.parse(suffix, data) == here.parse(suffix, data)


def test_what_does_not_start_says_so(hostile: Path) -> None:
    (hostile / "pydantic.py").write_text("raise SystemExit(7)")

    with Parser(SourcesConfig()) as parser:
        assert "does not start (exit status 7)" in refusal(parser, ".pdf", b"x")


def test_every_reader_with_a_large_parser_is_isolated() -> None:
    plain = {s for s, reader in READERS.items() if not reader.isolated}
    code = {s for s, r in READERS.items() if r.media_type.startswith("text/x-code-")}

    assert plain - code == {
        "", ".txt", ".text", ".log", ".md", ".markdown", ".rst", ".org",
        ".ipynb", ".csv", ".tsv", ".jsonl", ".ndjson", ".json",
    }  # fmt: skip
