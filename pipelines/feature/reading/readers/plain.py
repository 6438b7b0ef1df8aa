"""Plain text and the light markups that are read as they are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

from fti.pipelines.feature.reading.headings import MARKDOWN, PLAIN, RST, find_headings
from fti.pipelines.feature.reading.readers.base import (
    MAX_METADATA_CHARACTERS,
    MAX_METADATA_KEYS,
    Extracted,
    SourcesConfig,
)
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.markdown import without_comments
from fti.pipelines.feature.reading.readers.rst_tables import with_plain_tables
from fti.store.page_starts import PAGE_STARTS
from fti.store.plain_text import clean, clean_line

_FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<body>.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S | re.M)
_FRONT_MATTER_CHARACTERS = 1 << 16
_ENTRY = re.compile(r"(?P<key>[A-Za-z][\w-]{0,63})[ \t]*:[ \t]+(?P<value>\S.*)$")
# Front matter is written by whoever wrote the document; these say what fti itself found.
_RESERVED_KEYS = frozenset(
    {"encoding", "pages", "page", PAGE_STARTS, "warnings", "document", "source", "media_type"}
)


def read_plain(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Plain text in any encoding."""
    return read_outline(PLAIN)(data, config)


def read_outline(media_type: str) -> Callable[[bytes, SourcesConfig], list[Extracted]]:
    """A reader of text whose title is its first heading, as ``media_type`` writes headings."""

    def read(data: bytes, config: SourcesConfig) -> list[Extracted]:
        text, encoding = decode(data)
        return [
            Extracted(text, title=first_heading(text, media_type), metadata=encoding_fact(encoding))
        ]

    return read


def read_rst(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """reStructuredText, its drawn tables as rows."""
    text, encoding = decode(data)
    text = with_plain_tables(text.replace("\r\n", "\n"))
    return [Extracted(text, title=first_heading(text, RST), metadata=encoding_fact(encoding))]


def read_markdown(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Markdown without its HTML comments.

    Front matter becomes metadata: its plain ``key: value`` lines, nothing else.
    """
    text, encoding = decode(data)
    metadata, text = split_front_matter(text)
    text = without_comments(text)
    title = metadata.pop("title", "") or first_heading(text, MARKDOWN)
    return [Extracted(text, title=title, metadata=metadata | encoding_fact(encoding))]


def read_code(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """Source code as it stands."""
    text, encoding = decode(data)
    return [Extracted(text, metadata=encoding_fact(encoding))]


def encoding_fact(encoding: str) -> dict[str, str]:
    """The encoding as metadata, where it is worth a word."""
    return {} if encoding in {"utf-8", "ascii"} else {"encoding": encoding}


def first_heading(text: str, media_type: str) -> str:
    """The first heading of the highest level in the text's beginning; empty when it has none."""
    found = find_headings(clean(text[: 1 << 16]), media_type)
    top = min((h.level for h in found), default=0)
    return next((h.title for h in found if h.level == top), "")


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """The simple string entries of YAML front matter, and the text behind it."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.startswith("---"):
        return {}, text
    match = _FRONT_MATTER.match(text, 0, _FRONT_MATTER_CHARACTERS)
    if not match:
        return {}, text
    lines = match["body"].split("\n")
    entries = [m for m in map(_ENTRY.match, lines) if m]
    nested = ("#", "-", " ", "\t")
    if any(line.strip() and not line.startswith(nested) and ":" not in line for line in lines):
        return {}, text  # a rule over prose, not front matter
    metadata = {
        entry["key"]: value
        for entry in islice(entries, MAX_METADATA_KEYS)
        if entry["key"] not in _RESERVED_KEYS and (value := _plain_value(entry["value"]))
    }
    return metadata, text[match.end() :]


def _plain_value(raw: str) -> str:
    """A scalar as YAML writes it on one line; empty for anything with structure."""
    raw = raw.strip()
    if raw[0] in "\"'":
        end = raw.find(raw[0], 1)
        return clean_line(raw[1:end], max_characters=MAX_METADATA_CHARACTERS) if end > 0 else ""
    if raw[0] in "[{|>&*!%@`":
        return ""
    return clean_line(raw.split(" #", 1)[0], max_characters=MAX_METADATA_CHARACTERS)
