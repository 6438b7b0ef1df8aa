"""Responses, the newer form of OpenAI's API, for text.

A response that was kept (``store``, as by default) can be gone on from by its id. What it answered
stands in the log of answers anyway; kept are also the turns that were sent with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response

from fti.app.service.asking import Question, respond, server_event
from fti.app.service.forms import answer_bodies, schemas
from fti.app.service.forms.response_schemas import ResponseRequest
from fti.app.service.routes.parts import CallerPart, NamesPart, WorkerPart
from fti.pipelines.inference.answering.answer_events import AnswerEvent
from fti.store.answer_types import Answer

router = APIRouter(prefix="/v1", tags=["chat"])


@router.post("/responses", response_model=None)
async def respond_to(
    asked: ResponseRequest,
    request: Request,
    worker: WorkerPart,
    caller: CallerPart,
    names: NamesPart,
) -> Response:
    """Answer the last turn of the input from the documents."""
    text, sent = schemas.question_of(asked.turns())
    earlier: tuple[Any, ...] = ()
    if asked.previous_response_id:
        answers = worker.answerers.store.answers
        earlier = await asyncio.to_thread(
            answers.conversation, asked.previous_response_id, visible=caller.may_see
        )
    question = Question(
        text=text,
        history=(*earlier, *sent)[-schemas.MOST_MESSAGES :],
        model=asked.model,
        sampling=asked.sampling,
        collection=asked.collection,
        where=asked.where,
        at=asked.at,
        system=asked.system(),
        previous=asked.previous_response_id or "",
        user=asked.asked_for,
        kept=None if asked.store is False else sent,
        hint='Send input as a text, or end it with {"role": "user", "content": "..."}.',
    )
    return await respond(
        question,
        _Response(str(request.base_url), asked),
        stream=bool(asked.stream),
        request=request,
        worker=worker,
        caller=caller,
        names=names,
    )


class _Response:
    """An answer as a ``response``, or as the numbered events of one."""

    def __init__(self, base_url: str, asked: ResponseRequest) -> None:
        self._base_url = base_url
        self._asked = asked
        self._number = 0
        self._head: dict[str, Any] = {}
        self._item = ""
        self._text = ""

    def whole(self, answer: Answer) -> dict[str, Any]:
        incomplete = answer.finish_reason == "length"
        status = "incomplete" if incomplete else "completed"
        used = answer_bodies.usage(answer)
        return {
            **self._body(answer.id, int(answer.created_at.timestamp()), answer.model, status),
            "incomplete_details": {"reason": "max_output_tokens"} if incomplete else None,
            "temperature": answer.sampling.temperature,
            "top_p": answer.sampling.top_p,
            "output": [self._message(answer.id, status, [self._part(answer)])],
            "usage": {
                "input_tokens": used["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": used["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": used["total_tokens"],
            },
            **answer_bodies.extras(answer, self._base_url),
        }

    def begun(self, first: AnswerEvent) -> Iterator[bytes]:
        self._item = first.answer_id
        self._head = self._body(first.answer_id, first.created, first.model, "in_progress")
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._head)
        message = self._message(self._item, "in_progress", [])
        yield self._event("response.output_item.added", output_index=0, item=message)
        yield self._of_part("response.content_part.added", part=_text_part("", []))

    def piece(self, text: str) -> Iterator[bytes]:
        self._text += text
        yield self._of_part("response.output_text.delta", delta=text, logprobs=[])

    def done(self, answer: Answer) -> Iterator[bytes]:
        whole = self.whole(answer)
        (message,) = whole["output"]
        (part,) = message["content"]
        for index, note in enumerate(part["annotations"]):
            yield self._of_part(
                "response.output_text.annotation.added", annotation_index=index, annotation=note
            )
        yield self._of_part("response.output_text.done", text=answer.text, logprobs=[])
        yield self._of_part("response.content_part.done", part=part)
        yield self._event("response.output_item.done", output_index=0, item=message)
        yield self._event(f"response.{whole['status']}", response=whole)

    def failed(self, error: dict[str, Any]) -> Iterator[bytes]:
        """The response failed, with what there was of its text."""
        said = error["error"]
        code = "rate_limit_exceeded" if said["type"] == "rate_limit_error" else "server_error"
        part = _text_part(self._text, [])
        response = {
            **self._head,
            "status": "failed",
            # One of OpenAI's few codes, which clients know, and ours.
            "error": {"code": code, "message": said["message"], "type": said["code"]},
            "output": [self._message(self._item, "incomplete", [part])],
        }
        yield self._event("response.failed", response=response)

    def ended(self) -> Iterator[bytes]:
        yield from ()

    def _body(self, identifier: str, created: int, model: str, status: str) -> dict[str, Any]:
        asked = self._asked
        return {
            "id": identifier,
            "object": "response",
            "created_at": created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": model,
            "output": [],
            "parallel_tool_calls": False,
            "previous_response_id": asked.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "store": asked.store is not False,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": asked.top_p,
            "truncation": asked.truncation or "auto",
            "usage": None,
            "user": asked.user,
        }

    def _part(self, answer: Answer) -> dict[str, Any]:
        notes = [
            {"type": note["type"], **note["url_citation"]}
            for note in answer_bodies.url_citations(answer, self._base_url)
        ]
        return _text_part(answer.text, notes)

    def _message(self, identifier: str, status: str, content: list[Any]) -> dict[str, Any]:
        return {
            "id": f"msg_{identifier}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _of_part(self, name: str, **fields: Any) -> bytes:
        where = {"item_id": f"msg_{self._item}", "output_index": 0, "content_index": 0}
        return self._event(name, **where, **fields)

    def _event(self, name: str, **fields: Any) -> bytes:
        value = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return server_event(value, name)


def _text_part(text: str, annotations: list[Any]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
