"""Formulas as a line of text that a person would type: Office's (OMML) and MathML.

``(a+b)/2``, ``x^2``, ``x_(i+1)``, ``√(a+b)``, ``∑_(i=1)^n x_i``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

_MAX_DEPTH = 40
_SIMPLE = re.compile(r"[+\-−]?[\w.′″∞°%]+")
_TERM = re.compile(r"[\w.′″∞°%^]+")
_SIGNED = ("+", "-", "−")
_ROOTS = {"3": "∛", "4": "∜"}
_STYLED = re.compile("[\U0001d400-\U0001d7ff]+")  # letters in italics, bold, script
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_TALL = frozenset("∑∏∐∫∬∭∮⋂⋃⋀⋁") | {"lim", "max", "min", "sup", "inf"}
_INVISIBLE = str.maketrans("", "", "\u2061\u2062\u2063\u2064")
_ACCENTS = {
    "^": "\u0302", "ˆ": "\u0302", "~": "\u0303", "˜": "\u0303", "¯": "\u0304", "‾": "\u0304",
    "→": "\u20d7", "⃗": "\u20d7", "˙": "\u0307", ".": "\u0307", "¨": "\u0308", "ˇ": "\u030c",
    "-": "\u0304", "_": "\u0304",
}  # fmt: skip


def from_omml(element: Any) -> str:
    """The text of ``m:oMath`` or of anything inside it."""
    return _plain(_omml(element, 0))


def from_mathml(element: Any) -> str:
    """The text of ``math`` or of anything inside it."""
    return _plain(_mathml(element, 0))


def _plain(text: str) -> str:
    text = text.translate(_INVISIBLE)
    return _STYLED.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text).strip()


# What both have in common


def _is_bracketed(text: str) -> bool:
    """Whether one pair of brackets holds all of it."""
    end = _BRACKETS.get(text[:1])
    if end is None or not text.endswith(end):
        return False
    depth = 0
    for i, character in enumerate(text):
        depth += (character == text[0]) - (character == end)
        if not depth:
            return i == len(text) - 1
    return False


def _held(text: str, simple: re.Pattern[str]) -> str:
    """In brackets, unless it is one thing without them."""
    text = text.strip()
    return text if simple.fullmatch(text) or _is_bracketed(text) else f"({text})"


def _fraction(above: str, below: str) -> str:
    return f"{_held(above, _TERM)}/{_held(below, _TERM)}"


def _scripts(base: str, below: str, above: str) -> str:
    base = base.strip()
    tall = base in _TALL
    shown = base if tall or not base or _SIMPLE.fullmatch(base) else _held(base, _SIMPLE)
    if below.strip():
        shown += f"_{_held(below, _SIMPLE)}"
    if above.strip():
        primes = above.strip()
        shown += primes if set(primes) <= set("′″‴'*†") else f"^{_held(above, _SIMPLE)}"
    return shown


def _root(of: str, degree: str) -> str:
    degree = degree.strip()
    sign = "√" if degree in ("", "2") else _ROOTS.get(degree, f"√[{degree}]")
    held = _held(of, _SIMPLE)
    return f"{sign}{held}"


def _accented(base: str, accent: str) -> str:
    base, accent = base.strip(), accent.strip()
    mark = _ACCENTS.get(accent, accent)
    if len(base) == 1 and mark and all(unicodedata.combining(c) for c in mark):
        return unicodedata.normalize("NFC", base + mark)
    return base


def _join(parts: Iterable[str]) -> str:
    """Neighbours; a word among them (``sin``) is kept apart from letters beside it."""
    shown = ""
    for part in parts:
        if shown and part and part[0].isalnum() and shown[-1].isalnum():
            words = re.search(r"[^\W\d_]{2,}$", shown), re.match(r"[^\W\d_]{2,}", part)
            if any(words):
                shown += " "
        shown += part
    return shown


def _applied(name: str, of: str) -> str:
    return f"{name} {of}" if of[:1].isalnum() or of[:1] in "√∑∏∫" else f"{name}{of}"


def _matrix(rows: Iterable[Iterable[str]], *, held: bool) -> str:
    inner = "; ".join(", ".join(cell.strip() for cell in row) for row in rows)
    return inner if held else f"[{inner}]"


# Office's own


def _name(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _children(element: Any) -> list[Any]:
    return [
        c
        for c in element.iterchildren()
        if not _name(c).endswith("Pr") and _name(c) not in ("del", "moveFrom", "")
    ]


def _named(element: Any, name: str) -> Any:
    return next((c for c in element.iterchildren() if _name(c) == name), None)


def _property(element: Any, group: str, name: str, default: str = "") -> str:
    """The value of a property: the default where it is not there, ``on`` where it has none."""
    properties = _named(element, group)
    found = _named(properties, name) if properties is not None else None
    if found is None:
        return default
    return next((str(v) for k, v in found.attrib.items() if k.rpartition("}")[2] == "val"), "on")


def _omml(element: Any, depth: int) -> str:
    name = _name(element)
    if name == "t":
        return element.text or ""
    if depth > _MAX_DEPTH:
        return "".join(e.text or "" for e in element.iter() if _name(e) == "t")
    if name in ("br", "cr", "tab"):
        return " "
    if name == "r":
        return "".join(_omml(c, depth + 1) for c in _children(element))

    def part(of: str) -> str:
        found = _named(element, of)
        return "" if found is None else _omml(found, depth + 1)

    handler = _OMML.get(name)
    if handler is not None:
        return handler(element, part)
    if name == "d":
        return _delimited(element, depth)
    if name in ("m", "eqArr"):
        return _rows(element, depth)
    return _join(_omml(c, depth + 1) for c in _children(element))


_Part = Callable[[str], str]


def _omml_fraction(element: Any, part: _Part) -> str:
    if _property(element, "fPr", "type") == "noBar":
        return f"{part('num')} over {part('den')}"
    return _fraction(part("num"), part("den"))


def _omml_nary(element: Any, part: _Part) -> str:
    sign = _property(element, "naryPr", "chr", "∫")
    return f"{_scripts(sign, part('sub'), part('sup'))} {part('e')}"


def _omml_accent(element: Any, part: _Part) -> str:
    return _accented(part("e"), _property(element, "accPr", "chr", "\u0302"))


def _omml_phantom(element: Any, part: _Part) -> str:
    shown = _property(element, "phantPr", "show", "1")
    return "" if shown in ("0", "off", "false") else part("e")


_OMML: dict[str, Callable[[Any, _Part], str]] = {
    "f": _omml_fraction,
    "sSup": lambda e, part: _scripts(part("e"), "", part("sup")),
    "sSub": lambda e, part: _scripts(part("e"), part("sub"), ""),
    "sSubSup": lambda e, part: _scripts(part("e"), part("sub"), part("sup")),
    "sPre": lambda e, part: f"{_scripts('', part('sub'), part('sup'))}{part('e')}",
    "rad": lambda e, part: _root(part("e"), part("deg")),
    "nary": _omml_nary,
    "func": lambda e, part: _applied(part("fName"), part("e")),
    "limLow": lambda e, part: _scripts(part("e"), part("lim"), ""),
    "limUpp": lambda e, part: _scripts(part("e"), "", part("lim")),
    "acc": _omml_accent,
    "bar": lambda e, part: _accented(part("e"), "¯"),
    "phant": _omml_phantom,
}


def _delimited(element: Any, depth: int) -> str:
    begin = _property(element, "dPr", "begChr", "(").replace("on", "")
    end = _property(element, "dPr", "endChr", ")").replace("on", "")
    separator = _property(element, "dPr", "sepChr", "|")
    parts = [_omml(c, depth + 1) for c in _children(element) if _name(c) == "e"]
    return f"{begin}{separator.join(parts)}{end}"


def _rows(element: Any, depth: int) -> str:
    rows: list[list[str]] = []
    for child in _children(element):
        cells = _children(child) if _name(child) == "mr" else [child]
        rows.append([_omml(cell, depth + 1) for cell in cells])
    parent = element.getparent()
    outer = parent.getparent() if parent is not None else None
    held = outer is not None and _name(outer) == "d"
    return _matrix(rows, held=held or _name(element) == "eqArr")


# MathML


def _mathml(element: Any, depth: int) -> str:
    name = _name(element)
    if name in ("annotation", "annotation-xml", "mphantom", ""):
        return ""
    if name in ("mi", "mn", "mo", "mtext", "ms") or depth > _MAX_DEPTH:
        text = " ".join("".join(element.itertext()).split())
        return f" {text} " if name == "mtext" else text
    if name == "mspace":
        return " "
    parts = [_mathml(c, depth + 1) for c in element.iterchildren() if isinstance(c.tag, str)]

    def part(number: int) -> str:
        return parts[number] if number < len(parts) else ""

    if name == "semantics":
        return part(0)
    if name == "mfrac":
        return _fraction(part(0), part(1))
    if name in ("msup", "msub", "msubsup"):
        below = part(1) if name != "msup" else ""
        above = part(2) if name == "msubsup" else part(1) if name == "msup" else ""
        return _spaced(_scripts(part(0), below, above))
    if name == "mover" and part(1).strip() in _ACCENTS:
        return _accented(part(0), part(1))
    if name in ("munder", "mover", "munderover"):
        below = part(1) if name != "mover" else ""
        above = part(2) if name == "munderover" else part(1) if name == "mover" else ""
        return _spaced(_scripts(part(0), below, above))
    if name == "msqrt":
        return _root(_join(parts), "")
    if name == "mroot":
        return _root(part(0), part(1))
    if name == "mfenced":
        mark = (element.get("separators") or ",")[:1]
        return f"{element.get('open', '(')}{mark.join(parts)}{element.get('close', ')')}"
    if name in ("mtr", "mlabeledtr"):
        return ", ".join(p.strip() for p in parts)
    if name == "mtable":
        return "; ".join(parts)
    return _join(parts)


def _spaced(text: str) -> str:
    """A sum or an integral stands apart from what it is of."""
    return f"{text} " if text[:1] in _TALL else text
