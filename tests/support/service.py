"""A service to test against: a small real store, the real assistant, a generator one can steer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from fti.app.service.server import make_server
from fti.app.service.service_config import ServiceConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.extractive import EmbedderCounter, ExtractiveGenerator
from fti.pipelines.engines.generator import Delta, Generation, GenerationRequest, Generator
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.inference_config import InferenceConfig, RetrievalConfig
from fti.store.answer_types import Usage
from fti.store.contracts.prompt_contract import Contract
from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.store import Store
from fti.store.types import Chunk, Document, ModelIdentity, SourceRecord, document_id, sha256_hex
from tests.support.copies import copied_store

HANDBOOK = {
    "/handbook/hours.md": ("Opening hours", "The workshop opens at nine on Saturdays."),
    "/handbook/kiln.md": ("Kiln", "The kiln fires stoneware at 1240 degrees on Thursdays."),
    "/handbook/fees.md": ("Fees", "A locker costs four euros each month."),
}


def add_document(
    store: Store,
    source: str,
    title: str,
    text: str,
    *,
    section: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Put a document with one chunk per paragraph into the store; its id."""
    embedder = HashingEmbedder()
    identifier = document_id(source)
    chunks, start = [], 0
    for ordinal, paragraph in enumerate(text.split("\n\n")):
        end = start + len(paragraph)
        chunks.append(
            Chunk(
                id=f"c{sha256_hex(f'{identifier} {ordinal}')[:24]}",
                document_id=identifier,
                ordinal=ordinal,
                start=start,
                end=end,
                text=paragraph,
                section=section,
                content_hash=sha256_hex(paragraph),
            )
        )
        start = end + 2
    moment = datetime.now(UTC)
    digest = sha256_hex(text)
    document = Document(
        id=identifier,
        source=source,
        title=title,
        text=text,
        content_hash=digest,
        media_type="text/markdown",
        metadata=metadata or {},
        ingested_at=moment,
    )
    record = SourceRecord(
        id=identifier,
        source=source,
        title=title,
        state="indexed",
        content_hash=digest,
        attempted_hash=digest,
        chunks=len(chunks),
        attempted_at=moment,
        ingested_at=moment,
    )
    searched = [f"{title}\n{chunk.text}" for chunk in chunks]
    update = DocumentUpdate(
        document=document,
        entry=LedgerEntry(record=record, file=source, file_hash=digest),
        chunks=tuple(chunks),
        vectors=embedder.embed_documents(searched),
        search_texts=tuple(searched),
    )
    store.features.create(embedder.identity)
    with store.layout.writing("a test"):
        store.features.replace([update])
    return identifier


def filled_store(root: Path) -> Store:
    """A store with the handbook in it: a copy of one that is filled once for all tests."""
    return copied_store("handbook", root, _fill)


def _fill(store: Store) -> None:
    for source, (title, text) in HANDBOOK.items():
        add_document(store, source, title, text)


@dataclass
class Scripted:
    """A generator that says given pieces, and can be held before any of them.

    ``pace_s`` passes before each piece. ``hold`` is waited for before the first; ``fails`` is
    raised after the last. What happened is in ``started``, ``cancelled`` and ``requests``.
    """

    pieces: Sequence[str] = ("At nine", " on Saturdays [1]")
    pace_s: float = 0.0
    hold: threading.Event | None = None
    fails: Exception | None = None
    started: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    requests: list[GenerationRequest] = field(default_factory=list)

    identity = ModelIdentity(id="scripted", weights_sha256="0" * 64)
    counter = EmbedderCounter(HashingEmbedder())
    context_tokens = 8192

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        self.requests.append(request)
        self.started.set()
        while self.hold is not None and not self.hold.wait(0.01):
            if request.cancel.is_set():
                break
        for piece in self.pieces:
            if request.cancel.wait(self.pace_s) if self.pace_s else request.cancel.is_set():
                self.cancelled.set()
                yield Delta("", "cancelled", Usage())
                return
            yield Delta(piece)
        if self.fails is not None:
            raise self.fails
        yield Delta("", "stop", Usage(prompt_tokens=7, completion_tokens=len(self.pieces)))

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        return [
            Generation("".join(d.text for d in self.stream(request)), "stop", Usage())
            for request in requests
        ]


def assistant_over(store: Store, generator: Generator | None = None) -> Assistant:
    """The real assistant with weight-free engines, or with the given generator."""
    embedder = HashingEmbedder()
    generator = generator or ExtractiveGenerator(embedder, min_similarity=0.2)
    contract = Contract(
        base=generator.identity,
        embedder=embedder.identity,
        max_prompt_tokens=512,
        max_new_tokens=64,
        max_passages=3,
        max_passage_tokens=128,
    )
    config = InferenceConfig(retrieval=RetrievalConfig(min_similarity=0.15))
    return Assistant(store, embedder, None, generator, contract, config)


class Client(TestClient):
    """Starlette's test client, calling the service by a name that it answers to without keys."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **({"base_url": "http://localhost"} | options))


@contextlib.contextmanager
def serving(app: Any, config: ServiceConfig | None = None) -> Iterator[str]:
    """The app behind a real server on a free port; its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = make_server(app, config or ServiceConfig(), drain_s=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the server ended at its start"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
