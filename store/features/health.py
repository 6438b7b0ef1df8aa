"""What a crash, an erasure or time leaves in the tables: found, removed, indexed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fti.store.features import history
from fti.store.features.chunks import ChunkReader
from fti.store.features.opened import one_of
from fti.store.features.writing import FeatureWriter
from fti.store.lance import indexing, shapes
from fti.store.lance.indexing import MaintenanceReport
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.types import sha256_hex


@dataclass(frozen=True, slots=True)
class ErasedRows:
    """What erasing a document removed, and the tags of versions that hold it still."""

    chunks: int = 0
    vectors: int = 0
    versions: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """What an interrupted ingest left: chunks of no document, documents with other chunks."""

    orphans: frozenset[str]
    broken: frozenset[str]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, as ids of documents.

    Args:
        orphans: chunks are there of documents that are not.
        broken: the chunks are others than the ledger says, as after a crash.
        duplicated: a chunk is there twice.
        without_vector: a chunk's vector is not finite or has no direction.
        unindexed_rows: chunks that the full-text index does not cover.
        stale_index: some are not covered, or there is no full-text index.
    """

    orphans: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    duplicated: frozenset[str] = frozenset()
    without_vector: frozenset[str] = frozenset()
    unindexed_rows: int = 0
    stale_index: bool = False

    @property
    def to_remake(self) -> frozenset[str]:
        """Documents whose chunks must be made anew from their text."""
        return self.broken | self.duplicated | self.without_vector


class FeatureUpkeep(ChunkReader, FeatureWriter):
    """Healing after a crash, diagnosis, erasure, and the life of the indexes."""

    def heal(self) -> Health:
        """Remove chunks of no document, and name the documents whose chunks are not theirs."""
        self._refuse_old()
        self._lance.to_change()
        health = self._health()
        self._remove_chunks(health.orphans)
        return health

    def diagnose(self) -> Diagnosis:
        """What is wrong with chunks and their index; reads every vector and changes nothing."""
        if not self.exists():
            return Diagnosis()
        health = self._health()
        # The newest version: a snapshot for readers stays at the last one that has its index.
        table = self._snapshot() if self._lance.at is not None else self._lance.newest()
        seen: set[str] = set()
        doubled: set[str] = set()
        pointless: set[str] = set()
        with self._lance.reading():
            for batch in table.search().select(["id", "document_id", "vector"]).to_batches(4096):
                ids, documents = (batch.column(i).to_pylist() for i in range(2))
                vectors = shapes.matrix_of(batch.column(2))
                lengths = np.linalg.norm(vectors, axis=1)
                bad = ~np.isfinite(lengths) | (lengths == 0)
                for key, document, no_vector in zip(ids, documents, bad.tolist(), strict=True):
                    if key in seen:
                        doubled.add(document)
                    seen.add(key)
                    if no_vector:
                        pointless.add(document)
            unindexed = indexing.unindexed_rows(table)
            stale = unindexed > 0 or not indexing.has_text_index(table)
        return Diagnosis(
            orphans=health.orphans,
            broken=health.broken,
            duplicated=frozenset(doubled) - health.orphans,
            without_vector=frozenset(pointless) - health.orphans,
            unindexed_rows=unindexed,
            stale_index=stale,
        )

    def maintain(
        self,
        *,
        ann_threshold: int = indexing.ANN_THRESHOLD,
        progress: Progress = quiet,
        thoroughly: bool = False,
    ) -> MaintenanceReport:
        """Bring the indexes up to date, merge fragments where there are many, and let go of
        remembered vectors that no chunk has any more.

        With ``thoroughly`` every row is indexed, also where a scan of a few would do.
        """
        self._refuse_old()
        with self._lance.writing():
            self.forget_stale_vectors()
            for name in self._lance.names():
                if name == shapes.REBUILD:  # a crash left it after its rows had been adopted
                    self._lance.drop(name)
                elif name == shapes.DOCUMENTS:
                    indexing.compact(self._lance.open(name))
                elif shapes.is_vectors_name(name):
                    # The embedding cache has no readers of old versions but those at work.
                    indexing.compact(self._lance.open(name), keep=history.SHORTEST_AGE)
            return indexing.maintain(
                self._chunks_for_writing(),
                ann_threshold=ann_threshold,
                recall_file=self._recall_file,
                apart=lambda: self._lance.apart(self._lance.chunks),
                progress=progress,
                thoroughly=thoroughly,
            )

    def erase(self, document: str, *, progress: Progress = quiet) -> ErasedRows:
        """Remove a document from the tables, their earlier versions and the embedding caches.

        The tables are written anew: deleted rows would stay in the files. Versions with a tag stay
        with what they hold. Readers of an earlier version lose it.
        """
        self._refuse_old()
        if not self.exists():
            return ErasedRows()
        ours = one_of("document_id", [document])
        with self._lance.reading():
            query = self._chunks_for_writing().search().where(ours).select(["search_text"])
            texts = query.to_arrow()["search_text"].to_pylist()
        keys = [sha256_hex(text) for text in texts]
        vectors = 0
        self.delete([document])
        with self._lance.writing():
            if keys:  # by a crash, chunks may be left that no ledger line tells of
                self._chunks_for_writing().delete(ours)
            for name in self._lance.names():
                if shapes.is_vectors_name(name) and keys:
                    cache = self._lance.open(name)
                    before = int(cache.count_rows())
                    cache.delete(one_of("key", keys))
                    vectors += before - int(cache.count_rows())
            tags = sorted(self._chunks_for_writing().tags.list())
            versions = 0
            for name in self._lance.names():
                progress(ProgressEvent("rewrite", 0, None, name))
                # With a tagged version of the chunks belongs one of the documents.
                versions += self._lance.rewrite(
                    name, forget_versions=not tags or shapes.is_vectors_name(name)
                )
            indexing.ensure_text_index(self._chunks_for_writing())
        self.maintain(progress=progress)
        return ErasedRows(len(texts), vectors, versions, tuple(tags))

    def index_recall(self) -> float | None:
        """Share of the exact ten nearest that the vector index found when it was built.

        None without an index: then every search is exact.
        """
        if not self.exists() or indexing.vector_index(self._snapshot()) == "exact":
            return None
        return indexing.read_recall(self._recall_file)

    # Inside

    def _health(self) -> Health:
        held = self._chunk_hashes()
        broken = set()
        for entry in self.lines():
            record = entry.record
            made_from = shapes.document_hash(record.content_hash, record.settings_digest)
            expected = {made_from: record.chunks} if record.chunks else {}
            if held.pop(record.id, {}) != expected:
                broken.add(record.id)
        return Health(orphans=frozenset(held), broken=frozenset(broken))

    @property
    def _recall_file(self) -> Path:
        return self.layout.features / "vector_index.json"
