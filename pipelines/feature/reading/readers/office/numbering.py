"""What Word shows by its settings alone: numbers before paragraphs, and styles of headings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fti.pipelines.feature.reading.readers.numerals import numbered, numeral

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_LEVELS = 9
_MAX_START = 1 << 31
BULLET = "-"
_HEADING_STYLE = re.compile(r"heading\s*([1-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Level:
    start: int = 1
    form: str = "decimal"
    pattern: str = ""
    restart: int | None = None  # the level (from 1) after which it begins anew; 0: never
    legal: bool = False  # whether the levels above it are shown in digits
    style: str = ""


class Numbering:
    """Counts a document's paragraphs as they come.

    Args:
        root: ``w:numbering``; None where the document has no lists.
    """

    def __init__(self, root: Any | None) -> None:
        self._abstract: dict[str, dict[int, _Level]] = {}
        self._lists: dict[str, tuple[str, dict[int, _Level], dict[int, int]]] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._begun: set[tuple[str, int]] = set()
        if root is not None:
            self._read(root)

    def mark(self, list_id: str, level: int) -> str:
        """What stands before the next paragraph of a list; empty where nothing does."""
        if list_id not in self._lists:
            return ""
        abstract, levels, starts = self._lists[list_id]
        here = levels.get(level)
        if here is None:
            return ""
        counts = self._counts.setdefault(abstract, {})
        if level in starts and (list_id, level) not in self._begun:
            counts[level] = starts[level] - 1
        self._begun.add((list_id, level))
        counts[level] = counts.get(level, here.start - 1) + 1
        for deeper in range(level + 1, _LEVELS):
            restart = levels[deeper].restart if deeper in levels else None
            if restart is None or level < restart:
                counts.pop(deeper, None)
        if here.form == "bullet":
            return BULLET
        parts = {
            number + 1: numeral(
                counts.get(number, one.start), "decimal" if here.legal else one.form
            )
            for number, one in levels.items()
            if number <= level and (one.form != "none" or here.legal)
        }
        return " ".join(numbered(here.pattern, parts).split())

    def level_of(self, list_id: str, style: str) -> int:
        """The level that a list gives to paragraphs of a style; the first where it says none."""
        _, levels, _ = self._lists.get(list_id, ("", {}, {}))
        return next((n for n, level in levels.items() if level.style == style), 0)

    def _read(self, root: Any) -> None:
        styled: dict[str, str] = {}
        linked: dict[str, str] = {}
        for one in root.iterchildren(W + "abstractNum"):
            key = one.get(W + "abstractNumId") or ""
            self._abstract[key] = dict(map(_level, one.iterchildren(W + "lvl")))
            if style := value(one, "styleLink"):
                styled[style] = key
            if style := value(one, "numStyleLink"):
                linked[key] = style
        for one in root.iterchildren(W + "num"):
            key = value(one, "abstractNumId")
            if key in linked:
                key = styled.get(linked[key], key)
            levels = dict(self._abstract.get(key, {}))
            starts: dict[int, int] = {}
            for override in one.iterchildren(W + "lvlOverride"):
                number = _whole(override.get(W + "ilvl"))
                if (own := override.find(W + "lvl")) is not None:
                    levels[number] = _level(own)[1]
                if start := value(override, "startOverride"):
                    starts[number] = _whole(start)
                    levels[number] = replace(levels.get(number, _Level()), start=_whole(start))
            self._lists[one.get(W + "numId") or ""] = key, levels, starts


def value(element: Any | None, name: str, default: str = "") -> str:
    """``w:val`` of a child; the default where there is no such child or it says nothing."""
    child = element.find(W + name) if element is not None else None
    return default if child is None else child.get(W + "val") or default


def is_on(element: Any | None, name: str) -> bool:
    """Whether a property that is on or off is there and on."""
    return (
        element is not None
        and element.find(W + name) is not None
        and value(element, name, "1") not in ("0", "false", "off")
    )


def _level(element: Any) -> tuple[int, _Level]:
    restart = value(element, "lvlRestart")
    form = value(element, "numFmt", "decimal")
    choice = next(element.iter(W + "numFmt"), None)  # Word puts rarer forms into a choice of two
    if choice is not None and element.find(W + "numFmt") is None:
        form = choice.get(W + "val") or form
        if form == "custom" and (choice.get(W + "format") or "").startswith("0"):
            form = "decimalZero"
    return _whole(element.get(W + "ilvl")), _Level(
        start=_whole(value(element, "start", "1")),
        form=form,
        pattern=value(element, "lvlText"),
        restart=_whole(restart) if restart else None,
        legal=is_on(element, "isLgl"),
        style=value(element, "pStyle"),
    )


def _whole(text: str | None) -> int:
    try:
        return max(0, min(int(text or "0"), _MAX_START))
    except ValueError:
        return 0


class Styles:
    """What the styles of a document say of its paragraphs and runs.

    Args:
        root: ``w:styles``; None where there are none.
    """

    def __init__(self, root: Any | None) -> None:
        self._styles: Mapping[str, Any] = (
            {}
            if root is None
            else {s.get(W + "styleId") or "": s for s in root.iterchildren(W + "style")}
        )

    def __contains__(self, style: str) -> bool:
        return style in self._styles

    def chain(self, style: str) -> list[Any]:
        """The style and those that it is made from, its own first."""
        found: list[Any] = []
        while style in self._styles and len(found) < 20:
            element = self._styles[style]
            if element in found:
                break
            found.append(element)
            style = value(element, "basedOn")
        return found

    def heading_level(self, properties: Any | None, style: str) -> int:
        """The level that a paragraph is a heading of, from 1; 0 where it is none."""
        outline = value(properties, "outlineLvl")
        if style not in self and (match := _HEADING_STYLE.match(style)):
            return min(int(match[1]), 6)
        for one in self.chain(style):
            name = value(one, "name")
            if match := _HEADING_STYLE.match(name):
                return min(int(match[1]), 6)
            if name.lower() == "title":
                return 1
            outline = outline or value(one.find(W + "pPr"), "outlineLvl")
            if outline:
                break
        return int(outline) + 1 if outline in tuple("012345") else 0

    def name_list(self, style: str) -> bool:
        """Whether a style calls itself one of lists."""
        return any(value(one, "name").lower().startswith("list") for one in self.chain(style)[:1])
