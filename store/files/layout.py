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

The root is a folder. The features' tables, and they alone, may lie in an object store instead: the
format marker then says where (``place_features`` of ``store.moving``), and several roots, on
several machines, may share them.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fti.store.errors import StoreError, StoreFormatError
from fti.store.files.atomic import write_json, writer_lock
from fti.store.files.lease import Lease, leased
from fti.store.files.places import Place
from fti.store.files.sums import FileSums
from fti.store.types import now

FORMAT = 1
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
    if body.pop("features", ""):
        write_json(marker, body)


class Layout:
    """Paths under one store root.

    Opening creates the root and its format marker when they do not exist yet. Whoever begins to
    write looks at the marker again: another fti may have changed the format since.

    Args:
        root: the folder.
        migrating: open an older format too, to migrate it.

    Raises:
        StoreFormatError: the store has the format of a newer fti, or of an older one.
        StoreError: the root cannot be a store (it is a file, or its marker is unreadable).
    """

    def __init__(self, root: Path, *, migrating: bool = False) -> None:
        self._migrating = migrating
        self._features_url: str | None = None
        self._found_in_order: tuple[int, int, int] | None = None  # which marker
        self._lease: Lease | None = None
        if _SCHEME.match(str(root)):
            raise StoreError(
                f"The store's root {str(root)!r} is not a folder; of a store, only the features "
                "can lie in an object store.",
                hint="Name a folder with --store, and put its features there with: "
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
            self._features_url = ""
            return
        marker = self._read_marker()
        found = int(marker["format"])
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
        url = str(marker.get("features", ""))
        if self._features_url not in (None, url):
            raise StoreError(
                f"The features were put to {url!r} since this process opened the store.",
                hint="Start it again.",
            )
        self._features_url = url
        self._found_in_order = seen

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

    def place_features(self, url: str) -> None:
        """Say that the features' tables lie at a URL; whoever moves them calls this last."""
        write_json(self._marker, {**self._read_marker(), "features": url})
        self._features_url = url

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
    def datasets(self) -> Path:
        """Dataset versions."""
        return self.root / "datasets"

    @property
    def cases(self) -> Path:
        """Frozen case sets."""
        return self.root / "cases"

    @property
    def models(self) -> Path:
        """Model versions."""
        return self.root / "models"

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
