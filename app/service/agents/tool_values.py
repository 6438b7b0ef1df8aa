"""What the tools for agents take and give, with JSON schemas that clients read.

Offsets are characters: ``start`` and ``end`` of a passage in its document's text, those of a
citation in the answer's text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fti.app.service.forms import answer_bodies
from fti.store.answer_types import Answer
from fti.store.page_starts import PAGE
from fti.store.types import Passage, SearchMode, SourceRecord, SourceState

_LONGEST_QUESTION = 8_000
_LONGEST_NAME = 200
_MOST_CONDITIONS = 32


class Arguments(BaseModel):
    """Base of what a tool takes: an unknown argument is a mistake, and is said to be one."""

    model_config = ConfigDict(extra="forbid")


class Result(BaseModel):
    """Base of what a tool gives."""

    model_config = ConfigDict(frozen=True)


class WithinArguments(Arguments):
    """Which passages a tool is kept within."""

    collection: str = Field(
        default="", max_length=64, description="Only passages of this collection."
    )
    where: list[str] = Field(
        default_factory=list,
        max_length=_MOST_CONDITIONS,
        description="Only passages for which all hold: K=V, K!=V, K<V, K in A, B, K in 3..7.",
    )
    at: str = Field(
        default="",
        max_length=64,
        description="Of an earlier version of the documents: a number or a tag.",
    )


class SearchArguments(WithinArguments):
    """Of ``search``."""

    query: str = Field(
        min_length=1, max_length=_LONGEST_QUESTION, description="Words or a question."
    )
    k: int | None = Field(
        default=None, ge=1, le=100, description="How many passages; as configured without."
    )
    mode: SearchMode | None = Field(
        default=None,
        description="vector: by meaning, text: by words, hybrid: both; as configured without.",
    )


class AskArguments(WithinArguments):
    """Of ``ask``."""

    question: str = Field(
        min_length=1,
        max_length=_LONGEST_QUESTION,
        description="A question that stands for itself, without a conversation around it.",
    )
    model: str = Field(
        default="", description="base, extractive, NAME@ALIAS or NAME/N; the default without."
    )


class OpenArguments(Arguments):
    """Of ``open_source``."""

    chunk_id: str = Field(min_length=1, max_length=100, description="As search and ask give it.")
    answer_id: str = Field(
        default="",
        max_length=100,
        description="Id of an answer that was shown the passage: then as it was shown, with the "
        "stretches that the answer repeats.",
    )


class ListArguments(Arguments):
    """Of ``list_documents``."""

    limit: int = Field(default=100, ge=1, le=1000, description="How many documents at most.")
    offset: int = Field(default=0, ge=0, description="How many to leave out from the beginning.")
    containing: str = Field(
        default="",
        max_length=_LONGEST_NAME,
        description="Only documents whose name or title holds these characters.",
    )
    state: SourceState | None = Field(default=None, description="Only documents in this state.")


class AddArguments(Arguments):
    """Of ``add_document``."""

    name: str = Field(
        min_length=1,
        description="A file name whose ending says how it is read, such as notes.md or table.csv. "
        "A document that was added under the same name is replaced.",
    )
    text: str = Field(min_length=1, description="The whole document.")


class FoundPassage(Result):
    """A passage of a document."""

    chunk_id: str
    document: str
    document_id: str
    title: str
    section: list[str]
    page: int | None = Field(description="Page of the document, where it has pages.")
    start: int
    end: int
    text: str
    url: str = Field(description="Where a person can open it; empty where nothing is served.")


class RankedPassage(FoundPassage):
    """A passage as a search finds it."""

    rank: int
    score: float = Field(description="Orders the list; its scale depends on the search.")


class SearchResult(Result):
    """Of ``search``: passages, best first."""

    passages: list[RankedPassage]


class CitedPassage(FoundPassage):
    """A passage that the model was shown. ``marker`` is the number that the answer cites it by."""

    marker: int
    cited: bool
    quotes: list[str] = Field(description="What the answer repeats of it word for word.")


class CitationMark(Result):
    """A citation in the answer's text. ``marker`` is the number of the source."""

    marker: int
    chunk_id: str
    document: str
    title: str
    start: int
    end: int
    quote: str


class AskResult(Result):
    """Of ``ask``: an answer with what it rests on."""

    answer_id: str
    answer: str
    abstained: bool = Field(description="Whether the documents were found not to hold the answer.")
    abstention_reason: str
    model: str
    finish_reason: str
    citations: list[CitationMark]
    sources: list[CitedPassage]


class ListedDocument(Result):
    """A document, and what became of it."""

    document_id: str
    document: str
    title: str
    state: SourceState
    reason: str
    collection: str
    chunks: int
    ingested_at: datetime | None


class ListResult(Result):
    """Of ``list_documents``, in order of name. ``total``: without ``limit`` and ``offset``."""

    total: int
    documents: list[ListedDocument]


class AddResult(Result):
    """Of ``add_document``. ``state`` is done, failed, or running where it takes long."""

    document_id: str
    name: str
    state: str
    reason: str
    chunks: int


def ranked(passage: Passage, base_url: str) -> RankedPassage:
    """A passage of a search."""
    return RankedPassage(rank=passage.rank, score=passage.score, **_facts(passage, base_url))


def answered(answer: Answer, base_url: str) -> AskResult:
    """An answer."""
    quotes: dict[int, list[str]] = {}
    for citation in answer.citations:
        known = quotes.setdefault(citation.marker, [])
        if citation.quote and citation.quote not in known:
            known.append(citation.quote)
    sources = [
        CitedPassage(
            marker=number,
            cited=number in quotes,
            quotes=quotes.get(number, []),
            **_facts(passage, base_url, answer.id),
        )
        for number, passage in enumerate(answer.passages, start=1)
    ]
    return AskResult(
        answer_id=answer.id,
        answer=answer.text,
        abstained=answer.abstained,
        abstention_reason=answer.abstention_reason or "",
        model=answer.model,
        finish_reason=answer.finish_reason,
        citations=[
            CitationMark(
                marker=c.marker,
                chunk_id=c.chunk_id,
                document=sources[c.marker - 1].document,
                title=c.title,
                start=c.start,
                end=c.end,
                quote=c.quote,
            )
            for c in answer.citations
        ],
        sources=sources,
    )


def listed(record: SourceRecord) -> ListedDocument:
    """A document of the ledger."""
    return ListedDocument(
        document_id=record.id,
        document=record.source,
        title=record.title,
        state=record.state,
        reason=record.cause,
        collection=record.collection,
        chunks=record.chunks,
        ingested_at=record.ingested_at,
    )


def _facts(passage: Passage, base_url: str, answer_id: str = "") -> dict[str, Any]:
    """A passage as the API shows it, as far as an agent has use for it."""
    shown = answer_bodies.passage_body(passage, base_url, answer_id)
    page = passage.metadata.get(PAGE, "")
    return {
        **{name: shown[name] for name in FoundPassage.model_fields if name in shown},
        "url": shown["url"] if base_url else "",
        "page": int(page) if page.isascii() and page.isdigit() else None,
    }
