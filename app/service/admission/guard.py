"""What stands before everything: what responses carry, what is counted, what becomes of defects.

Plain ASGI, so that streams pass through piece by piece. It is the API's one door for defects: what
no handler knew becomes a 500 in OpenAI's form, and its traceback a line in the log. Every request
gets an id, which its log lines and its response carry. Who may come in is for the gate.
"""

from __future__ import annotations

import re
import secrets
import time

import structlog
from opentelemetry.context import attach, detach
from opentelemetry.propagate import extract
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fti.app.service.counters import Metrics
from fti.app.service.forms.http_errors import DEFECT

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


class Guard:
    """Adds headers, counts, turns defects into clean errors.

    Args:
        app: what it guards.
        metrics: told of every request.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
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
                status = int(message["status"])  # an HTTPStatus is shown by its name
                sent = MutableHeaders(scope=message)
                sent["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        # A caller that traces says so in its headers; what is done here is part of its trace.
        token = attach(extract(headers))
        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                await self._app(scope, receive, send_guarded)
            except Exception as error:
                log.error("defect", route=_route(scope), exc_info=error)
                if status != 499:
                    raise  # the connection breaks, so half a body does not pass for a whole one
                await JSONResponse(DEFECT, status_code=500)(scope, receive, send_guarded)
            finally:
                detach(token)
                self._note(scope, status, time.perf_counter() - began)

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


_QUIET = ("/healthz", "/readyz", "/metrics", "/static")  # asked every few seconds


def _route(scope: Scope) -> str:
    """The route's pattern: paths themselves may hold text, and are without number."""
    path = getattr(scope.get("route"), "path", "")
    return path or ("/static" if scope["path"].startswith("/static/") else "unmatched")
