"""What breaks under the service, and what it does then; docs/serving.md has the table."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.store.errors import GenerationFailed
from fti.store.lance.shapes import DocumentUpdate
from fti.store.store import Store
from tests.support.processes import run_python
from tests.support.service import Client, Scripted, assistant_over, filled_store, serving
from tests.unit.app.service.test_api import body, events, eventually, post


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "store")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Nothing that is appended reaches the disk, as the kernel says at the flush."""

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        yield patch


def re_embed(store: Store, embedder: HashingEmbedder) -> None:
    """Make all vectors anew, as ``fti ingest --re-embed`` does."""
    features = store.features
    with store.layout.writing("a test"):
        rebuilt = features.rebuilding(embedder.identity)
        entries = {entry.record.id: entry for entry in features.ledger()}
        updates = []
        for document in features.documents():
            chunks = tuple(features.chunks(document.id))
            texts = tuple(f"{document.title}\n{chunk.text}" for chunk in chunks)
            vectors = embedder.embed_documents(texts)
            updates.append(
                DocumentUpdate(document, entries[document.id], chunks, vectors, texts)
            )  # fmt: skip
        rebuilt.replace(updates)
        features.adopt(rebuilt)
        features.maintain()


# The generator


def test_an_answer_that_broke_off_is_counted_and_named_in_the_log_and_is_no_record(
    store: Store, logged: list[Any]
) -> None:
    generator = Scripted(fails=GenerationFailed("The model broke off."))
    with Client(create_app(assistant_over(store, generator))) as client:
        first = events(post(client, body(stream=True)).text)[0]
        post(client)
        counted = client.get("/metrics").text
    assert store.answers.list() == []
    (broken,) = [line for line in logged if line["event"] == "stream_failed"]
    assert (broken["id"], broken["code"]) == (first["id"], "generation_failed")
    assert 'fti_answers_total{model="base",outcome="failed"} 2.0' in counted


# The disk


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_log_has_no_room_for_is_an_error_and_leaves_no_half_line(
    store: Store, full_disk: pytest.MonkeyPatch, stream: bool
) -> None:
    with Client(create_app(assistant_over(store))) as client:
        failed = post(client, body(stream=stream))
        error = events(failed.text)[-1]["error"] if stream else failed.json()["error"]
        assert (failed.status_code, error["code"]) == (200 if stream else 507, "store_full")
        assert "Free some space" in error["message"]
        assert client.get("/healthz").status_code == 200
        full_disk.undo()
        answered = post(client).json()
    assert [a.id for a in store.answers.list()] == [answered["id"]]
    assert store.answers.broken_lines() == 0


def test_a_verdict_that_the_log_has_no_room_for_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, full_disk: pytest.MonkeyPatch
) -> None:
    with Client(create_app(assistant_over(store))) as client:
        full_disk.undo()
        answer = post(client).json()
        full_disk.setattr(os, "fsync", _no_room)
        verdict = {"answer_id": answer["id"], "rating": 1}
        refused = client.post("/v1/feedback", json=verdict)
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "store_full")
        full_disk.undo()
        assert store.answers.feedback_of(answer["id"]) == []
        assert client.post("/v1/feedback", json=verdict).status_code == 201


def _no_room(handle: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_client_that_leaves_while_the_disk_is_full_leaves_the_model_free(
    store: Store, full_disk: pytest.MonkeyPatch
) -> None:
    generator = Scripted(pieces=["piece "] * 2_000, pace_s=0.01)
    app = create_app(assistant_over(store, generator))
    with serving(app) as base:
        with httpx.stream(
            "POST", f"{base}/v1/chat/completions", json=body(stream=True)
        ) as response:
            next(response.iter_bytes())
        assert generator.cancelled.wait(10)
        eventually(lambda: app.state.worker.answering == 0)
        full_disk.undo()
        generator.pieces = ["done"]
        assert post(base).status_code == 200


READ_ONLY = """
import ctypes, json, os, struct, sys
from pathlib import Path
# Root may write everywhere by a capability alone; on Linux it can let go of it.
ctypes.CDLL(None).capset(struct.pack("Ii", 0x20080522, 0), bytes(24))
import structlog.testing
from fti.app.service.api import create_app
from fti.store.store import Store
from tests.support.service import Client, assistant_over, filled_store
root = Path(sys.argv[1])
filled_store(root)
for path in [root, *root.rglob("*")]:
    path.chmod(0o555 if path.is_dir() else 0o444)
asked = {"messages": [{"role": "user", "content": "How hot is the kiln?"}]}
with structlog.testing.capture_logs(), Client(create_app(assistant_over(Store(root)))) as client:
    identifier = client.get("/v1/documents").json()["data"][0]["id"]
    for method, path, sent in [
        ("GET", "/readyz", {}),
        ("POST", "/v1/search", {"json": {"query": "kiln"}}),
        ("POST", "/v1/chat/completions", {"json": asked}),
        ("POST", "/v1/chat/completions", {"json": {**asked, "stream": True}}),
        ("POST", "/v1/documents", {"files": {"file": ("a.md", b"# A")}}),
        ("DELETE", f"/v1/documents/{identifier}", {}),
    ]:
        said = client.request(method, path, **sent)
        print(json.dumps([said.status_code, said.text]))
    for path in [root, root / "uploads"]:  # writing is allowed again, but not among the features
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    (root / "writer.lock").chmod(0o644)
    said = client.delete(f"/v1/documents/{identifier}")
    print(json.dumps([said.status_code, said.text]))
for path in [root, *root.rglob("*")]:
    path.chmod(0o755 if path.is_dir() else 0o644)
"""


def test_a_store_that_may_only_be_read_is_searched_and_the_rest_says_so(tmp_path: Path) -> None:
    lines = run_python(READ_ONLY, tmp_path / "store").splitlines()
    ready, found, whole, streamed, uploaded, deleted, later = map(json.loads, lines)
    assert (ready[0], found[0], streamed[0]) == (200, 200, 200)
    assert "kiln" in found[1]
    for status, said in (whole, uploaded, deleted, later):
        error = json.loads(said)["error"]
        assert (status, error["code"]) == (507, "store_read_only")
        assert "cannot be written" in error["message"]
        assert "right to write" in error["message"]
    assert events(streamed[1])[-1]["error"]["code"] == "store_read_only"


# The index


def test_answers_go_on_while_the_store_is_indexed_and_embedded_anew(tmp_path: Path) -> None:
    writer = filled_store(tmp_path / "store")
    app = create_app(assistant_over(Store(tmp_path / "store")))
    answers: list[Any] = []
    stop = threading.Event()

    def keep_asking(base: str) -> None:
        while not stop.is_set():
            answers.append(post(base).json())

    with serving(app) as base:
        threads = [threading.Thread(target=keep_asking, args=(base,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        before = writer.features.version()
        for _ in range(5):
            re_embed(writer, HashingEmbedder())
        stop.set()
        for thread in threads:
            thread.join(30)
    assert writer.features.version() >= before + 5
    assert [a["error"] for a in answers if "error" in a] == []
    assert len(answers) > 5
    texts = {a["choices"][0]["message"]["content"] for a in answers}
    assert texts == {"The workshop opens at nine on Saturdays. [1]"}


def test_a_store_embedded_by_another_embedder_is_refused_until_it_is_embedded_back(
    store: Store,
) -> None:
    with Client(create_app(assistant_over(store))) as client:
        assert client.get("/readyz").status_code == 200
        re_embed(store, HashingEmbedder(64))
        for response in (post(client), post(client, body(stream=True)), client.get("/readyz")):
            assert response.status_code == 500
            error = response.json()["error"]
            assert error["code"] == "embedder_mismatch"
            assert "fti ingest PATH --re-embed" in error["message"]
        re_embed(store, HashingEmbedder())
        assert client.get("/readyz").status_code == 200
        assert "nine" in post(client).text
