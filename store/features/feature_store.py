"""The feature store: documents with their ledger, chunks with their vectors, and search over them.

LanceDB underneath. Every change of chunks is one to readers (``Lance.as_one``), who see a batch of
documents before it or after it and never between. Texts and ledger lines follow in a commit of
their own; a crash between leaves documents whose chunks carry another ``document_hash`` than the
ledger says, and ``heal`` names them to the next ingest. Writers hold ``Layout.writing``; readers
never wait.

``FeatureStore`` is the whole; what it can do is in the modules named for it: ``ledger`` and
``chunks`` read, ``writing`` changes, ``health`` mends and indexes. Here is what concerns all of it:
the passport, another embedder's vectors, versions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import memory, rate
from fti.store.errors import (
    EmbedderMismatch,
    InputError,
    InvalidName,
    PostconditionFailed,
    StoreError,
)
from fti.store.features import frames
from fti.store.features.chunks import ChunkSample
from fti.store.features.frames import WriteReport
from fti.store.features.health import Diagnosis, ErasedRows, FeatureUpkeep, Health
from fti.store.features.history import FeatureVersion, History
from fti.store.features.validation import ValidationConfig, violation
from fti.store.features.writing import ReplaceResult
from fti.store.lance import indexing, shapes
from fti.store.lance.connection import with_schema
from fti.store.lance.shapes import DocumentUpdate
from fti.store.types import EmbedderIdentity, RunStatus, Value
from fti.store.versioned.versions import check_name

__all__ = [
    "ChunkSample",
    "Diagnosis",
    "ErasedRows",
    "FeatureStats",
    "FeatureStore",
    "Health",
    "ReplaceResult",
]

_WRITTEN_AT_ONCE = 64  # documents of one commit


class FeatureStats(Value):
    """The feature store in numbers."""

    documents: int
    failed: int
    empty: int
    chunks: int
    version: int
    embedder: str
    text_index: bool
    vector_index: str
    unindexed_rows: int


class OpenRecord(Protocol):
    """A run that is going on; see ``fti.store.logs.runs.OpenRun``."""

    @property
    def id(self) -> str:
        """The run's id."""
        ...

    status: RunStatus
    outputs: dict[str, str]
    metrics: dict[str, Any]


WRITE = PipelineContract("write")


@WRITE.precondition("The collection has a plain name, where one is named", raises=InvalidName)
def plain_collection(collection: str | None) -> None:
    """As an ingest asks for."""
    if collection is not None:
        check_name(collection, "collection")


@WRITE.postcondition("Each source of the frame is stored or refused")
def sources_add_up(frame: Any, result: WriteReport) -> None:
    """None disappears."""
    sources = len({str(source) for source in list(frame["source"])})
    if result.documents + len(result.refused) != sources:
        raise PostconditionFailed(
            f"The frame has {sources} sources; {result.documents} were stored and "
            f"{len(result.refused)} refused."
        )


@WRITE.postcondition("What the report counts can be found")
def can_be_found(self: FeatureStore, result: WriteReport) -> None:
    """Readers see the version that the report names, or a later one."""
    self.require_version(result.version)


WRITE.requires("chunks_per_s", "at least", "per s", rate("write", "chunks"))
WRITE.requires("memory_mb", "at most", "MB", memory("write"))


class FeatureStore(FeatureUpkeep):
    """Documents and chunks under one store root. Opening is cheap and reads nothing.

    See ``OpenedFeatures`` for how one is opened. ``recording`` opens the run that a write is kept
    as; the store that this is a part of sets it, since runs are not the features' own.
    """

    recording: Callable[..., AbstractContextManager[OpenRecord]] | None = None

    @cached_property
    def history(self) -> History:
        """The versions of the store, and their tags."""
        return History(self.layout, self._lance)

    def stats(self) -> FeatureStats:
        """The feature store in numbers; all zero before the first ingest."""
        if not self.exists():
            return FeatureStats(
                documents=0, failed=0, empty=0, chunks=0, version=0, embedder="",
                text_index=False, vector_index="exact", unindexed_rows=0,
            )  # fmt: skip
        chunks = self._snapshot()
        lines = self.lines()
        identity = shapes.passport(chunks.schema)
        with self._lance.reading():
            return FeatureStats(
                documents=lines.served(),
                failed=lines.in_state("failed"),
                empty=lines.in_state("empty"),
                chunks=int(chunks.count_rows()),
                version=int(chunks.version),
                embedder=identity.id,
                text_index=indexing.has_text_index(chunks),
                vector_index=indexing.vector_index(chunks),
                unindexed_rows=indexing.unindexed_rows(chunks),
            )

    # The passport

    def require_identity(self, identity: EmbedderIdentity) -> None:
        """Refuse another embedder than the one that made the vectors.

        Raises:
            EmbedderMismatch: the passports differ.
        """
        held = self.identity()
        if held is None or held == identity:
            return
        ours, theirs = held.model_dump(), identity.model_dump()
        differing = ", ".join(
            f"{name} {ours[name]!r} and {theirs[name]!r}"
            for name in ours
            if ours[name] != theirs[name]
        )
        raise EmbedderMismatch(
            f"The store's vectors were made by {held.id!r}, not by {identity.id!r} as it is now "
            f"(they differ in {differing}).",
            hint="Use the profile that made them, or make all vectors anew: "
            "fti ingest PATH --re-embed",
        )

    def create(self, identity: EmbedderIdentity) -> None:
        """Make the tables where they are absent.

        Raises:
            EmbedderMismatch: there are vectors of another embedder.
        """
        self._refuse_old()
        with self._lance.writing():
            documents = self._lance.ensure(shapes.DOCUMENTS, shapes.documents_schema())
            self._add_missing_columns(documents)
            table = self._lance.ensure(self._lance.chunks, shapes.chunks_schema(identity))
            indexing.ensure_text_index(table)
        self.require_identity(identity)

    def _add_missing_columns(self, documents: Any) -> None:
        """What the ledger of a store made by an earlier fti has no column for."""
        there = set(documents.schema.names)
        missing = [field for field in shapes.documents_schema() if field.name not in there]
        if missing:
            documents.add_columns(missing)

    # Data frames

    @WRITE.enforced
    def write(
        self,
        frame: Any,
        *,
        identity: EmbedderIdentity | None = None,
        config: ValidationConfig | None = None,
        collection: str | None = None,
    ) -> WriteReport:
        """Make documents of rows: a pyarrow Table or pandas DataFrame with a row per chunk.

        Rows of one ``source`` are one document and replace what the store had of it. Needed are
        ``source``, ``text`` and ``vector``; ``title``, ``section``, ``metadata``, ``media_type``
        and ``start`` count where they are there, as in what ``to_arrow`` gives.

        Args:
            frame: the rows.
            identity: which embedder made the vectors; without, what the table itself says, or the
                store's.
            config: bounds that chunks must keep.
            collection: put the documents into this collection; without, they come into the one that
                their rows' metadata name, or stay in the one that they are in.

        Raises:
            InvalidName: a collection's name is not plain.
            InputError: the rows are no table of features.
            EmbedderMismatch: the store's vectors come from another embedder.
            StoreLocked, StoreFull: as an ingest.
        """
        table = frames.table_of(frame)
        made_by = identity or frames.passport_of(table) or self.identity()
        if made_by is None:
            raise InputError(
                "The store is new, and the table does not say which embedder made its vectors.",
                hint="Name it: write(frame, identity=embedder.identity)",
            )
        config = config or ValidationConfig()
        settings = {
            "validation": config.model_dump(mode="json"),
            "embedder": made_by.model_dump(mode="json"),
            "collection": collection,
        }
        inputs = {"frame": f"{table.num_rows} rows", "digest": frames.digest_of(table)}
        with self.layout.writing("write"), self._recorded(inputs, settings) as run:
            self.require_identity(made_by)
            held = {e.record.id: e for e in self.ledger()} if self.exists() else {}
            good: list[DocumentUpdate] = []
            bad: list[tuple[DocumentUpdate, str]] = []
            inside = {key: e.record.collection for key, e in held.items()}
            for update in frames.updates(table, made_by, collection=collection, present=inside):
                wrong = violation(update, made_by, config)
                if wrong is None:
                    good.append(update)
                else:
                    bad.append((update, wrong))
            self.create(made_by)
            for start in range(0, len(good), _WRITTEN_AT_ONCE):
                self.replace(good[start : start + _WRITTEN_AT_ONCE])
            self.note([frames.refused_line(u, held.get(u.document.id), why) for u, why in bad])
            self.maintain()
            report = WriteReport(
                documents=len(good),
                chunks=sum(len(u.chunks) for u in good),
                refused={update.document.source: why for update, why in bad},
                version=self.record_version(run.id if run else "").version,
                run=run.id if run else "",
            )
            if run is not None:
                run.outputs["features_version"] = str(report.version)
                run.metrics.update(report.model_dump(mode="json", exclude={"run"}))
                run.status = "partial" if bad else "done"
        return report

    def _recorded(
        self, inputs: Mapping[str, str], settings: Mapping[str, Any]
    ) -> AbstractContextManager[OpenRecord | None]:
        """The run of a write, where the store that this is a part of keeps runs."""
        if self.recording is None:
            return nullcontext()
        return self.recording("ingest", pipeline="write", inputs=inputs, settings=settings)

    def write_anew(self, name: str) -> None:
        """Write a table anew from its rows, so that no file of its earlier versions stays.

        Raises:
            StoreError: a version with a tag holds them; says which.
        """
        self._refuse_old()
        if tags := sorted(self._chunks_for_writing().tags.list()):
            raise StoreError(
                f"Earlier versions cannot go, as long as they have tags: {', '.join(tags)}.",
                hint=f"Remove them first: fti versions untag {tags[0]}",
            )
        self._lance.rewrite(name, forget_versions=True)
        if name == shapes.CHUNKS:
            with self._lance.writing():
                indexing.ensure_text_index(self._chunks_for_writing())

    def start_anew(self, damaged: Collection[str], identity: EmbedderIdentity) -> None:
        """Drop damaged tables that can be made anew: caches, and the chunks with their versions.

        Where the chunks go, an empty table takes their place, and ``diagnose`` then names every
        document that has some.
        """
        self._refuse_old()
        for name in sorted(damaged):
            if name != shapes.DOCUMENTS:
                self._lance.drop(name)
        self._lance.refresh()
        if shapes.CHUNKS in damaged:
            self.create(identity)

    # All vectors anew

    def rebuilding(self, identity: EmbedderIdentity) -> FeatureStore:
        """A store over the same documents with an empty table of chunks for another embedder.

        Readers keep the present chunks until ``adopt``.
        """
        self._refuse_old()
        self._lance.drop(shapes.REBUILD)
        aside = FeatureStore(self.layout)
        aside._lance.chunks = shapes.REBUILD
        aside.create(identity)
        return aside

    def refill(
        self,
        source: FeatureStore,
        embed: Callable[[Sequence[str]], NDArray[np.float32]],
        *,
        document_hashes: Mapping[str, str],
        batch: int = 256,
    ) -> int:
        """Take all chunks of another store over as they are cut, under new vectors.

        For a store that ``rebuilding`` gave; afterwards it can be searched.

        Args:
            source: whose chunks.
            embed: the vectors of embedded texts, a row each.
            document_hashes: by document id, what its chunks shall say that they were made from;
                others keep theirs.
            batch: chunks embedded and written at once.

        Returns:
            How many chunks there are now.
        """
        import pyarrow as pa

        table = self._chunks_for_writing()
        schema = table.schema
        with self._lance.writing():
            for rows in source._snapshot().search().to_batches(batch):
                vectors = embed(rows["search_text"].to_pylist())
                columns = {name: rows[name] for name in schema.names if name != "vector"}
                columns["document_hash"] = pa.array(
                    document_hashes.get(document, made_from)
                    for document, made_from in zip(
                        rows["document_id"].to_pylist(), rows["document_hash"].to_pylist(),
                        strict=True,
                    )
                )  # fmt: skip
                columns["vector"] = shapes.vector_column(vectors, schema)
                table.add(pa.table([columns[name] for name in schema.names], schema=schema))
            table.optimize(cleanup_older_than=indexing.NEVER)
        return int(table.count_rows())

    def discard(self, rebuilt: FeatureStore) -> None:
        """Drop what ``rebuilding`` gave, where it was not adopted."""
        if rebuilt._lance.chunks == shapes.REBUILD:
            self._lance.drop(shapes.REBUILD)

    def adopt(self, rebuilt: FeatureStore) -> int:
        """Put the rebuilt chunks in the place of the present ones, in one commit.

        Vectors remembered for other embedders are dropped. Returns the new version.
        """
        self._refuse_old()
        source = rebuilt._chunks_for_writing()
        schema = source.schema
        with self._lance.writing():
            rows = with_schema(source.search().to_batches(1024), schema)
            indexing.ensure_text_index(self._lance.overwrite(shapes.CHUNKS, rows, schema))
        keep = shapes.vectors_name(shapes.passport(schema))
        for name in self._lance.names():
            if name == shapes.REBUILD or (shapes.is_vectors_name(name) and name != keep):
                self._lance.drop(name)
        return self.version()

    # Versions

    def record_version(self, run: str = "") -> FeatureVersion:
        """Note the present state as a numbered version, left by a run."""
        self._refuse_old()
        stats = self.stats()
        return self.history.record(
            documents=stats.documents, chunks=stats.chunks, embedder=stats.embedder, run=run
        )

    def checkout(self, version: int | str) -> FeatureStore:
        """The store as it was at a version of the chunks, to read only.

        Args:
            version: a number, or a tag.

        Raises:
            VersionNotFound: there is no such version or tag.
        """
        number = self.history.resolve(version) if isinstance(version, str) else version
        beside = self.history.documents_version(number)
        earlier = FeatureStore(self.layout, at=number, documents_at=beside)
        earlier._snapshot()
        return earlier

    def rollback(self, version: int | str, run: str = "") -> FeatureVersion:
        """Make documents and chunks what they were at a version, as a new version.

        Vectors of another embedder come back with it. The next ingest takes again what has changed
        in the files since.

        Raises:
            VersionNotFound: there is no such version or tag.
        """
        self._refuse_old()
        self.history.restore(self.checkout(version).version())
        self._listing = None
        with self._lance.writing():
            indexing.ensure_text_index(self._chunks_for_writing())
        return self.record_version(run)
