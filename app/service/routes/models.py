"""Which models can be asked for, in OpenAI's form."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from fti.app.service.answerers import ModelCard
from fti.app.service.routes.parts import WorkerPart
from fti.store.errors import ModelNotFound

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
def list_models(worker: WorkerPart) -> dict[str, Any]:
    """Every name that a request's ``model`` may have: aliases, versions, what is built in.

    The last one is the embedder, for ``/v1/embeddings``; its ``kind`` says so.
    """
    return {"object": "list", "data": [model_body(c) for c in worker.answerers.cards()]}


@router.get("/models/{name:path}")
def get_model(name: str, worker: WorkerPart) -> dict[str, Any]:
    """One of them."""
    cards = worker.answerers.cards()
    found = next((card for card in cards if card.name == name), None)
    if found is None:
        raise ModelNotFound(
            f"The model {name!r} is not served here.",
            hint=f"Served: {', '.join(card.name for card in cards)}.",
        )
    return model_body(found)


def model_body(card: ModelCard) -> dict[str, Any]:
    """A served model in OpenAI's form, with the version that its name means now."""
    return {
        "id": card.name,
        "object": "model",
        "created": card.created,
        "owned_by": "fti",
        "kind": card.kind,
        "resolved": card.ref,
        "default": card.default,
    }
