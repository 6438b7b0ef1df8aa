"""Documents into features: found, read, cleaned, split, embedded, stored.

``ingest`` may be killed at any point and run again: nothing is lost and nothing is there twice.
The order makes it so. Vectors are remembered first, then the chunks of a batch of documents change
at once, then their texts and ledger lines. What a crash leaves between the last two is found
by ``FeatureStore.heal`` and taken again, with the vectors at hand.

``ingest_run`` decides, by the ledger, what is taken. Files are read and split by ``preparing``,
where ``executors`` says; ``committing`` embeds and writes, at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.finding.discovering import discover
from fti.pipelines.feature.finding.sources import Discovery
from fti.pipelines.feature.ingesting.executors import (
    Executor,
    ExecutorName,
    InProcess,
    open_executor,
)
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.feature.ingesting.ingest_run import Ingest
from fti.pipelines.feature.ingesting.missing_files import is_gone
from fti.pipelines.feature.ingesting.probing import WORTHWHILE_BYTES, settle
from fti.pipelines.feature.reading.parsing import Parser
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import memory, rate, recall, share
from fti.store.errors import EmbedderMismatch, PostconditionFailed
from fti.store.lance.shapes import STREAM
from fti.store.progress import Progress, quiet
from fti.store.store import Store
from fti.store.versioned.versions import check_name

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


INGEST.requires("chunks_per_s", "at least", "per s", rate("ingest", "embedded_chunks"))
INGEST.requires("failed_share", "at most", "", share("ingest", "failed", "added", "updated"))
INGEST.requires("index_recall", "at least", "", recall)
INGEST.requires("memory_mb", "at most", "MB", memory("ingest"))


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
        [name for name in names if not is_gone(name)],
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
