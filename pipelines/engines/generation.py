"""The generator that a configuration means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_to_answer, pick_dtype
from fti.pipelines.engines.causal_lm.transformers_generator import serve_here
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.extractive import ExtractiveGenerator
from fti.pipelines.engines.generator import Generator, GeneratorConfig
from fti.pipelines.engines.weights import has_bfloat16, pick_device
from fti.store.errors import ContractError


def engine_settings(config: GeneratorConfig) -> dict[str, Any]:
    """What of a configuration shapes answers, besides which model it is: how that is run.

    Sizes of batches, limits of time and addresses do not; ``auto`` is what it comes to here.
    """
    if config.engine == "extractive":
        return {"engine": config.engine, "min_similarity": config.min_similarity}
    if config.engine == "openai":
        assert config.server is not None  # the configuration's own check
        shown = {"context_tokens", "tokenizer", "tokenizer_revision"}
        return {"engine": config.engine, **config.server.model_dump(mode="json", include=shown)}
    if config.engine == "llamacpp":
        own = {"context_tokens", "gguf"}
        return {"engine": config.engine, **config.model_dump(mode="json", include=own)}
    device = pick_device(config.device)
    dtype = str(pick_dtype(config.dtype, device)).removeprefix("torch.")
    precision = dtype
    if config.packed and (device, dtype) == ("cpu", "float32"):
        short = (
            has_bfloat16("cpu") if config.precision == "auto" else config.precision == "bfloat16"
        )
        precision = "bfloat16" if short else "float32"
    return {
        "engine": config.engine,
        "device": device,
        "dtype": dtype,
        "precision": precision,
        "quantization": config.quantization,
        "context_tokens": config.context_tokens,
    }


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
        adapter: folder of a LoRA adapter to put on the model, which a server is told to load.
        loaded: the configuration's model, when it is in memory already.

    Raises:
        ModelUnavailable: the weights are not on this machine, or the server does not answer.
        ContractError: the adapter was made for another model, or the engine takes none.
    """
    if config.engine == "transformers":
        loaded = loaded if loaded is not None else load_to_answer(config)
        return serve_here(loaded, config, adapter)
    if config.engine == "llamacpp":
        from fti.pipelines.engines.llama_cpp.llamacpp_generator import load_llamacpp

        return load_llamacpp(config, adapter=adapter)
    if config.engine == "extractive":
        if adapter is not None:
            raise ContractError(
                f"The engine 'extractive' cannot carry the adapter in {str(adapter)!r}.",
                hint="Use a profile with a language model: --set generator.engine=transformers",
            )
        return ExtractiveGenerator(embedder, min_similarity=config.min_similarity)
    from fti.pipelines.engines.remote.openai_server import OpenAIGenerator

    assert config.server is not None  # the configuration's own check
    if adapter is None:
        return OpenAIGenerator(config.id, config.server)
    from fti.pipelines.engines.remote.server_versions import serve_version

    name = serve_version(config.server, config.id, adapter)
    return OpenAIGenerator(name, config.server, base=config.id)
