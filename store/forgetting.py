"""A document taken out of all that may change: its rows, older versions of them, and caches.

What was published stays as it was published: dataset and model versions, and the log of answers.
Deleting rows in LanceDB hides them, and earlier versions keep them; so the tables are written anew
without them, and what came before is removed. That costs one copy of the tables.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from store.moving import is_upload
from store.progress import Progress, quiet
from store.store import Store
from store.types import Value


class Erased(Value):
    """What was removed of a document, and where it still is.

    ``kept_by_tags`` are tags of versions of the features that hold it. ``file`` is the file it was
    read from, where that lies outside of the store: the next ingest would take it again.
    """

    chunks: int = 0
    cached_vectors: int = 0
    old_versions: int = 0
    rejected_records: int = 0
    cached_scores: int = 0
    uploaded_file: bool = False
    kept_by_tags: tuple[str, ...] = ()
    file: str = ""


def erase(store: Store, document: str, source: str, *, progress: Progress = quiet) -> Erased:
    """Remove a document by its id and source; one that was deleted before, from old versions.

    Raises:
        StoreLocked: another process writes to the store.
    """
    layout = store.layout
    with layout.writing("forget"):
        entries = store.features.ledger()
        entry = next((e for e in entries if e.record.id == document), None)
        file = entry.file if entry else ""
        shared = any(e.file == file and e.record.id != document for e in entries)
        gone = store.features.erase(document, progress=progress)
        uploaded = bool(file) and is_upload(store, file) and not shared
        if uploaded:
            Path(file).unlink(missing_ok=True)
        if "://" in file:
            shutil.rmtree(layout.downloads, ignore_errors=True)  # a cache, by address
        # Kept by digests of questions and prompts: which rows tell of the document cannot be said.
        scores = len(list(layout.results.glob("*.jsonl")))
        shutil.rmtree(layout.results, ignore_errors=True)
        rejected = store.rejected.forget(source)
    outside = file if file and not uploaded and Path(file).is_file() else ""
    return Erased(
        chunks=gone.chunks,
        cached_vectors=gone.vectors,
        old_versions=gone.versions,
        rejected_records=rejected,
        cached_scores=scores,
        uploaded_file=uploaded,
        kept_by_tags=gone.tags,
        file=outside,
    )
