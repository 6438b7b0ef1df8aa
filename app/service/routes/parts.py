"""What routes are given: the caller, the worker, the store and its documents, by type."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from fti.app.service.admission.access import ANYBODY, Caller
from fti.app.service.documents import Documents
from fti.app.service.forms.public_names import PublicNames
from fti.app.service.worker import Worker
from fti.store.store import Store

# Coroutines, because what is no coroutine is run in a thread of its own, and these only look.


async def _worker(request: Request) -> Worker:
    worker: Worker = request.app.state.worker
    return worker


async def _store(request: Request) -> Store:
    return (await _worker(request)).answerers.store


async def _documents(request: Request) -> Documents:
    documents: Documents = request.app.state.documents
    return documents


async def _names(request: Request) -> PublicNames:
    names: PublicNames = request.app.state.names
    return names


async def _caller(request: Request) -> Caller:
    caller: Caller = getattr(request.state, "caller", ANYBODY)
    return caller


WorkerPart = Annotated[Worker, Depends(_worker)]
StorePart = Annotated[Store, Depends(_store)]
DocumentsPart = Annotated[Documents, Depends(_documents)]
NamesPart = Annotated[PublicNames, Depends(_names)]
CallerPart = Annotated[Caller, Depends(_caller)]
