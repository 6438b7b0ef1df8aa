"""Weights written as safetensors: a whole model, an adapter, or both merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel, check_adapter
from fti.pipelines.engines.model_files import ADAPTER_CONFIG
from fti.pipelines.engines.weights import quiet_loading
from fti.store.errors import EngineError


def save_whole(loaded: LoadedModel, out: Path) -> None:
    """Write the model as it stands in memory, with its tokenizer, as safetensors."""
    with quiet_loading():
        loaded.model.save_pretrained(str(out))
        loaded.tokenizer.save_pretrained(str(out))


def save_adapter(peft_model: Any, folder: Path) -> None:
    """Save a trained adapter as safetensors, the same bytes for the same adapter.

    peft by itself asks the Hub about the base model here, and lists target modules in the order
    of a set.
    """
    peft_model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    path = folder / ADAPTER_CONFIG
    settings = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_merged(loaded: LoadedModel, adapter: Path, out: Path) -> None:
    """Write the model with an adapter merged into its weights, and its tokenizer.

    The folder loads with transformers alone, and any server of chat models can serve it. The model
    given is changed by this: it holds the merged weights afterwards.

    Raises:
        ContractError, EngineError: as ``merged``.
    """
    whole = merged(loaded, adapter)
    with quiet_loading():
        whole.save_pretrained(str(out))
        loaded.tokenizer.save_pretrained(str(out))


def merged(loaded: LoadedModel, adapter: Path) -> Any:
    """The transformers model with an adapter merged into its weights, which it then keeps.

    Raises:
        ContractError: the adapter was made for another base, or does not fit this one.
        EngineError: the weights are quantized, or the merged ones are no numbers.
    """
    from peft import PeftModel

    four_bit = bool(getattr(loaded.model, "is_loaded_in_4bit", False))
    if four_bit or loaded.quantization == "int8":
        raise EngineError(
            f"An adapter cannot be merged into {loaded.identity.id!r} in "
            f"{'4 bit' if four_bit else 'int8'} without loss.",
            hint="Set generator.quantization=none for the export.",
        )
    with loaded.lock:
        check_adapter(loaded, adapter)
        with quiet_loading():
            carrier = PeftModel.from_pretrained(loaded.model, str(adapter))
            try:
                return carrier.merge_and_unload(safe_merge=True)
            except ValueError as error:
                raise EngineError(
                    f"The adapter in {str(adapter)!r} cannot be merged: {error}"
                ) from error
