"""Linear layers that multiply as this CPU does it fastest.

A general matrix product copies the weights into blocks first, each time it is called. oneDNN
multiplies by weights that were brought into its blocks once
(https://uxlfoundation.github.io/oneDNN/, "Memory format propagation"); torch's compiler does the
same when it freezes a model. In float32 the products are the same but for the order of their sums.
In bfloat16, where a CPU has instructions for it, inputs, weights and products are rounded to 8 bits
of precision and summed in float32; everything between the layers stays in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.weights import has_bfloat16

if TYPE_CHECKING:
    import torch

#: How far a product may lie from torch's own, relative to the largest of its numbers.
_TOLERANCE, _TOLERANCE_BFLOAT16 = 1e-4, 2e-2
_ROWS = 4  # of the product that is compared
#: oneDNN keeps a routine for each number of rows, and prompts have every number: the memory of a
#: service grew by 400 MB. So many rows are multiplied in parts of these, filled up with zeros.
_FEW, _PART, _WHOLE = 16, 32, 256
#: A lone row is sooner multiplied as it is, in float32, unless the layer outgrows the caches.
_LARGE = 1 << 22
#: A layer with fewer weights gains nothing from bfloat16.
_SMALL = 100_000


class PackedForward:
    """What a linear layer does when it is called, with its weights also held in blocks.

    The weights themselves stay, for whoever trains or saves them; when they change, or gradients
    are wanted, they are what is multiplied by.

    Args:
        layer: a ``torch.nn.Linear`` in float32 on a CPU.
        bfloat16: multiply in that format; what is given and what comes out is float32 all the same.
    """

    def __init__(self, layer: torch.nn.Linear, *, bfloat16: bool = False) -> None:
        import torch

        self._layer = layer
        self._multiply = torch.ops.mkldnn._linear_pointwise
        self._wants_gradients = torch.is_grad_enabled
        self._plain = torch.nn.functional.linear
        self._pad = torch.nn.functional.pad
        self._given, self._dtype = torch.float32, torch.bfloat16 if bfloat16 else torch.float32
        self._fewest = 1 if bfloat16 or layer.weight.numel() >= _LARGE else 2
        with torch.inference_mode():
            weight = layer.weight.detach().to(self._dtype)
            self._blocks = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            self._bias = None if layer.bias is None else layer.bias.detach().to(self._dtype)
        self._made_of = self._state()

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """``given @ weight.T + bias``; the last dimension of ``given`` is ``in_features``."""
        layer = self._layer
        rows = given.numel() // layer.in_features
        if (
            self._wants_gradients()
            or rows < self._fewest
            or given.dtype != self._given
            or given.device.type != "cpu"
            or self._state() != self._made_of
        ):
            return self._plain(given, layer.weight, layer.bias)
        if rows <= _FEW:
            return self._product(given.to(self._dtype)).to(self._given)
        flat = given.reshape(rows, layer.in_features)
        out = flat.new_empty(rows, layer.out_features)
        for start in range(0, rows, _WHOLE):
            part = flat[start : start + _WHOLE]
            filled = self._pad(part.to(self._dtype), (0, 0, 0, -len(part) % _PART))
            out[start : start + _WHOLE] = self._product(filled)[: len(part)]
        return out.view(*given.shape[:-1], layer.out_features)

    def _product(self, given: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self._multiply(given, self._blocks, self._bias, "none", [], "")
        return product

    def _state(self) -> tuple[int, int]:
        # Changes in place count up the one, other weights lie at another address. What is written
        # through ``weight.data`` does neither: whoever does that takes a model that is not packed.
        weight = self._layer.weight
        return weight._version, weight.data_ptr()


def pack_linears(model: Any, *, bfloat16: bool | None = None) -> int:
    """Let a model's linear layers multiply by packed weights where this machine can.

    Args:
        model: changed in place. Layers that are not in float32 on a CPU stay as they are; so do all
            where oneDNN is not there, or computes something else.
        bfloat16: multiply in bfloat16; None: where the CPU has instructions for it. Small layers
            and the output layer, whose numbers decide between words, multiply in float32.

    Returns:
        How many layers are packed now that were not.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return 0
    short = has_bfloat16("cpu") if bfloat16 is None else bfloat16
    output = getattr(model, "get_output_embeddings", lambda: None)()
    packed: list[tuple[torch.nn.Linear, PackedForward]] = []
    for layer in model.modules():
        if (
            type(layer) is torch.nn.Linear
            and not is_packed(layer)
            and layer.weight.dtype == torch.float32
            and layer.weight.device.type == "cpu"
        ):
            large = layer is not output and layer.weight.numel() >= _SMALL
            ours = _packed(layer, bfloat16=short and large)
            if ours is None:
                return 0
            packed.append((layer, ours))
    for layer, ours in packed:
        layer.forward = ours  # type: ignore[method-assign, assignment]
    return len(packed)


def is_packed(layer: Any) -> bool:
    """Whether a layer multiplies by packed weights."""
    return isinstance(getattr(layer, "forward", None), PackedForward)


def _packed(layer: torch.nn.Linear, *, bfloat16: bool) -> PackedForward | None:
    """The layer with its weights packed; None where that cannot be had or is wrong."""
    import torch

    rows = torch.linspace(-1.0, 1.0, _ROWS * layer.in_features).view(_ROWS, -1)
    try:
        with torch.inference_mode():
            ours = PackedForward(layer, bfloat16=bfloat16)
            wanted = layer(rows)
            off = (ours(rows) - wanted).abs().max()
    except (AttributeError, RuntimeError, TypeError):  # another release of torch, or of its parts
        return None
    # An empty or a silent layer has nothing to be relative to.
    least = wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    same = off <= (_TOLERANCE_BFLOAT16 if bfloat16 else _TOLERANCE) * least
    return ours if bool(same) else None
