"""What is wrong with the feature store, put right from what the store itself holds.

Documents whose chunks are damaged are cut and embedded again from their stored text; no file is
read. What has changed in the files since is the next ingest's.
"""

from __future__ import annotations

import numpy as np

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.resemblance import document_signature
from fti.pipelines.feature.splitting.chunking import chunk
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import seconds
from fti.store.errors import IntegrityError, PostconditionFailed
from fti.store.features.indexed_text import embedding_text
from fti.store.lance import shapes as tables
from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Document, Value
from fti.store.upkeep.checking import remedy


class RepairReport(Value):
    """What was repaired. ``left`` names documents that have no text to be made anew from;
    ``tables_remade`` tables of which files were damaged."""

    orphans_removed: int
    documents_remade: int
    rows_indexed: int
    left: tuple[str, ...] = ()
    tables_remade: tuple[str, ...] = ()


REPAIR = PipelineContract("repair")


@REPAIR.precondition("The stored texts are as they were written", raises=IntegrityError)
def texts_are_whole(store: Store) -> None:
    """Nothing here can be made anew from texts that are damaged."""
    if any(one.holds_rows for one in store.layout.sums.check() if one.table == tables.DOCUMENTS):
        raise IntegrityError(
            "The stored texts are damaged: a file of them differs from its checksum.",
            hint=f"Nothing was changed; {remedy(tables.DOCUMENTS)}.",
        )


@REPAIR.postcondition("What could not be put right is named, and nothing else is left")
def nothing_unnamed(store: Store, result: RepairReport) -> None:
    """No chunk is left of a document that is not there."""
    found = store.features.diagnose()
    if found.orphans or len(found.to_remake) != len(result.left):
        raise PostconditionFailed(
            f"{len(found.orphans)} documents that are not there have chunks still, and "
            f"{len(found.to_remake)} are damaged, of which {len(result.left)} are named."
        )


REPAIR.requires("seconds_p95", "at most", "s", seconds("repair"))


@REPAIR.enforced
def repair(
    *, store: Store, embedder: Embedder, config: FeatureConfig, progress: Progress = quiet
) -> RepairReport:
    """Remove chunks of no document, make damaged ones anew, and bring the indexes up to date.

    Where files of the chunks are damaged, all of them are made anew and their earlier versions go.

    Raises:
        StoreLocked: another process writes to the store.
        EmbedderMismatch: the store's vectors come from another embedder.
        IntegrityError: the texts are damaged, which nothing here can be made anew from.
    """
    features = store.features
    with store.layout.writing("repair"), store.runs.running("repair") as run:
        store.layout.sums.mend_journals()
        damage = list(store.layout.sums.check())
        damaged = {one.table for one in damage if one.holds_rows}
        if tables.CHUNKS not in damaged:
            features.require_identity(embedder.identity)
        aside = {one.table for one in damage} - damaged
        for name in sorted(aside & {tables.CHUNKS, tables.DOCUMENTS}):
            features.write_anew(name)
        features.start_anew(damaged | aside - {tables.CHUNKS, tables.DOCUMENTS}, embedder.identity)
        found = features.diagnose()
        features.heal()
        entries = {e.record.id: e for e in features.ledger() if e.record.id in found.to_remake}
        # Rows that are there twice must all go first: an upsert matches only one of them.
        features.remove_chunks(found.to_remake)
        done = 0
        for number, document in enumerate(features.documents(sorted(entries))):
            progress(ProgressEvent("repair", number, len(entries), document.source))
            features.replace([_remade(document, entries[document.id], embedder, config)])
            done += 1
        features.maintain(ann_threshold=config.ann_threshold, progress=progress, thoroughly=True)
        left = features.diagnose().to_remake
        features.record_version(run.id)
        sources = {r.id: r.source for r in features.records()}
        report = RepairReport(
            orphans_removed=len(found.orphans),
            documents_remade=done,
            rows_indexed=found.unindexed_rows,
            left=tuple(sorted(sources.get(i, i) for i in left)),
            tables_remade=tuple(sorted({one.table for one in damage})),
        )
        run.outputs["features_version"] = str(features.version())
        run.metrics.update(report.model_dump(mode="json"))
        run.status = "partial" if left else "done"
    return report


def _remade(
    document: Document, entry: LedgerEntry, embedder: Embedder, config: FeatureConfig
) -> DocumentUpdate:
    chunks = chunk(
        document,
        token_spans=embedder.token_spans,
        config=config.chunking,
        embedder_max_tokens=embedder.identity.max_tokens,
    )
    texts = [embedding_text(document.title, c.section, c.text, c.context) for c in chunks]
    vectors = (
        embedder.embed_documents(texts)
        if texts
        else np.zeros((0, embedder.identity.dimension), np.float32)
    )
    line = entry.record.model_copy(
        update={"settings_digest": config.digest(embedder.identity), "chunks": len(chunks)}
    )
    return DocumentUpdate(
        document=document,
        entry=LedgerEntry(line, entry.file, entry.file_hash, entry.file_documents),
        chunks=tuple(chunks),
        vectors=vectors,
        search_texts=tuple(texts),
        signature=document_signature(document.text) if chunks else b"",
    )
