"""What an answer rests on and what people said of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from fti.app.service import schemas, within
from fti.app.service.routes.parts import CallerPart, NamesPart, StorePart
from fti.app.service.static_pages import WEB, wants_page
from fti.pipelines.inference.tracing.answer_lineage import AnswerLineage, trace_answer
from fti.pipelines.inference.tracing.cited_source import SourceView

router = APIRouter(prefix="/v1", tags=["records"])


@router.get("/sources/{chunk_id}", response_model=SourceView)
def source(
    chunk_id: str,
    request: Request,
    store: StorePart,
    caller: CallerPart,
    names: NamesPart,
    answer: Annotated[
        str, Query(description="Id of the answer that cites it: as it was shown then.")
    ] = "",
) -> SourceView | FileResponse:
    """The passage a citation points at, with the quoted stretches and what stands around it.

    A browser that a person follows the link with (``Accept: text/html``) gets a page of it.
    """
    if wants_page(request.headers.get("accept", "")):
        return FileResponse(WEB / "source.html", headers={"Vary": "Accept"})
    return within.open_source(store, caller, names, chunk_id, answer)


@router.get("/answers/{answer_id}")
def lineage(
    answer_id: str, store: StorePart, caller: CallerPart, names: NamesPart
) -> AnswerLineage:
    """How an answer came to be. One that another key asked is not found."""
    return names.lineage(trace_answer(store, answer_id, visible=caller.may_see))


@router.post("/feedback", status_code=201)
def feedback(
    given: schemas.FeedbackRequest, store: StorePart, caller: CallerPart
) -> dict[str, Any]:
    """Keep a person's verdict on an answer, and what it should have been.

    An answer that another key asked is not found.
    """
    store.answers.feedback(given.verdict(), visible=caller.may_see)
    return {"answer_id": given.answer_id, "rating": given.rating}
