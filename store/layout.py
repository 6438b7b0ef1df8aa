"""Where everything lies under the store's root, and which formats this fti can read.

format.json              the format marker, written once
writer.lock              held by the one process that writes features
features/                LanceDB: documents, chunks, embeddings
datasets/<name>/<n>/     immutable dataset versions
cases/<name>/<n>/        frozen case sets
models/<name>/<n>/       immutable model versions; models/<name>/aliases.json
runs/<id>/               what ran; per-case evaluation results beside it
answers/<day>.jsonl      every answer; answers/feedback.jsonl
uploads/                 documents that were given to the service, as they were given
rejected/<day>.jsonl     records of streams that no document came of, as they were given
downloads/               pages and objects as they were fetched; a cache, safe to delete
keys.json                who may use the service: digests of API keys
checkpoints/<digest>/    training in progress; safe to delete when nothing trains
results/<digest>.jsonl   what models said of cases and passages; a cache, safe to delete
tables/                  LanceDB: tables of answers that batches keep
batches/                 rows of a batch that are not in its Parquet file yet
pipelines/<name>.json    what became of each step of a pipeline
locks/                   one per output of a batch and per pipeline; held by its process
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from store.atomic import write_json, writer_lock
from store.errors import StoreError, StoreFormatError
from store.types import now

FORMAT = 1


class Layout:
    """Paths under one store root.

    Opening creates the root and its format marker when they do not exist yet.

    Raises:
        StoreFormatError: the store was written by a newer fti.
        StoreError: the root cannot be a store (it is a file, or its marker is unreadable).
    """

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.expanduser().absolute()
            if self.root.exists() and not self.root.is_dir():
                raise StoreError(
                    f"The store {str(self.root)!r} is a file, not a folder.",
                    hint="Name a folder with --store or FTI_STORE.",
                )
            self._check_format()
        except (OSError, RuntimeError) as error:  # RuntimeError: a home folder that is not known
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(
                f"The store {str(root)!r} cannot be used: {reason}.",
                hint="Name a writable folder with --store or FTI_STORE.",
            ) from error

    def _check_format(self) -> None:
        marker = self.root / "format.json"
        if not marker.exists():
            write_json(marker, {"format": FORMAT, "created_at": now().isoformat()})
            return
        try:
            found = json.loads(marker.read_text("utf-8"))["format"]
            if type(found) is not int or found < 1:
                raise ValueError(f"format {found!r} is not a number that any fti wrote")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"The store's format marker {str(marker)!r} cannot be read: {error}.",
                hint="Restore it from a backup, or ingest into a new store.",
            ) from error
        if found > FORMAT:
            raise StoreFormatError(
                f"The store {str(self.root)!r} has format {found}; this fti reads up to {FORMAT}.",
                hint="Upgrade with: pip install --upgrade fti-llm",
            )

    @property
    def features(self) -> Path:
        """The LanceDB folder."""
        return self.root / "features"

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
    def pipelines(self) -> Path:
        """States of pipelines' steps."""
        return self.root / "pipelines"

    @property
    def batches(self) -> Path:
        """Rows of batches under way."""
        return self.root / "batches"

    @contextlib.contextmanager
    def writing(self, what: str, *, timeout_s: float = 10.0) -> Iterator[None]:
        """Be the store's one writer of features while the block runs.

        Raises:
            StoreLocked: another process writes for longer than ``timeout_s``.
        """
        with writer_lock(self.root / "writer.lock", timeout_s=timeout_s, what=what):
            yield
