"""The parts of an XLSX file: which sheets there are, and the cells of their rows.

Read from the parts themselves, row by row, since openpyxl can give a formula or its value, but not
both; no merged cells where it reads by the row; numbers, but not as they are shown; and nothing of
files in the strict form of the format (ISO/IEC 29500), whose names lie in other namespaces. Tags
are compared without their namespace, so that both forms read alike.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fti.pipelines.feature.reading.readers.package import Package, not_whole
from fti.pipelines.feature.reading.readers.sheets import numberformats
from fti.pipelines.feature.reading.readers.sheets.grid import Kind
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean_line

_WORKBOOK = "xl/workbook.xml"
_REFERENCE = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})")
_MERGED = re.compile(rb"""<(?:\w+:)?mergeCell\s[^>]*?ref\s*=\s*["']([A-Z]+\d+):([A-Z]+\d+)["']""")
_MAX_MERGED = 100_000
_MAX_FORMULA = 500
_ISO = re.compile(r"(?P<date>\d{4}-\d\d-\d\d)?T?(?P<time>\d\d:\d\d(?::\d\d)?)?")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it is shown; ``formula`` where it holds one that has no stored value."""

    text: str
    kind: Kind
    formula: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row that have a value, by column; rows and columns count from 1."""

    number: int
    cells: dict[int, Cell]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A worksheet. ``merged`` has by first row the columns and the last row of merged cells."""

    name: str
    part: str
    visible: bool
    merged: Mapping[int, list[tuple[range, int]]]


class Workbook:
    """The sheets of an XLSX file, in their order.

    Raises:
        ExtractionError: a part is missing or damaged.
        SyntaxError: a part is no XML.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._part = self._main_part()
        if self._part not in package:
            raise not_whole("XLSX", KeyError(f"there is no part {self._part!r}"))
        root = _parsed(package.read(self._part))
        properties = root.find("{*}workbookPr")
        said = properties.get("date1904") if properties is not None else None
        self._since_1904 = said in ("1", "true")
        related = self._relations(self._part)
        self.sheets: list[Sheet] = []
        for sheet in root.iterfind("{*}sheets/{*}sheet"):
            reference = next((v for k, v in sheet.attrib.items() if k.endswith("}id")), "")
            kind, part = related.get(reference, ("", ""))
            if kind != "worksheet":  # charts and the like have no cells
                continue
            self.sheets.append(
                Sheet(
                    name=clean_line(sheet.get("name") or ""),
                    part=part,
                    visible=sheet.get("state", "visible") == "visible",
                    merged=_merged(package.read(part)) if part in package else {},
                )
            )

    def rows(self, sheet: Sheet) -> Iterator[Row]:
        """The rows of a sheet that have values, in their order."""
        from lxml import etree

        formulas: dict[str, Any] = {}
        number = 0
        content = io.BytesIO(self._package.read(sheet.part))
        for _, element in etree.iterparse(
            content, tag="{*}row", resolve_entities=False, no_network=True
        ):
            number = _whole(element.get("r"), number + 1)
            cells: dict[int, Cell] = {}
            column = 0
            for child in element.iterchildren("{*}c"):
                column = _column(child.get("r"), column + 1)
                cell = self._cell(child, number, column, formulas)
                if cell is not None and cell.text:
                    cells[column] = cell
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
            if cells:
                yield Row(number, cells)

    def properties(self) -> tuple[str, str]:
        """Title and author; empty where the file says none."""
        if "docProps/core.xml" not in self._package:
            return "", ""
        root = _parsed(self._package.read("docProps/core.xml"))
        return root.findtext("{*}title") or "", root.findtext("{*}creator") or ""

    def _cell(self, element: Any, row: int, column: int, formulas: dict[str, Any]) -> Cell | None:
        kind = element.get("t", "n")
        if kind == "inlineStr":
            inline = element.find("{*}is")
            return None if inline is None else _text_cell(_rich(inline))
        value = element.findtext("{*}v")
        if not value:
            formula = element.find("{*}f")
            # A formula of text may well have the empty text for its value.
            if formula is None or kind == "str":
                return None
            written = _formula(formula, row, column, formulas)
            return Cell(written, "text", formula=True) if written else None
        if kind == "s":
            return _text_cell(self._strings[int(value)])
        if kind == "b":
            return Cell("TRUE" if value.strip() in ("1", "true") else "FALSE", "text")
        if kind == "d":
            return _iso_cell(value)
        if kind != "n":
            return _text_cell(value)
        code = self._codes[int(element.get("s", 0))] if self._codes else numberformats.GENERAL
        number = float(value)
        whole = value.lstrip("-").isdecimal() and len(value) <= 15
        text = numberformats.shown(
            int(value) if whole else number, code, since_1904=self._since_1904
        )
        return Cell(text, "date" if numberformats.is_date(code) else "number")

    def _main_part(self) -> str:
        for kind, part in self._relations("").values():
            if kind == "officeDocument":
                return part
        return _WORKBOOK

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """By id the kind and the part of what a part refers to inside the file."""
        folder, name = posixpath.split(part)
        listing = posixpath.join(folder, "_rels", f"{name}.rels")
        if listing not in self._package:
            return {}
        found = {}
        for one in _parsed(self._package.read(listing)).iterchildren("{*}Relationship"):
            if one.get("TargetMode") == "External":
                continue
            target = posixpath.normpath(posixpath.join("/", folder, one.get("Target", "")))
            kind = (one.get("Type") or "").rsplit("/", 1)[-1]
            found[one.get("Id", "")] = (kind, target.lstrip("/"))
        return found

    @cached_property
    def _strings(self) -> list[str]:
        from lxml import etree

        part = self._related("sharedStrings", "xl/sharedStrings.xml")
        if part not in self._package:
            return []
        found = []
        content = io.BytesIO(self._package.read(part))
        for _, element in etree.iterparse(
            content, tag="{*}si", resolve_entities=False, no_network=True
        ):
            found.append(_rich(element))
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
        return found

    @cached_property
    def _codes(self) -> list[str]:
        """The format code of each style of cells."""
        part = self._related("styles", "xl/styles.xml")
        if part not in self._package:
            return []
        root = _parsed(self._package.read(part))
        written = {
            _whole(one.get("numFmtId"), -1): one.get("formatCode", "")
            for one in root.iterfind("{*}numFmts/{*}numFmt")
        }
        ids = [_whole(one.get("numFmtId"), 0) for one in root.iterfind("{*}cellXfs/{*}xf")]
        return [numberformats.code_of(number, written.get(number)) for number in ids]

    def _related(self, wanted: str, default: str) -> str:
        related = self._relations(self._part).values()
        return next((part for kind, part in related if kind == wanted), default)


def _parsed(content: bytes) -> Any:
    from lxml import etree

    return etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))


def _rich(element: Any) -> str:
    """The text of a string with its runs; how an East Asian word is spoken is no part of it."""
    return "".join(
        one.text or ""
        for one in element.iter("{*}t")
        if not (one.getparent().tag or "").endswith("}rPh")
    )


def _text_cell(text: str) -> Cell:
    return Cell(clean_line(text, max_characters=len(text) + 1), "text")


def _iso_cell(value: str) -> Cell:
    match = _ISO.match(value.strip())
    if not match or not match.group():
        return _text_cell(value)
    day, time = match["date"] or "", match["time"] or ""
    if day and time in ("00:00", "00:00:00"):
        time = ""
    return Cell(" ".join(filter(None, (day, time))), "date")


def _formula(element: Any, row: int, column: int, formulas: dict[str, Any]) -> str:
    """A formula as it would stand in its cell; one shared by many cells is moved to this one."""
    text = (element.text or "").strip()
    shared = element.get("si") if element.get("t") == "shared" else None
    if shared is None:
        return f"={clean_line(text, max_characters=_MAX_FORMULA)}" if text else ""
    from openpyxl.formula.translate import Translator
    from openpyxl.utils import get_column_letter

    here = f"{get_column_letter(column)}{row}"
    if text:
        formulas[shared] = Translator(f"={text}"[:_MAX_FORMULA], here)
        return f"={clean_line(text, max_characters=_MAX_FORMULA)}"
    known = formulas.get(shared)
    return str(known.translate_formula(here)) if known is not None else ""


def _merged(content: bytes) -> dict[int, list[tuple[range, int]]]:
    found: dict[int, list[tuple[range, int]]] = {}
    for number, match in enumerate(_MERGED.finditer(content)):
        if number >= _MAX_MERGED:
            break
        first, last = (_REFERENCE.fullmatch(ref.decode("ascii")) for ref in match.groups())
        if first is None or last is None:
            continue
        columns = range(_number(first[1]), _number(last[1]) + 1)
        if columns and (len(columns) > 1 or first[2] != last[2]):
            found.setdefault(int(first[2]), []).append((columns, int(last[2])))
    return found


def _column(reference: str | None, following: int) -> int:
    match = _REFERENCE.fullmatch(reference) if reference else None
    return _number(match[1]) if match else following


def _number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def _whole(said: str | None, default: int) -> int:
    if said is None:
        return default
    try:
        return int(float(said))
    except ValueError as error:
        raise ExtractionError(
            f"the file is not a whole XLSX file: {said!r} is no number"
        ) from error
