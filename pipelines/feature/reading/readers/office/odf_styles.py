"""What the styles of an OpenDocument say of its text: numbers of lists, raised and hidden words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fti.pipelines.feature.reading.readers.numerals import numeral
from fti.pipelines.feature.reading.readers.office.inline import Script

STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"
TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_FORMS = {
    "1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman",
    "①": "decimalEnclosedCircle", "一, 二, 三, ...": "chineseCounting", "А": "russianUpper",
    "а": "russianLower", "α": "lowerGreek", "Α": "upperGreek",
}  # fmt: skip
_MAX_CHAIN = 20
_MAX_NUMBER = 1 << 31

#: How far each level of a list has been counted.
ListCounts = dict[int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """How a run of text looks, as far as its meaning depends on it."""

    script: Script = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _Level:
    form: str | None = None  # None: a bullet; empty: nothing
    before: str = ""
    after: str = ""
    shown: int = 1  # how many levels its number consists of
    start: int = 1


class Outline:
    """The levels of a list style."""

    def __init__(self, element: Any | None) -> None:
        self._levels: dict[int, _Level] = {}
        for one in element.iterchildren("*") if element is not None else ():
            number = _whole(one.get(TEXT + "level"), 0)
            if number:
                self._levels[number] = _level(one)

    def __bool__(self) -> bool:
        return bool(self._levels)

    def mark(self, level: int, counts: ListCounts, *, restart: str | None) -> str:
        """The number of the next item of a level; ``-`` for a bullet, empty for nothing."""
        here = self._levels.get(level)
        if here is None:
            return ""
        before = counts.get(level, here.start - 1)
        counts[level] = _whole(restart, before + 1) if restart else before + 1
        for deeper in [one for one in counts if one > level]:
            del counts[deeper]
        if here.form is None:
            return "-"
        if not here.form:
            return ""
        numbers: list[str] = []
        for one in range(max(1, level - here.shown + 1), level + 1):
            upper = self._levels.get(one, _Level(form=""))
            if upper.form:
                form = _FORMS.get(upper.form, "decimal")
                numbers.append(numeral(counts.get(one, upper.start), form))
        return " ".join(f"{here.before}{'.'.join(numbers)}{here.after}".split())


class OdfStyles:
    """The styles of a document.

    Args:
        roots: the parts that hold styles, or None for one that is not there; later ones count.
    """

    def __init__(self, roots: Sequence[Any | None]) -> None:
        self._styles: dict[str, Any] = {}
        self._lists: dict[str, Outline] = {}
        self._looks: dict[str, Look] = {}
        self.outline = Outline(None)
        for root in roots:
            if root is None:
                continue
            for style in root.iter(STYLE + "style"):
                self._styles[style.get(STYLE + "name") or ""] = style
            for style in root.iter(TEXT + "list-style"):
                self._lists[style.get(STYLE + "name") or ""] = Outline(style)
            for style in root.iter(TEXT + "outline-style"):
                self.outline = Outline(style)

    def look(self, name: str | None) -> Look:
        """How text of a style looks."""
        if not name:
            return Look()
        if name not in self._looks:
            self._looks[name] = self._look(name)
        return self._looks[name]

    def _look(self, name: str) -> Look:
        script: Script | None = None
        hidden: bool | None = None
        for style in self._chain(name):
            for properties in style.iterchildren(STYLE + "text-properties"):
                if script is None and (position := properties.get(STYLE + "text-position")):
                    script = _script(position)
                if hidden is None and (display := properties.get(TEXT + "display")):
                    hidden = display == "none"
        return Look(script or "", bool(hidden))

    def list_mark(self, style: str, level: int, counts: ListCounts, *, restart: str | None) -> str:
        """The mark of the next item of a list; a bullet where its style says nothing."""
        outline = self._lists.get(style)
        if not outline:
            return "-"
        return outline.mark(level, counts, restart=restart) or " "

    def is_title(self, name: str | None) -> bool:
        """Whether a paragraph's style is that of the document's title."""
        return any(style.get(STYLE + "name") == "Title" for style in self._chain(name or ""))

    def is_numbered(self, name: str | None) -> bool:
        """Whether headings of a style take part in the numbers of the outline."""
        for style in self._chain(name or ""):
            if (given := style.get(STYLE + "list-style-name")) is not None:
                return given != ""
        return True

    def _chain(self, name: str) -> list[Any]:
        found: list[Any] = []
        while name in self._styles and len(found) < _MAX_CHAIN:
            found.append(self._styles[name])
            name = self._styles[name].get(STYLE + "parent-style-name") or ""
        return found


def _level(element: Any) -> _Level:
    if not element.tag.endswith(("level-style-number", "outline-level-style")):
        return _Level()
    return _Level(
        form=element.get(STYLE + "num-format") or "",
        before=(element.get(STYLE + "num-prefix") or "")[:50],
        after=(element.get(STYLE + "num-suffix") or "")[:50],
        shown=_whole(element.get(TEXT + "display-levels"), 1),
        start=_whole(element.get(TEXT + "start-value"), 1),
    )


def _script(position: str) -> Script:
    first = position.split()[0] if position.split() else ""
    if first == "sub" or first.startswith("-"):
        return "_"
    return "" if first.strip("0%") == "" else "^"


def _whole(text: str | None, default: int) -> int:
    try:
        return max(0, min(int(text or ""), _MAX_NUMBER))
    except ValueError:
        return default
