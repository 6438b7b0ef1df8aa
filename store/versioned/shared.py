"""Version folders in a bucket: published there, and copied into a folder once they are used.

    <kind>/<name>/<number>/manifest.json     as in a folder; made last, by a conditional PUT
    files/<sha256 of the manifest>/<path>    the files of that version

No file is written where another version's could lie, so whoever publishes under a number that was
given meanwhile harms nothing; the files of a publication that broke off are never looked at.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path, PurePosixPath

from fti.store.files.atomic import fsync_tree, staged_folder, write_bytes
from fti.store.files.bucket import BucketStorage
from fti.store.types import FileEntry

MANIFEST = "manifest.json"
#: By their folders.
KINDS = ("datasets", "cases", "models")
_FILES = "files"
_BROKEN_OFF_NS = 24 * 3600 * 10**9  # nothing takes so long to be uploaded


class SharedVersions:
    """Versions of one kind in a bucket. What was read of them is kept: they never change.

    Args:
        storage: the store in the bucket.
        kind: "models", "datasets" or "cases".
    """

    def __init__(self, storage: BucketStorage, kind: str) -> None:
        self._storage = storage
        self._kind = kind
        self._manifests: dict[tuple[str, int], bytes] = {}

    def published(self) -> dict[str, list[int]]:
        """Numbers of the versions by name."""
        found: dict[str, list[int]] = {}
        for key in self._storage.listed(self._kind):
            parts = PurePosixPath(key).parts
            if len(parts) == 4 and parts[3] == MANIFEST and parts[2].isdigit():
                found.setdefault(parts[1], []).append(int(parts[2]))
        return {name: sorted(numbers) for name, numbers in sorted(found.items())}

    def manifest(self, name: str, number: int) -> bytes:
        """What was published about a version.

        Raises:
            FileNotFoundError: there is no such version.
        """
        held = self._manifests.get((name, number))
        if held is None:
            held = self._storage.place.read(self._key(name, number))
            self._manifests[name, number] = held
        return held

    def forget(self, name: str, number: int) -> None:
        """Read the manifest anew the next time."""
        self._manifests.pop((name, number), None)

    def put(
        self, name: str, number: int, folder: Path, files: list[FileEntry], digest: str
    ) -> None:
        """Publish what lies in a folder, its manifest last.

        Raises:
            FileExistsError: the number was given to another one.
        """
        place = self._storage.place
        there = place.sizes(_files(digest))
        for entry in files:
            key = f"{_files(digest)}/{entry.path}"
            if there.get(key) != entry.bytes:  # of a publication that broke off
                place.put(key, folder / entry.path)
        manifest = (folder / MANIFEST).read_bytes()
        key = self._key(name, number)
        try:
            place.create(key, manifest)
        except FileExistsError:
            # Or it is ours: a client that got no answer asked again.
            if place.read_all([key]).get(key) != manifest:
                raise
        self._storage.forget(self._kind)

    def fetch(
        self, name: str, number: int, target: Path, files: list[FileEntry], digest: str
    ) -> list[str]:
        """Copy a version to ``target``, which appears in one step, or not at all.

        Returns:
            A line per file that is missing or differs; nothing is at ``target`` then.
        """
        place, problems = self._storage.place, []
        with staged_folder(target.parent) as staged:
            for entry in files:
                try:
                    found = place.fetch(f"{_files(digest)}/{entry.path}", staged / entry.path)
                except FileNotFoundError:
                    problems.append(f"{entry.path}: missing")
                    continue
                if found != entry.sha256:
                    problems.append(f"{entry.path}: differs from the manifest")
            if problems:
                return problems
            write_bytes(staged / MANIFEST, self.manifest(name, number))
            fsync_tree(staged)
            if target.exists():
                aside = target.with_name(f".staged-old-{staged.name}")
                target.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
            try:
                staged.rename(target)
            except OSError:  # another process brought it meanwhile
                if not (target / MANIFEST).exists():
                    raise
        return []

    def check(self, files: list[FileEntry], digest: str) -> list[str]:
        """A line per file in the bucket that is not as published; reads all of them."""
        place, problems = self._storage.place, []
        there = place.sizes(_files(digest))
        begin = len(_files(digest)) + 1
        listed = {entry.path for entry in files}
        for entry in files:
            if f"{_files(digest)}/{entry.path}" not in there:
                problems.append(f"{entry.path}: missing")
            elif place.digest(f"{_files(digest)}/{entry.path}") != entry.sha256:
                problems.append(f"{entry.path}: differs from the manifest")
        extra = sorted({key[begin:] for key in there} - listed)
        return [*problems, *(f"{path}: not in the manifest" for path in extra)]

    def sweep(self) -> int:
        """Remove files of publications that broke off more than a day ago; how many files."""
        place = self._storage.place
        folders: dict[str, list[tuple[str, int]]] = {}
        for key, (_, changed_ns) in place.listing(_FILES).items():
            folders.setdefault(key.split("/")[1], []).append((key, changed_ns))
        manifests = [
            key
            for kind in KINDS
            for key in place.sizes(kind)
            if PurePosixPath(key).name == MANIFEST
        ]
        if len(folders) <= len(manifests):
            return 0
        named = b" ".join(place.read_all(manifests).values())
        latest = time.time_ns() - _BROKEN_OFF_NS
        left = [
            key
            for digest, files in folders.items()
            if digest.encode() not in named and all(0 < at < latest for _, at in files)
            for key, _ in files
        ]
        for key in left:
            place.delete(key)
        return len(left)

    def remove(self, name: str, number: int, digest: str) -> int:
        """Remove a version, its manifest first; the bytes that its files took."""
        place = self._storage.place
        place.delete(self._key(name, number))
        self.forget(name, number)
        self._storage.forget(self._kind)
        sizes = place.sizes(_files(digest))
        for key in sizes:
            place.delete(key)
        return sum(sizes.values())

    def _key(self, name: str, number: int) -> str:
        return f"{self._kind}/{name}/{number}/{MANIFEST}"


def _files(digest: str) -> str:
    return f"{_FILES}/{digest}"
