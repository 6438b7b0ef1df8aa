"""The generator that a configuration means."""

from __future__ import annotations

from pathlib import Path

from fti.pipelines.engines.causal_lm.loading import LoadedModel, load_causal_lm
from fti.pipelines.engines.causal_lm.transformers_generator import serve_here
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.extractive import ExtractiveGenerator
from fti.pipelines.engines.generator import (
    Generator,
    GeneratorConfig,
)
from fti.store.errors import ContractError


def load_generator(
    config: GeneratorConfig,
    *,
    embedder: Embedder,
    adapter: Path | None = None,
    loaded: LoadedModel | None = None,
) -> Generator:
    """Build the generator that a configuration names.

    Args:
        config: which engine and model.
        embedder: what the extractive engine compares sentences with.
        adapter: folder of a LoRA adapter to put on the model.
        loaded: the configuration's model, when it is in memory already.

    Raises:
        ModelUnavailable: the weights are not on this machine, or the server does not answer.
        ContractError: the adapter was made for another model, or the engine takes none.
    """
    if config.engine == "transformers":
        loaded = loaded if loaded is not None else load_causal_lm(config)
        return serve_here(loaded, config, adapter)
    if adapter is not None:
        raise ContractError(
            f"The engine {config.engine!r} cannot carry the adapter in {str(adapter)!r}.",
            hint="Use a profile with generator.engine: transformers, or let the server load the "
            "adapter and name it in generator.id.",
        )
    if config.engine == "extractive":
        return ExtractiveGenerator(embedder, min_similarity=config.min_similarity)
    from fti.pipelines.engines.remote.openai_server import OpenAIGenerator

    assert config.server is not None  # the configuration's own check
    return OpenAIGenerator(config.id, config.server)
