"""LoRA adapters for a plain Llama: what each of its linear layers adds to its products.

The product of an adapted layer is that of its weights and ``alpha / rank`` times that of two narrow
matrices, one after the other (Hu et al. 2021, arXiv:2106.09685); rsLoRA divides by the root of the
rank (Kalajdzievski 2023, arXiv:2312.03732). Layers that are one here have one pair of matrices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

#: What an adapter's settings may say in any way; of the rest, nothing may be said.
_FREE = {
    "peft_type", "r", "lora_alpha", "target_modules", "use_rslora", "base_model_name_or_path",
    "revision", "lora_dropout", "task_type", "inference_mode", "init_lora_weights", "peft_version",
    "megatron_core", "qalora_group_size",
}  # fmt: skip
#: Ways to begin that leave the base model's weights as they are.
_BEGINNINGS = (True, False, "gaussian")
_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")

Place = tuple[int, int]
"""A linear layer: the number of its layer, and its number there."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What is added to a linear layer's product.

    Attributes:
        down: shape ``(ranks, in_features)``.
        up: shape ``(ranks, out_features)``, scaled.
    """

    down: Tensor
    up: Tensor

    def added(self, product: Tensor, given: Tensor) -> Tensor:
        """``product``, shape ``(rows, out_features)``, with what ``given`` brings; changed."""
        from torch.nn.functional import linear

        return product.addmm_(linear(given, self.down), self.up)


def read_plain_adapter(
    folder: Path, parts: Sequence[Sequence[str]], sizes: Mapping[str, tuple[int, int]]
) -> dict[Place, Addition] | None:
    """The additions of an adapter that is one of LoRA and no more.

    Args:
        folder: of the adapter.
        parts: for each linear layer of a plain Llama's layer, the names of those it is made of.
        sizes: ``(out, in)`` features of all that it is made of, by their whole name.

    Returns:
        By place; None where settings or weights are not those of a whole, plain adapter of such a
        model: peft says what is wrong, or carries it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / ADAPTER_WEIGHTS)
        scale = _scale(settings)
    except (OSError, ValueError, SafetensorError, KeyError, TypeError, ZeroDivisionError):
        return None
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        pairs.setdefault(found[1], {})[found[2]] = weight.float()
    if scale is None or not pairs or pairs.keys() != _targeted(settings["target_modules"], sizes):
        return None
    rank = settings["r"]
    for name, pair in pairs.items():
        out, given = sizes[name]
        shapes = {side: tuple(weight.shape) for side, weight in pair.items()}
        if shapes != {"A": (rank, given), "B": (out, rank)}:
            return None
    layers = {int(found[1]) for name in sizes if (found := re.search(r"\.(\d+)\.", name))}
    additions: dict[Place, Addition] = {}
    for layer in layers:
        for number, names in enumerate(parts):
            paths = [f"model.layers.{layer}.{name}" for name in names]
            if any(path in pairs for path in paths):
                additions[layer, number] = _together(paths, pairs, sizes, scale)
    return additions


def _scale(settings: Mapping[str, Any]) -> float | None:
    """What the narrow product is multiplied by; None where the settings ask for more than LoRA."""
    if settings["peft_type"] != "LORA" or settings.get("init_lora_weights") not in _BEGINNINGS:
        return None
    if any(value not in (None, False, "none", {}, []) for name, value in settings.items()
           if name not in _FREE):  # fmt: skip
        return None
    rank = settings["r"]
    return float(settings["lora_alpha"] / (rank**0.5 if settings.get("use_rslora") else rank))


def _targeted(targets: Any, names: Mapping[str, Any]) -> set[str]:
    """The layers that the settings put an adapter at, by their names or the ends of these."""
    if not isinstance(targets, list):
        return set()
    ends = tuple(f".{target}" for target in targets)
    return {name for name in names if name in targets or name.endswith(ends)}


def _together(
    paths: Sequence[str],
    pairs: Mapping[str, Mapping[str, Tensor]],
    sizes: Mapping[str, tuple[int, int]],
    scale: float,
) -> Addition:
    """One pair of matrices for layers that read the same and write side by side."""
    import torch

    widths = [sizes[path][0] for path in paths]
    there = [(sum(widths[:n]), pairs[path]) for n, path in enumerate(paths) if path in pairs]
    down = torch.cat([pair["A"] for _, pair in there])
    up = torch.zeros(len(down), sum(widths))
    row = 0
    for column, pair in there:
        width, rank = pair["B"].shape
        up[row : row + rank, column : column + width] = pair["B"].T * scale
        row += rank
    return Addition(down, up)
