"""Raw text to the text that is stored, split, indexed and cited.

Pure functions. ``clean`` removes what no reader can see and keeps everything that a reader can; it
is idempotent, so that cleaning stored text again moves no offset.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

# Code points that are invisible and carry no meaning in running text. The zero-width joiner and
# non-joiner (U+200C, U+200D) stay: Persian, the Indic scripts and emoji need them.
_INVISIBLE = re.compile(
    "["
    "\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f"  # controls; the line breaks come first
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"  # soft hyphen, joiners, fillers
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"  # zero-width space, direction, invisible ops
    "\ufeff\ufff9-\ufffb"  # byte-order mark, annotation marks
    "\U000e0000-\U000e007f"  # tag characters
    "\ud800-\udfff"  # lone surrogates: cannot be written as UTF-8
    "]"
)
_LINE_BREAK = re.compile("\r\n?|[\u000b\u000c\u0085\u2028\u2029]")
_NO_BREAK_SPACE = str.maketrans("\u00a0\u2007\u202f", "   ")
_BLANK_LINES = re.compile(r"\n{4,}")


def clean(text: str) -> str:
    """Text in NFC with plain line breaks and without invisible characters.

    Line breaks of every kind become a newline and no-break spaces become spaces; control,
    zero-width and direction characters and lone surrogates are dropped (NUL never survives);
    trailing spaces go; more than two blank lines become two; blank lines at both ends go. Tabs,
    indentation and everything visible stay, so code keeps its shape.
    """
    if text.isascii() and text.isprintable():  # one plain line, of any length
        return text.rstrip()
    text = _LINE_BREAK.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = unicodedata.normalize("NFC", text)
    text = text.translate(_NO_BREAK_SPACE)
    # Line by line: a regular expression for trailing spaces takes quadratic time on long runs.
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    text = _BLANK_LINES.sub("\n\n\n", text)
    return text.strip("\n")


def clean_line(text: str, *, max_characters: int = 300) -> str:
    """``text`` cleaned, on one line with single spaces, cut at a word when it is too long."""
    line = " ".join(clean(text).split())
    if len(line) <= max_characters:
        return line
    cut = line[:max_characters]
    return (cut.rsplit(" ", 1)[0] if " " in cut[max_characters // 2 :] else cut[:-1]) + "…"


LINE_MARKS = re.compile(r"^(?:[-*+>|\u2022\u2023\u25aa\u25e6\u2013]|\d+[.)])\s+")
"""What stands before an item of a list, or a quoted line."""

_BLANK = re.compile(r"\n[^\S\n]*\n")
_FIELD = re.compile(r"[^\W\d][\w .()/-]{0,40}:\s")  # "name: value", a line of a record
_UNDERLINE = re.compile(r"[=~^_-]{3,}\s*")
_NEARLY = 0.8  # of the width of a paragraph's lines
_SHORTEST_WRAP = 40  # characters; no paragraph is broken into shorter lines


def unwrapped(text: str) -> str:
    """The text with a space in place of each soft break; every character keeps its place."""
    signs = list(text)
    for at in soft_breaks(text):
        signs[at] = " "
    return "".join(signs)


def soft_breaks(text: str) -> Iterator[int]:
    """Where the line breaks stand over which a sentence goes on.

    A paragraph may be broken into lines of one width: then a break is soft whose next word would
    not have fitted into the line.
    """
    at = 0
    for paragraph in _BLANK.split(text):
        start = text.index(paragraph, at)
        at = start + len(paragraph)
        lines = paragraph.split("\n")
        width = max(map(len, lines))
        if width < _SHORTEST_WRAP:
            continue
        # One long line proves no width; where the next begins small, it goes on all the same.
        proven = sum(len(line) > _NEARLY * width for line in lines) > 1
        for line, after in pairwise(lines):
            start += len(line) + 1
            if _goes_on(line, after, width) and (proven or after.lstrip()[:1].islower()):
                yield start - 1


def _goes_on(line: str, after: str, width: int) -> bool:
    first = after.split(maxsplit=1)[:1]
    return (
        bool(first)
        and len(line) + 1 + len(first[0]) > width
        and "|" not in line + after
        and not line.lstrip().startswith("#")
        and not _UNDERLINE.fullmatch(after.strip())
        and not LINE_MARKS.match(after.lstrip())
        and not after.lstrip().startswith(("#", "```"))
        and not line.rstrip().endswith((":", "  ", "\\"))
        and not _FIELD.match(after)
    )


def utf8(text: str) -> str:
    """Text that Arrow and JSON can hold: a lone surrogate becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
