"""Backups of a whole store, and back: every file by its digest, so that only changes are copied.

    blobs/<2 digits>/<sha256>     contents; one is shared by all backups that have it
    backups/<id>.json             which files a backup holds; written last

The features are copied while nobody writes them, also from an object store; what is restored has
them in its folder. What refers to something is copied before what it
refers to (answers, models, datasets, runs, features), so that a backup never names a version that
it does not hold. Caches, locks and training in progress are left out.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from fti.store.errors import (
    BackupNotFound,
    InputError,
    IntegrityError,
    StoreError,
    StoreFormatError,
    StoreFull,
)
from fti.store.files import layout as layouts
from fti.store.files.atomic import dump_json, fsync_tree, staged_folder
from fti.store.files.layout import Layout
from fti.store.files.places import Place
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.types import Value, now, sha256_hex
from fti.store.upkeep.placing import bring_back
from fti.store.versioned.versions import file_sha256

_ID = re.compile(r"b-[0-9]{8}-[0-9]{6}-[0-9]{6}")
#: At the root. What a job made is elsewhere; a copy of one would be taken up by another service.
_LEFT_OUT = frozenset({"checkpoints", "results", "downloads", "locks", "jobs", "cache"})
_LEFT_OUT_SUFFIXES = (".lock", ".owner", ".tmp")
_ORDER = ("answers", "models", "datasets", "cases", "runs")
_FEATURES = "features"
#: Where most files never change once they are there; which others do, beside hidden ones.
_IMMUTABLE = ("datasets/", "cases/", "models/", "features/")
_MAY_CHANGE = ("aliases.json", "marks.json", ".jsonl", "vector_index.json")


class BackupFile(Value):
    """A file of a backup. Its time is for telling that it was not changed since."""

    path: str
    sha256: str
    bytes: int
    mtime_ns: int


class Backup(Value):
    """What a backup holds. ``root`` is where the store was."""

    id: str
    created_at: datetime
    code_version: str
    format: int
    root: str
    files: tuple[BackupFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)


class BackupReport(Value):
    """What a backup copied: ``new_`` is what the place did not have yet."""

    backup: str
    place: str
    files: int
    bytes: int
    new_files: int
    new_bytes: int
    seconds: float


def back_up(
    layout: Layout, place: Place, *, lock_timeout_s: float = 60.0, progress: Progress = quiet
) -> BackupReport:
    """Copy the store to a place, as a backup of its own.

    Raises:
        StoreLocked: another process writes features for longer than ``lock_timeout_s``.
        StoreError: the place cannot be written, or the store holds a symbolic link.
    """
    began = time.monotonic()
    if place.url.startswith(f"{layout.root}/") or place.url == str(layout.root):
        raise InputError(
            f"The place {place.url!r} lies in the store itself.", hint="Name one outside of it."
        )
    known = {f.path: f for f in _newest_files(place)}
    copying = _Copying(place, known, progress)
    if layout.store_url:
        with staged_folder(layout.root) as folder:
            bring_back(layout, folder, progress=progress)
            _take_parts(copying, folder)
            if (folder / _FEATURES).is_dir():
                copying.take(folder, _FEATURES)
    _take_parts(copying, layout.root)
    if layout.features.is_dir() or layout.features_url:
        with layout.writing("store backup", timeout_s=lock_timeout_s):
            if not layout.features_url:
                layout.sums.note()  # what is copied has its checksums with it
            if layout.features_url:
                copying.take(layout.root, _FEATURES, without=".lance")
                copying.take_tables(Place(layout.features_url), _FEATURES)
            else:
                copying.take(layout.root, _FEATURES)
    if layout.tables_url:
        copying.take_tables(Place(layout.tables_url), "tables")
    at = now()
    backup = Backup(
        id=f"b-{at:%Y%m%d-%H%M%S-%f}",  # ids sort by time, also within a second,
        created_at=at,
        code_version=importlib.metadata.version("fti-llm"),
        format=layouts.FORMAT,
        root=str(layout.root),
        files=tuple(copying.files),
    )
    body = backup.model_dump(mode="json")
    place.write(f"backups/{backup.id}.json", dump_json({**body, "seal": _seal(body)}))
    return BackupReport(
        backup=backup.id,
        place=place.url,
        files=len(backup.files),
        bytes=backup.size,
        new_files=copying.new_files,
        new_bytes=copying.new_bytes,
        seconds=round(time.monotonic() - began, 3),
    )


def _take_parts(copying: _Copying, root: Path) -> None:
    """Copy all but the features."""
    parts = [p.name for p in root.iterdir() if p.name not in {_FEATURES, *_LEFT_OUT}]
    for part in sorted(parts, key=lambda n: (_ORDER.index(n) if n in _ORDER else 99, n)):
        copying.take(root, part)


def backups(place: Place) -> list[Backup]:
    """The backups at a place, oldest first.

    Raises:
        IntegrityError: the list of files of one cannot be read or was changed.
    """
    return [_read(place, identifier) for identifier in _ids(place)]


def find_backup(place: Place, identifier: str | None = None) -> Backup:
    """One backup, the newest when none is named.

    Raises:
        BackupNotFound: there is none, or none of this name; says what there is.
        IntegrityError: its list of files cannot be read or was changed.
    """
    ids = _ids(place)
    if not ids:
        raise BackupNotFound(
            f"There is no backup at {place.url!r}.", hint="Make one with: fti store backup PLACE"
        )
    if identifier is not None and identifier not in ids:
        raise BackupNotFound(
            f"There is no backup {identifier!r} at {place.url!r}.",
            hint=f"There are, newest first: {', '.join(ids[:-6:-1])}.",
        )
    return _read(place, identifier or ids[-1])


def restore(
    place: Place, root: Path, *, identifier: str | None = None, progress: Progress = quiet
) -> Backup:
    """Make a store of a backup; every file is compared with its digest on the way.

    Args:
        place: where the backups lie.
        root: where the store is to be; new, or an empty folder.
        identifier: which backup; the newest by default.
        progress: told after each file.

    Raises:
        InputError: ``root`` holds something.
        BackupNotFound: there is no such backup.
        StoreFormatError: it was made by a newer fti.
        IntegrityError: a file is missing or differs; nothing is left at ``root``.
    """
    root = root.expanduser().absolute()
    if root.is_symlink() or (root.exists() and (not root.is_dir() or any(root.iterdir()))):
        raise InputError(
            f"{str(root)!r} is there already and is not an empty folder.",
            hint="Name a new one with --store; an existing store is never overwritten.",
        )
    backup = find_backup(place, identifier)
    if backup.format > layouts.FORMAT:
        raise StoreFormatError(
            f"The backup {backup.id} has format {backup.format}; this fti reads up to "
            f"{layouts.FORMAT}.",
            hint="Upgrade with: pip install --upgrade fti-llm",
        )
    with staged_folder(root.parent) as staged:
        for number, file in enumerate(backup.files, start=1):
            found = _fetch(place, file, staged / file.path, backup)
            if found != file.sha256:
                raise _damaged(place, backup, f"{file.path} differs from its digest")
            progress(ProgressEvent("restore", number, len(backup.files), file.path))
        layouts.unplace(staged)
        fsync_tree(staged)
        staged.rename(root)
    return backup


def check(place: Place, backup: Backup, *, progress: Progress = quiet) -> list[str]:
    """Read every file of a backup again; a line per file that is missing or differs."""
    problems: list[str] = []
    checked: dict[str, str] = {}
    for number, file in enumerate(backup.files, start=1):
        if file.sha256 not in checked:
            try:
                same = place.digest(_blob(file.sha256)) == file.sha256
                checked[file.sha256] = "" if same else "differs from its digest"
            except FileNotFoundError:
                checked[file.sha256] = "missing"
        if checked[file.sha256]:
            problems.append(f"{file.path}: {checked[file.sha256]}")
        progress(ProgressEvent("verify", number, len(backup.files), file.path))
    return problems


class _Copying:
    """The files of one backup, as they are copied."""

    def __init__(self, place: Place, known: Mapping[str, BackupFile], progress: Progress) -> None:
        self._place = place
        self._known = known
        self._progress = progress
        self._there = place.sizes("blobs")
        self.files: list[BackupFile] = []
        self.new_files = self.new_bytes = 0

    def take(self, root: Path, part: str, *, without: str = "") -> None:
        """Copy what lies under one name of a root of the store, but for folders that end so."""
        for path in sorted(_walk(root, part), key=_pointers_first):
            if without and any(name.endswith(without) for name in path.split("/")[:-1]):
                continue
            self._add(path, partial(self._take, root))

    def take_tables(self, there: Place, part: str) -> None:
        """Copy tables from where they lie in an object store to a name of the root."""
        for key, (size, changed_ns) in sorted(there.listing("").items()):
            if key.split("/")[0].endswith(".lance"):
                path = f"{part}/{key}"
                put = partial(self._put_from, there, key, size=size, changed_ns=changed_ns)
                self._add(path, put)

    def _add(self, path: str, take: Callable[[str], BackupFile]) -> None:
        try:
            self.files.append(take(path))
        except FileNotFoundError as error:
            raise StoreError(
                f"{path!r} went away while the store was backed up.",
                hint="Run it again when nothing is removed from the store.",
            ) from error
        self._progress(ProgressEvent("backup", len(self.files), None, path))

    def _kept(self, path: str, size: int, changed_ns: int) -> BackupFile | None:
        """The file as an earlier backup has it, when it was not changed since."""
        before = self._known.get(path)
        if (
            before is None
            or not changed_ns
            or (before.bytes, before.mtime_ns) != (size, changed_ns)
        ):
            return None
        return before if self._has(before.sha256, before.bytes) else None

    def _put_from(
        self, there: Place, key: str, path: str, *, size: int, changed_ns: int
    ) -> BackupFile:
        if before := self._kept(path, size, changed_ns):
            return before
        with tempfile.TemporaryDirectory(prefix="fti-backup-") as folder:
            aside = Path(folder) / "file"
            there.fetch(key, aside)
            return self._put(path, aside, changed_ns)

    def _take(self, root: Path, path: str) -> BackupFile:
        source = root / path
        status = source.stat()
        if before := self._kept(path, status.st_size, status.st_mtime_ns):
            return before
        if _never_changes(path):
            return self._put(path, source, status.st_mtime_ns)
        # Lines may be added while it is read: what is copied is what was there in one moment.
        with tempfile.TemporaryDirectory(prefix="fti-backup-") as folder:
            aside = Path(folder) / "file"
            shutil.copyfile(source, aside)
            return self._put(path, aside, status.st_mtime_ns)

    def _put(self, path: str, source: Path, mtime_ns: int) -> BackupFile:
        digest, size = file_sha256(source), source.stat().st_size
        if not self._has(digest, size):
            self._place.put(_blob(digest), source)
            self._there[_blob(digest)] = size
            self.new_files += 1
            self.new_bytes += size
        return BackupFile(path=path, sha256=digest, bytes=size, mtime_ns=mtime_ns)

    def _has(self, digest: str, size: int) -> bool:
        # A size that differs is a copy that broke off, where a place does not write whole files.
        return self._there.get(_blob(digest)) == size


def _walk(root: Path, part: str) -> Iterator[str]:
    """Relative paths of the files to keep under one name of the root.

    Raises:
        StoreError: a symbolic link, which a backup cannot hold.
    """
    name = part.rpartition("/")[2]
    if name.endswith(_LEFT_OUT_SUFFIXES) or name.startswith(".staged-") or name == ".locks":
        return
    path = root / part
    if path.is_symlink():
        raise StoreError(
            f"{str(path)!r} is a symbolic link; a backup would not hold what it points at.",
            hint="Put the files themselves into the store.",
        )
    if path.is_file():
        yield part
    elif path.is_dir():
        for inner in sorted(path.iterdir()):
            yield from _walk(root, f"{part}/{inner.name}")


def _never_changes(path: str) -> bool:
    """Whether a file's digest can be taken before it is copied."""
    hidden = any(part.startswith(".") for part in path.split("/"))
    return path.startswith(_IMMUTABLE) and not path.endswith(_MAY_CHANGE) and not hidden


def _pointers_first(path: str) -> tuple[bool, str]:
    return not path.endswith(("aliases.json", "marks.json")), path


def _newest_files(place: Place) -> Sequence[BackupFile]:
    ids = _ids(place)
    return _read(place, ids[-1]).files if ids else ()


def _ids(place: Place) -> list[str]:
    names = (PurePosixPath(key).stem for key in place.sizes("backups"))
    return sorted(name for name in names if _ID.fullmatch(name))


def _read(place: Place, identifier: str) -> Backup:
    try:
        body = json.loads(place.read(f"backups/{identifier}.json"))
        seal = body.pop("seal")
        if seal != _seal(body):
            raise ValueError("its seal does not fit")
        backup = Backup.model_validate(body)
        for file in backup.files:
            _require_inside(file.path)
    except (ValueError, KeyError, AttributeError, TypeError, ValidationError) as error:
        raise IntegrityError(
            f"The list of files of the backup {identifier} at {place.url!r} cannot be trusted: "
            f"{error}.",
            hint="Use another one: fti store backups PLACE",
        ) from error
    return backup


def _fetch(place: Place, file: BackupFile, target: Path, backup: Backup) -> str:
    try:
        return place.fetch(_blob(file.sha256), target)
    except FileNotFoundError as error:
        raise _damaged(place, backup, f"{file.path} is missing") from error
    except OSError as error:
        if isinstance(error, StoreFull):
            raise
        raise StoreError(
            f"{str(target)!r} cannot be written: {error.strerror}.", hint="Name another --store."
        ) from error


def _damaged(place: Place, backup: Backup, what: str) -> IntegrityError:
    return IntegrityError(
        f"The backup {backup.id} at {place.url!r} is damaged: {what}. Nothing was restored.",
        hint="Use another one: fti store backups PLACE",
    )


def _require_inside(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"the path {path!r} leads out of the store")


def _blob(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"


def _seal(body: Mapping[str, Any]) -> str:
    return sha256_hex(json.dumps(body, sort_keys=True, separators=(",", ":")))
