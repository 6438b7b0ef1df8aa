"""What stands before every route: who may come in, with how much, and what responses carry.

Plain ASGI, so that streams pass through piece by piece. It is the API's one door for defects: what
no handler knew becomes a 500 in OpenAI's form, and its traceback a line in the log. Every request
gets an id, which its log lines and its response carry.
"""

from __future__ import annotations

import re
import secrets
import time

import structlog
from opentelemetry.context import attach, detach
from opentelemetry.propagate import extract
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fti.app.service.access import Access
from fti.app.service.counters import Metrics
from fti.app.service.http_errors import DEFECT, body, body_of, headers_of, status_of
from fti.app.service.service_config import ServiceConfig
from fti.app.service.static_pages import is_open
from fti.store.errors import FtiError

log = structlog.get_logger("fti.api")

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UPLOADS = "/v1/documents"


class Guard:
    """Asks for a key, bounds bodies, adds headers, counts, turns defects into clean errors.

    Starlette's own body limit answers in plain text when the length was announced; this one keeps
    OpenAI's form.

    Args:
        app: what it guards.
        access: who may come in.
        config: how large bodies may be.
        metrics: told of every request.
    """

    def __init__(
        self, app: ASGIApp, access: Access, config: ServiceConfig, metrics: Metrics
    ) -> None:
        self._app = app
        self._access = access
        self._config = config
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"r-{secrets.token_hex(6)}"
        began = time.perf_counter()
        status = 499  # until something is sent, the client has left

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        # A caller that traces says so in its headers; what is done here is part of its trace.
        token = attach(extract(headers))
        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                await self._answer(scope, receive, send_guarded, headers)
            except Exception as error:
                log.error("defect", route=_route(scope), exc_info=error)
                if status != 499:
                    raise  # the connection breaks, so half a body does not pass for a whole one
                await JSONResponse(DEFECT, status_code=500)(scope, receive, send_guarded)
            finally:
                detach(token)
                self._note(scope, status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        path, method = scope["path"], scope["method"]
        limit = self._config.max_body_bytes
        if path == _UPLOADS and method == "POST":
            limit = self._config.max_upload_bytes
        received = 0

        async def receive_guarded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, _too_large(limit))
            return message

        if not is_open(path, method, headers.get("accept", "")):
            try:
                key = self._access.admit(headers.get("authorization", ""), method, path)
            except FtiError as error:
                refusal = JSONResponse(body_of(error), status_of(error), headers_of(error))
                await refusal(scope, receive, send)
                return
            structlog.contextvars.bind_contextvars(key=key.id if key else "")
            scope.setdefault("state", {})["collections"] = key.collections if key else ()
        if method not in ("GET", "HEAD") and headers.get("sec-fetch-site") in _ELSEWHERE:
            # A form on another site can send a file here in its visitor's name.
            refused = body("Sent by a page of another site.", code="cross_site", status=403)
            await JSONResponse(refused, status_code=403)(scope, receive, send)
            return
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            too_large = body(_too_large(limit), code="body_too_large", status=413)
            await JSONResponse(too_large, status_code=413)(scope, receive, send)
            return
        await self._app(scope, receive_guarded, send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        self._metrics.request(scope["method"], route, status, seconds)
        if route not in _QUIET:
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                seconds=round(seconds, 4),
            )


_ELSEWHERE = ("cross-site", "same-site")
_QUIET = ("/healthz", "/readyz", "/metrics", "/static")  # asked every few seconds


def _route(scope: Scope) -> str:
    """The route's pattern: paths themselves may hold text, and are without number."""
    path = getattr(scope.get("route"), "path", "")
    return path or ("/static" if scope["path"].startswith("/static/") else "unmatched")


def _too_large(limit: int) -> str:
    return f"The body is larger than {limit} bytes."
