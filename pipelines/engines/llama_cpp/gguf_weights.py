"""What a GGUF file says of a model: its shape, and its tensors under llama.cpp's names.

The same as llama.cpp's own conversion writes for these architectures: matrices in half precision
or in blocks of eight bits, vectors in float32, and for Llama the rows of queries and keys in the
order of its rotary embedding, whose pairs stand side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.model_config import GgufType
from fti.store.errors import ContractError, IntegrityError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARCHITECTURES = ("llama", "qwen2", "qwen3")
_HEAD = "lm_head.weight"
_EMBEDDINGS = "model.embed_tokens.weight"
_BLOCK = 32  # weights that share a scale in Q8_0


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a model, read when it is wanted, in float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[np.float32]]


def folder_tensors(files: Sequence[Path]) -> list[Tensor]:
    """The tensors of safetensors files, under transformers' names."""
    from safetensors import safe_open

    def reader(path: Path, name: str) -> Callable[[], NDArray[np.float32]]:
        def read() -> NDArray[np.float32]:
            with safe_open(path, framework="pt") as file:  # NumPy has no bfloat16
                return file.get_tensor(name).float().numpy()

        return read

    found = []
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                shape = tuple(file.get_slice(name).get_shape())
                found.append(Tensor(name, shape, reader(path, name)))
    return found


def model_tensors(model: Any) -> list[Tensor]:
    """The tensors of a transformers model in memory."""

    def reader(weight: Any) -> Callable[[], NDArray[np.float32]]:
        return lambda: weight.detach().float().cpu().numpy()

    return [
        Tensor(name, tuple(weight.shape), reader(weight))
        for name, weight in model.state_dict().items()
    ]


def renamed(tensors: Sequence[Tensor], config: Any, *, model: str) -> list[Tensor]:
    """Tensors as llama.cpp wants them: its names, its order of rows, no copy of tied weights.

    Args:
        tensors: under transformers' names.
        config: the model's transformers configuration.
        model: whose they are, for messages.

    Raises:
        ContractError: the model has a part that the architecture has not in llama.cpp.
    """
    import gguf

    arch = require_known(config, model=model)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config.num_hidden_layers)
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
    }
    out = []
    for tensor in tensors if not config.tie_word_embeddings else _untied(tensors):
        if tensor.name.endswith("rotary_emb.inv_freq"):
            continue
        name = names.get_name(tensor.name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ContractError(
                f"The model {model!r} has {tensor.name!r}, which llama.cpp's {arch} has not.",
                hint="Export it with --format merged and serve that folder.",
            )
        part = tensor.name.split(".")[-2]
        if arch == "llama" and part in heads:
            tensor = replace(tensor, read=_side_by_side(tensor.read, heads[part]))
        out.append(replace(tensor, name=name))
    return [*_rope_factors(config), *out]


def require_known(config: Any, *, model: str) -> str:
    """The architecture of a model, where llama.cpp computes what transformers does.

    Raises:
        ContractError: it is another, or does what is not written here.
    """
    why = ""
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type not in ARCHITECTURES:
        why = f"its architecture is {config.model_type!r}"
    elif config.hidden_act != "silu":
        why = f"its activation is {config.hidden_act!r}"
    elif getattr(config, "use_sliding_window", False):
        why = "its attention slides"
    elif rope.get("rope_type", "default") not in ("default", "linear", "llama3"):
        why = f"its rotary embedding is scaled by {rope['rope_type']!r}"
    if why:
        raise ContractError(
            f"The model {model!r} cannot be written as GGUF here: {why}, and what is written is "
            f"{', '.join(ARCHITECTURES)}.",
            hint="Export it with --format merged; llama.cpp's convert_hf_to_gguf.py knows more.",
        )
    return str(config.model_type)


def stored(tensor: Tensor, kind: GgufType) -> tuple[Any, int]:
    """The format in which a tensor lies in a file, and its bytes there."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(tensor.shape) < 2:
        form = GGMLQuantizationType.F32
    elif kind == "q8_0" and tensor.shape[-1] % _BLOCK == 0:
        form = GGMLQuantizationType.Q8_0
    else:
        form = GGMLQuantizationType.F16
    block, size = GGML_QUANT_SIZES[form]
    return form, math.prod(tensor.shape) // block * size


def packed(tensor: Tensor, kind: GgufType, *, model: str) -> NDArray[Any]:
    """A tensor as its bytes lie in a file.

    Raises:
        IntegrityError: it holds what is no number, or is none in half precision.
    """
    import numpy as np
    from gguf import quantize

    form, _ = stored(tensor, kind)
    weight = np.ascontiguousarray(tensor.read())
    with np.errstate(over="ignore"):
        data: NDArray[Any] = quantize(weight, form)
    if not np.isfinite(weight).all() or (data.dtype == np.float16 and np.isinf(data).any()):
        raise IntegrityError(
            f"The weights {tensor.name!r} of {model!r} hold what half precision has no number for.",
            hint="Train it again with a smaller learning rate.",
        )
    return data


def _untied(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Without the output's weights, where they are the embeddings."""
    import numpy as np

    both = {t.name: t for t in tensors if t.name in (_HEAD, _EMBEDDINGS)}
    tied = len(both) == 2 and np.array_equal(both[_HEAD].read(), both[_EMBEDDINGS].read())
    return (tensor for tensor in tensors if not (tied and tensor.name == _HEAD))


def _side_by_side(
    read: Callable[[], NDArray[np.float32]], heads: int
) -> Callable[[], NDArray[np.float32]]:
    """Rows of each head with the two of a rotary pair beside one another."""

    def reordered() -> NDArray[np.float32]:
        weight = read()
        rows = weight.shape[0]
        pairs = weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:])
        return pairs.swapaxes(1, 2).reshape(weight.shape)

    return reordered


def _rope_factors(config: Any) -> list[Tensor]:
    """What Llama 3 divides each frequency of its rotary embedding by."""
    import numpy as np

    rope = config.rope_parameters or {}
    if rope.get("rope_type") != "llama3":
        return []
    width = head_width(config)
    lengths = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, width, 2) / width)
    known, low, high = (
        rope[key]
        for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    share = np.clip((known / lengths - low) / (high - low), 0, 1)
    factors = (1 / ((1 - share) / rope["factor"] + share)).astype(np.float32)
    return [Tensor("rope_freqs.weight", factors.shape, lambda: factors)]


def head_width(config: Any) -> int:
    """Numbers of one attention head."""
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)
