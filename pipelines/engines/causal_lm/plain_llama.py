"""A Llama in float32 on a CPU, from its files, with little around its matrix products.

For answering, with LoRA adapters or without: what trains or quantizes is
``transformers.LlamaForCausalLM``, whose import takes longer than an answer. The operations are the
same, those of Touvron et al. 2023 (arXiv:2302.13971) as ``transformers.models.llama`` writes them;
the layers that read the same numbers are one, and a step multiplies by the keys of a group of heads
once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.causal_lm.plain_adapters import Addition, Place, read_plain_adapter

if TYPE_CHECKING:
    import torch

#: What a config may say; whatever it says otherwise is no plain Llama.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "architectures": (["LlamaForCausalLM"],),
    "hidden_act": ("silu",),
    "pretraining_tp": (1, None),
    "output_hidden_states": (False, None),
    "output_attentions": (False, None),
    "rope_scaling": (None,),
    "sliding_window": (None,),
    "quantization_config": (None,),
}
_PARTS = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
          ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))  # fmt: skip


@dataclass(slots=True)
class Layer:
    """Keys and values of one layer, shape ``(texts, heads of keys, tokens, size of a head)``."""

    keys: Any = None
    values: Any = None


@dataclass(slots=True)
class KeysValues:
    """What a model keeps of the tokens that it has read; changed as ``transformers.Cache`` is."""

    layers: list[Layer] = field(default_factory=list)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row so many times."""
        for layer in self.layers:
            layer.keys = layer.keys.repeat_interleave(repeats, dim=0)
            layer.values = layer.values.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Only these rows."""
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[indices], layer.values[indices]

    def as_transformers(self) -> Any:
        """The same for a model of transformers."""
        from transformers.cache_utils import DynamicCache

        cache: Any = DynamicCache()
        for n, layer in enumerate(self.layers):
            cache.update(layer.keys, layer.values, n)
        return cache


def read_plain_llama(folder: Path) -> dict[str, Any] | None:
    """The config of a folder that holds a plain Llama; None where it holds anything else."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0)}
        plain = (
            all(config.get(name) in values for name, values in _PLAIN.items())
            and rope.keys() <= {"rope_type", "rope_theta"}
            and rope.get("rope_type", "default") == "default"
            and [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]
            and int(config["num_attention_heads"]) % int(config["num_key_value_heads"]) == 0
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # transformers says what is wrong, or knows better
    return config | {"rope_theta": float(rope["rope_theta"])} if plain else None


class PlainLlama:
    """Called like ``transformers.LlamaForCausalLM`` in inference: ids in, logits and a cache out.

    Args:
        config: as ``read_plain_llama`` gives it.
        folder: of the weights.

    Raises:
        SafetensorError: the weights are damaged.
        KeyError: one is missing; its name.
        ValueError: they do not fit the config.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        self.config = config
        self._heads, self._groups = config["num_attention_heads"], config["num_key_value_heads"]
        self._size = config.get("head_dim") or config["hidden_size"] // self._heads
        self._eps = float(config["rms_norm_eps"])
        steps = torch.arange(0, self._size, 2, dtype=torch.float32) / self._size
        self._frequencies = 1.0 / (config["rope_theta"] ** steps)
        weights = load_file(folder / "model.safetensors")
        taken = _Taken(weights)
        self._words = taken("model.embed_tokens.weight")
        layers = range(config["num_hidden_layers"])
        self._layers = [self._layer(taken, f"model.layers.{n}") for n in layers]
        self._norm = taken("model.norm.weight")
        tied = config.get("tie_word_embeddings", False)
        self._output = _linear(self._words if tied else taken("lm_head.weight"), None)
        if self._words.shape != (config["vocab_size"], config["hidden_size"]):
            raise ValueError(f"model.embed_tokens.weight has shape {tuple(self._words.shape)}")
        self._sizes = dict(taken.linear)
        self._adapters: dict[str, dict[Place, Addition]] = {}
        self._acting: Mapping[Place, Addition] = {}

    def add_adapter(self, folder: Path, name: str) -> bool:
        """Hold a LoRA adapter that ``use`` can name; False where this model cannot carry it."""
        additions = read_plain_adapter(folder, _PARTS, self._sizes)
        if additions is None:
            return False
        self._adapters[name] = additions
        return True

    def remove_adapter(self, name: str) -> None:
        """Let go of an adapter; no adapter acts afterwards."""
        del self._adapters[name]
        self._acting = {}

    def use(self, adapter: str | None) -> None:
        """Let one adapter act from now on, or none."""
        self._acting = {} if adapter is None else self._adapters[adapter]

    def modules(self) -> Iterator[Any]:
        """The linear layers, as ``torch.nn.Module.modules`` gives them."""
        for layer in self._layers:
            yield from layer.linears
        yield self._output

    def get_output_embeddings(self) -> Any:
        """The layer whose numbers decide between words."""
        return self._output

    def forward(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: KeysValues | None = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
    ) -> Any:
        """``logits``, shape ``(texts, tokens kept, words)``, and ``past_key_values``.

        Args:
            input_ids: shape ``(texts, tokens)``.
            attention_mask: 1 for what is read, over the cache's columns and those of the ids.
            position_ids: of the ids; None: on from the cache's.
            past_key_values: of what was read before; its layers are changed.
            use_cache: there is always one.
            logits_to_keep: of how many last tokens; 0: of all.
        """
        import torch
        from torch.nn import functional

        cache = past_key_values or KeysValues([Layer() for _ in self._layers])
        texts, tokens = input_ids.shape
        before = 0 if cache.layers[0].keys is None else cache.layers[0].keys.shape[-2]
        if position_ids is None:
            position_ids = torch.arange(before, before + tokens)[None]
        angles = (position_ids[:, None, :, None].float() * self._frequencies).repeat(1, 1, 1, 2)
        turned = (angles.cos(), angles.sin())
        mask = _mask(attention_mask, before, tokens)
        hidden = functional.embedding(input_ids, self._words).view(texts * tokens, -1)
        for number, (layer, kept) in enumerate(zip(self._layers, cache.layers, strict=True)):
            seen = self._attended(number, kept, hidden, turned, mask, texts)
            hidden = hidden + self._product(number, 1, seen)
            inner = functional.rms_norm(hidden, layer.second.shape, layer.second, self._eps)
            gate, up = self._product(number, 2, inner).chunk(2, dim=-1)
            hidden = hidden + self._product(number, 3, functional.silu(gate) * up)
        last = hidden.view(texts, tokens, -1)[:, -logits_to_keep:]
        normed = functional.rms_norm(last, self._norm.shape, self._norm, self._eps)
        return SimpleNamespace(logits=self._output(normed), past_key_values=cache)

    __call__ = forward

    def _product(self, number: int, place: int, given: torch.Tensor) -> torch.Tensor:
        """What a linear layer makes of ``given``, with what the adapter in use adds."""
        product: torch.Tensor = self._layers[number].linears[place](given)
        addition = self._acting.get((number, place))
        return product if addition is None else addition.added(product, given)

    def _attended(
        self,
        number: int,
        kept: Layer,
        hidden: torch.Tensor,
        turned: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        texts: int,
    ) -> torch.Tensor:
        import torch
        from torch.nn import functional

        heads, groups, size = self._heads, self._groups, self._size
        layer = self._layers[number]
        given = functional.rms_norm(hidden, layer.first.shape, layer.first, self._eps)
        product = self._product(number, 0, given)
        rows = product.view(texts, -1, heads + 2 * groups, size).transpose(1, 2)
        tokens = rows.shape[2]
        # Queries and keys are turned by where they stand, values are not.
        turning = rows[:, : heads + groups]
        first, second = turning.chunk(2, dim=-1)
        turning = turning * turned[0] + torch.cat((-second, first), dim=-1) * turned[1]
        keys, values = turning[:, heads:], rows[:, heads + groups :]
        if kept.keys is not None:
            keys = torch.cat((kept.keys, keys), dim=-2)
            values = torch.cat((kept.values, values), dim=-2)
        kept.keys, kept.values = keys, values
        queries, each = turning[:, :heads], heads // groups
        if tokens == 1:
            # The heads that share keys are rows of one product; all columns are before them.
            queries = queries.reshape(texts, groups, each, size)
            seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            return seen.reshape(texts, -1)
        seen = functional.scaled_dot_product_attention(
            queries,
            keys.repeat_interleave(each, dim=1),
            values.repeat_interleave(each, dim=1),
            attn_mask=mask,
            is_causal=mask is None,
        )
        return seen.transpose(1, 2).reshape(texts * tokens, -1)

    def _layer(self, taken: _Taken, name: str) -> _LayerWeights:
        linears = []
        for parts in _PARTS:
            paths = [f"{name}.{part}" for part in parts]
            bias = "attention_bias" if "self_attn" in parts[0] else "mlp_bias"
            biases = [f"{path}.bias" for path in paths] if self.config.get(bias) else []
            weight = taken(*(f"{path}.weight" for path in paths), linear=True)
            linears.append(_linear(weight, taken(*biases) if biases else None))
        norms = (f"{name}.input_layernorm.weight", f"{name}.post_attention_layernorm.weight")
        return _LayerWeights(taken(norms[0]), taken(norms[1]), linears)


@dataclass(frozen=True, slots=True)
class _LayerWeights:
    """``first`` and ``second`` norm; ``linears`` in the order of ``_PARTS``."""

    first: Any
    second: Any
    linears: list[Any]


class _Taken:
    """Takes weights out of those of a file, so that none is held twice: several as one."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        self._weights = weights
        self.linear: dict[str, tuple[int, int]] = {}  # (out, in) features of each part

    def __call__(self, *names: str, linear: bool = False) -> torch.Tensor:
        import torch

        parts = [self._weights.pop(name) for name in names]
        if linear:
            for name, part in zip(names, parts, strict=True):
                out, given = part.shape
                self.linear[name.removesuffix(".weight")] = (out, given)
        return torch.cat(parts).float()


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    import torch

    with torch.device("meta"):
        made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = torch.nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = torch.nn.Parameter(bias, requires_grad=False)
    return made.eval()


def _mask(read: torch.Tensor | None, before: int, tokens: int) -> torch.Tensor | None:
    """Which columns each token sees: those up to itself that are read; None: all of these.

    A token always sees itself, also where it is padding: of nothing there is no mean.
    """
    import torch

    if read is None and (tokens == 1 or before == 0):
        return None
    own = torch.arange(before, before + tokens)[:, None]
    columns = torch.arange(before + tokens)
    if read is None:
        return (columns <= own)[None, None]
    seen = read.bool()[:, None, :] & (columns <= own)
    return (seen | (columns == own))[:, None]
