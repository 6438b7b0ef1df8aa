"""A causal language model with its tokenizer, loaded from local safetensors files.

Used by training and by generation alike, so that both stand on the same weights in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fti.pipelines.engines.causal_lm.eightbit import in_eight_bits
from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.plain_llama import PlainLlama, read_plain_llama
from fti.pipelines.engines.encoding import stop_ids
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.weights import (
    LOAD_ERRORS,
    find_model,
    pick_device,
    quiet_loading,
    tokenizer_sha256,
)
from fti.store.errors import ConfigError, ContractError, IntegrityError
from fti.store.types import ModelIdentity

#: Classes of tokenizers that are what their file says.
_BY_FILE = ("TokenizersBackend", "PreTrainedTokenizerFast")


def load_causal_lm(config: ModelConfig) -> LoadedModel:
    """Load a causal LM and its tokenizer from local files.

    Raises:
        ModelUnavailable: the files are not on this machine; says how to get them.
        IntegrityError: the files are damaged or do not belong together.
        ConfigError: this machine cannot hold the model as asked.
        EngineError: the tokenizer has no chat template.
    """
    folder = find_model(config.id, revision=config.revision, allow_download=config.allow_download)
    folder.weight_files()
    device = pick_device(config.device)
    tokenizer = load_tokenizer(folder)
    model = _load_weights(folder, config, device)
    if config.quantization == "int8":
        model = in_eight_bits(model, tokenizer)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    context = min(limit or 2048, config.context_tokens or limit or 2048)
    # PEFT writes this name into an adapter's settings; a path of this machine would not travel.
    model.name_or_path = model.config.name_or_path = tokenizer.name_or_path = folder.id
    ends = model.generation_config.eos_token_id if model.generation_config else None
    return _loaded(folder, config, device, model, tokenizer, context, ends)


def load_to_answer(config: ModelConfig, name: str = "") -> LoadedModel:
    """The same for answering only: a plain Llama on a CPU comes without the libraries that train.

    An adapter that is put on it brings them, and the model that they know.

    Args:
        config: which model, and how it is held.
        name: that adapters know it by; empty: its own.

    Raises:
        ModelUnavailable, IntegrityError, ConfigError, EngineError: as ``load_causal_lm``.
    """
    from safetensors import SafetensorError

    def whole() -> Any:
        model = load_causal_lm(config).model
        model.name_or_path = model.config.name_or_path = name or folder.id
        return model

    folder = find_model(config.id, revision=config.revision, allow_download=config.allow_download)
    folder.weight_files()
    device = pick_device(config.device)
    asked = (device, config.quantization, pick_dtype(config.dtype, device))
    settings = read_plain_llama(folder.path)
    model = None
    if settings is not None and asked == ("cpu", "none", pick_dtype("float32", device)):
        # Where weights are damaged or missing, transformers says so below.
        with suppress(*LOAD_ERRORS, SafetensorError):
            model = PlainLlama(settings, folder.path)
    if settings is None or model is None:
        loaded = load_causal_lm(config)
        loaded.model.name_or_path = loaded.model.config.name_or_path = name or folder.id
        return loaded
    tokenizer = load_tokenizer(folder)
    tokenizer.name_or_path = folder.id
    limit = int(settings["max_position_embeddings"])
    context = min(limit, config.context_tokens or limit)
    ends = _ends(folder.path, settings)
    loaded = _loaded(folder, config, device, model, tokenizer, context, ends)
    loaded.whole = whole
    return loaded


def _ends(folder: Path, settings: Mapping[str, Any]) -> int | list[int] | None:
    """Ids that end a text, as a model's files say: those for generation, or else its config."""
    path = folder / "generation_config.json"
    if path.is_file():
        settings = json.loads(path.read_text(encoding="utf-8"))
    return settings.get("eos_token_id")


def _loaded(
    folder: ModelFolder,
    config: ModelConfig,
    device: str,
    model: Any,
    tokenizer: Any,
    context: int,
    ends: int | list[int] | None,
) -> LoadedModel:
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        identity=ModelIdentity(
            id=folder.id,
            # Its answers are others than those of the whole weights: records tell them apart.
            revision=f"{folder.revision}+int8"
            if config.quantization == "int8"
            else folder.revision,
            weights_sha256=folder.weights_sha256(),
            tokenizer_sha256=tokenizer_sha256(tokenizer),
        ),
        context_tokens=context,
        device=device,
        stop_ids=stop_ids(tokenizer, [ends] if isinstance(ends, int) else list(ends or [])),
        quantization=config.quantization,
    )


def load_whole(
    folder: Path, config: ModelConfig, base: ModelIdentity, *, to_answer: bool = False
) -> LoadedModel:
    """Load a version that is a whole model, held in memory as a configuration says.

    Its identity is that of the base that it was trained from, as an adapter's is: that is what its
    contract names. What its own weights are, its version's manifest says.

    Args:
        folder: of the version.
        config: how it is held.
        base: its contract's.
        to_answer: for nothing but that; see ``load_to_answer``.

    Raises:
        ContractError: it has another tokenizer than its base.
        IntegrityError: the files are damaged or do not belong together.
        ConfigError: this machine cannot hold the model as asked.
    """
    found = config.model_copy(update={"id": str(folder), "revision": ""})
    if to_answer:
        loaded = load_to_answer(found, base.id)
    else:
        loaded = load_causal_lm(found)
        loaded.model.name_or_path = loaded.model.config.name_or_path = base.id
    if loaded.identity.tokenizer_sha256 != base.tokenizer_sha256:
        raise ContractError(
            f"The tokenizer in {str(folder)!r} has sha256 {loaded.identity.tokenizer_sha256[:12]}, "
            f"and its contract says {base.tokenizer_sha256[:12]}.",
            hint="Train it again.",
        )
    short = "+int8" if loaded.quantization == "int8" else ""
    loaded.identity = base.model_copy(update={"revision": f"{base.revision}{short}"})
    return loaded


def load_tokenizer(folder: ModelFolder) -> Any:
    """Load the tokenizer of a model folder.

    A tokenizer that is its ``tokenizer.json`` beside a plain Llama is loaded as such: looking for
    its class brings in all of transformers' parts for models.

    Raises:
        IntegrityError: its files are missing or damaged.
    """
    kind = _tokenizer_class(folder.path)
    if kind in _BY_FILE and read_plain_llama(folder.path) is not None:
        from transformers import PreTrainedTokenizerFast as Loader
    else:
        from transformers import AutoTokenizer as Loader

    try:
        return Loader.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False
        )
    except LOAD_ERRORS as error:
        raise IntegrityError(
            f"The tokenizer of {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
        ) from error


def _tokenizer_class(folder: Path) -> str:
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return str(settings["tokenizer_class"]) if "auto_map" not in settings else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # transformers says what is wrong


def _load_weights(folder: ModelFolder, config: ModelConfig, device: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": pick_dtype(config.dtype, device)}
    if config.quantization == "int8":
        _require_int8(config, device)
    if config.quantization == "4bit":
        options["quantization_config"] = _four_bit(options["dtype"], device)
        options["device_map"] = {"": device}
    try:
        with quiet_loading():
            model, report = AutoModelForCausalLM.from_pretrained(
                str(folder.path),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except (*LOAD_ERRORS, SafetensorError) as error:
        raise IntegrityError(
            f"The model {folder.id!r} in {str(folder.path)!r} cannot be loaded: {error}",
            hint="If memory ran out, use a smaller model or the 4bit quantization; if a file is "
            "damaged, fetch the model again.",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers would go on with random numbers in their place.
        raise IntegrityError(
            f"The model {folder.id!r} in {str(folder.path)!r} lacks weights that its config "
            f"promises ({missing[0]!r} and {len(missing) - 1} more).",
            hint="Fetch the model again.",
        )
    if config.quantization == "none":
        model.to(device)
    model.requires_grad_(False)
    model.eval()
    return model


def pick_dtype(name: str, device: str) -> Any:
    """The format of weights that a name of the configuration means on a device."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device == "cpu":
        return torch.float32
    if device == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float16


def _require_int8(config: ModelConfig, device: str) -> None:
    if device != "cpu" or config.dtype not in ("auto", "float32"):
        raise ConfigError(
            f"Quantization 'int8' is for float32 weights on a CPU; this model would be "
            f"{config.dtype!r} on {device!r}.",
            hint="Set generator.device: cpu and generator.dtype: auto, or quantization: none.",
        )


def _four_bit(dtype: Any, device: str) -> Any:
    import importlib.util

    from transformers import BitsAndBytesConfig

    if device != "cuda":
        raise ConfigError(
            f"Quantization '4bit' needs a CUDA device, and this model would run on {device!r}.",
            hint="Set quantization: none, or use a smaller model.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "Quantization '4bit' needs the package 'bitsandbytes', which is not installed.",
            hint="Run `pip install 'fti-llm[gpu]'`.",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
