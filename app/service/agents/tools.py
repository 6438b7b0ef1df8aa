"""The tools themselves: what each does for a caller, by what the HTTP routes call too."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fti.app.service.admission import within
from fti.app.service.admission.access import Caller
from fti.app.service.agents.tool_values import (
    AddArguments,
    AddResult,
    Arguments,
    AskArguments,
    AskResult,
    ListArguments,
    ListResult,
    OpenArguments,
    SearchArguments,
    SearchResult,
    answered,
    listed,
    ranked,
)
from fti.app.service.asking import kept_within
from fti.app.service.documents import Documents, Job
from fti.app.service.forms.public_names import PublicNames
from fti.app.service.service_config import ServiceConfig
from fti.app.service.worker import Worker
from fti.pipelines.inference.tracing.cited_source import SourceView
from fti.store.errors import EmptyQuestion, OutsideCollections, ReadOnlyKey

_TELL_EVERY_S = 1.0  # while an answer is written
_LOOK_EVERY_S = 0.1  # after a document on its way into the store


@dataclass(frozen=True, slots=True)
class Parts:
    """What the tools work with: those of a service."""

    worker: Worker
    documents: Documents
    config: ServiceConfig
    names: PublicNames


#: Tells a client that waits how far its call is: done (which must grow), of how many, in words.
Tell = Callable[[float, float | None, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool. ``base_url``: where the service is served; empty where it is not."""

    parts: Parts
    caller: Caller
    base_url: str
    tell: Tell


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, and how it is described to a client."""

    title: str
    about: str
    takes: type[Arguments]
    gives: type[BaseModel]
    do: Callable[[Any, Call], Awaitable[BaseModel]]
    reads: bool = True
    """Whether it changes nothing."""


def offered(caller: Caller) -> dict[str, Tool]:
    """The tools that are there for a caller, by name."""
    return {name: tool for name, tool in TOOLS.items() if tool.reads or caller.may_add}


async def _search(asked: SearchArguments, call: Call) -> SearchResult:
    worker = call.parts.worker
    found = await worker.aside(
        lambda: within.search(
            worker.answerers.first.retriever,
            call.caller,
            call.parts.names,
            asked.query,
            k=asked.k,
            mode=asked.mode,
            where=asked.where,
            collection=asked.collection,
            at=asked.at,
        )
    )
    return SearchResult(
        passages=[ranked(call.parts.names.passage(p), call.base_url) for p in found]
    )


async def _ask(asked: AskArguments, call: Call) -> AskResult:
    if not asked.question.strip():
        raise EmptyQuestion("There is no question in the question.", hint="Ask one in words.")
    collections, where = await kept_within(
        call.parts.worker,
        call.caller,
        call.parts.names,
        collection=asked.collection,
        where=asked.where,
        at=asked.at,
    )
    answer, pieces, told = None, 0, 0.0
    await call.tell(0, None, "waiting for the model")
    events = call.parts.worker.events(
        asked.question,
        model=asked.model or None,
        collections=collections,
        where=where,
        at=asked.at,
        key=call.caller.key,
    )
    async with aclosing(events) as stream:
        async for event in stream:
            if event.kind == "passages":
                pieces += 1
                await call.tell(pieces, None, f"reading {len(event.passages)} passages")
                told = time.monotonic()
            elif event.text:
                pieces += 1
                if time.monotonic() - told >= _TELL_EVERY_S:
                    await call.tell(pieces, None, f"writing, {pieces - 1} pieces so far")
                    told = time.monotonic()
            answer = event.answer or answer
    assert answer is not None  # every stream ends with its answer
    return answered(call.parts.names.answer(answer), call.base_url)


async def _open_source(asked: OpenArguments, call: Call) -> SourceView:
    worker = call.parts.worker
    return await worker.aside(
        lambda: within.open_source(
            worker.answerers.store, call.caller, call.parts.names, asked.chunk_id, asked.answer_id
        )
    )


async def _list_documents(asked: ListArguments, call: Call) -> ListResult:
    worker = call.parts.worker
    sought = asked.containing.casefold()

    def work() -> ListResult:
        found = [
            record.model_copy(update={"source": name, "cause": call.parts.names.told(record.cause)})
            for record in within.records(worker.answerers.store, call.caller)
            for name in (call.parts.names.of(record.source),)
            if asked.state in (None, record.state)
            and (sought in name.casefold() or sought in record.title.casefold())
        ]
        shown = found[asked.offset : asked.offset + asked.limit]
        return ListResult(total=len(found), documents=[listed(record) for record in shown])

    return await worker.aside(work)


async def _add_document(asked: AddArguments, call: Call) -> AddResult:
    caller, documents = call.caller, call.parts.documents
    if caller.read_only or "write" not in caller.roles:
        raise ReadOnlyKey("This caller may not add documents.")
    if caller.collections:
        raise OutsideCollections(
            f"This key is for {', '.join(caller.collections)} alone; documents are added to the "
            "whole store."
        )
    content = io.BytesIO(asked.text.encode("utf-8"))
    job = await asyncio.to_thread(documents.add, asked.name, content)
    deadline = time.monotonic() + call.parts.config.answer_timeout_s
    stage, step = "", 0
    while job.finished_at is None and time.monotonic() < deadline:
        if (job.stage or job.state) != stage:
            stage, step = job.stage or job.state, step + 1
            await call.tell(step, None, stage)
        await asyncio.sleep(_LOOK_EVERY_S)
        job = documents.job(job.id)
    return _added(job)


def _added(job: Job) -> AddResult:
    going_on = "" if job.finished_at else "It goes on; list_documents says when it is there."
    return AddResult(
        document_id=job.document_id,
        name=job.name,
        state=job.state,
        reason=job.reason or going_on,
        chunks=job.chunks,
    )


TOOLS: Mapping[str, Tool] = {
    "search": Tool(
        "Search the documents",
        "Find the passages of the documents that a question or words lead to, best first, each "
        "with its document and where it stands there.",
        SearchArguments,
        SearchResult,
        _search,
    ),
    "ask": Tool(
        "Ask the documents",
        "Answer a question from the documents, with a citation for what is said, or say that they "
        "do not hold the answer. The sources come with it.",
        AskArguments,
        AskResult,
        _ask,
    ),
    "open_source": Tool(
        "Open a source",
        "The passage behind a citation or a search result, with what stands around it in its "
        "document.",
        OpenArguments,
        SourceView,
        _open_source,
    ),
    "list_documents": Tool(
        "List the documents",
        "Which documents there are, and what became of each: indexed, failed and why.",
        ListArguments,
        ListResult,
        _list_documents,
    ),
    "add_document": Tool(
        "Add a document",
        "Take a document in, so that searches and answers find it; one of the same name is "
        "replaced.",
        AddArguments,
        AddResult,
        _add_document,
        reads=False,
    ),
}
"""By the names that clients call them."""
