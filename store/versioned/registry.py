"""The model registry: immutable numbered versions, and aliases that move between them.

``models/<name>/<number>/`` holds a version (see ``store.versions``), ``models/<name>/aliases.json``
where its aliases point and how they came to. Nothing but safetensors and text is kept: loading a
version can run no code.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fti.store.contracts.embedder_contract import REGISTRY, EmbedderContract
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import (
    AliasNotFound,
    ContractError,
    IntegrityError,
    InvalidName,
    ModelNotFound,
    StoreError,
)
from fti.store.files.atomic import read_sealed, write_sealed
from fti.store.files.layout import Layout
from fti.store.types import DatasetVersion, FileEntry, Value, now
from fti.store.versioned.versions import VersionedFolders, check_name

CHAMPION = "champion"
CHALLENGER = "challenger"
ADAPTER_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
LOG_FILE = "training_log.json"
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

    Of kind ``llm`` it answers, under a ``Contract``; of kind ``embedder`` it makes vectors, under
    an ``EmbedderContract``. ``dataset`` is ``name/number`` and ``dataset_digest`` what that
    version's rows were; ``parent`` is the model version that training went on from, if any.
    """

    name: str
    version: int = Field(ge=1)
    kind: Literal["llm", "embedder"] = "llm"
    created_at: datetime
    contract: Contract | EmbedderContract
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

    @property
    def whole(self) -> bool:
        """Whether it is a whole model by itself, and not an adapter for its base."""
        return self.adapter is None and any(entry.path == "config.json" for entry in self.files)

    @property
    def prompt_contract(self) -> Contract:
        """What it answers under.

        Raises:
            ContractError: it is an embedder.
        """
        if isinstance(self.contract, EmbedderContract):
            raise ContractError(
                f"{self.ref} is an embedder: it makes vectors and answers nothing.",
                hint="Name a model of `fti finetune`, or base. A store is switched to an embedder "
                f"with: fti models promote {self.ref} --alias {CHAMPION}",
            )
        return self.contract

    @property
    def vector_contract(self) -> EmbedderContract:
        """What it makes vectors under.

        Raises:
            ContractError: it is no embedder.
        """
        if isinstance(self.contract, Contract):
            raise ContractError(
                f"{self.ref} is a language model: it makes no vectors.",
                hint="Name a model of `fti finetune-embedder`.",
            )
        return self.contract

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if (self.kind == "embedder") != isinstance(self.contract, EmbedderContract):
            raise ValueError(f"the contract is not that of kind {self.kind!r}")
        return self


class AliasChange(Value):
    """One move of an alias. ``from_version`` is None for its first."""

    at: datetime
    alias: str
    kind: Literal["promote", "rollback"]
    from_version: int | None
    to_version: int
    reason: str = ""
    evidence: Mapping[str, Any] | None = None


class Mark(Value):
    """What was said about a version after it was published; the newest of each pair holds.

    A pinned version is never removed. A retired one can be promoted no more, and is removed by the
    next clean-up unless something refers to it.
    """

    at: datetime
    version: int
    kind: Literal["pin", "unpin", "retire", "unretire", "remove"]
    reason: str = ""


class _Marks(Value):
    marks: tuple[Mark, ...] = ()


class _Aliases(Value):
    aliases: Mapping[str, int] = Field(default_factory=dict)
    history: tuple[AliasChange, ...] = ()


class ModelRegistry:
    """Model versions under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._folders = VersionedFolders(
            layout.models,
            what="model",
            not_found=ModelNotFound,
            allowed_suffixes=ALLOWED_SUFFIXES,
            before_change=layout.require_format,
        )

    def check_name(self, name: str) -> None:
        """Refuse a name that no version can have, before the work of making one.

        Raises:
            InvalidName: it is not a plain name, or is one of "base" and "extractive".
        """
        if check_name(name, "model") in ("base", "extractive"):
            raise InvalidName(
                f"{name!r} means an answerer that is no version.", hint="Choose another name."
            )

    def publish(
        self,
        name: str,
        files: Path,
        *,
        contract: Contract | EmbedderContract,
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
            contract: what serving must agree on; decides the version's kind.
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
        self.check_name(name)
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
                kind="embedder" if isinstance(contract, EmbedderContract) else "llm",
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

    def republish(
        self, ref: str, *, contract: Contract, run_id: str, metrics: Mapping[str, Any]
    ) -> ModelVersion:
        """Publish the files of a version as its name's next one, under another contract.

        Args:
            ref: the version; it becomes the new one's parent.
            contract: what serving must agree on from now on.
            run_id: the run that found the change.
            metrics: beside those of the version.

        Raises:
            IntegrityError: the version is not as published.
        """
        before = self.get(ref)
        files = self.open(before.ref)

        def fill(folder: Path) -> None:
            for entry in before.files:
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(files / entry.path, target)
            card = folder / CARD_FILE
            if card.exists():  # it names the contract
                text = card.read_text("utf-8").replace(before.contract.digest, contract.digest)
                card.write_text(text, "utf-8")

        def manifest(number: int, entries: tuple[FileEntry, ...]) -> Mapping[str, Any]:
            version = before.model_copy(
                update={
                    "version": number,
                    "created_at": now(),
                    "contract": contract,
                    "run_id": run_id,
                    "metrics": {**before.metrics, **metrics},
                    "parent": before.ref,
                    "files": entries,
                }
            )
            return version.model_dump(mode="json")

        number, _ = self._folders.publish(before.name, fill, manifest)
        return self._load(before.name, number)

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
            number = self.previous(name, alias)
            self._move_locked(name, number, alias, kind="rollback", reason=reason, evidence=None)
            return number

    def previous(self, name: str, alias: str) -> int:
        """The version that ``rollback`` would go to.

        Raises:
            ModelNotFound: there is no model ``name``.
            AliasNotFound: there is no such alias; says what there is.
            StoreError: it has had no other version.
        """
        self._require(name)
        self._aimed(name, alias)
        stack = self._way_back(name, alias)
        if len(stack) < 2:
            raise StoreError(
                f"{name}@{alias} has had no version before {stack[-1]}.",
                hint=f"Choose one with: fti models promote {name}/N --alias {alias}",
            )
        return stack[-2]

    # Keeping and letting go

    def marks(self, name: str) -> Sequence[Mark]:
        """Everything said about the versions of ``name``, oldest first.

        Raises:
            IntegrityError: the file of marks cannot be read.
        """
        path = self._mark_file(name)
        try:
            return _Marks.model_validate(read_sealed(path)).marks
        except FileNotFoundError:
            return ()
        except ValueError as error:
            raise IntegrityError(
                f"{str(path)!r} cannot be read as the marks of model {name!r}.",
                hint="Restore it from a backup, or delete it and pin or retire again.",
            ) from error

    def pinned(self, name: str) -> frozenset[int]:
        """Versions that are kept whatever happens."""
        return self._marked(name, "pin", "unpin")

    def retired(self, name: str) -> frozenset[int]:
        """Versions that are to be promoted no more."""
        return self._marked(name, "retire", "unretire")

    def mark(
        self,
        ref: str,
        kind: Literal["pin", "unpin", "retire", "unretire"],
        *,
        reason: str = "",
    ) -> Mark:
        """Pin or retire a version, or take that back.

        Raises:
            ModelNotFound: there is no such version; says what there is.
            StoreError: it is to be retired while an alias points at it or it is pinned.
        """
        name, number = self._resolve(ref)
        with self._folders.locked(name, f"{kind} {name}/{number}"):
            if kind == "retire":
                aimed = sorted(a for a, n in self._read(name).aliases.items() if n == number)
                if aimed:
                    raise StoreError(
                        f"{name}@{aimed[0]} points at {name}/{number}.",
                        hint="Point it elsewhere first: fti models promote, or fti models rollback",
                    )
                if number in self.pinned(name):
                    raise StoreError(
                        f"{name}/{number} is pinned: {self._said(name, number, 'pin')}.",
                        hint=f"Take that back with: fti models unpin {name}/{number}",
                    )
            return self._note(name, number, kind, reason)

    def removable(self, in_use: Mapping[str, str] | None = None) -> dict[str, str]:
        """Every retired version, with why it stays; an empty reason means that it can go.

        It stays when it is pinned, when an alias points at it or would come back to it by rolling
        back, and when a version that stays was trained from it or behind its vectors.

        Args:
            in_use: by version, why it stays, for what the registry cannot know.
        """
        stays: dict[str, str] = {}
        for name in self.names():
            pinned = self.pinned(name)
            back = {n: a for a in self._read(name).aliases for n in self._way_back(name, a)}
            for number in self.retired(name):
                why = f"pinned: {self._said(name, number, 'pin')}" if number in pinned else ""
                if not why and number in back:
                    why = f"{name}@{back[number]} may roll back to it"
                ref = f"{name}/{number}"
                stays[ref] = why or (in_use or {}).get(ref, "")
        versions = self.list()
        while True:  # what a kept version was made from is kept, and so on back
            kept = {v.ref for v in versions if stays.get(v.ref, "kept")}
            needed = {
                wanted: f"{v.ref} was trained {how} it"
                for v in versions
                if v.ref in kept
                for wanted, how in _made_from(v)
                if stays.get(wanted) == ""
            }
            if not needed:
                return stays
            stays |= needed

    def collect(self, in_use: Mapping[str, str] | None = None) -> dict[str, int]:
        """Remove every retired version that nothing refers to; see ``removable``.

        Returns:
            The bytes freed, by version.
        """
        freed: dict[str, int] = {}
        for ref in [r for r, why in self.removable(in_use).items() if not why]:
            name, number = self._folders.resolve(ref)
            with self._folders.locked(name, f"remove {ref}"):
                if self.removable(in_use).get(ref) == "":  # it may have been pinned in between
                    self._note(name, number, "remove", self._said(name, number, "retire"))
                    freed[ref] = self._folders.remove(name, number)
        return freed

    # Inside

    def _way_back(self, name: str, alias: str) -> Sequence[int]:
        """The versions an alias goes back through, the one it points at last."""
        stack: list[int] = []
        for change in self.history(name, alias):
            if change.kind == "rollback":
                stack.pop()
            elif stack[-1:] != [change.to_version]:
                stack.append(change.to_version)
        return stack

    def _marked(self, name: str, on: str, off: str) -> frozenset[int]:
        found: dict[int, bool] = {}
        for mark in self.marks(name):
            if mark.kind in (on, off):
                found[mark.version] = mark.kind == on
        there = self._folders.versions(name)
        return frozenset(n for n, holds in found.items() if holds and n in there)

    def _said(self, name: str, number: int, kind: str) -> str:
        said = [m for m in self.marks(name) if m.version == number and m.kind == kind]
        return (said[-1].reason or "no reason was given") if said else "no reason was given"

    def _note(
        self,
        name: str,
        number: int,
        kind: Literal["pin", "unpin", "retire", "unretire", "remove"],
        reason: str,
    ) -> Mark:
        mark = Mark(at=now(), version=number, kind=kind, reason=reason)
        marks = _Marks(marks=(*self.marks(name), mark))
        write_sealed(self._mark_file(name), marks.model_dump(mode="json"))
        return mark

    def _mark_file(self, name: str) -> Path:
        return self._folders.root / check_name(name, "model") / "marks.json"

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
            if number in self.retired(name):
                raise StoreError(
                    f"{name}/{number} is retired: {self._said(name, number, 'retire')}.",
                    hint=f"Take that back with: fti models unretire {name}/{number}",
                )
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
        write_sealed(self._alias_file(name), moved.model_dump(mode="json"))
        return change

    def _read(self, name: str) -> _Aliases:
        path = self._alias_file(name)
        try:
            return _Aliases.model_validate(read_sealed(path))
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


def _made_from(version: ModelVersion) -> Iterator[tuple[str, str]]:
    """Versions that a version refers to, and how."""
    if version.parent:
        yield version.parent, "from"
    if isinstance(version.contract, Contract):
        embedder = version.contract.embedder.id
        if embedder.startswith(REGISTRY):
            yield embedder.removeprefix(REGISTRY), "behind"


def _with_digest(adapter: AdapterInfo | None, entries: tuple[FileEntry, ...]) -> AdapterInfo | None:
    if adapter is None:
        return None
    weights = next((entry.sha256 for entry in entries if entry.path == ADAPTER_FILE), None)
    if weights is None:
        raise StoreError(f"The folder holds no {ADAPTER_FILE}, the adapter's weights.")
    if adapter.sha256 not in ("", weights):
        raise StoreError(f"{ADAPTER_FILE} has sha256 {weights}, not {adapter.sha256} as said.")
    return adapter.model_copy(update={"sha256": weights})
