"""Linear layers with 8-bit weights on a CPU, and activations that fit into 8 bits.

Activations are quantized as they come, with one scale for a whole matrix: a few channels of a
language model are tens of times as large as the others, and leave these hardly any of the 256
steps. SmoothQuant (Xiao et al., 2023) moves part of a channel's size from the activation into the
weights that read it, where each row has a scale of its own. The division is folded into what makes
the channel (a norm, or the rows of the layer before), so nothing is computed that was not before
and the model in float32 says the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Share of a channel's size that goes into the weights. On the built-in model and twelve articles
#: 0.65 left a fifth of the divergence from float32 that 8 bits with a scale per row have alone.
_ALPHA = 0.65
_LEAST = 1e-3  # a smaller scale would blow up what makes a channel that was silent on our text

#: Blocks whose norms, q, k, v, o, gate, up and down layers stand to each other as in Llama.
_BLOCKS = frozenset(
    {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
)

_PARTS = 4

# What channels are measured on: prose, a question, a list and code, as prompts have them.
_TEXT = """\
The workshop opens at nine on Saturdays and closes when the last member leaves. Before you switch \
on the kiln, read the sheet on its door: stoneware is fired at 1240 degrees Celsius, earthenware \
at 1060, and a firing takes between eleven and fourteen hours. In 1987 the city sold the building \
to its tenants for 412,000 crowns; Professor Eleanor Marsh, who had led the campaign since 1979, \
signed the deed on 3 March. Why did the council agree? Because repairs \
would have cost more than the price.

[1] Opening hours
- Monday: closed
- Tuesday to Friday: 10:00-18:30 (members only)
- Saturday: 9:00-17:00

Question: How long may a tool be borrowed, and what does a late return cost?
Answer: Tools are lent for three weeks [1]. Each day after that costs 0.50 euros, up to the price \
of the tool itself.

```python
def overdue(days: int, rate: float = 0.5) -> float:
    \"\"\"What a late return costs.\"\"\"
    return max(0, days - 21) * rate
```

According to a study in the Journal of Applied Ecology (2014), forests that were left alone held \
30% more species than managed ones; however, the authors warn that "the sample is small" and that \
further measurements, particularly in northern Europe, South-East Asia and the Amazon basin, are \
needed before laws are changed.
"""


def in_eight_bits(model: Any, tokenizer: Any) -> Any:
    """The same causal model with its linear layers in int8; the output layer stays as it is.

    torch says that its dynamic quantization is to go in favour of torchao, whose kernels for CPUs
    want compilation.

    Args:
        model: a model in float32 on the CPU; it is changed, and must not be used afterwards.
        tokenizer: its tokenizer.
    """
    import torch
    from torch.ao import quantization

    # In parts: what a first token makes is like nothing after it, and one alone is no measure.
    ids = torch.tensor(tokenizer.encode(_TEXT))
    smooth(model, ids[: len(ids) // _PARTS * _PARTS].view(_PARTS, -1))
    head = model.get_output_embeddings()
    layers = {
        name: quantization.per_channel_dynamic_qconfig
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.quantize_dynamic(model, layers, dtype=torch.qint8, inplace=True)


def smooth(model: Any, ids: Tensor) -> int:
    """Make the channels that linear layers read more alike in size, while the model says the same.

    Args:
        model: a causal model of transformers in float32; changed in place. Blocks other than
            Llama's, Mistral's and Qwen's (2 and 3) stay as they are.
        ids: tokens to measure channels on, shape (texts, tokens).

    Returns:
        How many blocks were smoothed.
    """
    import torch

    blocks = [block for block in model.modules() if type(block).__name__ in _BLOCKS]
    with torch.no_grad(), _largest(blocks) as seen:
        model(input_ids=ids)
    with torch.no_grad():
        for block in blocks:
            attention, mlp = block.self_attn, block.mlp
            asking = [attention.q_proj, attention.k_proj, attention.v_proj]
            _divide([block.input_layernorm.weight], asking, seen[attention.q_proj])
            _divide(
                [block.post_attention_layernorm.weight],
                [mlp.gate_proj, mlp.up_proj],
                seen[mlp.gate_proj],
            )
            _divide(_rows(mlp.up_proj), [mlp.down_proj], seen[mlp.down_proj])
            # Heads that share values share their channels' sizes too.
            _divide(
                _rows(attention.v_proj),
                [attention.o_proj],
                seen[attention.o_proj],
                heads=(model.config.num_key_value_heads, attention.head_dim),
            )
    return len(blocks)


def _divide(
    makers: Sequence[Tensor],
    readers: Sequence[Any],
    sizes: Tensor,
    *,
    heads: tuple[int, int] | None = None,
) -> None:
    """Divide what makes some channels by their scales, and multiply the weights that read them.

    Args:
        makers: parameters whose first dimension is the channels (of all value heads).
        readers: linear layers that read the channels, and nothing else.
        sizes: the largest activation of each channel that is read.
        heads: number of value heads and their dimensions, where several read channels are copies
            of one that is made.
    """
    import torch

    weights = torch.stack([layer.weight.abs().amax(0) for layer in readers]).amax(0)
    if heads is not None:
        sizes, weights = (
            x.view(heads[0], -1, heads[1]).amax(1).flatten() for x in (sizes, weights)
        )
    tiny = torch.finfo(torch.float32).tiny
    scales = sizes.clamp(min=tiny) ** _ALPHA / weights.clamp(min=tiny) ** (1 - _ALPHA)
    scales = scales.clamp(min=_LEAST)
    for made in makers:
        made.div_(scales.view(-1, *[1] * (made.dim() - 1)))
    if heads is not None:
        copies = readers[0].weight.shape[1] // scales.numel()
        scales = scales.view(heads[0], 1, heads[1]).expand(-1, copies, -1).flatten()
    for layer in readers:
        layer.weight.mul_(scales)


def _rows(layer: Any) -> list[Tensor]:
    return [layer.weight] if layer.bias is None else [layer.weight, layer.bias]


@contextmanager
def _largest(blocks: Sequence[Any]) -> Iterator[dict[Any, Tensor]]:
    """The largest activation of each channel that linear layers read in the meantime."""
    seen: dict[Any, Tensor] = {}

    def look(layer: Any, given: tuple[Tensor, ...]) -> None:
        seen[layer] = given[0].abs().flatten(0, -2).amax(0)

    layers = [
        layer
        for b in blocks
        for layer in (b.self_attn.q_proj, b.self_attn.o_proj, b.mlp.gate_proj, b.mlp.down_proj)
    ]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
