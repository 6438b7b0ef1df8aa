"""Whether the service lives, and whether it can answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from fti.app.service.routes.parts import StorePart, WorkerPart
from fti.store.errors import StoreEmpty

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(store: StorePart, worker: WorkerPart) -> dict[str, Any]:
    """Questions can be answered: documents are there, embedded as this service embeds questions.

    Without a model, nothing listens.
    """
    stats = store.features.stats()
    if stats.chunks == 0:
        raise StoreEmpty("There are no documents yet.", hint="Run: fti ingest FOLDER")
    store.features.require_identity(worker.answerers.first.retriever.embedder.identity)
    return {"status": "ready", "documents": stats.documents, "chunks": stats.chunks}
