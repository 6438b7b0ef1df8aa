"""A whole store put into a bucket, and brought back into a folder.

While everything is copied, the folder is the store, and nobody changes it. The last act is one
conditional PUT, of the bucket's marker: before it the store is the folder, after it the bucket,
wherever a process is killed. The folder's own marker says meanwhile which of the two to ask, so
there is no moment in which both, or neither, are the store. What was copied by a move that broke
off is not copied again.

    format.json                         the marker: a whole store lies here
    <table>.lance/ tables/ writer/      the features, tables of answers, and the lease of who writes
    <kind>/<name>/<n>/ files/<digest>/  versions (``store.versioned.shared``)
    everything else                     records and logs under the paths that they have in a folder
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from fti.store.errors import InputError, NotFoundError, StoreError
from fti.store.files import bucket
from fti.store.files.atomic import dump_json
from fti.store.files.bucket import BucketStorage
from fti.store.files.layout import Layout
from fti.store.files.lease import leased
from fti.store.files.places import Place
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Value, now
from fti.store.versioned.shared import SharedVersions
from fti.store.versioned.versions import VersionedFolders

#: Kinds of versions, by their folder.
_KINDS = {"datasets": "dataset", "cases": "case set", "models": "model"}
_SUFFIXES = (".safetensors", ".json", ".jsonl", ".jinja", ".txt", ".md")
#: Records and logs of a folder.
_RECORDS = (
    "keys.json",
    "models/*/aliases.json",
    "models/*/marks.json",
    "runs/*/run.json",
    "runs/*/*.jsonl",
    "answers/*.jsonl",
    "rejected/*.jsonl",
    "usage/*.jsonl",
    "pipelines/*.json",
    "features/versions.jsonl",
    "features/expired.json",
)
_NUMBERS = ".numbers"
_MOVE = "moving.json"  # in the bucket, until a store lies there: whose copies these are
_LOOKS = 3  # how often what changed while it was copied is copied again


class Placed(Value):
    """Where the store lies, and what was copied there.

    ``joined``: a store lay there already, and this root is one more machine's. ``shared``: so did
    features, and they are used as they are.
    """

    store: str
    features: str
    files: int = 0
    bytes: int = 0
    versions: int = 0
    joined: bool = False
    shared: bool = False


def place_store(store: Store, url: str, *, progress: Progress = quiet) -> Placed:
    """Let a store lie in a bucket from now on; or, with an empty root, use the one that does.

    Killed anywhere, the store is whole, here or there; doing it again finishes.

    Raises:
        InputError: both places hold a store, or it lies in another bucket already, or the URL
            names a folder.
        IntegrityError: a version is not as published.
        StoreError: the place cannot be reached, or something changed the store all the time.
        StoreLocked: another process writes to the store, or moves it.
    """
    layout = store.layout
    url = url.rstrip("/")
    place = Place(url)
    if place.local:
        raise InputError(
            f"{url!r} is a folder; a store lies in one without this.",
            hint="Name a URL, such as s3://bucket/prefix",
        )
    for known, what in ((layout.store_url, "store"), (layout.features_url, "features")):
        if known and known != url:
            raise InputError(
                f"The {what} lie{'s' if what == 'store' else ''} at {known!r} already.",
                hint="To move it, make a backup, restore it to a new folder, and place that.",
            )
    if layout.store_url:  # what a move that was killed at its very end left here
        _clear(layout)
        return Placed(store=url, features=url)
    with contextlib.ExitStack() as held:
        held.enter_context(layout.writing("store place"))
        if not layout.features_url:
            held.enter_context(leased(place, timeout_s=10.0, what="store place"))
        if bucket.marker(place) is not None:
            bucket.require_store(place)
            if _holds_something(layout):
                raise InputError(
                    f"The store {str(layout.root)!r} and {url!r} both hold a store.",
                    hint="Name an empty prefix, or use a store with nothing in it: --store new",
                )
            done = Placed(store=url, features=url, joined=True)
        else:
            done = _Move(store, place, progress).run()
    layout.placed_at(url)
    place.delete(_MOVE)
    _clear(layout)
    return done


def bring_back(layout: Layout, folder: Path, *, progress: Progress = quiet) -> None:
    """Copy versions, records and logs of a store in a bucket to a folder, as they lie in one.

    Raises:
        IntegrityError: a version is not as published.
    """
    storage = layout.storage
    assert isinstance(storage, BucketStorage)
    for key, data in storage.all():
        parts = key.split("/")
        if _NUMBERS in parts:
            key = key.removesuffix(".json")
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for kind, folders in _folders(layout).items():
        for ref in folders.refs():
            name, number = folders.resolve(ref)
            progress(ProgressEvent("fetch", 0, None, f"{kind} {ref}"))
            shutil.copytree(
                folders.open(name, number), folder / kind / ref, copy_function=_link_or_copy
            )


class _Move:
    """One attempt to put a store into a bucket."""

    def __init__(self, store: Store, place: Place, progress: Progress) -> None:
        self._layout = store.layout
        self._store = store
        self._place = place
        self._progress = progress
        self._files = self._bytes = self._versions = 0

    def run(self) -> Placed:
        """Copy everything, then switch over."""
        layout, place = self._layout, self._place
        self._refuse_running()
        with layout.moving(place.url) as identity:
            shared = self._claim(identity)
            for _ in range(_LOOKS):
                before = _seen(layout)
                self._copy_versions()
                self._copy_records()
                if not layout.features_url:
                    self._copy_tables(layout.features, "")
                self._copy_tables(layout.tables, "tables/")
                if _seen(layout) == before:
                    break
            else:
                raise StoreError(
                    f"The store {str(layout.root)!r} changed whenever it was copied.",
                    hint="Stop what uses it, services too, then run the command again.",
                )
            self._progress(ProgressEvent("switch", 0, None, place.url))
            layout.switching(place.url, identity)
            marker = {"format": bucket.FORMAT, "id": identity, "created_at": now().isoformat()}
            try:
                place.create(bucket.MARKER, dump_json(marker))
            except FileExistsError:  # or it is ours: a client that got no answer asked again
                found = bucket.marker(place)
                if found is None or found["id"] != identity:
                    raise InputError(
                        f"Another store was put to {place.url!r} meanwhile.",
                        hint="Name an empty prefix.",
                    ) from None
        return Placed(
            store=place.url,
            features=place.url,
            files=self._files,
            bytes=self._bytes,
            versions=self._versions,
            shared=shared,
        )

    def _refuse_running(self) -> None:
        going = [run.id for run in self._store.runs.survey()[0] if run.status == "running"]
        if going:
            raise InputError(
                f"The run {going[0]!r} goes on in the store {str(self._layout.root)!r}.",
                hint="Wait for it, or stop it; then run the command again.",
            )

    def _claim(self, identity: str) -> bool:
        """Say whose copies are about to lie there; whether features do that are to be used."""
        place = self._place
        try:
            mine = json.loads(place.read(_MOVE))["id"] == identity
            other = not mine
        except FileNotFoundError:
            mine = other = False
        if other:
            raise InputError(
                f"At {place.url!r} lies what the move of another store left that broke off.",
                hint="Finish that one, or name an empty prefix.",
            )
        there = any(key.split("/")[0].endswith(".lance") for key in place.sizes(""))
        here = any(self._layout.features.glob("*.lance"))
        if there and here and not mine:
            raise InputError(
                f"The store {str(self._layout.root)!r} and {place.url!r} both hold features.",
                hint="Name an empty prefix, or use a store that nothing was ingested into.",
            )
        body = {"id": identity, "root": str(self._layout.root), "at": now().isoformat()}
        place.write(_MOVE, dump_json(body))
        return there and not here

    def _copy_versions(self) -> None:
        target = BucketStorage(self._place)
        for kind, folders in _folders(self._layout).items():
            shared = SharedVersions(target.unopened(), kind)
            refs = folders.refs()
            for ref in refs:
                name, number = folders.resolve(ref)
                self._progress(ProgressEvent("copy", self._files, None, f"{kind}/{ref}"))
                self._bytes += folders.copy_to(shared, name, number)
                self._versions += 1
                self._files += 1
            for name, numbers in shared.published().items():  # removed here since they were copied
                for number in numbers:
                    if f"{name}/{number}" not in refs:
                        self._place.delete(f"{kind}/{name}/{number}/manifest.json")

    def _copy_records(self) -> None:
        def count(found: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
            for key, data in found:
                self._files += 1
                self._bytes += len(data)
                yield key, data

        self._progress(ProgressEvent("copy", self._files, None, "runs, answers and aliases"))
        BucketStorage(self._place).load(count(_records(self._layout.root)))

    def _copy_tables(self, folder: Path, under: str) -> None:
        there = {
            key: size
            for key, size in self._place.sizes(under.rstrip("/")).items()
            if key.removeprefix(under).split("/")[0].endswith(".lance")
        }
        files = sorted(p for table in folder.glob("*.lance") for p in table.rglob("*"))
        for file in filter(Path.is_file, files):
            within = file.relative_to(folder).as_posix()
            size = file.stat().st_size
            # What holds rows has a name of its own and never changes; manifests are numbered, and
            # of another table that had this name before.
            same = there.pop(f"{under}{within}", None) == size and "/data/" in within
            if not same:
                self._place.put(f"{under}{within}", file)
            self._files += 1
            self._bytes += size
            self._progress(ProgressEvent("copy", self._files, None, within))
        if not any(folder.glob("*.lance")):
            return  # those that lie there are used
        for key in there:  # of an earlier attempt, and gone here since
            self._place.delete(key)


def _folders(layout: Layout) -> dict[str, VersionedFolders]:
    roots = {"datasets": layout.datasets, "cases": layout.cases, "models": layout.models}
    return {
        kind: VersionedFolders(
            roots[kind],
            what=what,
            storage=layout.storage,
            not_found=NotFoundError,
            allowed_suffixes=_SUFFIXES,
        )
        for kind, what in _KINDS.items()
    }


def _record_files(root: Path) -> Iterator[tuple[str, Path]]:
    for pattern in _RECORDS:
        for path in sorted(root.glob(pattern)):
            yield path.relative_to(root).as_posix(), path
    for kind in _KINDS:
        for path in sorted((root / kind / _NUMBERS).glob("*")):
            if not path.name.startswith("."):
                yield f"{kind}/{_NUMBERS}/{path.name}.json", path


def _records(root: Path) -> Iterator[tuple[str, bytes]]:
    for key, path in _record_files(root):
        yield key, path.read_bytes()


def _holds_something(layout: Layout) -> bool:
    root = layout.root
    versions = (path for kind in _KINDS for path in root.glob(f"{kind}/*/*/manifest.json"))
    tables = (path for part in ("features", "tables") for path in root.glob(f"{part}/*.lance"))
    return (
        any(True for _ in _record_files(root))
        or any(True for _ in versions)
        or any(True for _ in tables)
    )


def _seen(layout: Layout) -> Mapping[str, tuple[int, int]]:
    """Sizes and times of all that is copied."""
    root = layout.root
    found: dict[str, tuple[int, int]] = {}
    for part in (*_KINDS, "runs", "answers", "rejected", "usage", "pipelines", "features",
                 "tables", "keys.json"):  # fmt: skip
        for folder, _, names in os.walk(root / part):
            if folder.endswith("/.locks"):
                continue
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    found[str(path)] = (status.st_size, status.st_mtime_ns)
        if (root / part).is_file():
            status = (root / part).stat()
            found[part] = (status.st_size, status.st_mtime_ns)
    return found


def _clear(layout: Layout) -> None:
    """Remove from the root what lies in the bucket; versions stay as copies."""
    root = layout.root
    for kind in _KINDS:
        if (root / kind).is_dir():
            for record in ("*/aliases.json", "*/marks.json"):
                for path in (root / kind).glob(record):
                    path.unlink(missing_ok=True)
            for hidden in (_NUMBERS, ".locks"):
                shutil.rmtree(root / kind / hidden, ignore_errors=True)
            layout.cache.mkdir(exist_ok=True)
            if (layout.cache / kind).exists():
                shutil.rmtree(root / kind)
            else:
                (root / kind).rename(layout.cache / kind)
    for _, path in _record_files(root):
        path.unlink(missing_ok=True)
    for run in root.glob("runs/*"):
        (run / "process").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what training drew of itself stays
            run.rmdir()
    for table in (*root.glob("features/*.lance"), *root.glob("tables")):
        shutil.rmtree(table)
    for part in ("runs", "answers", "rejected", "usage", "pipelines"):
        with contextlib.suppress(OSError):
            (root / part).rmdir()


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target
