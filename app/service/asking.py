"""A question put to the worker, and its answer sent in one of the API's forms, whole or in pieces.

What the forms have in common is here: errors before the first piece have their own status, errors
after it are events, a client that leaves stops the work, and each answer is logged. How an answer
reads is for an ``AnswerForm``; ``routes.chat`` and ``routes.responses`` have one each.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from fti.app.service.admission import within
from fti.app.service.admission.access import Caller
from fti.app.service.forms.http_errors import DEFECT, body_of
from fti.app.service.forms.public_names import PublicNames
from fti.app.service.worker import Worker, unless_gone
from fti.pipelines.inference.answering.answer_events import AnswerEvent
from fti.store.answer_types import Answer, Sampling, user_digest
from fti.store.errors import EmptyQuestion, FtiError
from fti.store.features.filters import Condition
from fti.store.types import Message

log = structlog.get_logger("fti.api")


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks, and how.

    Args:
        text: the question.
        history: the turns before it, oldest first.
        model: name of what shall answer; None: the default.
        sampling: how tokens are chosen, given how that is configured.
        collection: only from passages of this one; empty: of all that the caller may ask.
        where: only from passages for which these conditions hold.
        at: an earlier version of the features to answer from, or a tag; empty: the one of now.
        system: what the caller would have the model told; only the plain model is.
        previous: id of the answer that this one goes on from.
        user: whom it is asked for, as the client names them.
        kept: turns to keep with the answer, so that another can go on from it; None: none can.
        hint: what to do where there is no question.
    """

    text: str
    history: tuple[Message, ...]
    model: str | None
    sampling: Callable[[Sampling], Sampling]
    collection: str = ""
    where: Mapping[str, str] | Sequence[str] = ()
    at: str = ""
    system: str = ""
    previous: str = ""
    user: str = ""
    kept: tuple[Message, ...] | None = None
    hint: str = ""


class AnswerForm(Protocol):
    """How one answer reads to a client. A stream calls ``begun`` first, then the others in turn."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        ...

    def begun(self, first: AnswerEvent) -> Iterator[bytes]:
        """What a stream begins with."""
        ...

    def piece(self, text: str) -> Iterator[bytes]:
        """More of the text."""
        ...

    def done(self, answer: Answer) -> Iterator[bytes]:
        """The whole answer is known."""
        ...

    def failed(self, error: dict[str, Any]) -> Iterator[bytes]:
        """It broke off; ``error`` is OpenAI's error body."""
        ...

    def ended(self) -> Iterator[bytes]:
        """The last of the stream, whatever became of it."""
        ...


async def respond(
    question: Question,
    form: AnswerForm,
    *,
    stream: bool,
    request: Request,
    worker: Worker,
    caller: Caller,
    names: PublicNames,
) -> Response:
    """Answer a question in a form.

    Raises:
        EmptyQuestion: there is none.
        OutsideCollections: it asks for what the caller's key is not for.
        FtiError: it cannot be answered, and nothing was sent yet.
    """
    if not question.text.strip():
        raise EmptyQuestion("The last message is no question of a user.", hint=question.hint)
    collections, where = await kept_within(
        worker, caller, names, collection=question.collection, where=question.where, at=question.at
    )
    events = worker.events(
        question.text,
        question.history,
        model=question.model,
        sampling=question.sampling,
        collections=collections,
        where=where,
        at=question.at,
        key=caller.key,
        user=user_digest(question.user),
        system=question.system,
        previous=question.previous,
        kept=question.kept,
    )
    try:
        if not stream:
            answer = names.answer(await unless_gone(request, _whole(events)))
            return JSONResponse(form.whole(answer))
        # The first event is awaited here, so that what fails before any text has its own status.
        first = await unless_gone(request, anext(events))
    except ClientDisconnect:
        log.info("client_gone")
        return Response(status_code=499)
    return StreamingResponse(
        _streamed(first, events, form, names),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # proxies shall pass each piece on
    )


async def kept_within(
    worker: Worker,
    caller: Caller,
    names: PublicNames,
    *,
    collection: str,
    where: Mapping[str, str] | Sequence[str],
    at: str,
) -> tuple[Sequence[str], Sequence[Condition]]:
    """What ``within.bounds`` says of a question, without waiting where nothing is asked for."""
    if not (collection or where or at):
        return caller.collections, ()
    features = worker.answerers.first.retriever.features
    return await worker.aside(
        lambda: within.bounds(features, caller, names, collection=collection, where=where, at=at)
    )


def server_event(value: dict[str, Any], name: str = "") -> bytes:
    """A server-sent event with a JSON value."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


async def _whole(events: AsyncIterator[AnswerEvent]) -> Answer:
    answer = None
    async for event in events:
        answer = event.answer or answer
    assert answer is not None  # every stream ends with its answer
    _log_answer(answer)
    return answer


async def _streamed(
    first: AnswerEvent, events: AsyncIterator[AnswerEvent], form: AnswerForm, names: PublicNames
) -> AsyncIterator[bytes]:
    """The events of a streamed answer; what fails on the way is an event in their place."""
    for event in form.begun(first):
        yield event
    try:
        async for step in events:
            if step.text:
                for event in form.piece(step.text):
                    yield event
            if step.answer is not None:
                _log_answer(step.answer)
                for event in form.done(names.answer(step.answer)):
                    yield event
    except FtiError as error:
        log.warning("stream_failed", code=error.code, id=first.answer_id)
        for event in form.failed(body_of(error, names.told)):
            yield event
    except Exception as error:  # the door for defects is closed once a stream has begun
        log.error("defect", id=first.answer_id, exc_info=error)
        for event in form.failed(DEFECT):
            yield event
    for event in form.ended():
        yield event


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
