"""An answer as the chat API gives it: OpenAI's chat completion, and our ``sources`` beside it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fti.pipelines.inference.answering.highlighting import Evidence, evidence_of, nearest_to
from fti.store.answer_types import Answer
from fti.store.page_starts import PAGE
from fti.store.types import Passage


class ShownSource(BaseModel):
    """A passage that the model was shown. Offsets of ``evidence`` are characters of ``text``."""

    model_config = ConfigDict(extra="forbid")

    marker: int = Field(description="The answer cites it as [marker].")
    cited: bool
    quotes: list[str] = Field(description="What the answer repeats of it word for word.")
    evidence: list[Evidence] = Field(
        description="Of a cited one: the sentences that carry the answer, and the words in them."
    )
    title: str
    section: list[str] = Field(description="The headings above it, outermost first.")
    page: str = Field(description="3 or 3-4; empty where the document has no pages.")
    document: str
    document_id: str
    chunk_id: str
    start: int = Field(description="Where the text stands in the document, in characters.")
    end: int
    text: str
    similarity: float | None
    url: str


class NearestSentence(Evidence):
    """Of a refusal: the sentence that shares most words with the question."""

    marker: int = Field(description="Of its source.")


class Completion(BaseModel):
    """An answer as OpenAI's ``chat.completion``, with what it rests on.

    The last chunk of a stream carries ``sources``, ``abstained`` and ``nearest`` too.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(description="For feedback, and to see how the answer came to be.")
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]
    sources: list[ShownSource] = Field(description="In prompt order.")
    abstained: bool = Field(description="Whether the documents do not answer the question.")
    nearest: NearestSentence | None = Field(description="Of a refusal: what came nearest.")


def completion(answer: Answer, base_url: str) -> dict[str, Any]:
    """A whole answer as a ``chat.completion``."""
    message = {
        "role": "assistant",
        "content": answer.text,
        "annotations": url_citations(answer, base_url),
    }
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(answer)}
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": int(answer.created_at.timestamp()),
        "model": answer.model,
        "choices": [choice],
        "usage": usage(answer),
        **extras(answer, base_url),
    }


def url_citations(answer: Answer, base_url: str) -> list[dict[str, Any]]:
    """Citations in OpenAI's standard form; offsets are characters of the content."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": _source_url(base_url, c.chunk_id, answer.id),
                "title": c.title,
                "start_index": c.start,
                "end_index": c.end,
            },
        }
        for c in answer.citations
    ]


def extras(answer: Answer, base_url: str) -> dict[str, Any]:
    """What OpenAI has no field for: the passages shown to the model, and whether it abstained.

    ``sources`` are in prompt order. ``cited`` says which of them the answer uses, ``quotes`` which
    stretches of the passage it repeats word for word, ``evidence`` which sentences of it carry the
    answer. ``nearest`` is the sentence that came nearest to a question that was not answered.
    ``warnings`` are there where a model is served otherwise than its contract says.
    """
    quotes: dict[int, list[str]] = {}
    for citation in answer.citations:
        known = quotes.setdefault(citation.marker, [])
        if citation.quote and citation.quote not in known:
            known.append(citation.quote)
    nearest = nearest_to(answer)
    shown = zip(answer.passages, evidence_of(answer), strict=True)
    return {
        "sources": [
            {
                "marker": number,
                "cited": number in quotes,
                "quotes": quotes.get(number, []),
                "evidence": [each.model_dump(mode="json") for each in evidence],
                **passage_body(p, base_url, answer.id),
            }
            for number, (p, evidence) in enumerate(shown, start=1)
        ],
        "abstained": answer.abstained,
        "nearest": nearest
        and {"marker": nearest.marker, **nearest.evidence.model_dump(mode="json")},
        **({"warnings": list(answer.warnings)} if answer.warnings else {}),
    }


def passage_body(passage: Passage, base_url: str, answer_id: str = "") -> dict[str, Any]:
    """A passage as searches and answers show it."""
    return {
        "title": passage.title,
        "section": list(passage.section),
        "page": passage.metadata.get(PAGE, ""),
        "document": passage.source,
        "document_id": passage.document_id,
        "chunk_id": passage.chunk_id,
        "start": passage.start,
        "end": passage.end,
        "text": passage.text,
        "similarity": passage.similarity,
        "url": _source_url(base_url, passage.chunk_id, answer_id),
    }


def usage(answer: Answer) -> dict[str, int]:
    """Token counts in OpenAI's form."""
    used = answer.usage
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def finish_reason(answer: Answer) -> str:
    """OpenAI's word for why the answer ended."""
    return "length" if answer.finish_reason == "length" else "stop"


def _source_url(base_url: str, chunk_id: str, answer_id: str) -> str:
    shown_in = f"?answer={answer_id}" if answer_id else ""
    return f"{base_url}v1/sources/{chunk_id}{shown_in}"
