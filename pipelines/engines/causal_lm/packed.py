"""Linear layers whose weights lie as a CPU's caches want them.

A matrix product with a few rows, as a step of several answers is, spends its time on getting the
weights: the general routine copies them into blocks first, each time it is called. oneDNN
multiplies by weights that were brought into its blocks once
(https://uxlfoundation.github.io/oneDNN/, "Memory format propagation"); torch's compiler does the
same when it freezes a model. The products are the same but for the order of their sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: How far a product may lie from torch's own, relative to the largest of its numbers.
_TOLERANCE = 1e-4
_ROWS = 4  # of the product that is compared
#: Rows of the products that this is for. A lone one takes longer so. Of many it gains a tenth, but
#: oneDNN keeps a routine for each number of rows, and prompts have every number: the memory of a
#: service grew by 400 MB.
_FEWEST, _MOST = 2, 16


class PackedForward:
    """What a linear layer does when it is called, with its weights also held in blocks.

    The weights themselves stay, for single rows, for many, and for whoever trains or saves them;
    when they change, or gradients are wanted, they are what is multiplied by.

    Args:
        layer: a ``torch.nn.Linear`` in float32 on a CPU.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        import torch

        self._layer = layer
        self._multiply = torch.ops.mkldnn._linear_pointwise
        self._wants_gradients = torch.is_grad_enabled
        self._plain = torch.nn.functional.linear
        self._dtype = torch.float32
        with torch.inference_mode():
            self._blocks = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        self._made_of = self._state()

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """``given @ weight.T + bias``; the last dimension of ``given`` is ``in_features``."""
        layer = self._layer
        if (
            self._wants_gradients()
            or not _FEWEST <= given.numel() // layer.in_features <= _MOST
            or given.dtype != self._dtype
            or given.device.type != "cpu"
            or self._state() != self._made_of
        ):
            return self._plain(given, layer.weight, layer.bias)
        product: torch.Tensor = self._multiply(given, self._blocks, layer.bias, "none", [], "")
        return product

    def _state(self) -> tuple[int, int]:
        # Changes in place count up the one, other weights lie at another address. What is written
        # through ``weight.data`` does neither: whoever does that takes a model that is not packed.
        weight = self._layer.weight
        return weight._version, weight.data_ptr()


def pack_linears(model: Any) -> int:
    """Let a model's linear layers multiply by packed weights where this machine can.

    Args:
        model: changed in place. Layers that are not in float32 on a CPU stay as they are; so do all
            where oneDNN is not there, or computes something else.

    Returns:
        How many layers are packed now that were not.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return 0
    packed: list[tuple[torch.nn.Linear, PackedForward]] = []
    for layer in model.modules():
        if (
            type(layer) is torch.nn.Linear
            and not is_packed(layer)
            and layer.weight.dtype == torch.float32
            and layer.weight.device.type == "cpu"
        ):
            ours = _packed(layer)
            if ours is None:
                return 0
            packed.append((layer, ours))
    for layer, ours in packed:
        layer.forward = ours  # type: ignore[method-assign, assignment]
    return len(packed)


def is_packed(layer: Any) -> bool:
    """Whether a layer multiplies by packed weights."""
    return isinstance(getattr(layer, "forward", None), PackedForward)


def _packed(layer: torch.nn.Linear) -> PackedForward | None:
    """The layer with its weights packed; None where that cannot be had or is wrong."""
    import torch

    rows = torch.linspace(-1.0, 1.0, _ROWS * layer.in_features).view(_ROWS, -1)
    try:
        with torch.inference_mode():
            ours = PackedForward(layer)
            wanted = layer(rows)
            off = (ours(rows) - wanted).abs().max()
    except (AttributeError, RuntimeError, TypeError):  # another release of torch, or of its parts
        return None
    # An empty or a silent layer has nothing to be relative to.
    same = off <= _TOLERANCE * wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return ours if bool(same) else None
