"""What an answer rests on and what people said of it."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from fti.app.operations.corrections import correction_json
from fti.app.service.admission import within
from fti.app.service.forms import schemas
from fti.app.service.forms.static_pages import WEB, wants_page
from fti.app.service.routes.parts import CallerPart, NamesPart, StorePart
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


@router.get("/corrections")
def corrections(
    store: StorePart,
    caller: CallerPart,
    names: NamesPart,
    state: Annotated[
        Literal["pending", "accepted", "rejected"] | None, Query(description="All without.")
    ] = None,
) -> dict[str, Any]:
    """Corrections that people gave, oldest first, with what was decided on each.

    Those of answers that another key asked are not listed.
    """
    seen: Counter[str] = Counter()
    data = []
    for correction in store.answers.corrections():
        seen[correction.answer.id] += 1
        if state in (None, correction.state) and caller.may_see(correction.answer):
            number = {"number": seen[correction.answer.id]}  # as a decision names it
            data.append(correction_json(names.correction(correction)) | number)
    return {"object": "list", "data": data}


@router.post("/corrections/{answer_id}")
def review(
    answer_id: str,
    given: schemas.ReviewRequest,
    store: StorePart,
    caller: CallerPart,
    names: NamesPart,
) -> dict[str, Any]:
    """Decide whether a correction may teach a model; deciding again replaces the decision."""
    store.answers.get(answer_id, visible=caller.may_see)
    done = store.answers.review(
        answer_id, given.decision, number=given.number, answer=given.answer, reason=given.reason
    )
    return correction_json(names.correction(done))


@router.post("/feedback", status_code=201)
def feedback(
    given: schemas.FeedbackRequest, store: StorePart, caller: CallerPart
) -> dict[str, Any]:
    """Keep a person's verdict on an answer, and what it should have been.

    An answer that another key asked is not found.
    """
    store.answers.feedback(given.verdict(), visible=caller.may_see)
    return {"answer_id": given.answer_id, "rating": given.rating}
