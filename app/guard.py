"""What stands before every route: who may come in, with how much, and what responses carry.

Plain ASGI, so that streams pass through piece by piece. It is the API's one door for defects: what
no handler knew becomes a 500 in OpenAI's form, and its traceback a line in the log.
"""

from __future__ import annotations

import hmac

import structlog
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http_errors import DEFECT, body

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
_OPEN = ("/", "/healthz", "/readyz")  # and the page's own files, which hold no data


class Guard:
    """Asks for a key, bounds bodies, adds security headers, turns defects into clean errors.

    Starlette's own body limit answers in plain text when the length was announced; this one keeps
    OpenAI's form.

    Args:
        app: what it guards.
        keys: bearer keys that let in; none means that no key is asked for.
        max_body_bytes: largest request body, announced or not.
    """

    def __init__(self, app: ASGIApp, keys: tuple[SecretStr, ...], max_body_bytes: int) -> None:
        self._app = app
        self._keys = [key.get_secret_value().encode() for key in keys]
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        started = False
        received = 0

        async def receive_guarded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise HTTPException(413, self._too_large)
            return message

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                sent = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        if not self._allows(scope["path"], headers):
            await _KEY_NEEDED(scope, receive, send_guarded)
            return
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_body_bytes:
            refusal = body(self._too_large, code="body_too_large", status=413)
            await JSONResponse(refusal, status_code=413)(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, receive_guarded, send_guarded)
        except Exception as error:
            log.error("defect", path=scope["path"], exc_info=error)
            if started:
                raise  # the connection breaks, so that half a body does not pass for a whole one
            await JSONResponse(DEFECT, status_code=500)(scope, receive, send_guarded)

    @property
    def _too_large(self) -> str:
        return f"The body is larger than {self._max_body_bytes} bytes."

    def _allows(self, path: str, headers: Headers) -> bool:
        if not self._keys or path in _OPEN or path.startswith("/static/"):
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Headers are read as latin-1, so this gives back the bytes that were sent.
        sent = given.strip().encode("latin-1")
        matches = [hmac.compare_digest(sent, key) for key in self._keys]
        return scheme.lower() == "bearer" and any(matches)


_KEY_NEEDED = JSONResponse(
    body(
        "A valid API key is needed: Authorization: Bearer KEY.", code="invalid_api_key", status=401
    ),
    status_code=401,
    headers={"WWW-Authenticate": "Bearer"},
)
