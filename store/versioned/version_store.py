"""What stores of datasets, case sets and models have in common: finding and reading versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from fti.store.errors import IntegrityError
from fti.store.types import FileEntry, Value
from fti.store.versioned.versions import VersionedFolders

_Version = TypeVar("_Version", bound=Value)


class VersionStore(Generic[_Version]):
    """Published versions of one kind.

    Args:
        folders: where they lie.
        kind: what a manifest is read as.
    """

    def __init__(self, folders: VersionedFolders, kind: type[_Version]) -> None:
        self._folders = folders
        self._kind = kind

    def names(self) -> Sequence[str]:
        """Names that have a version."""
        return self._folders.names()

    def refs(self) -> Sequence[str]:
        """``name/number`` of every version, without reading them."""
        return self._folders.refs()

    def list(self, name: str | None = None) -> Sequence[_Version]:
        """All versions, or those of one name; by name, then number.

        Raises:
            NotFoundError: nothing has this name.
            IntegrityError: a manifest is not as published; ``survey`` tells of the others.
        """
        names = self.names() if name is None else [self._folders.resolve(name)[0]]
        return [self._load(n, v) for n in names for v in self._folders.versions(n)]

    def survey(self) -> tuple[Sequence[_Version], Mapping[str, str]]:
        """All versions that can be read, as ``list``, and why the others cannot, by ref."""
        return _readable(self.refs(), self.get)

    def get(self, ref: str) -> _Version:
        """The version that ``name/N``, ``name/latest`` or ``name`` (its latest) means.

        Raises:
            InvalidName: ``ref`` is none of these.
            NotFoundError: there is no such version; says what there is.
            IntegrityError: its manifest is not as published.
        """
        return self._load(*self._resolve(ref))

    def path(self, ref: str) -> Path:
        """The folder of a version, as it is: nothing in it was compared with its manifest."""
        return self._folders.path(*self._resolve(ref))

    def verify(self, ref: str) -> Sequence[str]:
        """A line per file that is not as published; none means all are."""
        return self._folders.verify(*self._resolve(ref))

    def _resolve(self, ref: str) -> tuple[str, int]:
        return self._folders.resolve(ref)

    def _publish(
        self,
        name: str,
        fill: Callable[[Path], None],
        version: Callable[[int, tuple[FileEntry, ...]], _Version],
    ) -> _Version:
        """Publish what ``fill`` writes, as the ``version`` that its number and files make."""
        number, _ = self._folders.publish(
            name, fill, lambda n, files: version(n, files).model_dump(mode="json")
        )
        return self._load(name, number)

    def _load(self, name: str, number: int) -> _Version:
        manifest = self._folders.manifest(name, number)
        try:
            return self._kind.model_validate(manifest)
        except ValidationError as error:
            raise self._folders.understood_failed(name, number, error) from error


def _readable(
    refs: Sequence[str], load: Callable[[str], _Version]
) -> tuple[Sequence[_Version], Mapping[str, str]]:
    found: list[_Version] = []
    damaged: dict[str, str] = {}
    for ref in refs:
        try:
            found.append(load(ref))
        except IntegrityError as error:
            damaged[ref] = error.message
    return found, damaged
