"""The model registry: immutable numbered versions, and aliases that move between them.

``models/<name>/<number>/`` holds a version (see ``store.versions``), ``models/<name>/aliases.json``
where its aliases point and how they came to. Nothing but safetensors and text is kept: loading a
version can run no code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from store.atomic import write_json
from store.contract import Contract
from store.errors import AliasNotFound, IntegrityError, InvalidName, ModelNotFound, StoreError
from store.layout import Layout
from store.types import DatasetVersion, FileEntry, Value, now
from store.versions import VersionedFolders, check_name

CHAMPION = "champion"
CHALLENGER = "challenger"
ADAPTER_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
ALLOWED_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".md")


class AdapterInfo(Value):
    """Facts of a LoRA adapter. ``sha256`` is that of its weights; the registry fills it in."""

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    target_modules: tuple[str, ...]
    sha256: str = ""

    @field_validator("target_modules")
    @classmethod
    def _sorted(cls, modules: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(modules))


class ModelVersion(Value):
    """A published, immutable model version: what it is, and what it was made from.

    ``dataset`` is ``name/number`` and ``dataset_digest`` what that version's rows were; ``parent``
    is the model version that training went on from, if any.
    """

    name: str
    version: int = Field(ge=1)
    created_at: datetime
    contract: Contract
    dataset: str
    dataset_digest: str
    run_id: str
    metrics: Mapping[str, Any] = Field(default_factory=dict)
    parent: str | None = None
    adapter: AdapterInfo | None = None
    files: tuple[FileEntry, ...]

    @property
    def ref(self) -> str:
        """``name/number``, as commands take it."""
        return f"{self.name}/{self.version}"


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


class ModelRegistry:
    """Model versions under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._folders = VersionedFolders(
            layout.models, what="model", not_found=ModelNotFound, allowed_suffixes=ALLOWED_SUFFIXES
        )

    def publish(
        self,
        name: str,
        files: Path,
        *,
        contract: Contract,
        dataset: DatasetVersion,
        run_id: str,
        metrics: Mapping[str, Any],
        adapter: AdapterInfo | None = None,
        parent: str | None = None,
        card: str = "",
    ) -> ModelVersion:
        """Publish a copy of the folder ``files`` as the next version of ``name``.

        Args:
            name: a new name, or one that has versions.
            files: what to serve; only safetensors, json, jinja, txt and md files.
            contract: what serving must agree on.
            dataset: what it was trained on.
            run_id: the run that trained it.
            metrics: JSON values and ``Interval``s.
            adapter: facts of the adapter, when it is one.
            parent: the version that training went on from.
            card: the model card, kept as README.md in place of one in ``files``.

        Raises:
            InvalidName: ``name`` is not a plain name, or is one of "base" and "extractive".
            StoreError: ``files`` holds something that a model version may not.
        """
        if name in ("base", "extractive"):
            raise InvalidName(
                f"{name!r} means an answerer that is no version.", hint="Choose another name."
            )
        if not files.is_dir():
            raise StoreError(f"{str(files)!r} is not a folder to publish.")

        def fill(folder: Path) -> None:
            # Links are copied as links, so that they are seen and refused, not followed.
            shutil.copytree(files, folder, symlinks=True, dirs_exist_ok=True)
            if card:
                (folder / CARD_FILE).unlink(missing_ok=True)
                (folder / CARD_FILE).write_text(card, encoding="utf-8")

        def manifest(number: int, entries: tuple[FileEntry, ...]) -> Mapping[str, Any]:
            version = ModelVersion(
                name=name,
                version=number,
                created_at=now(),
                contract=contract,
                dataset=dataset.ref,
                dataset_digest=dataset.digest,
                run_id=run_id,
                metrics=metrics,
                parent=parent,
                adapter=_with_digest(adapter, entries),
                files=entries,
            )
            return version.model_dump(mode="json")

        number, _ = self._folders.publish(name, fill, manifest)
        return self._load(name, number)

    def names(self) -> Sequence[str]:
        """Names that have a version."""
        return self._folders.names()

    def list(self, name: str | None = None) -> Sequence[ModelVersion]:
        """All versions, or those of one name; by name, then number.

        Raises:
            ModelNotFound: there is no model ``name``.
            IntegrityError: a manifest is not as published; ``refs`` and ``verify`` work still.
        """
        if name is not None:
            self._require(name)
        names = self._folders.names() if name is None else [name]
        return [self._load(n, v) for n in names for v in self._folders.versions(n)]

    def refs(self) -> Sequence[str]:
        """``name/number`` of every version, without reading them."""
        return [f"{n}/{v}" for n in self._folders.names() for v in self._folders.versions(n)]

    def get(self, ref: str) -> ModelVersion:
        """The version that ``name/N``, ``name@alias`` or ``name`` (its champion) means.

        Raises:
            InvalidName: ``ref`` is none of these.
            ModelNotFound: there is no such version; says what there is.
            AliasNotFound: there is no such alias, or no champion; says what there is.
            IntegrityError: the manifest is not as published.
        """
        return self._load(*self._resolve(ref))

    def path(self, ref: str) -> Path:
        """The folder of a version, unverified; to load from it, use ``open``."""
        return self._folders.path(*self._resolve(ref))

    def verify(self, ref: str) -> Sequence[str]:
        """A line per file that is not as published; none means all are."""
        return self._folders.verify(*self._resolve(ref))

    def open(self, ref: str) -> Path:
        """The folder of a version, after comparing every file with the manifest.

        Raises:
            IntegrityError: it is not as published.
        """
        return self._folders.open(*self._resolve(ref))

    def export(self, ref: str, out: Path) -> Path:
        """Copy a verified version to ``out``, which must be new or an empty folder.

        Raises:
            InputError: ``out`` holds something.
            IntegrityError: the version is not as published.
        """
        return self._folders.copy_out(*self._resolve(ref), out)

    # Aliases

    def aliases(self, name: str) -> dict[str, int]:
        """Where each alias of ``name`` points.

        Raises:
            ModelNotFound: there is no model ``name``.
        """
        self._require(name)
        return dict(self._read(name).aliases)

    def history(self, name: str, alias: str | None = None) -> Sequence[AliasChange]:
        """Every move of the aliases of ``name``, or of one, oldest first.

        Raises:
            ModelNotFound: there is no model ``name``.
        """
        self._require(name)
        return [c for c in self._read(name).history if alias is None or c.alias == alias]

    def promote(
        self,
        name: str,
        number: int,
        alias: str,
        *,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
    ) -> AliasChange:
        """Point ``alias`` at a version that is as published.

        Args:
            name: the model.
            number: the version.
            alias: champion, challenger or another plain name.
            reason: why, for the history.
            evidence: what it rests on, as JSON values, for the history.

        Raises:
            InvalidName: ``alias`` is not a plain name.
            ModelNotFound: there is no such version; says what there is.
            IntegrityError: the version is not as published.
        """
        if check_name(alias, "alias").isdigit() or alias == "latest":
            raise InvalidName(
                f"The alias {alias!r} would be taken for a version.", hint="Use a word."
            )
        return self._move(name, number, alias, kind="promote", reason=reason, evidence=evidence)

    def rollback(self, name: str, alias: str, *, reason: str = "") -> int:
        """Point ``alias`` back at the version it had before the last promotion.

        Rolling back again goes further back; it never returns to a version that was rolled back.

        Returns:
            The version number that the alias points at now.

        Raises:
            AliasNotFound: there is no such alias; says what there is.
            StoreError: it has had no other version.
            ModelNotFound: the earlier version was deleted.
            IntegrityError: the earlier version is not as published.
        """
        self._require(name)
        with self._folders.locked(name, f"roll back {name}@{alias}"):
            self._aimed(name, alias)
            stack: list[int] = []
            for change in self.history(name, alias):
                if change.kind == "rollback":
                    stack.pop()
                elif stack[-1:] != [change.to_version]:
                    stack.append(change.to_version)
            if len(stack) < 2:
                raise StoreError(
                    f"{name}@{alias} has had no version before {stack[-1]}.",
                    hint=f"Choose one with: fti models promote {name}/N --alias {alias}",
                )
            self._move_locked(name, stack[-2], alias, kind="rollback", reason=reason, evidence=None)
            return stack[-2]

    # Inside

    def _resolve(self, ref: str) -> tuple[str, int]:
        name, at, alias = ref.partition("@")
        if at:
            self._require(name)
            return name, self._aimed(name, check_name(alias, "alias"))
        if "/" in ref:
            return self._folders.resolve(ref)
        self._require(name)
        return name, self._aimed(name, CHAMPION)

    def _require(self, name: str) -> None:
        """Raise ``ModelNotFound`` unless ``name`` has a version."""
        self._folders.resolve(f"{check_name(name, 'model')}/latest")

    def _aimed(self, name: str, alias: str) -> int:
        aliases = self._read(name).aliases
        if alias not in aliases:
            versions = ", ".join(map(str, self._folders.versions(name)))
            listed = ", ".join(f"{a} ({n})" for a, n in sorted(aliases.items())) or "none"
            raise AliasNotFound(
                f"Model {name!r} has no alias {alias!r}.",
                hint=f"Its aliases are: {listed}; its versions: {versions}. "
                f"Name one as {name}/N, or set it: fti models promote {name}/N --alias {alias}",
            )
        return aliases[alias]

    def _move(
        self,
        name: str,
        number: int,
        alias: str,
        *,
        kind: Literal["promote", "rollback"],
        reason: str,
        evidence: Mapping[str, Any] | None,
    ) -> AliasChange:
        self._folders.path(name, number)
        with self._folders.locked(name, f"{kind} {name}@{alias}"):
            return self._move_locked(
                name, number, alias, kind=kind, reason=reason, evidence=evidence
            )

    def _move_locked(
        self,
        name: str,
        number: int,
        alias: str,
        *,
        kind: Literal["promote", "rollback"],
        reason: str,
        evidence: Mapping[str, Any] | None,
    ) -> AliasChange:
        self._folders.open(name, number)
        state = self._read(name)
        change = AliasChange(
            at=now(),
            alias=alias,
            kind=kind,
            from_version=state.aliases.get(alias),
            to_version=number,
            reason=reason,
            evidence=evidence,
        )
        moved = _Aliases(aliases={**state.aliases, alias: number}, history=(*state.history, change))
        write_json(self._alias_file(name), moved.model_dump(mode="json"))
        return change

    def _read(self, name: str) -> _Aliases:
        path = self._alias_file(name)
        try:
            return _Aliases.model_validate(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return _Aliases()
        except ValueError as error:  # broken JSON, and pydantic's ValidationError
            raise IntegrityError(
                f"{str(path)!r} cannot be read as the aliases of model {name!r}.",
                hint="Restore it from a backup, or delete it and promote again.",
            ) from error

    def _alias_file(self, name: str) -> Path:
        return self._folders.root / name / "aliases.json"

    def _load(self, name: str, number: int) -> ModelVersion:
        manifest = self._folders.manifest(name, number)
        try:
            return ModelVersion.model_validate(manifest)
        except ValidationError as error:
            raise self._folders.understood_failed(name, number, error) from error


def _with_digest(adapter: AdapterInfo | None, entries: tuple[FileEntry, ...]) -> AdapterInfo | None:
    if adapter is None:
        return None
    weights = next((entry.sha256 for entry in entries if entry.path == ADAPTER_FILE), None)
    if weights is None:
        raise StoreError(f"The folder holds no {ADAPTER_FILE}, the adapter's weights.")
    if adapter.sha256 not in ("", weights):
        raise StoreError(f"{ADAPTER_FILE} has sha256 {weights}, not {adapter.sha256} as said.")
    return adapter.model_copy(update={"sha256": weights})
