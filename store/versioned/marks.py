"""What was said about model versions after they were published: pinned, retired, removed.

The marks of a name lie in ``models/<name>/marks.json``, sealed, beside its versions. Whoever adds
one holds the lock of the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from fti.store.errors import IntegrityError
from fti.store.files.atomic import open_sealed, sealed_json
from fti.store.types import Value, now
from fti.store.versioned.versions import VersionedFolders

MarkKind = Literal["pin", "unpin", "retire", "unretire", "remove"]


class Mark(Value):
    """What was said about a version after it was published; the newest of each pair holds.

    A pinned version is never removed. A retired one can be promoted no more, and is removed by the
    next clean-up unless something refers to it.
    """

    at: datetime
    version: int
    kind: MarkKind
    reason: str = ""


class _Marks(Value):
    marks: tuple[Mark, ...] = ()


class Marks:
    """The marks of every model name in ``folders``."""

    def __init__(self, folders: VersionedFolders) -> None:
        self._folders = folders

    def of(self, name: str) -> Sequence[Mark]:
        """Everything said about the versions of ``name``, oldest first.

        Raises:
            IntegrityError: the file of marks cannot be read.
        """
        try:
            return self._parse(name, self._folders.storage.read(self._key(name)))
        except FileNotFoundError:
            return ()

    def _parse(self, name: str, found: bytes | None) -> Sequence[Mark]:
        try:
            return () if found is None else _Marks.model_validate(open_sealed(found)).marks
        except ValueError as error:
            where = self._folders.storage.at(self._key(name))
            raise IntegrityError(
                f"{where!r} cannot be read as the marks of model {name!r}.",
                hint="Restore it from a backup, or delete it and pin or retire again.",
            ) from error

    def pinned(self, name: str) -> frozenset[int]:
        """Versions that are kept whatever happens."""
        return self._marked(name, "pin", "unpin")

    def retired(self, name: str) -> frozenset[int]:
        """Versions that are to be promoted no more."""
        return self._marked(name, "retire", "unretire")

    def said(self, name: str, number: int, kind: MarkKind) -> str:
        """The reason given with the newest mark of a kind."""
        said = [m for m in self.of(name) if m.version == number and m.kind == kind]
        return (said[-1].reason or "no reason was given") if said else "no reason was given"

    def add(self, name: str, number: int, kind: MarkKind, reason: str) -> Mark:
        """Say something more about a version; the caller holds the lock of ``name``."""
        mark = Mark(at=now(), version=number, kind=kind, reason=reason)

        def edit(found: bytes | None) -> bytes:
            marks = _Marks(marks=(*self._parse(name, found), mark))
            return sealed_json(marks.model_dump(mode="json"))

        self._folders.storage.change(self._key(name), edit)
        return mark

    def _marked(self, name: str, on: str, off: str) -> frozenset[int]:
        found: dict[int, bool] = {}
        for mark in self.of(name):
            if mark.kind in (on, off):
                found[mark.version] = mark.kind == on
        there = self._folders.versions(name)
        return frozenset(n for n, holds in found.items() if holds and n in there)

    def _key(self, name: str) -> str:
        return self._folders.key(name, "marks.json")
