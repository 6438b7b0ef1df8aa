"""The model registry: immutable numbered versions, and aliases that move between them.

``models/<name>/<number>/`` holds a version (see ``store.versions``), ``models/<name>/aliases.json``
where its aliases point and how they came to. Nothing but safetensors and text is kept: loading a
version can run no code.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fti.store.contracts.embedder_contract import EmbedderContract
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import InvalidName, ModelNotFound, StoreError
from fti.store.files.layout import Layout
from fti.store.types import DatasetVersion, FileEntry, now
from fti.store.versioned.aliases import CHAMPION, AliasChange, Aliases
from fti.store.versioned.marks import Mark, Marks
from fti.store.versioned.model_version import CARD_FILE, AdapterInfo, ModelVersion
from fti.store.versioned.version_store import VersionStore
from fti.store.versioned.versions import VersionedFolders, check_name

ALLOWED_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".md")


class ModelRegistry(VersionStore[ModelVersion]):
    """Model versions under the store's root."""

    def __init__(self, layout: Layout) -> None:
        folders = VersionedFolders(
            layout.models,
            what="model",
            not_found=ModelNotFound,
            allowed_suffixes=ALLOWED_SUFFIXES,
            storage=layout.storage,
        )
        super().__init__(folders, ModelVersion)
        self._aliases = Aliases(self._folders)
        self._marks = Marks(self._folders)

    def check_name(self, name: str) -> None:
        """Refuse a name that no version can have, before the work of making one.

        Raises:
            InvalidName: it is not a plain name, or is "base", "extractive" or "plain".
        """
        if check_name(name, "model") in ("base", "extractive", "plain"):
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
            InvalidName: ``name`` is not a plain name, or is "base", "extractive" or "plain".
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

        def version(number: int, entries: tuple[FileEntry, ...]) -> ModelVersion:
            return ModelVersion(
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
                adapter=adapter.of_files(entries) if adapter else None,
                files=entries,
            )

        return self._publish(name, fill, version)

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

        def version(number: int, entries: tuple[FileEntry, ...]) -> ModelVersion:
            return before.model_copy(
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

        return self._publish(before.name, fill, version)

    def list(self, name: str | None = None) -> Sequence[ModelVersion]:
        """All versions, or those of one name; by name, then number.

        Raises:
            ModelNotFound: there is no model ``name``.
            IntegrityError: a manifest is not as published; ``survey`` tells of the others.
        """
        if name is not None:
            self._require(name)
        return super().list(name)

    def get(self, ref: str) -> ModelVersion:
        """The version that ``name/N``, ``name@alias`` or ``name`` (its champion) means.

        Raises:
            InvalidName: ``ref`` is none of these.
            ModelNotFound: there is no such version; says what there is.
            AliasNotFound: there is no such alias, or no champion; says what there is.
            IntegrityError: the manifest is not as published.
        """
        return super().get(ref)

    def ancestry(self, ref: str) -> Sequence[ModelVersion]:
        """A version and those that its training went on from, newest first.

        Raises:
            As ``get``.
        """
        found = []
        following: str | None = ref
        while following:
            found.append(self.get(following))
            following = found[-1].parent
        return found

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
        return dict(self._aliases.of(name))

    def history(self, name: str, alias: str | None = None) -> Sequence[AliasChange]:
        """Every move of the aliases of ``name``, or of one, oldest first.

        Raises:
            ModelNotFound: there is no model ``name``.
        """
        self._require(name)
        return self._aliases.history(name, alias)

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
            number = self._aliases.previous(name, alias)
            self._aliases.move(name, number, alias, kind="rollback", reason=reason, evidence=None)
            return number

    def previous(self, name: str, alias: str) -> int:
        """The version that ``rollback`` would go to.

        Raises:
            ModelNotFound: there is no model ``name``.
            AliasNotFound: there is no such alias; says what there is.
            StoreError: it has had no other version.
        """
        self._require(name)
        return self._aliases.previous(name, alias)

    # Keeping and letting go

    def marks(self, name: str) -> Sequence[Mark]:
        """Everything said about the versions of ``name``, oldest first.

        Raises:
            IntegrityError: the file of marks cannot be read.
        """
        return self._marks.of(name)

    def pinned(self, name: str) -> frozenset[int]:
        """Versions that are kept whatever happens."""
        return self._marks.pinned(name)

    def retired(self, name: str) -> frozenset[int]:
        """Versions that are to be promoted no more."""
        return self._marks.retired(name)

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
                aimed = sorted(a for a, n in self._aliases.of(name).items() if n == number)
                if aimed:
                    raise StoreError(
                        f"{name}@{aimed[0]} points at {name}/{number}.",
                        hint="Point it elsewhere first: fti models promote, or fti models rollback",
                    )
                if number in self.pinned(name):
                    raise StoreError(
                        f"{name}/{number} is pinned: {self._marks.said(name, number, 'pin')}.",
                        hint=f"Take that back with: fti models unpin {name}/{number}",
                    )
            return self._marks.add(name, number, kind, reason)

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
            back = {n: a for a in self._aliases.of(name) for n in self._aliases.way_back(name, a)}
            for number in self.retired(name):
                why = f"pinned: {self._marks.said(name, number, 'pin')}" if number in pinned else ""
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
                for wanted, how in v.made_from()
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
                    self._marks.add(
                        name, number, "remove", self._marks.said(name, number, "retire")
                    )
                    freed[ref] = self._folders.remove(name, number)
        return freed

    # Inside

    def _resolve(self, ref: str) -> tuple[str, int]:
        name, at, alias = ref.partition("@")
        if at:
            self._require(name)
            return name, self._aliases.aimed(name, check_name(alias, "alias"))
        if "/" in ref:
            return self._folders.resolve(ref)
        self._require(name)
        return name, self._aliases.aimed(name, CHAMPION)

    def _require(self, name: str) -> None:
        """Raise ``ModelNotFound`` unless ``name`` has a version."""
        self._folders.resolve(f"{check_name(name, 'model')}/latest")

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
                    f"{name}/{number} is retired: {self._marks.said(name, number, 'retire')}.",
                    hint=f"Take that back with: fti models unretire {name}/{number}",
                )
            return self._aliases.move(
                name, number, alias, kind=kind, reason=reason, evidence=evidence
            )
