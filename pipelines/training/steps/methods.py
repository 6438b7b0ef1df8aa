"""What of the model is trained: a LoRA adapter of one kind or another, or all of it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.model_files import ADAPTER_CONFIG
from fti.pipelines.engines.weights import (
    has_bfloat16,
    quiet_loading,
)
from fti.pipelines.training.steps.loss import bare
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.errors import TrainingError
from fti.store.versioned.model_version import ModelVersion

if TYPE_CHECKING:
    from torch import Tensor

Weights = dict[str, "Tensor"]


def require_trainable(base: LoadedModel, config: TrainingConfig) -> None:
    """Refuse a method or a precision that this base on this machine cannot be trained with.

    Raises:
        TrainingError: says which setting to change.
    """
    import torch

    quantized = bool(getattr(base.model, "is_loaded_in_4bit", False))
    require_device(config, base.device)
    if config.method == "qlora" and not quantized:
        raise TrainingError(
            f"training.method 'qlora' needs {base.identity.id!r} in 4 bit, and it is loaded whole.",
            hint="Set generator.quantization=4bit, or training.method=lora.",
        )
    if config.method != "full":
        return
    if config.last_layers is not None:
        raise TrainingError(
            f"training.last_layers is {config.last_layers}, and training.method full trains all "
            "layers.",
            hint="Set training.method=lora, or leave training.last_layers out.",
        )
    if quantized:
        raise TrainingError(
            f"All weights of {base.identity.id!r} cannot be trained while they are in 4 bit.",
            hint="Set training.method=qlora, or generator.quantization=none.",
        )
    dtype = next(base.model.parameters()).dtype
    if dtype != torch.float32:
        # A step's change is below the resolution of shorter formats, and would be lost.
        raise TrainingError(
            f"All weights of {base.identity.id!r} cannot be trained in {str(dtype)[6:]}: small "
            "steps would be rounded away.",
            hint="Set generator.dtype=float32 (training.precision=bfloat16 still computes in it).",
        )


def require_device(config: TrainingConfig, device: str) -> None:
    """Refuse what this device cannot do, before any weights are loaded.

    Raises:
        TrainingError: says which setting to change.
    """
    if config.method == "qlora" and device != "cuda":
        raise TrainingError(
            f"training.method 'qlora' needs a CUDA device for its base in 4 bit, and this model "
            f"would run on {device!r}.",
            hint="Set training.method=lora, or dora.",
        )
    if config.precision == "bfloat16" and not has_bfloat16(device):
        raise TrainingError(
            f"training.precision 'bfloat16' is not something that this {device!r} computes in.",
            hint="Set training.precision=auto.",
        )


def computes_in_bfloat16(config: TrainingConfig, model: Any) -> bool:
    """Whether products are computed in bfloat16 while weights and sums keep their format."""
    import torch

    parameter = next(model.parameters())
    if config.precision != "auto":
        return config.precision == "bfloat16"
    return parameter.dtype != torch.float16 and has_bfloat16(parameter.device.type)


def precision(config: TrainingConfig, model: Any) -> str:
    """The format that products are computed in, as a run records it: ``float32`` or another."""
    if computes_in_bfloat16(config, model):
        return "bfloat16"
    return str(next(model.parameters()).dtype).removeprefix("torch.")


@contextlib.contextmanager
def trainable(base: LoadedModel, config: TrainingConfig) -> Iterator[Any]:
    """The base model ready to be trained, seeded, for as long as the block runs.

    With a fresh adapter on it, or with all of its weights free. Afterwards the base is as before.
    """
    import torch
    from transformers import set_seed

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    with base.lock, torch.random.fork_rng():
        torch.use_deterministic_algorithms(True, warn_only=True)
        # It would only hide that something reads what was never written, for a tenth of the time.
        memory.fill_uninitialized_memory = False
        set_seed(config.seed)
        try:
            with (_whole if config.method == "full" else _adapter)(base, config) as model:
                yield model
        finally:
            if config.gradient_checkpointing:
                base.model.activation_checkpointing_disable()
            base.model.requires_grad_(False)
            base.model.eval()
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            memory.fill_uninitialized_memory = filling


_IN_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


def _within_last(model: Any, targets: str | Sequence[str], count: int) -> tuple[str, ...]:
    """Names of the linear modules of the last ``count`` layers that are targeted.

    Raises:
        TrainingError: the model has no numbered layers.
    """
    from torch.nn import Linear

    placed = {
        name: int(found[1])
        for name, module in model.named_modules()
        if isinstance(module, Linear)
        and (found := _IN_LAYER.search(name)) is not None
        and (isinstance(targets, str) or name.rpartition(".")[2] in targets)
    }
    if not placed:
        raise TrainingError(
            "This model has no numbered layers with linear modules to put an adapter at.",
            hint="Leave training.last_layers out.",
        )
    first = max(placed.values()) + 1 - count
    return tuple(name for name, layer in placed.items() if layer >= first)


@contextlib.contextmanager
def _adapter(base: LoadedModel, config: TrainingConfig) -> Iterator[Any]:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    targets = config.target_modules
    if config.last_layers is not None:
        targets = _within_last(base.model, targets, config.last_layers)
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_rslora=config.method == "rslora",
        use_dora=config.method == "dora",
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
        revision=base.identity.revision or None,
    )
    carrier = base.model
    if bool(getattr(base.model, "is_loaded_in_4bit", False)):
        carrier = prepare_model_for_kbit_training(
            carrier, use_gradient_checkpointing=config.gradient_checkpointing
        )
    elif config.gradient_checkpointing:
        # Without a gradient at its input a checkpointed block would have none at all.
        carrier.enable_input_require_grads()
    model = None
    try:
        try:
            with quiet_loading():
                model = get_peft_model(carrier, settings)
        except ValueError as error:
            raise TrainingError(
                f"The model {base.identity.id!r} takes no adapter at {targets!r}: {error}",
                hint="Leave training.target_modules at all-linear.",
            ) from error
        yield model
    finally:
        if model is not None:
            model.base_model.unload()
        base.model.disable_input_require_grads()


@contextlib.contextmanager
def _whole(base: LoadedModel, config: TrainingConfig) -> Iterator[Any]:
    import torch

    before = {k: v.detach().to("cpu", copy=True) for k, v in base.model.named_parameters()}
    base.model.requires_grad_(True)
    try:
        yield base.model
    finally:
        with torch.no_grad():
            for name, weight in base.model.named_parameters():
                weight.copy_(before[name])
                weight.grad = None


def continued(config: TrainingConfig, start: ModelVersion, folder: Path) -> TrainingConfig:
    """The settings with which training goes on from a version: the shape of what it trained.

    Args:
        config: as asked for.
        start: the version to go on from.
        folder: its files.

    Raises:
        TrainingError: a whole model is to go on as an adapter, or an adapter as a whole model.
    """
    if start.whole != (config.method == "full"):
        what = "a whole model" if start.whole else "an adapter"
        raise TrainingError(
            f"{start.ref} is {what}, and training cannot go on from it by training.method "
            f"{config.method!r}.",
            hint="Set training.method=full." if start.whole else "Set training.method=lora.",
        )
    if start.adapter is None:
        return config
    settings = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    method = (
        "dora" if settings.get("use_dora") else "rslora" if settings.get("use_rslora") else None
    )
    return config.model_copy(
        update={
            "rank": start.adapter.rank,
            "alpha": start.adapter.alpha,
            "target_modules": start.adapter.target_modules,
            "method": method or ("qlora" if config.method == "qlora" else "lora"),
        }
    )


def get_weights(model: Any) -> Weights:
    """What is trained, by the names it is saved under."""
    if not hasattr(model, "peft_config"):
        return dict(model.named_parameters())
    from peft import get_peft_model_state_dict

    weights: Weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return weights


def put_weights(model: Any, weights: Weights) -> None:
    """Replace what is trained."""
    import torch

    if not hasattr(model, "peft_config"):
        named = dict(model.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                named[name].copy_(weight)
        return
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, weights)


@contextlib.contextmanager
def noisy_embeddings(model: Any, alpha: float | None) -> Iterator[None]:
    """Noise on the token embeddings while the model trains (NEFTune, Jain et al. 2023).

    Uniform in +-alpha / sqrt(places * width), drawn anew in every pass; none in evaluation.
    """
    if alpha is None:
        yield
        return

    def add(module: Any, _: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        bound = alpha / (output.shape[1] * output.shape[2]) ** 0.5
        return output + output.new_empty(output.shape).uniform_(-bound, bound)

    hook = bare(model).get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()
