"""Documents brought into the store, as a command and a pipeline step ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fti.app.build import build_embedder

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.feature.ingesting.executors import ExecutorName
    from fti.pipelines.feature.ingesting.ingest_report import IngestReport
    from fti.store.progress import Progress
    from fti.store.store import Store


def ingest_documents(
    settings: Settings,
    store: Store,
    sources: Sequence[str],
    *,
    delete_missing: bool = False,
    re_embed: bool = False,
    collection: str | None = None,
    retry_failed: bool = False,
    executor: ExecutorName = "local",
    workers: int | None = None,
    progress: Progress,
) -> IngestReport:
    """Bring the feature store up to date with files and folders."""
    from fti.pipelines.feature.ingesting.ingest import ingest

    return ingest(
        sources,
        store=store,
        embedder=build_embedder(settings),
        config=settings.features,
        delete_missing=delete_missing,
        re_embed=re_embed,
        collection=collection,
        retry_failed=retry_failed,
        executor=executor,
        workers=workers,
        progress=progress,
    )
