"""What an answer rests on and what people said of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app import schemas
from app.routes.parts import StorePart
from pipelines.inference.trace import trace_answer
from store.types import Feedback

router = APIRouter(prefix="/v1")


@router.get("/sources/{chunk_id}")
def source(chunk_id: str, store: StorePart) -> dict[str, Any]:
    """The passage a citation points at, as it stands now."""
    chunk, title, where = store.features.chunk(chunk_id)
    return {
        "chunk_id": chunk.id,
        "title": title,
        "document": where,
        "section": list(chunk.section),
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
    }


@router.get("/answers/{answer_id}")
def lineage(answer_id: str, store: StorePart) -> dict[str, Any]:
    """How an answer came to be."""
    return trace_answer(store, answer_id).model_dump(mode="json")


@router.post("/answers/{answer_id}/feedback")
def feedback(answer_id: str, given: schemas.FeedbackRequest, store: StorePart) -> dict[str, Any]:
    """Keep a person's verdict on an answer."""
    store.answers.feedback(
        Feedback(answer_id=answer_id, rating=given.rating, comment=given.comment)
    )
    return {"id": answer_id, "rating": given.rating}
