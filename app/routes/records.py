"""What an answer rests on and what people said of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app import schemas
from app.routes.parts import StorePart
from pipelines.inference.trace import AnswerLineage, SourceView, trace_answer, trace_source

router = APIRouter(prefix="/v1", tags=["records"])


@router.get("/sources/{chunk_id}")
def source(
    chunk_id: str,
    store: StorePart,
    answer: Annotated[
        str, Query(description="Id of the answer that cites it: as it was shown then.")
    ] = "",
) -> SourceView:
    """The passage a citation points at, with the quoted stretches and what stands around it."""
    return trace_source(store, chunk_id, answer)


@router.get("/answers/{answer_id}")
def lineage(answer_id: str, store: StorePart) -> AnswerLineage:
    """How an answer came to be."""
    return trace_answer(store, answer_id)


@router.post("/feedback", status_code=201)
def feedback(given: schemas.FeedbackRequest, store: StorePart) -> dict[str, Any]:
    """Keep a person's verdict on an answer, and what it should have been."""
    store.answers.feedback(given.verdict())
    return {"answer_id": given.answer_id, "rating": given.rating}
