"""Where everything lies under the store's root, and which formats this fti can read.

format.json              the format marker, written once
writer.lock              held by the one process that writes features
features/                LanceDB: documents, chunks, embeddings; what versions there were
datasets/<name>/<n>/     immutable dataset versions
cases/<name>/<n>/        frozen case sets
models/<name>/<n>/       immutable model versions; models/<name>/aliases.json
runs/<id>/               what ran; per-case evaluation results beside it
answers/<day>.jsonl      every answer; answers/feedback.jsonl
uploads/                 documents that were given to the service, as they were given
rejected/<day>.jsonl     records of streams that no document came of, as they were given
downloads/               pages and objects as they were fetched; a cache, safe to delete
keys.json                who may use the service: digests of API keys
usage/<day>.jsonl        requests and tokens by key
checkpoints/<digest>/    training in progress; safe to delete when nothing trains
results/<digest>.jsonl   what models said of cases and passages; a cache, safe to delete
tables/                  LanceDB: tables of answers that batches keep
batches/                 rows of a batch that are not in its Parquet file yet
pipelines/<name>.json    what became of each step of a pipeline
jobs/<id>/               what was started through a service, how far it came, what it printed
locks/                   one per output of a batch and per pipeline; held by its process

The root is a folder. A store may lie in a bucket instead (``store.upkeep.placing``): the format
marker then says where, and several roots, on several machines, share it. What is of one machine
stays in its root: ``jobs``, ``uploads``, ``downloads``, ``checkpoints``, ``results``, ``batches``
and

cache/<kind>/<name>/<n>/ copies of the versions that were used here; safe to delete

Before whole stores could, the features' tables alone could lie in a bucket; such a marker is read.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fti.store.errors import StoreError, StoreFormatError, StoreLocked
from fti.store.files import bucket
from fti.store.files.atomic import is_locked, write_json, writer_lock
from fti.store.files.bucket import BucketStorage
from fti.store.files.lease import Lease, leased
from fti.store.files.places import Place
from fti.store.files.storage import FolderStorage
from fti.store.files.sums import FileSums
from fti.store.types import now

FORMAT = 1
#: What roots of stores in a bucket say, so that an older fti does not take them for empty ones.
PLACED = bucket.FORMAT
#: How a store of a format becomes one of the next, by the older format; ``migrate`` runs them in
#: order. None is needed yet.
MIGRATIONS: dict[int, Callable[[Path], None]] = {}

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/")  # a Path has lost one of the slashes


def unplace(root: Path) -> None:
    """Let a copy of a store look for its features in its own folder, not where the original's lie.

    Args:
        root: a folder with a copy of all of the store, its features among them.
    """
    marker = root / "format.json"
    if not marker.is_file():
        return
    body = json.loads(marker.read_text("utf-8"))
    there = {name: body.pop(name) for name in ("features", "store", "moving") if name in body}
    if there:
        if body["format"] == PLACED:
            body["format"] = FORMAT
        write_json(marker, body)


def _placed(marker: Mapping[str, Any], url: str) -> dict[str, Any]:
    left = {k: v for k, v in marker.items() if k not in ("moving", "features")}
    return {**left, "format": PLACED, "store": url}


class Layout:
    """Paths under one store root.

    Opening creates the root and its format marker when they do not exist yet. Whoever begins to
    write looks at the marker again: another fti may have changed the format since.

    Args:
        root: the folder.
        migrating: open an older format too, to migrate it.
        read_consistency_s: how old, in seconds, what is read of a store in a bucket may be.

    Raises:
        StoreFormatError: the store has the format of a newer fti, or of an older one.
        StoreError: the root cannot be a store (it is a file, or its marker is unreadable).
    """

    def __init__(
        self, root: Path, *, migrating: bool = False, read_consistency_s: float = 0.0
    ) -> None:
        self._migrating = migrating
        self._features_url: str | None = None
        self._store_url: str | None = None
        self._found_in_order: tuple[int, int, int] | None = None  # which marker
        self._lease: Lease | None = None
        self._moves = False
        if _SCHEME.match(str(root)):
            raise StoreError(
                f"The store's root {str(root)!r} is not a folder; each machine has one that says "
                "where the store lies.",
                hint="Name a folder with --store, and say where the store lies with: "
                "fti store place s3://bucket/prefix",
            )
        try:
            self.root = root.expanduser().absolute()
            self.sums = FileSums(self.features)
            if self.root.exists() and not self.root.is_dir():
                raise StoreError(
                    f"The store {str(self.root)!r} is a file, not a folder.",
                    hint="Name a folder with --store or FTI_STORE.",
                )
            self.require_format()
            self.storage: FolderStorage | BucketStorage = FolderStorage(
                self.root, guard=self.require_format
            )
            if self.store_url:
                self.storage = BucketStorage(
                    Place(self.store_url),
                    max_age_s=read_consistency_s,
                    guard=self.require_format,
                )
        except (OSError, RuntimeError) as error:  # RuntimeError: a home folder that is not known
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(
                f"The store {str(root)!r} cannot be used: {reason}.",
                hint="Name a writable folder with --store or FTI_STORE.",
            ) from error

    def require_format(self) -> None:
        """Refuse to go on where the store has another format than ours.

        Raises:
            StoreFormatError: it is a newer or an older one.
            StoreError: the marker cannot be read.
        """
        try:
            stat = self._marker.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            seen = None
        if seen is not None and seen == self._found_in_order:
            return  # the very file that was read: it is replaced, never written over
        self._found_in_order = None
        if seen is None:
            write_json(
                self._marker,
                {"format": FORMAT, "created_at": now().isoformat(), "roots": [str(self.root)]},
            )
            self._features_url = self._store_url = ""
            return
        marker = self._read_marker()
        found = int(marker["format"])
        if found == PLACED and ("store" in marker or "moving" in marker):
            found = FORMAT
        if found < FORMAT and not self._migrating:
            raise StoreFormatError(
                f"The store {str(self.root)!r} has format {found}; this fti writes {FORMAT}.",
                hint="Make a backup, then bring it up to date with: fti store migrate",
            )
        if found > FORMAT:
            raise StoreFormatError(
                f"The store {str(self.root)!r} has format {found}; this fti reads up to {FORMAT}.",
                hint="Upgrade with: pip install --upgrade fti-llm",
            )
        url, features = self._whereabouts(marker)
        if self._features_url not in (None, features) or self._store_url not in (None, url):
            raise StoreError(
                f"The store was put to {url or features!r} since this process opened it.",
                hint="Start it again.",
            )
        self._store_url, self._features_url = url, features
        if not marker.get("moving"):  # while it is moved, that may change without this file
            self._found_in_order = seen

    def _whereabouts(self, marker: Mapping[str, Any]) -> tuple[str, str]:
        """Where the store lies, and where its features; empty for this folder.

        While it is moved it lies here, until the bucket says that it is whole: that object is the
        move, and what this marker says is only where to look for it.

        Raises:
            StoreLocked: another process moves it at this moment.
        """
        url = str(marker.get("store", ""))
        moving = marker.get("moving")
        if moving and not url:
            if not self._moves and is_locked(self._moving_lock):
                raise StoreLocked(
                    f"The store {str(self.root)!r} is moved to {moving['url']!r} at this moment.",
                    hint="Wait for it to finish, then run the command again.",
                )
            # It may have been moved between reading this and looking at the lock.
            marker = self._read_marker()
            if "store" in marker:
                return self._whereabouts(marker)
            moving = marker["moving"]
            found = bucket.marker(Place(moving["url"])) if moving["switching"] else None
            if found is not None and found["id"] == moving["id"]:
                url = str(moving["url"])
                write_json(self._marker, _placed(marker, url))
        return url, url or str(marker.get("features", ""))

    def format(self) -> int:
        """The format that the store has now.

        Raises:
            StoreError: the marker cannot be read.
        """
        return int(self._read_marker()["format"])

    def former_roots(self) -> tuple[str, ...]:
        """Where the store lay before it was moved to where it is."""
        known = self._read_marker().get("roots", [])
        return tuple(root for root in known if root != str(self.root))

    def moved(self) -> bool:
        """Whether it was moved, and not migrated since: ``settle`` says that it was."""
        known = self._read_marker().get("roots", [])
        return bool(known) and known[-1] != str(self.root)

    def settle(self) -> None:
        """Note that the store lies here now."""
        marker = self._read_marker()
        roots = [root for root in marker.get("roots", []) if root != str(self.root)]
        write_json(self._marker, {**marker, "roots": [*roots, str(self.root)]})

    @contextlib.contextmanager
    def moving(self, url: str) -> Iterator[str]:
        """Say that the store is being moved to a URL; others change nothing in the block.

        Gives the id that the bucket's marker is to have.

        Raises:
            StoreLocked: another process moves it.
        """
        # Others look for a moment whether somebody holds it.
        with writer_lock(self._moving_lock, timeout_s=5.0, what="store place"):
            self._moves = True
            try:
                marker = self._read_marker()
                identity = str((marker.get("moving") or {}).get("id") or uuid.uuid4().hex)
                self._note_move(marker, url, identity, switching=False)
                yield identity
            finally:
                self._moves = False

    def switching(self, url: str, identity: str) -> None:
        """Say that from now on the bucket says where the store lies: there, once its marker with
        this id does. It is asked by whoever opens the store, until ``placed_at``.
        """
        self._note_move(self._read_marker(), url, identity, switching=True)

    def _note_move(
        self, marker: Mapping[str, Any], url: str, identity: str, *, switching: bool
    ) -> None:
        moving = {"url": url, "id": identity, "switching": switching}
        write_json(self._marker, {**marker, "format": PLACED, "moving": moving})

    def placed_at(self, url: str) -> None:
        """Say that the store lies at a URL, where it is known to. It is to be opened anew."""
        write_json(self._marker, _placed(self._read_marker(), url))

    @property
    def _moving_lock(self) -> Path:
        """Held by who moves the store."""
        return self.root / "moving.lock"

    def migrate(self) -> list[int]:
        """Bring an older store up to our format; the formats it went through, oldest first.

        Nobody else writes features meanwhile, and an older fti that still runs refuses to write
        afterwards. A crash leaves the last format that was reached in full.

        Raises:
            StoreLocked: another process writes to the store.
        """
        passed = []
        with self.writing("store migrate"):
            while (found := self.format()) < FORMAT:
                MIGRATIONS[found](self.root)
                write_json(self._marker, {**self._read_marker(), "format": found + 1})
                passed.append(found + 1)
        return passed

    @property
    def _marker(self) -> Path:
        return self.root / "format.json"

    def _read_marker(self) -> dict[str, Any]:
        try:
            marker: dict[str, Any] = json.loads(self._marker.read_text("utf-8"))
            found = marker["format"]
            if type(found) is not int or found < 1:
                raise ValueError(f"format {found!r} is not a number that any fti wrote")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"The store's format marker {str(self._marker)!r} cannot be read: {error}.",
                hint="Restore it from a backup, or ingest into a new store.",
            ) from error
        return marker

    @property
    def features(self) -> Path:
        """The LanceDB folder, and the notes on its versions, which are always here."""
        return self.root / "features"

    @property
    def features_url(self) -> str:
        """Where the features' tables lie in an object store; empty when in ``features``."""
        return self._features_url or ""

    @property
    def store_url(self) -> str:
        """Where the whole store lies in an object store; empty when it lies in the root."""
        return self._store_url or ""

    @property
    def tables_url(self) -> str:
        """Where the tables of answers lie in an object store; empty when in ``tables``."""
        return f"{self.store_url}/tables" if self.store_url else ""

    @property
    def cache(self) -> Path:
        """Copies of what lies in a bucket and never changes."""
        return self.root / "cache"

    def _versions(self, kind: str) -> Path:
        return (self.cache if self.store_url else self.root) / kind

    @property
    def datasets(self) -> Path:
        """Dataset versions; of a store in a bucket, the copies that were made here."""
        return self._versions("datasets")

    @property
    def cases(self) -> Path:
        """Frozen case sets; of a store in a bucket, the copies that were made here."""
        return self._versions("cases")

    @property
    def models(self) -> Path:
        """Model versions; of a store in a bucket, the copies that were made here."""
        return self._versions("models")

    @property
    def runs(self) -> Path:
        """Run records."""
        return self.root / "runs"

    @property
    def answers(self) -> Path:
        """Answer log."""
        return self.root / "answers"

    @property
    def uploads(self) -> Path:
        """Files that were given to the service; ingested like any others."""
        return self.root / "uploads"

    @property
    def rejected(self) -> Path:
        """Records of streams that could not be taken."""
        return self.root / "rejected"

    @property
    def downloads(self) -> Path:
        """Pages and objects as they were fetched: a cache."""
        return self.root / "downloads"

    @property
    def keys(self) -> Path:
        """Digests of API keys."""
        return self.root / "keys.json"

    @property
    def usage(self) -> Path:
        """Requests and tokens by key."""
        return self.root / "usage"

    @property
    def checkpoints(self) -> Path:
        """Training in progress."""
        return self.root / "checkpoints"

    @property
    def results(self) -> Path:
        """Scores of cases that were asked already: a cache."""
        return self.root / "results"

    @property
    def tables(self) -> Path:
        """The LanceDB folder of tables of answers."""
        return self.root / "tables"

    @property
    def machine(self) -> Path:
        """What was measured of the machines that the store was used on."""
        return self.root / "machine.json"

    @property
    def pipelines(self) -> Path:
        """States of pipelines' steps."""
        return self.root / "pipelines"

    @property
    def jobs(self) -> Path:
        """Jobs that were started through a service."""
        return self.root / "jobs"

    @property
    def batches(self) -> Path:
        """Rows of batches under way."""
        return self.root / "batches"

    @contextlib.contextmanager
    def writing(self, what: str, *, timeout_s: float = 10.0) -> Iterator[None]:
        """Be the store's one writer of features while the block runs.

        Where they lie in an object store, the only one among all machines.

        Raises:
            StoreLocked: another process writes for longer than ``timeout_s``.
            StoreFormatError: another fti changed the store's format since it was opened.
        """
        with writer_lock(self.root / "writer.lock", timeout_s=timeout_s, what=what):
            self.require_format()
            if not self.features_url:
                try:
                    yield
                finally:
                    self.sums.note()
                return
            place = Place(self.features_url)
            with leased(place, timeout_s=timeout_s, what=what) as self._lease:
                try:
                    yield
                finally:
                    self._lease = None

    def require_writer(self) -> None:
        """Refuse a change of features where the right to it was lost on the way.

        Raises:
            StoreLocked: another machine writes by now.
        """
        if (lease := self._lease) is not None:
            lease.require()
