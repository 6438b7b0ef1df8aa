"""Clients that send slowly, or never to the end."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from tests.support.service import Scripted, assistant_over, filled_store, serving

HASTY = ServiceConfig(header_timeout_s=0.3, body_timeout_s=0.3)
BEGUN = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = filled_store(tmp_path_factory.mktemp("server") / "store")
    with (
        structlog.testing.capture_logs(),
        serving(create_app(assistant_over(store), HASTY), HASTY) as base,
    ):
        yield base


@pytest.fixture
def connection(address: str) -> Iterator[socket.socket]:
    place = urlsplit(address)
    with closing(socket.create_connection((place.hostname, place.port), timeout=30)) as made:
        yield made


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes; a test ends by its own time limit where it does not."""
    said = b""
    while block := connection.recv(65536):
        said += block
    return said


def error_of(said: bytes) -> tuple[int, Any]:
    head, _, content = said.rpartition(b"\r\n\r\n")
    status = int(head.rsplit(b"HTTP/1.1 ", 1)[1].split()[0])
    assert b"connection: close" in head.lower()
    return status, json.loads(content)["error"]


@pytest.mark.parametrize("begun", [b"G", BEGUN, BEGUN + b"X-Long: " + b"x" * 10_000])
def test_headers_that_do_not_end_are_waited_for_only_so_long(
    connection: socket.socket, begun: bytes
) -> None:
    connection.sendall(begun)
    status, error = error_of(everything(connection))
    assert (status, error["code"]) == (408, "request_timeout")
    assert "headers took longer than 0.3 s" in error["message"]


def test_headers_that_drip_do_not_put_the_end_off(connection: socket.socket) -> None:
    connection.sendall(BEGUN)
    connection.settimeout(0.05)
    said = b""
    for _ in range(600):
        try:
            connection.sendall(b"x")
            block = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:  # closed between the two
            break
        said += block
        if not block:
            break
    else:
        pytest.fail("the connection is held")
    assert b" 408 " in said


def test_who_says_nothing_is_told_nothing(connection: socket.socket) -> None:
    assert everything(connection) == b""


def test_a_second_request_on_a_connection_has_its_time_too(connection: socket.socket) -> None:
    connection.sendall(HEALTH)
    said = b""
    while b'"ok"' not in said:
        said += connection.recv(65536)
    connection.sendall(HEALTH + HEALTH[:20])  # the next one begins before the answer
    said = everything(connection)
    assert said.count(b'"ok"') == 1
    assert error_of(said)[0] == 408


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/search", "/v1/documents", "/v1/feedback"]
)
def test_a_body_that_does_not_end_is_waited_for_only_so_long(
    connection: socket.socket, path: str
) -> None:
    kind = "application/json"
    begun = b'{"query": "kiln'
    if path == "/v1/documents":
        kind = "multipart/form-data; boundary=b"
        begun = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n\r\nOnce'
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        "Content-Length: 1000\r\n\r\n".encode()
        + begun
    )
    status, error = error_of(everything(connection))
    assert (status, error["code"]) == (408, "request_timeout")
    assert "service.body_timeout_s" in error["message"]


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(connection: socket.socket) -> None:
    connection.sendall(BEGUN + b"Content-Length: 900000000\r\n\r\n")
    said = everything(connection)
    assert said.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("stream", [True, False])
def test_only_what_the_client_sends_is_timed_and_not_its_answer(
    tmp_path: Path, stream: bool
) -> None:
    generator = Scripted(pieces=["piece "] * 8, pace_s=0.1)
    store = filled_store(tmp_path / "store")
    asked = {"messages": [{"role": "user", "content": "How hot is the kiln?"}], "stream": stream}
    with serving(create_app(assistant_over(store, generator), HASTY), HASTY) as base:
        answer = httpx.post(f"{base}/v1/chat/completions", json=asked, timeout=30)
    assert answer.status_code == 200
    assert answer.text.count("piece") == 8
