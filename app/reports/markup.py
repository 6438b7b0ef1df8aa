"""HTML and SVG from Python values; text is escaped unless it is ``Markup`` already.

Reports hold questions, passages and answers, which anybody may have written.
"""

from __future__ import annotations

import html
import re

_VOID = {"meta", "br", "hr", "line", "rect", "circle", "path", "polyline"}
# Characters that no document may hold: neither HTML nor SVG has a way to write them.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """A value as text in markup; markup stays as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNWRITABLE.sub("\ufffd", str(text)), quote=True))


def el(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. Children that are None are left out; so are attributes that are None or False.

    Underscores in attribute names stand for dashes; a trailing one is dropped (``class_``).
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped("" if value is True else value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}/>")
    inside = "".join(escaped(child) for child in children if child is not None)
    return Markup(f"<{name}{written}>{inside}</{name}>")


def join(*parts: object) -> Markup:
    """Parts one after the other."""
    return Markup("".join(escaped(part) for part in parts if part is not None))


def table(
    columns: list[str], rows: list[list[object]], *, caption: str = "", text_columns: int = 1
) -> Markup:
    """A table; columns after the first ``text_columns`` are numbers, set to the right."""
    side = [None if n < text_columns else "num" for n in range(len(columns))]
    return el(
        "table",
        el("caption", caption) if caption else None,
        el(
            "thead",
            el(
                "tr",
                *(el("th", c, class_=s, scope="col") for c, s in zip(columns, side, strict=True)),
            ),
        ),
        el(
            "tbody",
            *(
                el("tr", *(el("td", cell, class_=s) for cell, s in zip(row, side, strict=True)))
                for row in rows
            ),
        ),
    )
