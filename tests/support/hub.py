"""A model hub on this machine: what huggingface_hub asks when it pushes, answered over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_TestSecret0123456789abcdefgh"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Repositories with their files, as they were committed; large ones went through LFS."""

    url: str = ""
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By the beginning of a path: status and text of a refusal."""

    def file(self, repo: str, path: str) -> bytes:
        """What a repository holds under a path."""
        held = self.repos[repo]["files"][path]
        return self.objects[held["oid"]] if isinstance(held, dict) else held


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """The hub, listening until the block ends."""
    hub = FakeHub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub

    def log_message(self, *_: Any) -> None:
        """Tests say nothing of their own."""

    def do_PUT(self) -> None:
        oid = self.path.rsplit("/", 1)[-1]
        body = self._body()
        if hashlib.sha256(body).hexdigest() != oid:
            return self._answer(400, {"error": "not what was announced"})
        self.state.objects[oid] = body
        return self._answer(200, {})

    def do_POST(self) -> None:
        body = self._body()
        for start, (status, text) in self.state.refuse.items():
            if self.path.startswith(start):
                return self._answer(status, {"error": text}, {"X-Error-Message": text})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if "/branch/" in self.path:
            self.state.branches.append(self.path.rsplit("/", 1)[-1])
            return self._answer(200, {})
        if "/preupload/" in self.path:
            return self._preupload(json.loads(body))
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        if "/commit/" in self.path:
            return self._commit(body)
        return self._answer(404, {"error": f"no {self.path}"})

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.state.repos:
            url = f"{self.state.url}/{repo}"
            return self._answer(409, {"error": "You already created this", "url": url})
        visible = asked.get("visibility") or ("private" if asked.get("private") else "public")
        self.state.repos[repo] = {"visibility": visible, "files": {}}
        return self._answer(200, {"url": f"{self.state.url}/{repo}"})

    def _preupload(self, asked: dict[str, Any]) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in asked["files"]
        ]
        self._answer(200, {"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.state.url}/objects/{o['oid']}"}}}
            for o in asked["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, body: bytes) -> None:
        repo = "/".join(self.path.split("/")[3:5])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.state.messages.append(value["summary"])
            elif line["key"] == "file":
                content = base64.b64decode(value["content"])
                self.state.repos[repo]["files"][value["path"]] = content
            elif line["key"] == "lfsFile":
                self.state.repos[repo]["files"][value["path"]] = {"oid": value["oid"]}
        url = f"{self.state.url}/{repo}/commit/{COMMIT}"
        self._answer(200, {"commitUrl": url, "commitOid": COMMIT, "pullRequestUrl": None})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
