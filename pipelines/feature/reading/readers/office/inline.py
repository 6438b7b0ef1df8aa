"""The text of one line or paragraph, in which raised and lowered characters stay apart.

``10`` with a raised ``6`` is ``10^6`` and never ``106``; a note's mark does not join a price.
"""

from __future__ import annotations

import re
from typing import Literal

Script = Literal["", "^", "_"]

_SIMPLE = re.compile(r"[+\-−–]?\w+")
# What is raised by habit and changes no number: 21st, 1er, nº.
_ORDINAL = re.compile(r"st|nd|rd|th|er|re|e|es|ème|o|a|os|as|ª|º", re.IGNORECASE)
_MARKS = {"TM": "™", "SM": "℠", "(R)": "®"}
_FORMULA_DIGITS = re.compile(r"\d{1,3}")


class Line:
    """Gathers pieces of text in reading order."""

    def __init__(self) -> None:
        self._pieces: list[tuple[Script, str]] = []

    def __bool__(self) -> bool:
        return any(text.strip() for _, text in self._pieces)

    def add(self, text: str, script: Script = "") -> None:
        """Put ``text`` behind what is there; ``^`` when it is raised, ``_`` when it is lowered."""
        if not text:
            return
        if self._pieces and self._pieces[-1][0] == script:  # programs split runs anywhere
            text = self._pieces.pop()[1] + text if len(self._pieces[-1][1]) < 256 else text
        self._pieces.append((script, text))

    def extend(self, other: Line) -> None:
        """Put all pieces of another line behind those that are there."""
        for script, text in other._pieces:
            self.add(text, script)

    def text(self) -> str:
        """The whole line."""
        parts: list[str] = []
        before = ""
        for script, text in self._pieces:
            shown = _scripted(script, text, before) if script else text
            if shown:
                before = shown[-1]
            parts.append(shown)
        return "".join(parts)


def _scripted(script: Script, text: str, before: str) -> str:
    inner = text.strip()
    if not inner or not before or before == "\n":
        return text
    lead = text[: len(text) - len(text.lstrip())]
    trail = text[len(text.rstrip()) :]
    return f"{lead}{raised(inner, before) if script == '^' else lowered(inner, before)}{trail}"


def raised(text: str, before: str) -> str:
    """A raised text as it stands behind the character ``before``."""
    if text.upper() in _MARKS:
        return _MARKS[text.upper()]
    if not any(c.isalnum() for c in text):  # a star, a dagger, a sign of degrees
        return text
    if before.isdigit() and _ORDINAL.fullmatch(text):
        return text
    return f"^{text}" if _SIMPLE.fullmatch(text) else f"^({text})"


def lowered(text: str, before: str) -> str:
    """A lowered text; digits behind a letter join it, as everybody writes CO2."""
    if before.isalpha() and _FORMULA_DIGITS.fullmatch(text):
        return text
    if before in ")]" and _FORMULA_DIGITS.fullmatch(text):  # Ca(OH)2
        return text
    return f"_{text}" if _SIMPLE.fullmatch(text) else f"_({text})"
