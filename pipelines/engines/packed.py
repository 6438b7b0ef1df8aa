"""Linear layers whose weights lie as a CPU's caches want them.

A matrix product with a few rows, as a step of several answers is, spends its time on getting the
weights: the general routine copies them into blocks first, each time it is called. oneDNN
multiplies by weights that were brought into its blocks once
(https://uxlfoundation.github.io/oneDNN/, "Memory format propagation"); torch's compiler does the
same when it freezes a model. The products are the same but for the order of their sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

#: How far a product may lie from torch's own, relative to the largest of its numbers.
_TOLERANCE = 1e-4
_ROWS = 4  # of the product that is compared


class PackedLinear(torch.nn.Linear):
    """A linear layer that also holds its weights in blocks, and uses those for inference.

    The weights themselves stay, for single rows and for whoever trains or saves them; when they
    change, or gradients are wanted, they are what is multiplied by.

    Args:
        layer: in float32 on a CPU. Its parameters are shared.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight = layer.weight
        self.bias = layer.bias
        self.train(layer.training)
        with torch.inference_mode():
            self._blocks = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        self._made_of = self._state()

    def forward(self, given: Tensor) -> Tensor:
        """``given @ weight.T + bias``; the last dimension of ``given`` is ``in_features``."""
        if (
            torch.is_grad_enabled()
            or given.numel() == self.in_features  # a lone row is read through plain weights sooner
            or given.dtype != torch.float32
            or given.device.type != "cpu"
            or self._state() != self._made_of
        ):
            return functional.linear(given, self.weight, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            given, self._blocks, self.bias, "none", [], ""
        )
        return product

    def _state(self) -> tuple[int, int]:
        # Changes in place count up the one, other weights lie at another address.
        return self.weight._version, self.weight.data_ptr()


def pack_linears(model: Any) -> int:
    """Exchange a model's linear layers for packed ones where this machine computes with them.

    Args:
        model: changed in place. Layers that are not in float32 on a CPU stay as they are; so do all
            where oneDNN is not there, or computes something else.

    Returns:
        How many layers were exchanged.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    exchanged: list[tuple[Any, str, PackedLinear]] = []
    for parent in model.modules():
        for name, layer in parent.named_children():
            if (
                type(layer) is torch.nn.Linear
                and layer.weight.dtype == torch.float32
                and layer.weight.device.type == "cpu"
            ):
                ours = _packed(layer)
                if ours is None:
                    return 0
                exchanged.append((parent, name, ours))
    for parent, name, ours in exchanged:
        setattr(parent, name, ours)
    return len(exchanged)


def _packed(layer: torch.nn.Linear) -> PackedLinear | None:
    """The layer with its weights packed; None where that cannot be had or is wrong."""
    rows = torch.linspace(-1.0, 1.0, _ROWS * layer.in_features).view(_ROWS, -1)
    try:
        with torch.inference_mode():
            ours = PackedLinear(layer)
            wanted = layer(rows)
            off = (ours(rows) - wanted).abs().max()
    except (AttributeError, RuntimeError, TypeError):  # another release of torch, or of its parts
        return None
    # An empty or a silent layer has nothing to be relative to.
    same = off <= _TOLERANCE * wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return ours if bool(same) else None
