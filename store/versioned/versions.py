"""Numbered, immutable version folders: what datasets and models have in common.

A version is ``<root>/<name>/<number>/``. It is filled aside and becomes visible by one rename, with
``manifest.json`` as its last file: a folder without one is not a version. The manifest lists every
file with its sha256, and carries its own. Numbers only grow: the highest ever given is kept in
``<root>/.numbers/``, outside the folders that people delete.

Of a store in a bucket, versions lie there (``shared.py``), and ``root`` holds copies of those that
were used on this machine.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from fti.store.errors import InputError, IntegrityError, InvalidName, NotFoundError, StoreError
from fti.store.files.atomic import dump_json, fsync_folder, fsync_tree, staged_folder, write_bytes
from fti.store.files.bucket import BucketStorage
from fti.store.files.storage import FolderStorage, Storage
from fti.store.types import FileEntry
from fti.store.versioned.manifests import SELF, ManifestError, digest, listed, refusal, unseal, walk
from fti.store.versioned.shared import MANIFEST, SharedVersions

_T = TypeVar("_T")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def check_name(name: str, what: str) -> str:
    """``name`` itself when it is a plain name.

    Raises:
        InvalidName: it is not; ``what`` says what was being named.
    """
    if not _NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} is not a name for a {what}.",
            hint="Use up to 64 of a-z 0-9 . _ - and begin with a letter or digit.",
        )
    return name


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class VersionedFolders:
    """Version folders under ``root``.

    Args:
        root: made by the first publication.
        what: "dataset" or "model", for messages.
        storage: of the store that ``root`` is part of; the folder around ``root`` by default.
        not_found: raised for a name or number that does not exist.
        allowed_suffixes: endings of files that a version may hold, with their dot.
    """

    def __init__(
        self,
        root: Path,
        *,
        what: str,
        storage: Storage | None = None,
        not_found: type[NotFoundError],
        allowed_suffixes: Collection[str],
    ) -> None:
        self.root = root
        self.storage: Storage = storage or FolderStorage(root.parent)
        self._shared: SharedVersions | None = None
        if isinstance(storage, BucketStorage):
            self._shared = SharedVersions(storage, root.name)
        self._what = what
        self._not_found = not_found
        self._allowed = tuple(sorted(allowed_suffixes))

    # Looking

    def key(self, name: str, record: str) -> str:
        """Where a record about the versions of a name lies in the store."""
        return f"{self.root.name}/{check_name(name, self._what)}/{record}"

    def names(self) -> list[str]:
        """Names that have at least one version, sorted."""
        if self._shared:
            return [name for name in self._shared.published() if _NAME.fullmatch(name)]
        if not self.root.is_dir():
            return []
        found = (p.name for p in self.root.iterdir() if _NAME.fullmatch(p.name))
        return sorted(name for name in found if self.versions(name))

    def refs(self) -> list[str]:
        """``name/number`` of every version, without reading them."""
        with self.storage.still():
            return [f"{name}/{number}" for name in self.names() for number in self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """Numbers of the published versions of ``name``, ascending; none for an unknown name."""
        home = self.root / check_name(name, self._what)
        if self._shared:
            return self._numbers(home)
        return [n for n in self._numbers(home) if (home / str(n) / MANIFEST).exists()]

    def resolve(self, ref: str) -> tuple[str, int]:
        """Name and number that ``name``, ``name/latest`` or ``name/N`` means.

        Raises:
            InvalidName: ``ref`` is none of these.
            NotFoundError: there is no such version; says what there is.
        """
        name, slash, number = ref.partition("/")
        check_name(name, self._what)
        if not slash or number == "latest":
            there = self.versions(name)
            if not there:
                raise self._missing(name)
            return name, there[-1]
        if not _NUMBER.fullmatch(number):
            raise InvalidName(
                f"{number!r} in {ref!r} is not a version number.",
                hint=f"Write NAME/N, for example {name}/1.",
            )
        self.path(name, int(number))
        return name, int(number)

    def path(self, name: str, number: int) -> Path:
        """The folder of a version; of one in a bucket, the copy on this machine, made when needed.

        Raises:
            NotFoundError: there is no such version; says what there is.
            IntegrityError: the folder is there and its manifest is not.
        """
        folder = self._folder(name, number)
        if self._shared:
            self._brought(name, number)
        if not (folder / MANIFEST).exists():
            raise IntegrityError(
                f"{self._what} {name}/{number} has no {MANIFEST}: it is not whole.",
                hint="Restore the folder from a backup, or delete it.",
            )
        return folder

    def manifest(self, name: str, number: int) -> dict[str, Any]:
        """What was published about a version.

        Raises:
            NotFoundError: there is no such version; says what there is.
            IntegrityError: the manifest is missing, unreadable or was changed.
        """
        try:
            return unseal(self._manifest(name, number))
        except ManifestError as error:
            raise self._damaged(name, number, str(error)) from error

    def verify(self, name: str, number: int) -> list[str]:
        """Compare every file with the manifest.

        Returns:
            A line per difference; none means that the version is as published.

        Raises:
            NotFoundError: there is no such version; says what there is.
        """
        folder = self._folder(name, number)
        if self._shared:
            self._shared.forget(name, number)
            try:
                entries, sealed_by = listed(self._manifest(name, number), self._allowed)
            except ManifestError as error:
                return [str(error)]
            return self._shared.check([*entries.values()], sealed_by)
        return self._differences(folder)

    def _differences(self, folder: Path) -> list[str]:
        """What in a folder is not as its manifest says."""
        if folder.is_symlink():
            return ["the version is a symbolic link"]
        if not (folder / MANIFEST).exists():
            return [f"{MANIFEST}: missing"]
        try:
            entries, _ = listed((folder / MANIFEST).read_bytes(), self._allowed)
        except ManifestError as error:
            return [str(error)]
        problems = []
        there = dict(walk(folder))
        there.pop(MANIFEST, None)
        for path, entry in sorted(entries.items()):
            if path not in there:
                problems.append(f"{path}: missing")
                continue
            reason = refusal(path, there.pop(path), self._allowed)
            if reason:
                problems.append(f"{path}: {reason}")
            elif file_sha256(folder / path) != entry.sha256:
                problems.append(f"{path}: differs from the manifest")
        problems += [f"{path}: not in the manifest" for path in sorted(there)]
        return problems

    def open(self, name: str, number: int) -> Path:
        """The folder of a version, after comparing every file with the manifest.

        Raises:
            NotFoundError: there is no such version; says what there is.
            IntegrityError: it is not as published.
        """
        if self._shared:
            return self._brought(name, number, checked=True)
        problems = self.verify(name, number)
        if problems:
            raise self._damaged(name, number, "; ".join(problems))
        return self.path(name, number)

    def understood_failed(self, name: str, number: int, error: ValidationError) -> StoreError:
        """The error for a manifest that is whole but not what this fti expects."""
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return IntegrityError(
            f"The manifest of {self._what} {name}/{number} is not understood: {where}: "
            f"{first['msg']}.",
            hint="It may come from a newer fti: pip install --upgrade fti-llm",
        )

    def copy_to(self, shared: SharedVersions, name: str, number: int) -> int:
        """Copy a version that is as published into a bucket, unless it is there; its bytes.

        Raises:
            IntegrityError: it is not as published, or another one is there under its number.
        """
        folder = self.open(name, number)
        entries, sealed_by = listed((folder / MANIFEST).read_bytes(), self._allowed)
        try:
            shared.put(name, number, folder, [*entries.values()], sealed_by)
        except FileExistsError as error:
            raise self._damaged(name, number, "the bucket has another one") from error
        return sum(entry.bytes for entry in entries.values())

    # Publishing

    def publish(
        self,
        name: str,
        fill: Callable[[Path], None],
        manifest: Callable[[int, tuple[FileEntry, ...]], Mapping[str, Any]],
    ) -> tuple[int, Path]:
        """Make the next version of ``name``; readers see all of it or nothing.

        Args:
            name: a new name, or one that has versions.
            fill: writes the files into the empty folder it is given.
            manifest: given number and files, what to keep about the version, as JSON values;
                ``files`` is added.

        Returns:
            The number and the folder.

        Raises:
            InvalidName: ``name`` is not a plain name.
            StoreError: ``fill`` left a file that a version may not hold, or nothing.
        """
        home = self.root / check_name(name, self._what)
        with self.locked(name, f"publish {self._what} {name}"):
            if not self._shared:  # where this machine's lock is not the name's, another one fills
                self._sweep(home)
            with staged_folder(home) as staged:
                fill(staged)
                entries = self._entries(staged)
                fsync_tree(staged)
                number = self._next_number(name)
                while True:
                    body = {
                        **manifest(number, entries),
                        "files": [entry.model_dump() for entry in entries],
                    }
                    sealed = {**body, SELF: digest(body)}
                    write_bytes(staged / MANIFEST, dump_json(sealed))
                    # Noted before the rename: a crash in between skips a number, and no number is
                    # ever given twice.
                    self._note_number(name, number)
                    target = home / str(number)
                    try:
                        if self._shared:
                            self._shared.put(name, number, staged, [*entries], sealed[SELF])
                    except FileExistsError:
                        number += 1  # taken past the lease, by one who took us for dead
                        continue
                    try:
                        staged.rename(target)
                    except OSError as error:
                        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                            raise
                        if self._shared:  # a copy of a version that is gone
                            shutil.rmtree(target)
                            staged.rename(target)
                            return number, target
                        number += 1  # taken past the lock, by a machine that does not share it
                        continue
                    fsync_folder(home)
                    if self._shared:
                        self._shared.sweep()
                    return number, target

    @contextlib.contextmanager
    def locked(self, name: str, what: str, *, timeout_s: float = 600.0) -> Iterator[None]:
        """Be the one who changes ``name`` while the block runs.

        Raises:
            StoreLocked: somebody else does for longer than ``timeout_s``.
        """
        key = f"{self.root.name}/.locks/{check_name(name, self._what)}.lock"
        with self.storage.locked(key, timeout_s=timeout_s, what=what):
            yield

    def copy_out(self, name: str, number: int, out: Path) -> Path:
        """Copy a version to ``out``, checking each file on the way; the manifest goes last.

        Raises:
            InputError: ``out`` is there and is not an empty folder.
            IntegrityError: the version is not as published; nothing is left at ``out``.
        """
        folder = self.open(name, number)
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise InputError(
                f"{str(out)!r} is there already and is not an empty folder.",
                hint="Name a new one with --out.",
            )
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        try:
            files, _ = listed((folder / MANIFEST).read_bytes(), self._allowed)
            for path, entry in files.items():
                target = out / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / path, target, follow_symlinks=False)
                if file_sha256(target) != entry.sha256:
                    raise self._damaged(name, number, f"{path} changed while it was copied")
            write_bytes(out / MANIFEST, (folder / MANIFEST).read_bytes())
        except BaseException:
            for child in out.iterdir():
                if child.is_dir() and not child.is_symlink():
                    shutil.rmtree(child, ignore_errors=True)
                else:
                    child.unlink(missing_ok=True)
            if made:
                out.rmdir()
            raise
        return out

    def remove(self, name: str, number: int) -> int:
        """Delete a version; its number is never given again. The caller holds the name's lock.

        Returns:
            The bytes that its files took.

        Raises:
            NotFoundError: there is no such version; says what there is.
        """
        folder = self._folder(name, number)
        if self._shared:
            sealed_by = digest(self.manifest(name, number))
            shutil.rmtree(folder, ignore_errors=True)
            return self._shared.remove(name, number, sealed_by)
        size = sum((folder / path).stat().st_size for path, kind in walk(folder) if kind == "file")
        # Renamed first: a crash then leaves what the next publication sweeps, never half a version.
        aside = folder.with_name(f".staged-removed-{number}")
        folder.rename(aside)
        fsync_folder(folder.parent)
        shutil.rmtree(aside)
        return size

    # Inside

    def _manifest(self, name: str, number: int) -> bytes:
        if self._shared is None:
            return (self.path(name, number) / MANIFEST).read_bytes()
        self._folder(name, number)
        return self._shared.manifest(name, number)

    def _brought(self, name: str, number: int, *, checked: bool = False) -> Path:
        """The copy of a version in a bucket; made where there is none, or it is not as published.

        Args:
            name: of the version.
            number: of the version.
            checked: compare every file of a copy that is there.
        """
        assert self._shared is not None
        folder = self._folder(name, number)
        manifest = self._manifest(name, number)
        with contextlib.suppress(FileNotFoundError):
            same = (folder / MANIFEST).read_bytes() == manifest
            if same and not (checked and self._differences(folder)):
                return folder
        try:
            entries, sealed_by = listed(manifest, self._allowed)
        except ManifestError as error:
            raise self._damaged(name, number, str(error)) from error
        folder.parent.mkdir(parents=True, exist_ok=True)
        problems = self._shared.fetch(name, number, folder, [*entries.values()], sealed_by)
        if problems:
            raise self._damaged(name, number, "; ".join(problems))
        return folder

    def _numbers(self, home: Path) -> list[int]:
        if self._shared:
            return self._shared.published().get(home.name, [])
        if not home.is_dir():
            return []
        return sorted(int(p.name) for p in home.iterdir() if _NUMBER.fullmatch(p.name))

    def _folder(self, name: str, number: int) -> Path:
        folder = self.root / check_name(name, self._what) / str(number)
        there = number in self._numbers(folder.parent) if self._shared else folder.is_dir()
        if not there:
            raise self._missing(name, number)
        return folder

    def _high_water(self, name: str) -> str:
        return f"{self.root.name}/.numbers/{name}{'.json' if self._shared else ''}"

    def _note_number(self, name: str, number: int) -> None:
        self.storage.write(self._high_water(name), f"{number}\n".encode())

    def _next_number(self, name: str) -> int:
        key = self._high_water(name)
        try:
            highest = int(self.storage.read(key))
        except FileNotFoundError:
            highest = 0
        except ValueError as error:
            raise StoreError(
                f"{self.storage.at(key)!r} should hold the highest number of {self._what} {name}: "
                f"{error}.",
                hint="Write that number into it.",
            ) from error
        return 1 + max([highest, *self._numbers(self.root / name)])

    def _sweep(self, home: Path) -> None:
        # Under the lock nobody fills a staged folder, so each one was left by a crash.
        if home.is_dir():
            for left in home.glob(".staged-*"):
                shutil.rmtree(left, ignore_errors=True)

    def _entries(self, staged: Path) -> tuple[FileEntry, ...]:
        found = sorted(walk(staged))
        for path, kind in found:
            reason = "its name is taken" if path == MANIFEST else ""
            reason = reason or refusal(path, kind, self._allowed)
            if reason:
                raise StoreError(
                    f"{path!r} cannot be published in a {self._what}: {reason}.",
                    hint=f"It may hold plain files that end in {', '.join(self._allowed)}.",
                )
        if not found:
            raise StoreError(f"There is nothing to publish in this {self._what}.")
        return tuple(
            FileEntry(
                path=path, sha256=file_sha256(staged / path), bytes=(staged / path).stat().st_size
            )
            for path, _ in found
        )

    def _missing(self, name: str, number: int | None = None) -> NotFoundError:
        there = self.versions(name)
        if there:
            listed = ", ".join(map(str, there[-10:]))
            dots = "..., " if len(there) > 10 else ""
            return self._not_found(
                f"There is no version {number} of {self._what} {name!r}.",
                hint=f"Its versions are: {dots}{listed}.",
            )
        names = self.names()
        if not names:
            return self._not_found(
                f"There is no {self._what} {name!r}.", hint=f"No {self._what} is published yet."
            )
        near = difflib.get_close_matches(name, names, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        return self._not_found(
            f"There is no {self._what} {name!r}.", hint=f"{guess}There is: {', '.join(names)}."
        )

    def _damaged(self, name: str, number: int, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self._what} {name}/{number} is not as published: {what}.",
            hint="Restore the folder from a backup, or delete it and publish again.",
        )
