"""A small store with real parts: LanceDB tables, the hashing embedder, the extractive generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.extractive import EmbedderCounter, ExtractiveGenerator
from fti.pipelines.engines.generator import Delta, Generation, GenerationRequest
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.inference_config import InferenceConfig, RetrievalConfig
from fti.store.answer_types import FinishReason, Usage
from fti.store.contracts.prompt_contract import Contract, TokenCounter
from fti.store.lance.shapes import DocumentUpdate, LedgerEntry
from fti.store.store import Store
from fti.store.types import (
    Chunk,
    Document,
    ModelIdentity,
    SourceRecord,
    document_id,
    now,
    sha256_hex,
)
from tests.support.copies import copied_store
from tests.support.values import a_contract

DOCUMENTS = {
    "/docs/workshop/hours.md": (
        "# Hours\n\n"
        "The workshop opens at nine in the morning and closes at six in the evening.\n\n"
        "On Sundays the workshop stays closed, but members may collect finished pots at noon."
    ),
    "/docs/workshop/kiln.md": (
        "# Kiln\n\n"
        "The kiln is fired on Thursdays and reaches twelve hundred degrees.\n\n"
        "Only a steward may open the kiln while it is hot."
    ),
    "/docs/library/loans.md": (
        "# Loans\n\n"
        "Books are lent for three weeks and can be renewed twice by telephone.\n\n"
        "Maps from before 1900 are read in the reading room and never lent."
    ),
}


def put(store: Store, embedder: HashingEmbedder, documents: Mapping[str, str]) -> None:
    """Make these documents what the store holds of them: a chunk per paragraph."""
    store.features.create(embedder.identity)
    updates = []
    for source, text in documents.items():
        identity = document_id(source)
        title = text.splitlines()[0].removeprefix("# ")
        content_hash = sha256_hex(text)
        chunks = []
        at = 0
        for ordinal, paragraph in enumerate(text.split("\n\n")[1:]):
            start = text.index(paragraph, at)
            at = start + len(paragraph)
            chunks.append(
                Chunk(
                    id="c" + sha256_hex(f"{identity} {paragraph} {ordinal}")[:24],
                    document_id=identity,
                    ordinal=ordinal,
                    start=start,
                    end=at,
                    text=paragraph,
                    content_hash=sha256_hex(paragraph),
                )
            )
        record = SourceRecord(
            id=identity,
            source=source,
            title=title,
            state="indexed",
            content_hash=content_hash,
            attempted_hash=content_hash,
            settings_digest="s",
            chunks=len(chunks),
            attempted_at=now(),
            ingested_at=now(),
        )
        updates.append(
            DocumentUpdate(
                document=Document(
                    id=identity,
                    source=source,
                    title=title,
                    text=text,
                    content_hash=content_hash,
                    media_type="text/markdown",
                ),
                entry=LedgerEntry(record=record, file=source, file_hash=content_hash),
                chunks=tuple(chunks),
                vectors=embedder.embed_documents([c.text for c in chunks]),
                search_texts=tuple(c.text for c in chunks),
            )
        )
    store.features.replace(updates)


@dataclass
class Scripted:
    """A generator that says what the test tells it to, in the pieces it is given."""

    counter: TokenCounter
    pieces: Sequence[str] | Callable[[GenerationRequest], Sequence[str]] = ("At nine [1]",)
    finish: FinishReason = "stop"
    fails_after: int | None = None
    identity: ModelIdentity = field(
        default_factory=lambda: ModelIdentity(
            id="scripted", weights_sha256="5" * 64, tokenizer_sha256="6" * 64
        )
    )
    context_tokens: int = 4096
    requests: list[GenerationRequest] = field(default_factory=list)

    def stream(self, request: GenerationRequest) -> Iterator[Delta]:
        self.requests.append(request)
        pieces = self.pieces(request) if callable(self.pieces) else self.pieces
        for number, piece in enumerate(pieces):
            if number == self.fails_after:
                from fti.store.errors import GenerationFailed

                raise GenerationFailed("The model broke off.")
            if request.cancel.is_set():
                yield Delta("", "cancelled", Usage(completion_tokens=number))
                return
            yield Delta(piece)
        yield Delta("", self.finish, Usage(prompt_tokens=7, completion_tokens=len(pieces)))

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        made = []
        for request in requests:
            *pieces, last = self.stream(request)
            text = "".join(piece.text for piece in pieces)
            assert last.finish_reason is not None
            assert last.usage is not None
            made.append(Generation(text, last.finish_reason, last.usage))
        return made


class World:
    """The store, the embedder, and what is built on them."""

    def __init__(self, root: Path) -> None:
        self.embedder = HashingEmbedder()
        self.store = copied_store(
            "workshop and library", root, lambda store: put(store, self.embedder, DOCUMENTS)
        )

    def put(self, documents: Mapping[str, str]) -> None:
        put(self.store, self.embedder, documents)

    def scripted(self, *pieces: str, **how: Any) -> Scripted:
        script = {"pieces": pieces} if pieces else {}
        return Scripted(EmbedderCounter(self.embedder), **(script | how))

    def extractive(self) -> ExtractiveGenerator:
        return ExtractiveGenerator(self.embedder, min_similarity=0.2)

    def contract(self, generator: Any, **changes: Any) -> Contract:
        fields = {
            "base": generator.identity,
            "embedder": self.embedder.identity,
            "max_prompt_tokens": 400,
            "max_passages": 3,
        }
        return a_contract(**(fields | changes))

    def assistant(
        self, generator: Any = None, *, min_similarity: float = 0.1, **how: Any
    ) -> Assistant:
        generator = generator if generator is not None else self.extractive()
        config = InferenceConfig(retrieval=RetrievalConfig(min_similarity=min_similarity))
        contract = how.pop("contract", None) or self.contract(generator)
        return Assistant(self.store, self.embedder, None, generator, contract, config, **how)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store")
