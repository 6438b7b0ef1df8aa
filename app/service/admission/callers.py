"""What a request must pass before any route sees it: its name, its key, its site, its size.

Plain ASGI, as the guard is, which stands before this one and gives every response its headers.
Starlette's own body limit answers in plain text when the length was announced; this one keeps
OpenAI's form.
"""

from __future__ import annotations

import asyncio

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fti.app.service.admission.access import Access, caller_of
from fti.app.service.forms.http_errors import body_of, headers_of, status_of
from fti.app.service.forms.public_names import PublicNames
from fti.app.service.forms.static_pages import is_open
from fti.app.service.service_config import ServiceConfig
from fti.app.service.sites import Sites
from fti.store.errors import BodyTooLarge, CrossSite, FtiError, UnknownHost
from fti.store.logs.keys import ApiKey

_READING = ("GET", "HEAD", "OPTIONS")
_UPLOADS = "/v1/documents"
_SLOWEST = 5_000  # bytes of a body a second, once its time is over
_SHOWN = 100  # characters of a name that nobody here has given


class Gate:
    """Lets requests in or answers why not.

    Args:
        app: what it stands before.
        access: whose keys let in.
        config: names, pages, and how large bodies may be.
        names: what clients are told in place of paths.
    """

    def __init__(
        self, app: ASGIApp, access: Access, config: ServiceConfig, names: PublicNames
    ) -> None:
        self._app = app
        self._access = access
        self._config = config
        self._names = names
        self._asking = asyncio.Lock()
        self._sites = Sites(config.host, config.allowed_hosts, config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._config.max_body_bytes
        if scope["path"] == _UPLOADS and scope["method"] == "POST":
            limit = self._config.max_upload_bytes
        try:
            await self._admit(scope, headers)
            _require_small(headers, limit)
        except FtiError as error:
            content = body_of(error, self._names.told)
            refusal = JSONResponse(content, status_of(error), headers_of(error))
            await refusal(scope, receive, send)
            return
        received, whole = 0, False
        began = asyncio.get_running_loop().time()

        async def receive_bounded() -> Message:
            nonlocal received, whole
            if whole:  # what comes now is that the client leaves
                return await receive()
            longest = self._config.body_timeout_s + received / _SLOWEST
            try:
                async with asyncio.timeout_at(began + longest):
                    message = await receive()
            except TimeoutError as error:
                raise _too_slow(longest) from error
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > limit:
                raise HTTPException(413, _too_large(limit).message)
            return message

        if scope["method"] != "HEAD":
            await self._app(scope, receive_bounded, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # Routes know GET; what is sent for HEAD is the same without its body.
        scope["method"] = "GET"
        try:
            await self._app(scope, receive_bounded, send_head)
        finally:
            scope["method"] = "HEAD"

    async def _admit(self, scope: Scope, headers: Headers) -> None:
        if self._access.far:
            async with self._asking:
                let_in, key = await asyncio.to_thread(self._key_of, scope, headers)
        else:
            let_in, key = self._key_of(scope, headers)
        if let_in:
            return
        structlog.contextvars.bind_contextvars(key=key.id if key else "")
        scope.setdefault("state", {})["caller"] = caller_of(key)

    def _key_of(self, scope: Scope, headers: Headers) -> tuple[bool, ApiKey | None]:
        """Whether everybody is let in to this, and else by which key."""
        path, method = scope["path"], scope["method"]
        if not self._access.asks:
            self._require_our_own(method, headers)
        elif is_open(path, method, headers.get("accept", "")):
            return True, None
        return False, self._access.admit(headers.get("authorization", ""), method, path)

    def _require_our_own(self, method: str, headers: Headers) -> None:
        """Without keys, where a request was sent to and which page sent it are all there is."""
        hosts = headers.getlist("host")
        if not self._sites.answers_to(hosts):
            raise UnknownHost(
                f"This service does not answer to the name {', '.join(hosts)[:_SHOWN]!r} without "
                "API keys.",
                hint="Call it as localhost, add the name to service.allowed_hosts, or make a key: "
                "fti keys create NAME",
            )
        site = headers.get("sec-fetch-site", "")
        if method not in _READING and not self._sites.may_change(
            hosts[0] if hosts else "", headers.get("origin"), site
        ):
            # A form on another site can send a file here in its visitor's name.
            raise CrossSite(
                "Sent by a page of another site.",
                hint="Add its origin to service.cors_origins, or use an API key.",
            )


def _require_small(headers: Headers, limit: int) -> None:
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise _too_large(limit)


def _too_slow(longest: float) -> HTTPException:
    return HTTPException(
        408,
        f"The body did not come within {longest:.3g} s (service.body_timeout_s, and a second for "
        f"each {_SLOWEST} bytes).",
        # The rest of it may still come, and is no request.
        headers={"Connection": "close"},
    )


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes.")
