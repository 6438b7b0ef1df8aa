"""Chat completions, as OpenAI's clients expect them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response

from fti.app.service.asking import Question, respond, server_event
from fti.app.service.forms import answer_bodies, schemas
from fti.app.service.routes.parts import CallerPart, NamesPart, WorkerPart
from fti.pipelines.inference.answering.answer_events import AnswerEvent
from fti.store.answer_types import Answer

router = APIRouter(prefix="/v1", tags=["chat"])


@router.post(
    "/chat/completions",
    response_model=None,
    responses={200: {"model": answer_bodies.Completion, "description": "The answer."}},
)
async def chat(
    asked: schemas.ChatRequest,
    request: Request,
    worker: WorkerPart,
    caller: CallerPart,
    names: NamesPart,
) -> Response:
    """Answer the last user turn from the documents."""
    text, history = asked.conversation()
    question = Question(
        text=text,
        history=history,
        model=asked.model,
        sampling=asked.sampling,
        collection=asked.collection,
        where=asked.where,
        at=asked.at,
        system=asked.system(),
        user=asked.asked_for,
        hint='End messages with {"role": "user", "content": "..."}.',
    )
    form = _Completion(str(request.base_url), usage=asked.includes_usage)
    return await respond(
        question,
        form,
        stream=bool(asked.stream),
        request=request,
        worker=worker,
        caller=caller,
        names=names,
    )


class _Completion:
    """An answer as a ``chat.completion``, or as the chunks of one."""

    def __init__(self, base_url: str, *, usage: bool) -> None:
        self._base_url = base_url
        self._usage = usage
        self._head: dict[str, Any] = {}

    def whole(self, answer: Answer) -> dict[str, Any]:
        return answer_bodies.completion(answer, self._base_url)

    def begun(self, first: AnswerEvent) -> Iterator[bytes]:
        self._head = {
            "id": first.answer_id,
            "object": "chat.completion.chunk",
            "created": first.created,
            "model": first.model,
        }
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> Iterator[bytes]:
        yield self._chunk({"content": text})

    def done(self, answer: Answer) -> Iterator[bytes]:
        if answer.citations:
            notes = answer_bodies.url_citations(answer, self._base_url)
            yield self._chunk({"content": "", "annotations": notes})
        extras = answer_bodies.extras(answer, self._base_url)
        yield self._chunk({}, answer_bodies.finish_reason(answer), **extras)
        if self._usage:
            yield server_event({**self._head, "choices": [], "usage": answer_bodies.usage(answer)})

    def failed(self, error: dict[str, Any]) -> Iterator[bytes]:
        yield server_event(error)

    def ended(self) -> Iterator[bytes]:
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return server_event({**self._head, "choices": [choice], **extra})
