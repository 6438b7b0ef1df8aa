"""Where the aliases of models point, and every move that brought them there.

They lie in ``models/<name>/aliases.json``, sealed, beside the versions of the name. Whoever moves
one holds the lock of the name, and changes what he read: where machines share a store, none moves
an alias from where it no longer is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from fti.store.errors import AliasNotFound, IntegrityError, StoreError
from fti.store.files.atomic import open_sealed, sealed_json
from fti.store.types import Value, now
from fti.store.versioned.versions import VersionedFolders

CHAMPION = "champion"
CHALLENGER = "challenger"


class AliasChange(Value):
    """One move of an alias. ``from_version`` is None for its first."""

    at: datetime
    alias: str
    kind: Literal["promote", "rollback"]
    from_version: int | None
    to_version: int
    reason: str = ""
    evidence: Mapping[str, Any] | None = None


class _Aliases(Value):
    aliases: Mapping[str, int] = Field(default_factory=dict)
    history: tuple[AliasChange, ...] = ()


class Aliases:
    """The aliases of every model name in ``folders``."""

    def __init__(self, folders: VersionedFolders) -> None:
        self._folders = folders

    def of(self, name: str) -> Mapping[str, int]:
        """Where each alias of ``name`` points.

        Raises:
            IntegrityError: the file of aliases cannot be read.
        """
        return self._read(name).aliases

    def history(self, name: str, alias: str | None = None) -> Sequence[AliasChange]:
        """Every move of the aliases of ``name``, or of one, oldest first."""
        return [c for c in self._read(name).history if alias is None or c.alias == alias]

    def aimed(self, name: str, alias: str) -> int:
        """The version that an alias points at.

        Raises:
            AliasNotFound: there is no such alias; says what there is.
        """
        aliases = self.of(name)
        if alias not in aliases:
            versions = ", ".join(map(str, self._folders.versions(name)))
            listed = ", ".join(f"{a} ({n})" for a, n in sorted(aliases.items())) or "none"
            raise AliasNotFound(
                f"Model {name!r} has no alias {alias!r}.",
                hint=f"Its aliases are: {listed}; its versions: {versions}. "
                f"Name one as {name}/N, or set it: fti models promote {name}/N --alias {alias}",
            )
        return aliases[alias]

    def previous(self, name: str, alias: str) -> int:
        """The version that ``rollback`` would go to.

        Raises:
            AliasNotFound: there is no such alias; says what there is.
            StoreError: it has had no other version.
        """
        self.aimed(name, alias)
        stack = self.way_back(name, alias)
        if len(stack) < 2:
            raise StoreError(
                f"{name}@{alias} has had no version before {stack[-1]}.",
                hint=f"Choose one with: fti models promote {name}/N --alias {alias}",
            )
        return stack[-2]

    def way_back(self, name: str, alias: str) -> Sequence[int]:
        """The versions an alias goes back through, the one it points at last."""
        stack: list[int] = []
        for change in self.history(name, alias):
            if change.kind == "rollback":
                stack.pop()
            elif stack[-1:] != [change.to_version]:
                stack.append(change.to_version)
        return stack

    def move(
        self,
        name: str,
        number: int,
        alias: str,
        *,
        kind: Literal["promote", "rollback"],
        reason: str,
        evidence: Mapping[str, Any] | None,
    ) -> AliasChange:
        """Point an alias at a version; the caller holds the lock of ``name``.

        Raises:
            IntegrityError: the version is not as published.
        """
        self._folders.open(name, number)
        made: list[AliasChange] = []

        def edit(found: bytes | None) -> bytes:
            state = self._parse(name, found)
            change = AliasChange(
                at=now(),
                alias=alias,
                kind=kind,
                from_version=state.aliases.get(alias),
                to_version=number,
                reason=reason,
                evidence=evidence,
            )
            made[:] = [change]
            aliases = {**state.aliases, alias: number}
            moved = _Aliases(aliases=aliases, history=(*state.history, change))
            return sealed_json(moved.model_dump(mode="json"))

        self._folders.storage.change(self._key(name), edit)
        return made[0]

    def _read(self, name: str) -> _Aliases:
        try:
            return self._parse(name, self._folders.storage.read(self._key(name)))
        except FileNotFoundError:
            return _Aliases()

    def _parse(self, name: str, found: bytes | None) -> _Aliases:
        try:
            return _Aliases() if found is None else _Aliases.model_validate(open_sealed(found))
        except ValueError as error:  # broken JSON, and pydantic's ValidationError
            where = self._folders.storage.at(self._key(name))
            raise IntegrityError(
                f"{where!r} cannot be read as the aliases of model {name!r}.",
                hint="Restore it from a backup, or delete it and promote again.",
            ) from error

    def _key(self, name: str) -> str:
        return self._folders.key(name, "aliases.json")
