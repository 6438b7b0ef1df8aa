"""The HTTP service: an OpenAI-compatible chat API over the documents, and a plain chat page."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route

from fti.app.service.admission.access import Access
from fti.app.service.admission.callers import Gate
from fti.app.service.admission.guard import Guard
from fti.app.service.agents.mcp_server import AgentEndpoint
from fti.app.service.agents.tools import Parts
from fti.app.service.answerers import Answerers, Build
from fti.app.service.counters import CONTENT_TYPE, Metrics
from fti.app.service.documents import Documents
from fti.app.service.forms.http_errors import body, body_of, headers_of, status_of
from fti.app.service.forms.openapi import described
from fti.app.service.forms.public_names import PublicNames
from fti.app.service.forms.static_pages import PAGES, WEB
from fti.app.service.job_starter import Jobs, Profile
from fti.app.service.routes import (
    chat,
    documents,
    health,
    jobs,
    models,
    monitoring,
    records,
    registry,
    responses,
    retrieval,
    usage,
)
from fti.app.service.service_config import ServiceConfig
from fti.app.service.sites import is_loopback, require_named
from fti.app.service.worker import Worker
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.inference.answering.answer import Assistant
from fti.store.errors import FtiError
from fti.store.store import Store
from fti.store.upkeep.asked_questions import AnswersConfig, expire_asked

log = structlog.get_logger("fti.api")
_DAY_S = 86_400.0
_SHOWN = 100  # characters of a path that there is not
_PARTS = (
    chat, responses, models, retrieval, records, documents, registry, monitoring, jobs,
    usage, health,
)  # fmt: skip


def create_app(
    assistant: Assistant,
    config: ServiceConfig | None = None,
    *,
    name: str = "",
    build: Build | None = None,
    built_in: Sequence[str] = ("base", "extractive"),
    features: FeatureConfig | None = None,
    profile: Profile | None = None,
    answers: AnswersConfig | None = None,
) -> FastAPI:
    """The service around a loaded assistant and its store.

    Args:
        assistant: what answers. Loading it first makes a missing model an error of the command
            that serves, before anything listens.
        config: limits and keys.
        name: under which it was asked for (``reader@champion``); clients may use it beside the
            assistant's own name, and it means what the alias means at the time.
        build: makes the assistants of other models when a request names them; None: only
            ``assistant`` is served.
        built_in: what ``build`` knows beside the versions of the registry.
        features: how uploaded documents are read and split.
        profile: how the settings of jobs come about; None: it starts none.
        answers: how long what people asked is kept; None: for ever.

    Raises:
        ConfigError: every page is to be let in although no key is asked for.
    """
    config = config or ServiceConfig()
    access = Access(assistant.store.keys, config, usage=assistant.store.usage)
    require_named(config.cors_origins, asks=access.asks)
    metrics = Metrics(assistant.store)
    answerers = Answerers(assistant, config, name=name, build=build, built_in=built_in)
    app = FastAPI(
        title="fti",
        summary="Answers from your documents, with citations.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.metrics = metrics
    app.state.names = names = PublicNames(assistant.store)
    app.state.worker = Worker(answerers, config, metrics)
    app.state.documents = Documents(
        assistant.store,
        lambda: answerers.first.retriever.embedder,
        features or FeatureConfig(),
        config,
        names,
    )
    app.state.jobs = Jobs(assistant.store, profile, config)
    app.state.local = is_loopback(config.host)
    app.state.answers = answers or AnswersConfig()
    app.state.agents = AgentEndpoint(Parts(app.state.worker, app.state.documents, config, names))
    app.add_exception_handler(FtiError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    # The last one added is the first that a request meets.
    app.add_middleware(Gate, access=access, config=config, names=names)
    if config.cors_origins:
        # Before the gate, so that a page can read why it was refused.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("X-Request-Id", "Retry-After"),
            allow_private_network=True,
        )
    app.add_middleware(Guard, metrics=metrics)
    for part in _PARTS:
        app.include_router(part.router)
    for path, file in PAGES.items():
        app.add_api_route(path, _page(file), include_in_schema=False)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    app.router.routes.append(Route(AgentEndpoint.path, app.state.agents, methods=["POST"]))
    app.openapi = described(app)  # type: ignore[method-assign]  # FastAPI's way to extend it
    app.mount("/static", StaticFiles(directory=WEB), name="static")
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    worker: Worker = app.state.worker
    # What was ingested is read once; later, only what came since.
    await asyncio.to_thread(app.state.names.of, "/")
    following = asyncio.gather(
        worker.answerers.follow(), _expire(worker.answerers.store, app.state.answers)
    )
    agents: AgentEndpoint = app.state.agents
    await asyncio.to_thread(app.state.jobs.resume_interrupted)
    try:
        async with agents.running():
            yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(app.state.documents.close)
        await asyncio.to_thread(app.state.jobs.close)
        worker.close()
        await asyncio.to_thread(worker.answerers.store.usage.flush)


async def _expire(store: Store, config: AnswersConfig) -> None:
    """Once a day, and at the start, remove what people asked too long ago."""
    while config.retention_days is not None:
        try:
            gone = await asyncio.to_thread(expire_asked, store, config)
        except FtiError as error:
            log.error("not_expired", code=error.code)
        else:
            log.info("expired", answers=gone.answers, rejected=gone.rejected_questions)
        await asyncio.sleep(_DAY_S)


def _page(file: str) -> Callable[[], Awaitable[FileResponse]]:
    async def page() -> FileResponse:
        return FileResponse(WEB / file, media_type="text/html")

    return page


async def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    return Response(await asyncio.to_thread(metrics.text), media_type=CONTENT_TYPE)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, FtiError)
    status = status_of(error)
    log.warning("request_failed", code=error.code, status=status, route=request.scope["route"].path)
    content = body_of(error, request.app.state.names.told)
    return JSONResponse(content, status_code=status, headers=headers_of(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        at, why = first["loc"][-1], first.get("ctx", {}).get("error", "it breaks off")
        return _error(400, f"The body is not JSON: {why} at character {at}.", "invalid_request")
    if tuple(first["loc"]) == ("body",) and first["type"] in _NO_OBJECT:
        sent = request.headers.get("content-type", "")
        what = "The body is no JSON object."
        if request.method == "POST" and "json" not in sent:
            named = f"as {sent[:60]!r}" if sent else "without a Content-Type"
            what = f"The body was sent {named}; send it as Content-Type: application/json."
        return _error(400, what, "invalid_request")
    where = _openai_path(first["loc"], error.body)
    what = first["msg"].removeprefix("Value error, ")
    if where == "file" and isinstance(first.get("input"), str):
        what = "is a text and no file; send it with a filename"
    elif first["type"] == "extra_forbidden":
        what = "is not known here; leave it out"
    return _error(400, f"{where or 'body'}: {what}", "invalid_request", param=where or None)


_NO_OBJECT = ("missing", "model_attributes_type", "model_type", "dict_type")


def _openai_path(location: Sequence[str | int], body: Any) -> str:
    """Where in a request something is, as OpenAI's errors say it: ``messages[0].content``.

    Pydantic's location also names the types that it tried, which the client never wrote.
    """
    path = ""
    place = body if location[:1] == ("body",) else None
    parts = location[1:] if location[:1] in (("body",), ("query",), ("path",)) else location
    for number, part in enumerate(parts, start=1):
        if isinstance(part, int):
            path += f"[{part}]"
            place = place[part] if isinstance(place, list) and part < len(place) else None
        elif isinstance(place, Mapping):
            if part in place or number == len(parts):
                path += f".{part}" if path else part
                place = place.get(part)
        elif place is None and part.isidentifier():
            path += f".{part}" if path else part
    return path


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {
        404: "not_found",
        405: "method_not_allowed",
        408: "request_timeout",
        413: "body_too_large",
    }
    code = codes.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    said = str(error.detail)
    if error.status_code == 405:
        allowed = ", ".join(_allowed(request))
        headers["Allow"] = allowed
        said = f"{request.method} is not for {request.url.path[:_SHOWN]!r}, which takes {allowed}."
    elif error.status_code == 404:
        said = _no_such_path(request)
    return _error(error.status_code, said, code, headers=headers)


def _no_such_path(request: Request) -> str:
    """What there is, in place of a path that there is not."""
    path = request.url.path
    missing = f"There is no {path[:_SHOWN]!r} here."
    if not path.startswith("/v1"):
        return f"{missing} The pages are {', '.join(PAGES)}; the API is below /v1, see /docs."
    there = {p: ", ".join(map(str.upper, methods)) for p, methods in _paths(request.app).items()}
    near = difflib.get_close_matches(path, there, n=1, cutoff=0.5)
    first = f" Perhaps {there[near[0]]} {near[0]} is meant." if near else ""
    listed = "; ".join(f"{methods} {p}" for p, methods in there.items() if p.startswith("/v1"))
    return f"{missing}{first} There is: {listed}."


def _paths(app: FastAPI) -> Mapping[str, Sequence[str]]:
    """The documented paths, each with its methods."""
    return {path: list(operations) for path, operations in app.openapi()["paths"].items()}


def _allowed(request: Request) -> list[str]:
    """The methods of all routes to a path; Starlette names those of the first one alone."""
    methods: set[str] = set()
    pages = (r for r in request.app.routes if getattr(r, "methods", None))
    for route in (*pages, *(route for part in _PARTS for route in part.router.routes)):
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ())
    if not methods:  # files, whose mount names none
        methods = {"GET"}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _error(
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    content = body(message, code=code, status=status, param=param)
    return JSONResponse(content, status_code=status, headers=headers)
