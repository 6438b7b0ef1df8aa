"""Foot and end notes and comments of a Word document: each is told once, and settled ones never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fti.pipelines.feature.reading.readers.office.numbering import W

_W14 = "{http://schemas.microsoft.com/office/word/2010/wordml}"
_W15 = "{http://schemas.microsoft.com/office/word/2012/wordml}"
NOTES = {
    W + "footnoteReference": "footnotes",
    W + "endnoteReference": "endnotes",
    W + "commentReference": "comments",
}


class Notes:
    """The notes that paragraphs refer to.

    Args:
        related: gives the root of a part by its kind; None where there is none.
    """

    def __init__(self, related: Callable[[str], Any | None]) -> None:
        self._related = related
        self._bodies: dict[str, dict[str, Any]] = {}
        self._told: set[tuple[str, str]] = set()

    def untold(self, kind: str, identifier: str) -> Any | None:
        """The note that is referred to, where it is there and was not told yet."""
        if (kind, identifier) in self._told:
            return None
        body = self._of(kind).get(identifier)
        if body is not None:
            self._told.add((kind, identifier))
        return body

    def _of(self, kind: str) -> dict[str, Any]:
        """The notes or comments of a kind by id, without those that are settled."""
        if kind not in self._bodies:
            root = self._related(kind)
            done = self._settled() if kind == "comments" and root is not None else frozenset()
            self._bodies[kind] = {
                note.get(W + "id") or "": note
                for note in (root.iterchildren() if root is not None else ())
                if isinstance(note.tag, str)
                and not (note.get(W + "type") or "").endswith(("eparator", "Notice"))
                and not any(p.get(_W14 + "paraId") in done for p in note.iter(W + "p"))
            }
        return self._bodies[kind]

    def _settled(self) -> frozenset[str]:
        """Comments that were marked as done, by the id of their last paragraph."""
        root = self._related("commentsExtended")
        if root is None:
            return frozenset()
        return frozenset(
            one.get(_W15 + "paraId") or "-"
            for one in root.iterchildren(_W15 + "commentEx")
            if one.get(_W15 + "done") in ("1", "true")
        )
