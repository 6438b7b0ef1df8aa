"""A small server with the routes of vLLM that fti asks beside chat completions."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.chat_server import begin, chunk, event


@dataclass
class VllmLike:
    """Serves a base and adapters beside it; says in each answer which of them it asked.

    Without ``loads`` it has no route to load adapters, as a server that was started without.
    ``tokenizer`` renders what ``/tokenize`` is asked; without one it has no such route.
    """

    base: str
    loads: bool = True
    tokenizer: Any = None
    url: str = ""
    adapters: dict[str, str] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def vllm_like(base: str, **options: Any) -> Iterator[VllmLike]:
    """The server for as long as the block runs."""
    state = VllmLike(base, **options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            models = [{"id": state.base, "parent": None}]
            models += [{"id": name, "parent": state.base} for name in state.adapters]
            self._json(200, {"object": "list", "data": models})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/load_lora_adapter" and state.loads:
                self._load(body["lora_name"], body["lora_path"])
            elif self.path == "/tokenize" and state.tokenizer is not None:
                rendered = state.tokenizer.apply_chat_template(
                    body["messages"], add_generation_prompt=body["add_generation_prompt"]
                )
                self._json(200, {"tokens": list(rendered["input_ids"])})
            elif self.path == "/v1/chat/completions":
                self._answer(body)
            else:
                self._json(404, {"detail": "Not Found"})

        def _load(self, name: str, path: str) -> None:
            if not (Path(path) / "adapter_config.json").is_file():
                self._json(404, {"error": {"message": f"No adapter found for {path}"}})
                return
            state.adapters[name] = path
            state.loaded.append(name)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"Success: LoRA adapter '{name}' added successfully.".encode())

        def _answer(self, body: dict[str, Any]) -> None:
            model = body["model"]
            if model not in (state.base, *state.adapters):
                self._json(404, {"error": {"message": f"The model `{model}` does not exist."}})
                return
            state.asked.append(model)
            begin(self)
            event(self, chunk(f"asked {model}"))
            event(self, chunk(finish="stop"))
            event(self, "[DONE]")

        def _json(self, status: int, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
