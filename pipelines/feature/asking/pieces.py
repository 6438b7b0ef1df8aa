"""A chunk's text to the units that a question can be made from: sentences, pairs, cells.

Structure is read from the text alone: lists, "key: value" lines, tables with bars and columns set
apart by spaces. Headings and code are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fti.pipelines.feature.asking.quality import folded

_LIST_MARK = re.compile(r"\s*(?:[-*+•‣◦–]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+")
_FENCE = re.compile(r"\s*(```|~~~)")
_PAIR = re.compile(r"(?P<key>[^\W\d_][^:;.!?|=]{1,48}?)\s*:\s+(?P<value>\S.*)")
_COLUMNS = re.compile(r"(?:\s*)(\S+(?: \S+)*(?:(?:\s{2,}|\t)\S+(?: \S+)*)+)\s*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|approx|vs|Dr|Mr|Mrs|Ms|Prof|St|No|Nos|Vol|Fig|Inc|Ltd|Co|Jr|Sr|Gen|"
    r"Col|Capt|Lt|Rev|Hon|Sgt|ca|c|ed|eds|pp|p)|\b[A-Z])\.$"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])")
_MARKUP = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),
    (re.compile(r"</?[a-zA-Z][^>]*>"), ""),
    (re.compile(r"\{[#.:%][^}]*\}"), ""),
    (re.compile(r"(\*\*|__|``?)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])[*_](?=\S)([^*_]+?)(?<=\S)[*_](?![\w*])"), r"\1"),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A unit of running text or of structure, white space folded and markup taken off."""

    kind: Literal["sentence", "pair", "cell"]
    text: str
    key: str = ""
    of: str = ""
    first: bool = False  # of its paragraph


def pieces(text: str, *, headings: Collection[str] = (), context: str = "") -> Iterator[Piece]:
    """Sentences, key-value lines and table cells of a chunk, in order.

    Args:
        text: the chunk's.
        headings: lines that are headings, folded.
        context: the chunk's: the names of the columns that its first rows stand in, or their row.
    """
    paragraph: list[str] = []
    header, record = _from_context(context)
    aligned: list[str] = []
    fence = False
    all_lines = [*text.split("\n"), ""]
    for number, line in enumerate(all_lines):
        if _FENCE.match(line):
            fence = not fence
            yield from _sentences(paragraph)
            paragraph = []
            continue
        bare = line.strip()
        if fence or not bare:
            yield from _sentences(paragraph)
            paragraph, header, aligned, record = [], [], [], "" if not bare else record
            continue
        if bare.startswith("|") and bare.count("|") >= 2:
            yield from _sentences(paragraph)
            paragraph = []
            cells = [_plain(c) for c in bare.strip("|").split("|")]
            if all(re.fullmatch(r":?-*:?", c) for c in cells):
                continue
            if header:
                yield from _cells(header, cells)
            else:
                header = cells
            continue
        header = []
        following = all_lines[number + 1].strip()
        stands_alone = not paragraph or paragraph[-1].endswith((".", "!", "?", ":"))
        if (
            _is_heading(bare)
            or folded(bare) in headings
            or (stands_alone and _announces(bare, following))
        ):
            yield from _sentences(paragraph)
            paragraph = []
            continue
        item = _LIST_MARK.match(line)
        content = _plain(line[item.end() :] if item else bare)
        pair = _PAIR.fullmatch(content)
        columns = _columns(line) if not item and not paragraph else []
        if pair is not None and (item or not paragraph) and len(pair["key"].split()) <= 7:
            yield from _sentences(paragraph)
            key, value = pair["key"].strip(), pair["value"].strip()
            yield Piece("pair", value.rstrip("."), key=key, of=record)
            record = record or (value if _names_record(key) else "")
            # What follows the first sentence of a list item is running text.
            paragraph = [content] if len(value.split()) > 8 or item else []
            continue
        if len(columns) > 2 or (columns and aligned):
            if aligned and len(aligned) == len(columns):
                yield from _cells(aligned, columns)
            else:
                aligned = columns
            continue
        if columns:
            yield Piece("pair", columns[1], key=columns[0])
            continue
        if item:
            yield from _sentences(paragraph)
            paragraph = [content]
        else:
            paragraph.append(content)
    yield from _sentences(paragraph)


def _from_context(context: str) -> tuple[list[str], str]:
    """The columns of the table that a chunk goes on with, and the name of the row."""
    if not context:
        return [], ""
    columns = [_plain(cell) for cell in context.split(" | ")]
    pair = _PAIR.fullmatch(columns[0])
    named = pair is not None and _names_record(pair["key"].strip())
    return columns, pair["value"] if pair is not None and named else ""


def _announces(line: str, following: str) -> bool:
    """Whether a line reads as the heading of the text below it, as plain extracts have them."""
    return (
        len(line) < 45
        and len(line.split()) <= 6
        and line[:1].isupper()
        and line[-1].isalnum()
        and following[:1].isupper()
        and len(following) > len(line)
        and _LIST_MARK.match(line) is None
        and _COLUMNS.fullmatch(line) is None
        and _PAIR.fullmatch(line) is None
    )


def _columns(line: str) -> list[str]:
    """The cells of a line whose columns are set apart by spaces; empty when it has none."""
    match = _COLUMNS.fullmatch(line)
    return [_plain(cell) for cell in re.split(r"\s{2,}|\t", match[1])] if match else []


def _names_record(key: str) -> bool:
    return key.casefold() in ("name", "title", "item", "id", "product", "label", "tool", "machine")


def _is_heading(line: str) -> bool:
    if line.startswith("#") or re.fullmatch(r"[=\-~^*_]{3,}", line):
        return True
    letters = [c for c in line if c.isalpha()]
    return bool(letters) and len(line) < 80 and all(c.isupper() for c in letters)


def _plain(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return folded(text)


def _sentences(paragraph: Iterable[str]) -> Iterator[Piece]:
    text = _plain(" ".join(paragraph))
    if not text:
        return
    start, first = 0, True
    for match in _SENTENCE_END.finditer(text):
        if _ABBREVIATION.search(text[start : match.start()]):
            continue
        yield Piece("sentence", text[start : match.end()].strip(), first=first)
        start, first = match.end(), False
    rest = text[start:].strip()
    # A paragraph cut off by the end of the chunk ends in the middle of a sentence.
    if rest and (rest[-1] in ".!?)\"”'’:;" or len(rest.split()) > 3):
        yield Piece("sentence", rest, first=first)


def _cells(header: Sequence[str], cells: Sequence[str]) -> Iterator[Piece]:
    if len(cells) != len(header) or not cells[0]:
        return
    for name, value in zip(header[1:], cells[1:], strict=True):
        if name and value:
            yield Piece("cell", value, key=name, of=cells[0])
