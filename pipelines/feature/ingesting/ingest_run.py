"""One ingest: the files that were found go into the store, document by document."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.finding.sources import (
    Discovery,
    FailedSource,
    RawDocument,
    SourceFile,
    fingerprint,
)
from fti.pipelines.feature.ingesting.committing import Batch, Committing, Pending
from fti.pipelines.feature.ingesting.executors import Executor
from fti.pipelines.feature.ingesting.ingest_report import IngestReport, NotTaken, Warned
from fti.pipelines.feature.ingesting.ledger_view import LedgerView
from fti.pipelines.feature.ingesting.missing_files import missing
from fti.pipelines.feature.ingesting.near_duplicates import mark_near_duplicates
from fti.pipelines.feature.ingesting.preparing import Job, Prepared, Same, Split, split, with_texts
from fti.store.errors import ExtractionError
from fti.store.features.feature_store import FeatureStore
from fti.store.lance.shapes import COLLECTION, STREAM, LedgerEntry
from fti.store.progress import Progress, ProgressEvent, one_at_a_time
from fti.store.store import Store
from fti.store.types import Document, SourceRecord, document_id, now


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
        self.ledger = LedgerView(embedder, config, collection, retry_failed)
        self.batch = Batch()
        self.committing = Committing(embedder, executor.embed, config, self.progress)
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
            self.ledger.read(self.features)
        self.skipped.update(one.reason for one in discovery.skipped)
        for refused in discovery.failed:
            # A folder has no line of its own: what lies in it was neither seen nor lost.
            entries = self.ledger.lines.of_file(refused.source)
            if entries and refused.source in discovery.gone:
                continue  # no failure: it is settled with what is missing
            self._note_failure(refused.source, entries, "", refused.reason, line=bool(entries))
        for prepared in self.executor.prepare(self._jobs(files)):
            self._take_file(prepared)
        self.progress(ProgressEvent("read", len(files), len(files)))
        self._finish()
        gone = missing(self.features.lines(), discovery, {f.source for f in files})
        # A line without passages has nothing left to say once its file is gone.
        self._delete([r for r in gone if delete_missing or not r.chunks])
        if self.features is not self.store.features:
            self._end_rebuild()
        if self.added + self.updated + self.deleted:
            mark_near_duplicates(self.features, threshold=self.config.near_duplicate)
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
            near_duplicates=len(self.features.near_duplicates()),
            missing=0 if delete_missing else sum(r.chunks > 0 for r in gone),
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
            entries = self.ledger.lines.of_file(file.source)
            try:
                file_hash = fingerprint(file)
            except ExtractionError as error:
                self._note_failure(
                    file.source, entries, "", error.message, transient=error.transient
                )
                continue
            if self.ledger.is_unchanged(entries, file_hash):
                self._count_unchanged(entries)
                continue
            whole = [e for e in entries if e.record.source == file.source]
            if whole and self.ledger.waits(whole[0].record, file_hash):
                self._count_unchanged(whole)
                continue
            yield Job(file, file_hash, self.ledger.served(entries))

    def _take_file(self, prepared: Prepared) -> None:
        file, file_hash = prepared.job.file, prepared.job.file_hash
        entries = self.ledger.lines.of_file(file.source)
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
        served = self.ledger.served([before] if before else [])
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
        collection = self.ledger.collection_of(record)
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
            settings_digest=self.ledger.digest,
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
        self.failed.append(NotTaken(source=source, reason=reason))
        if not line:
            return
        self.batch.lines.append(
            self.ledger.failure(
                source,
                entries,
                file_hash,
                reason,
                transient=transient,
                file=file,
                file_documents=file_documents,
            )
        )

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

    # All vectors anew

    def _begin_rebuild(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """Take every file the store knows, into a table beside the one that is read."""
        features = self.store.features
        self.ledger.read(features)
        if features.identity() == self.embedder.identity:
            features.forget_vectors(self.embedder.identity)
        self.features = features.rebuilding(self.embedder.identity)
        self.ledger.fresh = True
        given = {f.source for f in files}
        # What came as a record has no file, and its name must never be taken for one.
        known = (Path(n) for n in self.ledger.lines.files() if n not in given and n != STREAM)
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
