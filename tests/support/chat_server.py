"""A real HTTP server in a thread that speaks OpenAI's chat completions, well or badly."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Respond = Callable[["Server", BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class Server:
    """A chat completions endpoint; each request is answered by the next of ``responses``.

    With ``repeats`` the last of them answers all further ones.
    """

    url: str = ""
    responses: list[Respond] = field(default_factory=list)
    repeats: bool = False
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    disconnected: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


def event(handler: BaseHTTPRequestHandler, data: Any) -> None:
    text = data if isinstance(data, str) else json.dumps(data)
    handler.wfile.write(f"data: {text}\n\n".encode())
    handler.wfile.flush()


def begin(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def says(
    *pieces: str, finish: str = "stop", usage: tuple[int, int] | None = (7, 3), done: bool = True
) -> Respond:
    def respond(server: Server, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        begin(handler)
        handler.wfile.write(b": a comment, as proxies send to keep a connection\n\n")
        role = {"role": "assistant", "content": None}
        event(handler, {"choices": [{"index": 0, "delta": role, "finish_reason": None}]})
        for piece in pieces:
            event(handler, chunk(piece))
        event(handler, chunk(finish=finish))
        if usage:
            counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
            event(handler, {"choices": [], "usage": counts})
        if done:
            event(handler, "[DONE]")

    return respond


def refuses(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> Respond:
    def respond(server: Server, handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return respond


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server for as long as the block runs."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.bodies.append(body)
                state.headers.append(dict(self.headers))
                state.paths.append(self.path)
                # The last response is for whatever else is asked when it is meant so.
                last = state.repeats and len(state.responses) == 1
                respond = state.responses[0] if last else state.responses.pop(0)
            respond(state, self, body)

        def log_message(self, format: str, *args: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield state
    state.disconnected.set()
    http.shutdown()
    thread.join()
    http.server_close()
