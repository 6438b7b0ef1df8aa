"""Retrieval by itself: searches, and the embedder in OpenAI's form."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request

from fti.app.service.admission import within
from fti.app.service.forms import answer_bodies, schemas
from fti.app.service.routes.parts import CallerPart, NamesPart, WorkerPart
from fti.pipelines.engines.embedders.embedding import Vectors
from fti.store.answer_types import Usage
from fti.store.errors import InputError, ModelNotFound

router = APIRouter(prefix="/v1", tags=["retrieval"])


@router.post("/search")
async def search(
    asked: schemas.SearchRequest,
    request: Request,
    worker: WorkerPart,
    caller: CallerPart,
    names: NamesPart,
) -> dict[str, Any]:
    """The passages that a query finds, best first."""
    found = await worker.aside(
        lambda: within.search(
            worker.answerers.first.retriever,
            caller,
            names,
            asked.query,
            k=asked.k,
            mode=asked.mode,
            where=asked.where,
            collection=asked.collection,
            at=asked.at,
        )
    )
    base_url = str(request.base_url)
    return {
        "passages": [
            {
                "rank": p.rank,
                "score": p.score,
                "found_by": list(p.found_by),
                **answer_bodies.passage_body(names.passage(p), base_url),
            }
            for p in found
        ]
    }


@router.post("/embeddings")
async def embeddings(
    asked: schemas.EmbeddingsRequest, worker: WorkerPart, caller: CallerPart
) -> dict[str, Any]:
    """Vectors of texts by the store's embedder, as unit vectors where it makes such."""
    embedder = worker.answerers.first.retriever.embedder
    identity = embedder.identity
    if asked.model not in (None, identity.id):
        raise ModelNotFound(
            f"The embedder {asked.model!r} is not served here.", hint=f"Served: {identity.id}."
        )
    if asked.dimensions not in (None, identity.dimension):
        raise InputError(
            f"The embedder makes vectors of {identity.dimension} dimensions, not "
            f"{asked.dimensions}.",
            hint="Leave dimensions out.",
        )
    texts = asked.texts()

    def work() -> tuple[Vectors, int]:
        embed = embedder.embed_queries if asked.input_type == "query" else embedder.embed_documents
        return embed(texts), sum(len(embedder.token_spans(text)) for text in texts)

    vectors, tokens = await worker.aside(work)
    worker.answerers.store.usage.add(caller.key, Usage(prompt_tokens=tokens))
    as_text = asked.encoding_format == "base64"
    return {
        "object": "list",
        "model": identity.id,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if as_text
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
