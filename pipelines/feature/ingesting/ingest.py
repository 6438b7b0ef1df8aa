"""Documents into features: found, read, cleaned, split, embedded, stored.

``ingest`` may be killed at any point and run again: nothing is lost and nothing is there twice.
The order makes it so. Vectors are remembered first, then the chunks of a batch of documents change
at once, then their texts and ledger lines. What a crash leaves between the last two is found
by ``FeatureStore.heal`` and taken again, with the vectors at hand.

This module decides, by the ledger, what is taken. Files are read and split by ``preparing``, where
``executors`` says; ``committing`` embeds and writes, at the same time.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import Field

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.finding.sources import (
    Discovery,
    FailedSource,
    RawDocument,
    SourceFile,
    discover,
    fingerprint,
)
from fti.pipelines.feature.finding.web import is_address
from fti.pipelines.feature.ingesting.committing import Batch, Committing, Pending
from fti.pipelines.feature.ingesting.executors import (
    Executor,
    ExecutorName,
    InProcess,
    open_executor,
)
from fti.pipelines.feature.ingesting.preparing import Job, Prepared, Same, Split, split, with_texts
from fti.pipelines.feature.ingesting.probing import WORTHWHILE_BYTES, settle
from fti.pipelines.feature.ingesting.resemblance import read_signatures, similar_groups
from fti.pipelines.feature.reading.parsing import Parser
from fti.store.contracts.conditions import PipelineContract
from fti.store.errors import EmbedderMismatch, ExtractionError, PostconditionFailed
from fti.store.features.feature_store import FeatureStore
from fti.store.features.ledger import LedgerLines
from fti.store.features.validation import FeatureStatistics
from fti.store.lance.shapes import COLLECTION, STREAM, LedgerEntry
from fti.store.progress import Progress, ProgressEvent, one_at_a_time, quiet
from fti.store.store import Store
from fti.store.types import Document, SourceRecord, Value, document_id, now
from fti.store.versioned.versions import check_name

# What failed for a reason that may pass is tried again after a minute, then after twice as long
# each time, at last once a day.
_FIRST_RETRY = timedelta(minutes=1)
_LAST_RETRY = timedelta(days=1)


class NotTaken(Value):
    """A source that gave no passages, and why."""

    source: str
    reason: str


class Warned(Value):
    """A source that was taken, and what of it was not, or only with a reservation."""

    source: str
    reason: str


class IngestReport(Value):
    """What an ingest did.

    Every document is counted once, in ``added``, ``updated``, ``unchanged``, ``failed`` or
    ``empty``. ``skipped`` counts by kind what is not read on purpose: hidden files, formats that
    hold no text, what editors and systems leave behind; members of an archive when it is read.
    ``warnings`` are of documents that were added or updated now: what their readers left out or
    could not tell. Of the failed, ``waiting`` were not tried again: nothing has changed, and it is
    not time yet (``retry_at`` in the ledger). ``near_duplicates`` counts documents of the store
    that are marked as saying nearly the same as another. ``missing`` counts documents whose file is
    gone and that are still served; with ``delete_missing`` they are ``deleted`` instead. ``chunks``
    is how many the store holds now; ``statistics`` is of those that were committed.
    ``removed_versions`` of the features were too many and old (``store.history``).
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: tuple[NotTaken, ...] = ()
    empty: tuple[NotTaken, ...] = ()
    skipped: Mapping[str, int] = Field(default_factory=dict)
    warnings: tuple[Warned, ...] = ()
    waiting: int = 0
    near_duplicates: int = 0
    missing: int = 0
    chunks: int = 0
    embedded_chunks: int = 0
    seconds: float = 0.0
    run: str = ""
    features_version: int = 0
    removed_versions: int = 0
    statistics: FeatureStatistics | None = None

    @property
    def succeeded(self) -> bool:
        """Whether any source was dealt with as asked."""
        counts = self.added + self.updated + self.unchanged + self.deleted
        return counts + len(self.empty) > 0


INGEST = PipelineContract("ingest")


@INGEST.precondition(
    "The store's vectors are this embedder's, or are all made anew", raises=EmbedderMismatch
)
def same_embedder(store: Store, embedder: Embedder, re_embed: bool) -> None:
    """Vectors of two embedders do not compare."""
    if not re_embed:
        store.features.require_identity(embedder.identity)


@INGEST.postcondition("All vectors in the store are this embedder's")
def one_passport(store: Store, embedder: Embedder) -> None:
    """The table's passport says so."""
    held = store.features.identity()
    if held is not None and held != embedder.identity:
        raise PostconditionFailed(
            f"The store's vectors are said to be by {held.id!r}, and {embedder.identity.id!r} made "
            "them."
        )


@INGEST.postcondition("What the report counts can be found")
def can_be_found(store: Store, result: IngestReport) -> None:
    """Readers see the version that the report names, or a later one."""
    store.features.require_version(result.features_version)


def ingest(
    sources: Sequence[str],
    *,
    store: Store,
    embedder: Embedder,
    config: FeatureConfig,
    delete_missing: bool = False,
    re_embed: bool = False,
    collection: str | None = None,
    retry_failed: bool = False,
    executor: ExecutorName = "local",
    workers: int | None = None,
    progress: Progress = quiet,
) -> IngestReport:
    """Bring the feature store up to date with files and folders.

    Files whose content and settings are as in the ledger are skipped. A file that cannot be read
    becomes a line in the report and the ledger; its last good version stays served.

    Args:
        sources: files, folders and addresses (http, https, s3, gs; see ``web``).
        store: where to.
        embedder: makes the vectors; must be the one that made those in the store.
        config: how.
        delete_missing: remove documents that lie under ``sources`` and whose file is gone.
        re_embed: make all vectors of the store anew, by another embedder perhaps. Readers keep the
            old ones until the new are complete.
        collection: put what lies under ``sources`` into this collection; a document is in one at
            most. None leaves documents in theirs; new ones are in none.
        retry_failed: try again what failed before, although nothing has changed.
        executor: where files are read and texts embedded; see ``executors``. The store is the
            same afterwards.
        workers: how many of its processes; None: one for each core.
        progress: told after each file and each embedded batch.

    Raises:
        SourceNotFound: a source does not exist.
        StoreLocked: another process writes to the store.
        StoreFull: the disk is full; what was committed stays, and a rerun goes on from there.
        EmbedderMismatch: the store's vectors come from another embedder.
        InvalidName: the collection's name is not plain.
    """
    found = discover(sources, config=config.sources, downloads=store.layout.downloads)
    worthwhile = sum(file.size for file in found.files) >= WORTHWHILE_BYTES
    settle(embedder, store=store, worthwhile=worthwhile, progress=progress)
    with ExitStack() as stack:
        return take(
            found,
            store=store,
            embedder=embedder,
            config=config,
            delete_missing=delete_missing,
            re_embed=re_embed,
            collection=collection,
            retry_failed=retry_failed,
            progress=progress,
            executor=open_executor(
                executor,
                embedder=embedder,
                config=config,
                features=store.features,
                workers=workers,
                progress=progress,
                stack=stack,
            ),
        )


def retry_failed(
    *,
    store: Store,
    embedder: Embedder,
    config: FeatureConfig,
    progress: Progress = quiet,
) -> IngestReport:
    """Take every file again that could not be taken; lines of files that are gone go.

    Raises:
        StoreLocked, StoreFull, EmbedderMismatch: as ``ingest``.
    """
    names = sorted({e.file for e in store.features.failed() if e.file != STREAM})
    there = discover(
        [name for name in names if not _is_gone(name)],
        config=config.sources,
        downloads=store.layout.downloads,
    )
    found = Discovery(there.files, names, there.failed, there.skipped, there.gone)
    return take(
        found, store=store, embedder=embedder, config=config, retry_failed=True, progress=progress
    )


@INGEST.enforced
def take(
    discovery: Discovery,
    *,
    store: Store,
    embedder: Embedder,
    config: FeatureConfig,
    delete_missing: bool = False,
    re_embed: bool = False,
    collection: str | None = None,
    retry_failed: bool = False,
    progress: Progress = quiet,
    parser: Parser | None = None,
    executor: Executor | None = None,
) -> IngestReport:
    """``ingest`` of files already found; documents under ``discovery.roots`` may be missing.

    A ``parser`` or ``executor`` that is given stays open, so that the next call need not start its
    processes again.
    """
    if collection is not None:
        check_name(collection, "collection")
    settings = {
        **config.model_dump(mode="json"),
        "embedder": embedder.identity.model_dump(mode="json"),
        "delete_missing": delete_missing,
        "re_embed": re_embed,
        "collection": collection,
        "retry_failed": retry_failed,
    }
    inputs = {"sources": json.dumps(discovery.roots, ensure_ascii=False)}
    with (
        store.layout.writing("ingest"),
        store.runs.running("ingest", inputs=inputs, settings=settings) as run,
        ExitStack() as owned,
    ):
        parser = parser or owned.enter_context(Parser(config.sources))
        executor = executor or InProcess(embedder, config, parser)
        work = owned.enter_context(
            Ingest(store, embedder, config, progress, executor, collection, retry_failed)
        )
        report = work.run(discovery, delete_missing=delete_missing, re_embed=re_embed)
        left = store.features.record_version(run.id)
        expired = store.expire_features(config.retention)
        report = report.model_copy(
            update={
                "run": run.id,
                "features_version": left.version,
                "removed_versions": len(expired.removed) if expired else 0,
            }
        )
        run.outputs["features_version"] = str(report.features_version)
        run.metrics.update(
            report.model_dump(
                mode="json", exclude={"failed", "empty", "run", "skipped", "warnings"}
            )
        )
        run.metrics["skipped"] = sum(report.skipped.values())
        run.metrics["failed"] = len(report.failed)
        run.metrics["empty"] = len(report.empty)
        run.metrics["warnings"] = len(report.warnings)
        run.status = "partial" if report.failed else "done"
    return report


class Ingest:
    """One run: what the ledger said at its beginning, and what it has done so far.

    ``fti.pipelines.feature.streaming.follow`` brings records in by the same way, without files.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        config: FeatureConfig,
        progress: Progress,
        executor: Executor,
        collection: str | None = None,
        retry_failed: bool = False,
    ) -> None:
        self.store = store
        self.features: FeatureStore = store.features  # or, while re-embedding, the one beside it
        self.embedder = embedder
        self.config = config
        self.progress = one_at_a_time(progress)
        self.executor = executor
        self.collection = collection
        self.retry_failed = retry_failed
        self.taking = config.taking_digest(embedder.identity)
        self.began_at = now()
        self.digest = config.digest(embedder.identity)
        self.batch = Batch()
        self.committing = Committing(embedder, executor.embed, config, self.progress)
        self.lines = LedgerLines()  # as they are before the first batch
        self.broken: frozenset[str] = frozenset()
        self.fresh = False  # whether every file is taken, unchanged or not
        self.added = self.updated = self.unchanged = self.deleted = 0
        self.failed: list[NotTaken] = []
        self.empty: list[NotTaken] = []
        self.skipped: Counter[str] = Counter()
        self.warnings: list[Warned] = []
        self.warned: set[tuple[str, str]] = set()  # by file
        self.waiting = 0

    def __enter__(self) -> Self:
        self.committing.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.committing.__exit__(kind, error, traceback)

    def run(self, discovery: Discovery, *, delete_missing: bool, re_embed: bool) -> IngestReport:
        """Take the files, then settle what is gone and bring the indexes up to date."""
        began = time.monotonic()
        files = [f for f in discovery.files if not self._is_ours(f)]
        if re_embed and self.features.exists():
            files = self._begin_rebuild(files)
        else:
            self.features.create(self.embedder.identity)
            self._read_ledger(self.features)
        self.skipped.update(one.reason for one in discovery.skipped)
        for refused in discovery.failed:
            # A folder has no line of its own: what lies in it was neither seen nor lost.
            entries = self.lines.of_file(refused.source)
            if entries and refused.source in discovery.gone:
                continue  # no failure: it is settled with what is missing
            self._note_failure(refused.source, entries, "", refused.reason, line=bool(entries))
        for prepared in self.executor.prepare(self._jobs(files)):
            self._take_file(prepared)
        self.progress(ProgressEvent("read", len(files), len(files)))
        self._finish()
        missing = self._settle_missing(discovery, {f.source for f in files}, delete_missing)
        if self.features is not self.store.features:
            self._end_rebuild()
        near_duplicates = self._mark_near_duplicates()
        kept = self.features.maintain(
            ann_threshold=self.config.ann_threshold, progress=self.progress
        )
        return IngestReport(
            added=self.added,
            updated=self.updated,
            unchanged=self.unchanged,
            deleted=self.deleted,
            failed=tuple(self.failed),
            empty=tuple(self.empty),
            skipped=dict(self.skipped.most_common()),
            warnings=tuple(self.warnings),
            waiting=self.waiting,
            near_duplicates=near_duplicates,
            missing=missing,
            chunks=kept.rows,
            embedded_chunks=self.executor.embedded,
            seconds=round(time.monotonic() - began, 3),
            statistics=self.committing.statistics.result(),
        )

    # One file

    def _jobs(self, files: Sequence[SourceFile]) -> Iterator[Job]:
        """The files that are to be read; of the others it is noted why they are not."""
        for number, file in enumerate(files):
            self.progress(ProgressEvent("read", number, len(files), file.source))
            entries = self.lines.of_file(file.source)
            try:
                file_hash = fingerprint(file)
            except ExtractionError as error:
                self._note_failure(
                    file.source, entries, "", error.message, transient=error.transient
                )
                continue
            if self._is_unchanged(entries, file_hash):
                self._count_unchanged(entries)
                continue
            whole = [e for e in entries if e.record.source == file.source]
            if whole and self._waits(whole[0].record, file_hash):
                self._count_unchanged(whole)
                continue
            yield Job(file, file_hash, self._served(entries))

    def _take_file(self, prepared: Prepared) -> None:
        file, file_hash = prepared.job.file, prepared.job.file_hash
        entries = self.lines.of_file(file.source)
        if (failure := prepared.failure) is not None:
            self._note_failure(
                file.source, entries, file_hash, failure.reason, transient=failure.transient
            )
            self._commit(when_full=True)
            return
        self.skipped.update(one.reason for one in prepared.skipped)
        sources = [_source(one) for one in prepared.found]
        ids = list(dict.fromkeys(document_id(source) for source in sources))
        known = {e.record.id: e for e in entries}
        taken: set[str] = set()
        for one, source in zip(prepared.found, sources, strict=True):
            key = document_id(source)
            if key in taken:
                reason = "the file has this record twice; the first one counts"
                self.failed.append(NotTaken(source=source, reason=reason))
                continue
            taken.add(key)
            if isinstance(one, FailedSource):
                self._note_failure(
                    source,
                    entries,
                    file_hash,
                    one.reason,
                    transient=one.transient,
                    file=file.source,
                    file_documents=len(ids),
                )
            else:
                self._take_document(one, file.source, file_hash, len(ids), known.get(key))
            self._commit(when_full=True)
        # Last, so that a crash before it leaves lines of another hash, and the file is taken again.
        self.batch.dropped += [e.record for e in entries if e.record.id not in taken]

    def _is_unchanged(self, entries: Sequence[LedgerEntry], file_hash: str) -> bool:
        return (
            not self.fresh
            and bool(entries)
            and len(entries) == max(e.file_documents for e in entries)
            and all(
                self._waits(e.record, file_hash)
                if e.record.state == "failed"
                else e.file_hash == file_hash and self._is_current(e.record)
                for e in entries
            )
        )

    def _waits(self, record: SourceRecord, file_hash: str) -> bool:
        """Whether a source failed on these bytes, taken in this way, and is not to be tried yet."""
        return (
            record.state == "failed"
            and not self.retry_failed
            and bool(file_hash)
            and record.attempted_hash == file_hash
            and record.attempted_settings == self.taking
            and (record.retry_at is None or record.retry_at > self.began_at)
        )

    def _is_current(self, record: SourceRecord) -> bool:
        return (
            record.settings_digest == self.digest
            and record.id not in self.broken
            and self.collection in (None, record.collection)
        )

    def _collection_of(self, before: SourceRecord | None) -> str:
        """The collection that a document comes into: the one named now, else the one it is in."""
        if self.collection is not None:
            return self.collection
        return before.collection if before else ""

    def _served(self, entries: Sequence[LedgerEntry]) -> dict[str, str]:
        """By document id the content that the store holds, be it from before the file failed."""
        return {
            e.record.id: e.record.content_hash
            for e in entries
            if not self.fresh
            and self._is_current(e.record)
            and (e.record.chunks > 0 or e.record.state == "empty")
        }

    def _count_unchanged(self, entries: Sequence[LedgerEntry]) -> None:
        for entry in entries:
            record = entry.record
            if record.state == "failed":
                self.waiting += 1
                self.failed.append(NotTaken(source=record.source, reason=record.cause))
            elif record.state == "empty":
                self.empty.append(NotTaken(source=record.source, reason=record.cause))
            else:
                self.unchanged += 1

    def _take_record(self, raw: RawDocument, file_hash: str, before: LedgerEntry | None) -> None:
        """A document that came alone and from no file."""
        served = self._served([before] if before else [])
        found = split(raw, served=served, embedder=self.embedder, chunking=self.config.chunking)
        self._take_document(found, STREAM, file_hash, 1, before)

    def _take_document(
        self,
        found: Same | Split,
        file: str,
        file_hash: str,
        file_documents: int,
        before: LedgerEntry | None,
    ) -> None:
        record = before.record if before else None
        if isinstance(found, Same):
            assert record is not None, "only what the ledger has is the same"
            again = {
                "state": "indexed" if record.chunks else "empty",
                "cause": "" if record.chunks else record.cause,
                "attempted_hash": found.content_hash,
                "attempted_at": now(),
                "attempts": 0,
                "retry_at": None,
            }
            entry = LedgerEntry(record.model_copy(update=again), file, file_hash, file_documents)
            self._count_unchanged([entry])
            self.batch.lines.append(entry)
            return
        collection = self._collection_of(record)
        metadata = _in_collection(found.document.metadata, collection)
        document = found.document.model_copy(update={"metadata": metadata})
        cause = "" if found.chunks else found.empty_reason or "no visible text"
        counted: Literal["added", "updated", "empty"] = "empty"
        if not found.chunks:
            self.empty.append(NotTaken(source=document.source, reason=cause))
        elif record and record.chunks:
            self.updated += 1
            counted = "updated"
        else:
            self.added += 1
            counted = "added"
        self._note_warnings(document, file)
        line = SourceRecord(
            id=document.id,
            source=document.source,
            title=document.title,
            state="indexed" if found.chunks else "empty",
            collection=collection,
            cause=cause,
            content_hash=document.content_hash,
            attempted_hash=document.content_hash,
            settings_digest=self.digest,
            chunks=len(found.chunks),
            attempted_at=document.ingested_at,
            ingested_at=document.ingested_at,
        )
        entry = LedgerEntry(line, file, file_hash, file_documents)
        self._add(Pending(replace(found, document=document), entry, counted, before))

    def _note_warnings(self, document: Document, file: str) -> None:
        """Report what the reader says of a document; once, where all records of a file have it."""
        said = document.metadata.get("warnings", "")
        if said and (file, said) not in self.warned:
            self.warned.add((file, said))
            self.warnings.append(Warned(source=document.source, reason=said))

    def _add(self, pending: Pending) -> None:
        self.batch.documents.append(pending)
        self.batch.chunks += len(pending.split.chunks)

    def _note_failure(
        self,
        source: str,
        entries: Sequence[LedgerEntry],
        file_hash: str,
        reason: str,
        *,
        line: bool = True,
        transient: bool = False,
        file: str = "",
        file_documents: int = 1,
    ) -> None:
        """Report a source that could not be taken; its line keeps what is still served of it.

        ``file`` is the archive that the source lies in, with so many documents; without it the
        source is itself a file.
        """
        if not line:
            self.failed.append(NotTaken(source=source, reason=reason))
            return
        self.batch.lines.append(
            self._failure(
                source,
                entries,
                file_hash,
                reason,
                transient=transient,
                file=file,
                file_documents=file_documents,
            )
        )

    def _failure(
        self,
        source: str,
        entries: Sequence[LedgerEntry],
        file_hash: str,
        reason: str,
        *,
        transient: bool = False,
        file: str = "",
        file_documents: int = 1,
    ) -> LedgerEntry:
        """The line of a failure, which is reported as well."""
        self.failed.append(NotTaken(source=source, reason=reason))
        key = document_id(source)
        before = next((e for e in entries if e.record.id == key), None)
        again = before is not None and before.record.attempted_hash == file_hash
        attempts = before.record.attempts + 1 if before and again else 1
        pause = min(_FIRST_RETRY * 2 ** min(attempts - 1, 20), _LAST_RETRY)
        failure = {
            "state": "failed",
            "cause": reason,
            "attempted_hash": file_hash,
            "attempted_at": now(),
            "attempts": attempts,
            "retry_at": now() + pause if transient else None,
            "attempted_settings": self.taking,
        }
        if before:
            record = before.record.model_copy(update=failure)
            count = file_documents if file else before.file_documents
            return LedgerEntry(record, before.file, before.file_hash, count)
        title = source.rsplit("/", 1)[-1]
        record = SourceRecord.model_validate(
            {
                "id": key,
                "source": source,
                "title": title,
                "collection": self.collection or "",
                **failure,
            }
        )
        return LedgerEntry(record, file or source, "", file_documents)

    # A batch

    def _commit(self, *, when_full: bool = False) -> None:
        """Hand over what came together; it is written in the order in which it is handed over."""
        batch = self.batch
        full = (
            len(batch.documents) + len(batch.lines) >= self.config.batch_documents
            or batch.chunks >= self.config.batch_chunks
        )
        if when_full and not full:
            return
        self.batch = Batch()
        if batch.documents or batch.lines or batch.dropped:
            self._count_deleted(batch.dropped)
            self.committing.submit(self.features, batch)
        self._note_refused()

    def _finish(self) -> None:
        """Wait until everything is written."""
        self._commit()
        self.committing.drain()
        self._note_refused()
        if self.batch.lines:
            self._finish()

    def _note_refused(self) -> None:
        """Lines of what broke the contract of features, into the next batch."""
        for refused in self.committing.refused():
            entry = refused.pending.entry
            source = entry.record.source
            self.added -= refused.pending.counted == "added"
            self.updated -= refused.pending.counted == "updated"
            self._note_failure(
                source,
                [refused.pending.before] if refused.pending.before else [],
                entry.file_hash,
                refused.reason,
                file="" if entry.file == source else entry.file,
                file_documents=entry.file_documents,
            )

    # What is gone

    def _settle_missing(self, discovery: Discovery, present: set[str], delete_missing: bool) -> int:
        """How many served documents lost their file; those are removed where that was asked.

        A file that is there but cannot be looked at is not missing. An object is, when all under an
        address was listed without it; and so is a file that was read once and never is now.
        """
        seen = present | {failed.source for failed in discovery.failed}
        never = {skipped.source for skipped in discovery.skipped if skipped.never}
        lines = self.features.lines()
        gone = [
            entry.record
            for file in lines.files()
            if file not in present
            and (
                file in discovery.gone
                or file in never
                or (
                    file not in seen
                    and any(_lies_under(file, address) for address in discovery.listed)
                )
                or (any(_lies_under(file, root) for root in discovery.roots) and _is_gone(file))
            )
            for entry in lines.of_file(file)
        ]
        # A line without passages has nothing left to say once its file is gone.
        self._delete([r for r in gone if delete_missing or not r.chunks])
        return 0 if delete_missing else sum(r.chunks > 0 for r in gone)

    def _mark_near_duplicates(self) -> int:
        """Mark documents that say nearly the same as one that came before; how many there are."""
        if self.added + self.updated + self.deleted:
            ids, kept = self.features.signatures()
            groups = similar_groups(read_signatures(kept), threshold=self.config.near_duplicate)
            alike = [[ids[i] for i in group] for group in groups if len(group) > 1]
            entries = {e.record.id: e for e in self.features.near_duplicate_lines()}
            entries |= self.features.entries(key for key in chain(*alike) if key not in entries)
            original: dict[str, str] = {}
            for group in alike:
                records = [entries[key].record for key in group if key in entries]
                # What is marked stays marked; of the others the one that came first is original.
                records.sort(key=lambda r: (bool(r.duplicate_of), r.ingested_at, r.source))
                original |= {r.id: records[0].source for r in records[1:]}
            self.features.note(
                [
                    LedgerEntry(
                        e.record.model_copy(update={"duplicate_of": original.get(key, "")}),
                        e.file,
                        e.file_hash,
                        e.file_documents,
                    )
                    for key, e in entries.items()
                    if e.record.duplicate_of != original.get(key, "")
                ]
            )
        return len(self.features.near_duplicates())

    def _delete(self, records: Sequence[SourceRecord]) -> None:
        self.features.delete([r.id for r in records])
        self._count_deleted(records)

    def _count_deleted(self, records: Sequence[SourceRecord]) -> None:
        self.deleted += sum(r.chunks > 0 for r in records)

    def _is_ours(self, file: SourceFile) -> bool:
        layout = self.store.layout
        inside = file.path.is_relative_to(layout.root)
        ours = (layout.uploads, layout.downloads)
        return inside and not any(file.path.is_relative_to(folder) for folder in ours)

    def _read_ledger(self, features: FeatureStore) -> None:
        self.broken = features.heal().broken
        self.lines = features.lines()

    # All vectors anew

    def _begin_rebuild(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """Take every file the store knows, into a table beside the one that is read."""
        features = self.store.features
        self._read_ledger(features)
        if features.identity() == self.embedder.identity:
            features.forget_vectors(self.embedder.identity)
        self.features = features.rebuilding(self.embedder.identity)
        self.fresh = True
        given = {f.source for f in files}
        # What came as a record has no file, and its name must never be taken for one.
        known = (Path(n) for n in self.lines.files() if n not in given and n != STREAM)
        return [
            *files,
            *(SourceFile(str(p), p, p.stat().st_size) for p in known if p.is_file()),
        ]

    def _end_rebuild(self) -> None:
        """Embed the chunks of documents whose files could not be taken, then swap the tables."""
        held = self.features.chunk_counts()
        entries = [e for e in self.features.ledger() if e.record.chunks]
        for entry in entries:
            if entry.record.id in held:
                continue
            document = next(self.store.features.documents([entry.record.id]))
            # Cut for another embedder: without a digest they are cut again once there is a file.
            line = entry.record.model_copy(update={"settings_digest": ""})
            kept = LedgerEntry(line, entry.file, entry.file_hash, entry.file_documents)
            self._add(Pending(with_texts(document, self.store.features.chunks(document.id)), kept))
            self._commit(when_full=True)
        self._finish()
        self.store.features.adopt(self.features)
        self.features = self.store.features


def _in_collection(metadata: Mapping[str, str], collection: str) -> dict[str, str]:
    """Metadata of a document of this collection; none that it claims for itself counts."""
    found = {("own_" + k if k == COLLECTION else k): v for k, v in metadata.items()}
    return {**found, COLLECTION: collection} if collection else found


def _source(found: Same | Split | FailedSource) -> str:
    return found.document.source if isinstance(found, Split) else found.source


def _lies_under(file: str, root: str) -> bool:
    return file == root or file.startswith(root.rstrip(os.sep) + os.sep)


def _is_gone(file: str) -> bool:
    if is_address(file):  # what is not in a sitemap any more may be there all the same
        return False
    try:
        return not stat.S_ISREG(os.stat(file).st_mode)  # noqa: PTH116  # Path.is_file hides errors
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
