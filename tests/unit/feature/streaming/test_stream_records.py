"""Records of a stream: what one says, and why one is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fti.pipelines.feature.reading.parsing import Parser
from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.pipelines.feature.streaming.stream_records import named_source, parse_record, raw_document
from fti.store.errors import ExtractionError

LIMIT = 4096


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_a_record_becomes_what_a_reader_would_find() -> None:
    given = line(
        source="tickets/17",
        text="# Kiln\n\nIt fires on Fridays.",
        format="markdown",
        metadata={"team": "hall", "floor": 2, "none": None},
        at="2026-03-01T13:00:00+01:00",
    )
    raw = raw_document(parse_record(given, max_bytes=LIMIT), Parser(SourcesConfig()))
    assert (raw.source, raw.title, raw.media_type) == ("tickets/17", "Kiln", "text/markdown")
    assert raw.text.endswith("It fires on Fridays.")
    assert raw.metadata == {"team": "hall", "floor": "2", "at": "2026-03-01T12:00:00+00:00"}


def test_the_title_is_the_records_own_before_any_other() -> None:
    parser = Parser(SourcesConfig())
    named = parse_record(line(source="t/1", text="# A\n\nb", title="Mine"), max_bytes=LIMIT)
    plain = parse_record(line(source="tickets/2", text="No heading here."), max_bytes=LIMIT)
    assert raw_document(named, parser).title == "Mine"
    assert raw_document(plain, parser).title == "2"


def test_the_digest_is_of_what_it_says_and_not_of_when() -> None:
    first, later, other = (
        parse_record(line(source="t/1", text=text, at=at), max_bytes=LIMIT)
        for text, at in (
            ("same", "2026-03-01T12:00:00Z"),
            ("same", "2026-03-02T12:00:00Z"),
            ("else", "2026-03-01T12:00:00Z"),
        )
    )
    assert first.digest == later.digest != other.digest


def test_what_fti_finds_itself_cannot_be_claimed() -> None:
    given = line(source="t/1", text="x", metadata={"page": "9", "page_starts": "0 1", "at": "no"})
    raw = raw_document(parse_record(given, max_bytes=LIMIT), Parser(SourcesConfig()))
    assert dict(raw.metadata) == {}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON|larger"),
        (b"[1]", "a JSON list, not an object"),
        (line(text="x"), "source: Field required"),
        (line(source="", text="x"), "source:"),
        (line(source="/etc/passwd", text="x"), "begins like a path of a file"),
        (line(source="~/notes", text="x"), "begins like a path of a file"),
        (line(source="C:\\notes", text="x"), "begins like a path of a file"),
        (line(source="a\nb", text="x"), "control characters"),
        (line(source="s" * 501, text="x"), "source: String should have at most 500"),
        (line(source="t/1"), "it has no text; to delete a document write deleted: true"),
        (line(source="t/1", text=" \n"), "it has no text"),
        (line(source="t/1", text="x", deleted=True), "it is deleted and has a text"),
        (line(source="t/1", text="x", format="pdf"), "format:"),
        (line(source="t/1", text="x", at="2026-03-01T12:00:00"), "has no time zone"),
        (line(source="t/1", text="x", at="9999-12-31T23:59:59-01:00"), "at: is before the year 1"),
        (line(source="t/1", text="x", at="0001-01-01T00:00:00+14:00"), "at: is before the year 1"),
        (line(source="t/1", text="x", at=1e300), "at:"),
        (line(source="t/1", text="x", colour="red"), "colour: Extra inputs are not permitted"),
        (line(source="t/1", text="x", metadata={"a": [1]}), "metadata"),
        (line(source="t/1", text="x", metadata={str(n): n for n in range(33)}), "more than 32"),
        (line(source="t/1", text="x" * LIMIT), f"larger than {LIMIT} bytes"),
    ],
)
def test_a_bad_record_says_what_is_wrong(given: bytes, reason: str) -> None:
    with pytest.raises(ExtractionError, match=reason):
        parse_record(given, max_bytes=LIMIT)


def test_a_bad_record_may_still_name_its_source() -> None:
    assert named_source(line(source="t/1", colour="red")) == "t/1"
    assert named_source(line(source="/etc/passwd")) == ""
    assert named_source(line(source=7)) == named_source(b"[]") == named_source(b"{") == ""
