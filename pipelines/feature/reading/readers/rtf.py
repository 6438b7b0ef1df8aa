"""RTF: paragraphs, headings, lists' text and tables, as Markdown.

A reader of its own: the libraries of a free licence lose headings and tables. Pictures, fonts,
headers and footers and whatever a control word that is not known introduces are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import heading, join_blocks, table
from fti.store.errors import ExtractionError

_TOKEN = re.compile(
    rb"\\'(?P<byte>[0-9a-fA-F]{2})"
    rb"|\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? ?"
    rb"|\\(?P<symbol>[^a-zA-Z])"
    rb"|(?P<brace>[{}])"
    rb"|[\r\n]+"
    rb"|(?P<text>[^\\{}\r\n]+)"
    rb"|\\"
)
_MAX_DEPTH = 1000
# Destinations that hold no text of the body.
_SKIPPED = frozenset(
    b"colortbl pict object objdata themedata datastore header headerl headerr headerf footer "
    b"footerl footerr footerf ftnsep ftnsepc xmlnstbl rsidtbl listtable listoverridetable "
    b"generator latentstyles fldinst mmathPr pgptbl revtbl filetbl bkmkstart bkmkend "
    b"listtext pntext pntxta pntxtb nonshppict wgrffmtfilter annotation".split()
)
_INFO = {b"title": "title", b"author": "author"}
_CHARACTERS = {
    b"tab": "\t", b"line": "\n", b"emdash": "—", b"endash": "–", b"lquote": "‘", b"rquote": "’",
    b"ldblquote": "“", b"rdblquote": "”", b"bullet": "•", b"emspace": " ", b"enspace": " ",
}  # fmt: skip
_SYMBOLS = {b"~": "\u00a0", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}"}
# Font charsets of Windows as Python's codecs.
_CHARSETS = {
    128: "cp932", 129: "cp949", 134: "gbk", 136: "cp950", 161: "cp1253", 162: "cp1254",
    163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250", 0: "cp1252",
}  # fmt: skip
_HEADING_STYLE = re.compile(r"heading\s*([1-9])", re.IGNORECASE)


def read_rtf(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """The body of an RTF document.

    Raises:
        ExtractionError: no RTF, or braces nested beyond reason.
    """
    if not data.lstrip().startswith(b"{\\rtf"):
        raise ExtractionError(
            "the file is not RTF: it does not begin with {\\rtf",
            hint="Give it the suffix of what it is.",
        )
    reader = _Reader()
    reader.read(data)
    first = next((b.lstrip("#").strip() for b in reader.blocks if b.startswith("#")), "")
    info = {name: clean_line("".join(parts)) for name, parts in reader.info.items()}
    return [
        Extracted(
            join_blocks(reader.blocks),
            title=info["title"] or first,
            metadata=facts(author=info["author"]),
            empty_reason="no text in the document",
        )
    ]


@dataclass(frozen=True, slots=True)
class _Group:
    """What a brace opens and the closing one ends."""

    target: str = "body"  # or "skip", "fonts", "styles", "info" or one of its properties
    codec: str = ""
    fallback: int = 1  # bytes that stand for a Unicode character in readers that know none
    hidden: bool = False


class _Reader:
    """Reads once from the beginning to the end."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.info: dict[str, list[str]] = {"title": [], "author": []}
        self._codec = "cp1252"
        self._fonts: dict[int, str] = {}
        self._styles: dict[int, int] = {}
        self._font = self._style = 0
        self._style_name: list[str] = []
        self._group = _Group()
        self._stack: list[_Group] = []
        self._pending = bytearray()  # bytes of a character set, of which several may be one letter
        self._text: list[str] = []
        self._level = 0
        self._in_table = False
        self._cells: list[str] = []
        self._rows: list[list[str]] = []
        self._to_skip = 0
        self._starred = False
        self._surrogate = ""

    def read(self, data: bytes) -> None:
        """Take the document up."""
        position = 0
        while match := _TOKEN.match(data, position):
            position = match.end()
            if match["byte"]:
                self._bytes(bytes([int(match["byte"], 16)]))
            elif match["text"]:
                self._bytes(match["text"])
            elif match["word"]:
                number = int(match["number"]) if match["number"] else None
                if match["word"] == b"bin":  # so many bytes that are no RTF
                    position += max(number or 0, 0)
                else:
                    self._word(match["word"], number)
            elif match["symbol"]:
                self._symbol(match["symbol"])
            elif match["brace"] == b"{":
                self._open()
            elif match["brace"]:
                self._close()
        self._end_paragraph()
        self._end_table()

    def _open(self) -> None:
        self._flush()
        if len(self._stack) > _MAX_DEPTH:
            raise ExtractionError(f"the RTF is nested deeper than {_MAX_DEPTH} groups")
        self._stack.append(self._group)
        self._to_skip = 0

    def _close(self) -> None:
        self._flush()
        if self._group.target == "styles":
            self._end_style()
        if self._stack:
            self._group = self._stack.pop()
        self._starred = False
        self._to_skip = 0

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._starred = True
        elif symbol in (b"\n", b"\r"):
            self._end_paragraph()
        elif symbol in _SYMBOLS:
            self._put(_SYMBOLS[symbol])

    def _word(self, word: bytes, number: int | None) -> None:
        starred, self._starred = self._starred, False
        if word == b"u" and number is not None:
            self._put_unicode(number % 0x10000)
            return
        if word == b"uc":
            self._group = replace(self._group, fallback=min(max(number or 0, 0), 16))
        elif word == b"ansicpg" and number:
            self._codec = _known_codec(f"cp{number}") or self._codec
        elif word == b"mac":
            self._codec = "mac_roman"
        elif word in (b"fonttbl", b"stylesheet"):
            self._retarget("fonts" if word == b"fonttbl" else "styles")
        elif word in _INFO:
            self._retarget(_INFO[word])
        elif word == b"info":
            self._retarget("info")
        elif word in _SKIPPED or (starred and word not in (b"shppict", b"shptxt", b"shpinst")):
            self._retarget("skip")
        elif word == b"v":
            self._flush()
            self._group = replace(self._group, hidden=number != 0)
        elif word == b"f" and number is not None:
            self._flush()
            self._font = number
            if self._group.target != "fonts":
                self._group = replace(self._group, codec=self._fonts.get(number, ""))
        elif word == b"fcharset" and self._group.target == "fonts":
            if codec := _CHARSETS.get(number or 0):
                self._fonts[self._font] = codec
        elif word == b"s" and number is not None:
            if self._group.target == "styles":
                self._style = number
            else:
                self._level = self._styles.get(number, 0)
        elif self._group.target == "body":
            self._body_word(word, number)

    def _body_word(self, word: bytes, number: int | None) -> None:
        if word in _CHARACTERS:
            self._put(_CHARACTERS[word])
        elif word in (b"par", b"sect", b"page"):
            self._end_paragraph()
        elif word == b"pard":
            self._flush()
            self._level, self._in_table = 0, False
        elif word == b"plain":
            self._flush()
            self._group = replace(self._group, codec="", hidden=False)
        elif word in (b"intbl", b"trowd"):
            self._in_table = True
        elif word == b"outlinelevel" and number is not None and 0 <= number <= 8:
            self._level = number + 1
        elif word in (b"cell", b"nestcell"):
            self._flush()
            self._cells.append(" ".join("".join(self._text).split()))
            self._text = []
        elif word in (b"row", b"nestrow"):
            self._rows.append(self._cells)
            self._cells = []

    def _retarget(self, target: str) -> None:
        if self._group.target != "skip":
            self._group = replace(self._group, target=target)

    def _bytes(self, data: bytes) -> None:
        if self._to_skip:
            skipped = min(self._to_skip, len(data))
            self._to_skip -= skipped
            data = data[skipped:]
        self._starred = False
        self._pending += data

    def _put_unicode(self, unit: int) -> None:
        self._to_skip = 0
        character = chr(unit)
        if 0xD800 <= unit < 0xDC00:
            self._surrogate = character
        elif 0xDC00 <= unit < 0xE000 and self._surrogate:
            pair = (self._surrogate + character).encode("utf-16", "surrogatepass")
            self._put(pair.decode("utf-16", "replace"))
            self._surrogate = ""
        else:
            self._put(character)
        self._to_skip = self._group.fallback

    def _put(self, text: str) -> None:
        self._flush()
        self._to_skip = 0
        self._take(text)

    def _flush(self) -> None:
        """Decode the bytes that came since: neighbours may be one letter of an Asian script."""
        if self._pending:
            codec = self._group.codec or self._codec
            if self._group.target == "fonts":
                codec = "latin-1"
            text = self._pending.decode(codec, "replace")
            self._pending.clear()
            self._take(text)

    def _take(self, text: str) -> None:
        target = self._group.target
        if target == "body" and not self._group.hidden:
            if self._rows and not (self._in_table or self._cells) and text.strip():
                self._end_table()
            self._text.append(text)
        elif target in self.info:
            self.info[target].append(text)
        elif target == "styles":
            self._style_name.append(text)

    def _end_style(self) -> None:
        name = "".join(self._style_name).strip(" ;")
        number, self._style, self._style_name = self._style, 0, []
        if match := _HEADING_STYLE.match(name):
            self._styles[number] = min(int(match[1]), 6)
        elif name.lower() == "title":
            self._styles[number] = 1

    def _end_paragraph(self) -> None:
        self._flush()
        if self._group.target != "body":
            return
        if self._in_table:
            self._text.append(" ")
            return
        text = "".join(self._text).strip()
        self._text = []
        if text:
            self._end_table()
            self.blocks.append(heading(self._level, text) if self._level else text)

    def _end_table(self) -> None:
        if self._cells:
            self._rows.append(self._cells)
        if self._rows:
            self.blocks.append(table(self._rows))
        self._rows, self._cells = [], []


def _known_codec(name: str) -> str:
    import codecs

    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""
