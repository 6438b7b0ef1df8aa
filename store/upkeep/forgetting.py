"""A document taken out of all that may change: its rows, older versions of them, and caches.

What was published stays as it was published: dataset and model versions, the log of answers, and
the tables and files that batches and evaluations wrote. ``remains`` says which of these quote it.
Deleting rows in LanceDB hides them, and earlier versions keep them; so the tables are written anew
without them, and what came before is removed. That costs one copy of the tables.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import seconds
from fti.store.errors import PostconditionFailed, RunNotFound
from fti.store.files.atomic import dump_line, iter_lines
from fti.store.progress import Progress, quiet
from fti.store.store import Store
from fti.store.types import Value
from fti.store.upkeep.moving import is_upload


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


class Remains(Value):
    """A place outside of what ``erase`` reaches where text of a document may still stand.

    ``answers`` is how many there were shown passages of it, and ``remove`` how to be rid of them.
    """

    kind: Literal["log", "table", "file", "evaluation"]
    where: str
    answers: int
    remove: str


def remains(store: Store, source: str, runs: Sequence[str]) -> tuple[Remains, ...]:
    """Where answers stand that were shown passages of a document.

    Backups and copies of files are not known of here.

    Args:
        store: the store.
        source: of the document.
        runs: of each logged answer that was shown it, the run; empty where a person asked.
    """
    found: list[Remains] = []
    if runs:
        days = store.layout.storage.at("answers/*.jsonl")
        found.append(Remains(kind="log", where=days, answers=len(runs), remove="delete the lines"))
    for name, count in sorted(store.tables.showing(source).items()):
        how = f"answer it anew without the document: fti batch QUESTIONS --table {name}"
        found.append(Remains(kind="table", where=name, answers=count, remove=how))
    files: Counter[str] = Counter()
    for run_id, count in sorted(Counter(filter(None, runs)).items()):
        try:
            run = store.runs.get(run_id)
        except RunNotFound:
            continue
        if run.kind == "evaluate":
            where = store.layout.storage.at(f"runs/{run_id}")
            how = "delete the folder"
            found.append(Remains(kind="evaluation", where=where, answers=count, remove=how))
        elif run.kind == "batch":
            files[run.inputs.get("out") or run.outputs.get("answers", "")] += count
    for where, count in sorted(files.items()):
        if Path(where).is_file():  # a table was looked at itself
            how = f"answer it anew without the document: fti batch QUESTIONS --out {where}"
            found.append(Remains(kind="file", where=where, answers=count, remove=how))
    named = dump_line({"": source})[4:-1]  # as it stands in a line
    for journal in sorted(store.layout.batches.glob("*.jsonl")):
        if count := sum(named.encode("utf-8") in line for line in iter_lines(journal)):
            how = "finish the batch that it is of, or delete it"
            found.append(Remains(kind="file", where=str(journal), answers=count, remove=how))
    return tuple(found)


FORGET = PipelineContract("forget")


@FORGET.postcondition("Nothing that is searched, or tells of sources, holds the document")
def is_gone(store: Store, document: str) -> None:
    """Neither a chunk of it nor its line in the ledger."""
    if not store.features.exists():
        return
    chunks = store.features.chunk_counts().get(document, 0)
    lines = sum(entry.record.id == document for entry in store.features.ledger())
    if chunks or lines:
        raise PostconditionFailed(
            f"{chunks} chunks and {lines} lines of the ledger are left of the document {document}."
        )


FORGET.requires("seconds_p95", "at most", "s", seconds("forget"))


@FORGET.enforced
def erase(store: Store, document: str, source: str, *, progress: Progress = quiet) -> Erased:
    """Remove a document by its id and source; one that was deleted before, from old versions.

    Raises:
        StoreLocked: another process writes to the store.
    """
    layout = store.layout
    # The run names no document: what is forgotten is not to be remembered by that.
    with layout.writing("forget"), store.runs.running("forget") as run:
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
        erased = Erased(
            chunks=gone.chunks,
            cached_vectors=gone.vectors,
            old_versions=gone.versions,
            rejected_records=store.rejected.forget(source),
            cached_scores=scores,
            uploaded_file=uploaded,
            kept_by_tags=gone.tags,
            file=file if file and not uploaded and Path(file).is_file() else "",
        )
        run.metrics.update(erased.model_dump(mode="json", exclude={"file"}))
    return erased
