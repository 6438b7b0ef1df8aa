"""Chat completions, as OpenAI's clients expect them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from fti.app.service import schemas
from fti.app.service.http_errors import DEFECT, body_of
from fti.app.service.public_names import PublicNames
from fti.app.service.routes.parts import CallerPart, NamesPart, WorkerPart
from fti.app.service.worker import unless_gone
from fti.pipelines.inference.answering.answer import AnswerEvent
from fti.store.errors import EmptyQuestion, FtiError
from fti.store.types import Answer

log = structlog.get_logger("fti.api")
router = APIRouter(prefix="/v1", tags=["chat"])


@router.post("/chat/completions", response_model=None)
async def chat(
    asked: schemas.ChatRequest,
    request: Request,
    worker: WorkerPart,
    caller: CallerPart,
    names: NamesPart,
) -> Response:
    """Answer the last user turn from the documents."""
    question, history = asked.conversation()
    if not question.strip():
        raise EmptyQuestion(
            "The last message is no question of a user.",
            hint='End messages with {"role": "user", "content": "..."}.',
        )
    events = worker.events(
        question,
        history,
        model=asked.model,
        sampling=asked.sampling,
        collections=caller.collections,
        key=caller.key,
    )
    base_url = str(request.base_url)
    try:
        if not asked.stream:
            answer = names.answer(await unless_gone(request, _whole(events)))
            return JSONResponse(schemas.completion(answer, base_url))
        # The first event is awaited here, so that what fails before any text has its own status.
        first = await unless_gone(request, anext(events))
    except ClientDisconnect:
        log.info("client_gone")
        return Response(status_code=499)
    return StreamingResponse(
        _sse(first, events, base_url, names, usage=asked.includes_usage),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # proxies shall pass each piece on
    )


async def _whole(events: AsyncIterator[AnswerEvent]) -> Answer:
    answer = None
    async for event in events:
        answer = event.answer or answer
    assert answer is not None  # every stream ends with its answer
    _log_answer(answer)
    return answer


async def _sse(
    first: AnswerEvent,
    events: AsyncIterator[AnswerEvent],
    base_url: str,
    names: PublicNames,
    *,
    usage: bool,
) -> AsyncIterator[bytes]:
    """The chunks of a streamed answer; what fails on the way is an error event in their place."""
    head = {
        "id": first.answer_id,
        "object": "chat.completion.chunk",
        "created": first.created,
        "model": first.model,
    }

    def chunk(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**head, "choices": [choice], **extra})

    yield chunk({"role": "assistant", "content": ""})
    try:
        async for event in events:
            if event.text:
                yield chunk({"content": event.text})
            if event.answer is not None:
                answer = names.answer(event.answer)
                _log_answer(answer)
                if answer.citations:
                    notes = schemas.url_citations(answer, base_url)
                    yield chunk({"content": "", "annotations": notes})
                yield chunk({}, schemas.finish_reason(answer), **schemas.extras(answer, base_url))
                if usage:
                    yield _event({**head, "choices": [], "usage": schemas.usage(answer)})
    except FtiError as error:
        log.warning("stream_failed", code=error.code, id=first.answer_id)
        yield _event(body_of(error, names.told))
    except Exception as error:  # the door for defects is closed once a stream has begun
        log.error("defect", id=first.answer_id, exc_info=error)
        yield _event(DEFECT)
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _log_answer(answer: Answer) -> None:
    log.info(
        "answered",
        id=answer.id,
        model=answer.model,
        abstained=answer.abstained,
        passages=len(answer.passages),
        finish_reason=answer.finish_reason,
        **{name: round(value, 4) for name, value in answer.timings.items()},
    )
