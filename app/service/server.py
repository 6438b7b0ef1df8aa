"""The server around the service: uvicorn, with an end to waiting for headers that do not come.

uvicorn waits without end for a request's headers, so that a few hundred connections that send a
byte now and then would hold all sockets. How long a body may take is for the gate, which can answer
in words; here its rest is not waited for once the answer has been given.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fti.app.service.forms.http_errors import body
from fti.app.service.service_config import ServiceConfig


def make_server(
    app: ASGIApp, config: ServiceConfig, *, port: int | None = None, drain_s: float | None = None
) -> uvicorn.Server:
    """A server of the app, to be run.

    Args:
        app: what answers.
        config: address and times.
        port: in place of the configured one.
        drain_s: in place of the configured one.
    """
    drain_s = config.drain_s if drain_s is None else drain_s
    return uvicorn.Server(
        _Config(
            app,
            header_timeout_s=config.header_timeout_s,
            host=config.host,
            port=config.port if port is None else port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=round(drain_s),
        )
    )


class _Config(uvicorn.Config):
    """uvicorn's, with what our protocol needs to know."""

    def __init__(self, app: ASGIApp, *, header_timeout_s: float, **options: Any) -> None:
        super().__init__(app, http=_Impatient, **options)
        self.header_timeout_s = header_timeout_s


class _Impatient(H11Protocol):
    """uvicorn's protocol, with a time by which the client must have sent what it owes."""

    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request's headers are awaited from here on."""
        super().connection_made(transport)
        self._await_client()

    def data_received(self, data: bytes) -> None:
        """Some of what is awaited, or all of it."""
        super().data_received(data)
        self._await_client()

    def on_response_complete(self) -> None:
        """The next request may have begun to come already."""
        super().on_response_complete()
        self._await_client()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._rest()
        super().connection_lost(exc)

    def _await_client(self) -> None:
        """Set the alarm where the client owes us something; more bytes do not put it off."""
        if not self._is_owed() or self.transport.is_closing():
            self._rest()
        elif self._alarm is None:
            assert isinstance(self.config, _Config)
            self._alarm = self.loop.call_later(self.config.header_timeout_s, self._too_slow)

    def _is_owed(self) -> bool:
        theirs = self.conn.their_state
        if theirs is h11.IDLE:  # between requests, uvicorn's limit of keep-alive holds
            return self.cycle is None or bool(self.conn.trailing_data[0])
        return theirs is h11.SEND_BODY and self.cycle.response_complete

    def _rest(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _too_slow(self) -> None:
        self._alarm = None
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._say_late()
        self.transport.close()

    def _say_late(self) -> None:
        """Answer the beginning of a request. Who sent nothing at all is told nothing."""
        assert isinstance(self.config, _Config)
        late = f"The request's headers took longer than {self.config.header_timeout_s:g} s."
        said = json.dumps(body(late, code="request_timeout", status=408)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(said)).encode()),
            (b"connection", b"close"),
        ]
        answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
        for event in (answer, h11.Data(data=said), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
