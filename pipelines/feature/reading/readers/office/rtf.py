"""RTF: paragraphs, headings, lists and tables, as Markdown.

A reader of its own: the libraries of a free licence lose headings and tables. Pictures, fonts,
headers and footers, what was deleted in a tracked change and whatever a control word that is not
known introduces are left out. Text boxes, notes and comments follow their paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.markdown import join_blocks
from fti.pipelines.feature.reading.readers.office.formulas import from_omml
from fti.pipelines.feature.reading.readers.office.inline import Script
from fti.pipelines.feature.reading.readers.office.rtf_flow import Flow
from fti.pipelines.feature.reading.readers.office.symbols import (
    is_symbol_font,
    symbol,
    with_symbols,
)
from fti.pipelines.feature.reading.readers.office.titles import stated_title
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
    b"pntxta pntxtb nonshppict wgrffmtfilter sp shprslt nonesttables mmathPict atndate "
    b"atntime".split()
)
# Destinations that are told beside the paragraph that they stand in.
_BESIDE = {
    b"footnote": "note", b"annotation": "comment", b"shptxt": "box", b"dptxbxtext": "box",
}  # fmt: skip
# Destinations that are marked as unimportant and are not.
_IMPORTANT = frozenset({b"shppict", b"shpinst", b"nesttableprops", b"do"})
_TARGETS = {
    b"fonttbl": "fonts", b"stylesheet": "styles", b"title": "title", b"author": "author",
    b"info": "info", b"listtext": "mark", b"pntext": "mark", b"atnauthor": "commenter",
    b"moMath": "math",
}  # fmt: skip
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
_MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"
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
    info = {name: "".join(parts) for name, parts in reader.info.items()}
    return [
        Extracted(
            join_blocks(reader.body.blocks),
            title=stated_title(info["title"]) or reader.body.first_heading,
            metadata=facts(author=info["author"]),
            empty_reason="no text in the document",
        )
    ]


@dataclass(frozen=True, slots=True)
class _Group:
    """What a brace opens and the closing one ends.

    Args:
        target: "body" or "skip", "fonts", "styles", "info" or one of its properties, "mark" for a
            list's number, "math", "commenter".
        codec: of its bytes; empty for the document's.
        font: the font's name, where its codes stand for signs.
        fallback: bytes that stand for a Unicode character in readers that know none.
        hidden: whether it is shown to nobody.
        script: whether its characters are raised or lowered.
        beside: what is told beside the paragraph when the group ends.
        inner: whether it describes a row of a table in a cell.
        formula: the element of the formula that it is.
    """

    target: str = "body"
    codec: str = ""
    font: str = ""
    fallback: int = 1
    hidden: bool = False
    script: Script = ""
    beside: str = ""
    inner: bool = False
    formula: Any = None


class _Reader:
    """Reads once from the beginning to the end."""

    def __init__(self) -> None:
        self.body = Flow()
        self.info: dict[str, list[str]] = {"title": [], "author": []}
        self._flow = self.body  # or the note or box that is being read
        self._outer: list[Flow] = []
        self._codec = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font_names: dict[int, str] = {}
        self._styles: dict[int, int] = {}
        self._font = self._style = 0
        self._style_name: list[str] = []
        self._mark: list[str] = []
        self._commenter: list[str] = []
        self._group = _Group()
        self._stack: list[_Group] = []
        self._pending = bytearray()  # bytes of a character set, of which several may be one letter
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
        self._flush()
        while self._outer:  # the file is cut off
            self._end_flow("note")
        self.body.end()

    def _open(self) -> None:
        self._flush()
        if len(self._stack) > _MAX_DEPTH:
            raise ExtractionError(f"the RTF is nested deeper than {_MAX_DEPTH} groups")
        self._stack.append(self._group)
        self._group = replace(self._group, beside="")
        self._to_skip = 0

    def _close(self) -> None:
        self._flush()
        group = self._group
        if group.target == "styles":
            self._end_style()
        if self._stack:
            self._group = self._stack.pop()
        if group.target == "mark" != self._group.target:
            self._flow.mark = "".join(self._mark).strip()
            self._mark = []
        elif group.target == "math" != self._group.target:
            self._flow.put(from_omml(group.formula))
        if group.beside and self._outer:
            self._end_flow(group.beside)
        self._starred = False
        self._to_skip = 0

    def _end_flow(self, kind: str) -> None:
        inner, self._flow = self._flow, self._outer.pop()
        inner.end()
        if kind == "box":
            self._flow.asides += inner.blocks
            return
        text = " ".join(" ".join(inner.blocks).split())
        if kind == "comment":
            author = " ".join("".join(self._commenter).split())
            self._commenter = []
            text = text and f"comment{f' by {author}' if author else ''}: {text}"
        if text:
            self._flow.asides.append(f"({text})")

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
        elif word == b"uc":
            self._group = replace(self._group, fallback=min(max(number or 0, 0), 16))
        elif word == b"ansicpg" and number:
            self._codec = _known_codec(f"cp{number}") or self._codec
        elif word == b"mac":
            self._codec = "mac_roman"
        elif self._group.target == "math" and word.startswith(b"m"):
            self._formula(word)
        elif word in _TARGETS:
            self._retarget(_TARGETS[word])
        elif word in _BESIDE:
            self._begin_flow(_BESIDE[word])
        elif word in _SKIPPED or (starred and word not in _IMPORTANT and word != b"moMathPara"):
            self._retarget("skip")
        elif word == b"nesttableprops":
            self._group = replace(self._group, inner=True)
        elif not self._look(word, number) and self._group.target == "body":
            self._body_word(word, number)

    def _look(self, word: bytes, number: int | None) -> bool:
        """Whether a word says how the characters of its group look; it is noted then."""
        scripts: Mapping[bytes, Script] = {
            b"super": "^", b"up": "^", b"sub": "_", b"dn": "_", b"nosupersub": "",
        }  # fmt: skip
        if word in (b"v", b"deleted"):
            self._change(hidden=number != 0)
        elif word in scripts:
            self._change(script="" if number == 0 else scripts[word])
        elif word == b"plain":
            self._change(codec="", font="", hidden=False, script="")
        elif word == b"f" and number is not None:
            self._flush()
            self._font = number
            if self._group.target != "fonts":
                name = self._font_names.get(number, "").strip(" ;")
                signs = name if is_symbol_font(name) else ""
                self._change(codec=self._fonts.get(number, ""), font=signs)
        elif word == b"fcharset" and self._group.target == "fonts":
            if codec := _CHARSETS.get(number or 0):
                self._fonts[self._font] = codec
        elif word == b"s" and number is not None:
            if self._group.target == "styles":
                self._style = number
            else:
                self._flow.level = self._styles.get(number, 0)
        else:
            return False
        return True

    def _change(self, **look: Any) -> None:
        self._flush()
        self._group = replace(self._group, **look)

    def _body_word(self, word: bytes, number: int | None) -> None:
        flow = self._flow
        self._flush()
        if word in _CHARACTERS:
            self._put(_CHARACTERS[word])
        elif word in (b"par", b"sect", b"page"):
            self._end_paragraph()
        elif word == b"pard":
            flow.reset()
        elif word in (b"intbl", b"trowd"):
            flow.in_table = True
            if word == b"trowd":
                flow.begin_row(inner=self._group.inner)
        elif word == b"itap" and number is not None:
            flow.depth = number
        elif word == b"ilvl" and number is not None:
            flow.list_level = number
        elif word == b"outlinelevel" and number is not None and 0 <= number <= 8:
            flow.level = number + 1
        elif word in (b"cell", b"nestcell"):
            flow.end_cell(inner=word == b"nestcell")
        elif word in (b"row", b"nestrow"):
            flow.end_row(inner=word == b"nestrow")
        elif word in (b"clmrg", b"clvmrg", b"cellx"):
            flow.define(word.decode("ascii"), number or 0, inner=self._group.inner)

    def _retarget(self, target: str) -> None:
        if self._group.target == "skip":
            return
        formula = None
        if target == "math":
            from lxml import etree

            formula = etree.Element(f"{{{_MATH}}}oMath")
        self._group = replace(self._group, target=target, formula=formula)

    def _begin_flow(self, kind: str) -> None:
        if self._group.target != "body" or self._group.hidden or self._group.beside:
            self._retarget("skip")
            return
        self._outer.append(self._flow)
        self._flow = Flow()
        self._group = replace(self._group, beside=kind, script="")

    def _formula(self, word: bytes) -> None:
        """Begin an element of a formula: RTF writes Office's elements as groups of their names."""
        from lxml import etree

        outer = self._stack[-1].formula if self._stack else None
        if self._group.formula is outer and outer is not None:
            name = word[1:].decode("ascii")
            self._group = replace(
                self._group, formula=etree.SubElement(outer, f"{{{_MATH}}}{name or 'x'}")
            )

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
            self._put(with_symbols(character, self._group.font or "Symbol"))
        self._to_skip = self._group.fallback

    def _put(self, text: str) -> None:
        self._flush()
        self._to_skip = 0
        self._take(text)

    def _flush(self) -> None:
        """Decode the bytes that came since: neighbours may be one letter of an Asian script."""
        if not self._pending:
            return
        if self._group.font and self._group.target in ("body", "mark"):
            text = "".join(symbol(byte, self._group.font) for byte in self._pending)
        else:
            codec = self._group.codec or self._codec
            if self._group.target == "fonts":
                codec = "latin-1"
            text = self._pending.decode(codec, "replace")
        self._pending.clear()
        self._take(text)

    def _take(self, text: str) -> None:
        target = self._group.target
        if target == "body" and not self._group.hidden:
            self._flow.put(text, self._group.script)
        elif target in self.info:
            self.info[target].append(text)
        elif target == "styles":
            self._style_name.append(text)
        elif target == "fonts":
            self._font_names[self._font] = (self._font_names.get(self._font, "") + text)[:100]
        elif target == "mark":
            self._mark.append(text)
        elif target == "commenter":
            self._commenter.append(text)
        elif target == "math" and self._group.formula is not None:
            _write(self._group.formula, text)

    def _end_style(self) -> None:
        name = "".join(self._style_name).strip(" ;")
        number, self._style, self._style_name = self._style, 0, []
        if match := _HEADING_STYLE.match(name):
            self._styles[number] = min(int(match[1]), 6)
        elif name.lower() == "title":
            self._styles[number] = 1

    def _end_paragraph(self) -> None:
        self._flush()
        if self._group.target == "body":
            self._flow.end_paragraph()


def _write(element: Any, text: str) -> None:
    """Text of a formula, or the value of one of its properties."""
    from lxml import etree

    parent = element.getparent()
    if parent is not None and str(parent.tag).endswith("Pr"):
        element.set(f"{{{_MATH}}}val", (element.get(f"{{{_MATH}}}val") or "") + text)
        return
    clean = "".join(c for c in text if c.isprintable())
    etree.SubElement(element, f"{{{_MATH}}}t").text = clean


def _known_codec(name: str) -> str:
    import codecs

    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""
