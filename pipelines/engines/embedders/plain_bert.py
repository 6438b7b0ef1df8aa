"""A plain BERT of the sentence-transformers family, read from its files.

Most small embedders are one: BERT's encoder, the mean of its tokens or the first of them, a length
of one. What their files say is little, and reading it here takes none of the libraries that train
them, which take seconds to import. Whatever says anything else is no plain BERT.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

_PARTS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_SETTINGS = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config",
             "module_output_name", "processing_kwargs"}  # fmt: skip
_OUTPUT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
#: Tokenizers whose pipeline is the file's own; the first two make theirs of settings beside it.
_BERT_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast")
_TOKENIZERS = (*_BERT_TOKENIZERS, "TokenizersBackend", "PreTrainedTokenizerFast")
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "output_hidden_states": (False, None),
    "position_embedding_type": ("absolute", None),
    "quantization_config": (None,),
}
_UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


@dataclass(frozen=True, slots=True)
class PlainBert:
    """What the files say.

    Attributes:
        weights: the safetensors file, float32.
        pipeline: the tokenizer, as JSON, without truncation and padding.
        heads: of attention.
        layers: how many.
        hidden: length of a token's vector and of a text's.
        eps: of the layer norms.
        pooling: what of the tokens' vectors is the text's.
        most_tokens: read of a text, those that the model puts around it included.
        padding: id of the token that fills up.
        prompts: texts that the model's settings put before others, by kind.
    """

    weights: Path
    pipeline: str
    heads: int
    layers: int
    hidden: int
    eps: float
    pooling: Literal["mean", "cls"]
    most_tokens: int
    padding: int
    prompts: Mapping[str, str]

    def tokenizer(self, *, cut: bool) -> Tokenizer:
        """A tokenizer of its own; one that cuts gives no more than ``most_tokens``."""
        from tokenizers import Tokenizer

        made = Tokenizer.from_str(self.pipeline)
        if cut:
            made.enable_truncation(self.most_tokens)
        return made

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight, by its name in the file, those that are unused left out.

        Raises:
            SafetensorError: the file is damaged.
        """
        from safetensors import safe_open

        with safe_open(self.weights, framework="np") as file:
            return {
                name: tuple(file.get_slice(name).get_shape())
                for name in file.keys()  # noqa: SIM118
                if name not in _UNUSED
            }

    def lacking(self) -> list[str]:
        """Names of the weights that the settings promise and the file has not, or otherwise.

        Raises:
            SafetensorError: the file is damaged.
        """
        found = self.sizes()
        return [
            name
            for name, shape in _promised(self.layers, self.hidden)
            if name not in found or (shape is not None and found[name] != shape)
        ]


def read_plain_bert(folder: Path) -> PlainBert | None:
    """What the files of a folder say; None where they are not those of a plain BERT in float32."""
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # sentence-transformers says what is wrong, or knows better


def _read(folder: Path) -> PlainBert | None:
    parts = _json(folder / "modules.json")
    kinds = [part["type"].rpartition(".")[2] for part in parts]
    if kinds not in _PARTS or any(
        not part["type"].startswith("sentence_transformers.") for part in parts
    ):
        return None
    own = folder / parts[0]["path"]
    config, token_settings = _json(own / "config.json"), _json(own / "tokenizer_config.json")
    settings = _json(own / "sentence_bert_config.json")
    whole = folder / "config_sentence_transformers.json"
    about = _json(whole) if whole.is_file() else {}
    pooling = _pooling(_json(folder / parts[1]["path"] / "config.json"))
    files = sorted(own.glob("*.safetensors"))
    pipeline = _json(own / "tokenizer.json")
    if (
        pooling is None
        or any(config.get(name) not in values for name, values in _PLAIN.items())
        or config.get("dtype", config.get("torch_dtype", "float32")) != "float32"
        or not _is_plain_transformer(settings)
        or not _is_plain_tokenizer(token_settings, pipeline)
        or about.get("default_prompt_name") is not None
        or about.get("truncate_dim") is not None
        or [path.name for path in files] != ["model.safetensors"]
        or not _in_float32(files[0])
    ):
        return None
    positions = int(config["max_position_embeddings"])
    stated = settings.get("max_seq_length") or token_settings.get("model_max_length") or positions
    pipeline["truncation"] = pipeline["padding"] = None
    return PlainBert(
        weights=files[0],
        pipeline=json.dumps(pipeline, ensure_ascii=False),
        heads=int(config["num_attention_heads"]),
        layers=int(config["num_hidden_layers"]),
        hidden=int(config["hidden_size"]),
        eps=float(config.get("layer_norm_eps", 1e-12)),
        pooling=pooling,
        most_tokens=min(int(stated), positions),
        padding=int(config.get("pad_token_id") or 0),
        prompts=dict(about.get("prompts") or {}),
    )


def _in_float32(weights: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            names = [name for name in file.keys() if name not in _UNUSED]  # noqa: SIM118
            return all(file.get_slice(name).get_dtype() == "F32" for name in names)
    except SafetensorError:
        return True  # damaged: refused where they are looked for by name


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _pooling(settings: dict[str, Any]) -> Literal["mean", "cls"] | None:
    if not settings.get("include_prompt", True):
        return None
    if (mode := settings.get("pooling_mode")) is not None:
        return mode if mode in ("mean", "cls") else None
    modes = {key for key, value in settings.items() if key.startswith("pooling_mode_") and value}
    if modes == {"pooling_mode_mean_tokens"}:
        return "mean"
    return "cls" if modes == {"pooling_mode_cls_token"} else None


def _is_plain_transformer(settings: dict[str, Any]) -> bool:
    return (
        settings.keys() <= _SETTINGS
        and not settings.get("do_lower_case")
        and not settings.get("processing_kwargs")
        and settings.get("transformer_task", "feature-extraction") == "feature-extraction"
        and settings.get("modality_config", _OUTPUT) == _OUTPUT
        and settings.get("module_output_name", "token_embeddings") == "token_embeddings"
    )


def _is_plain_tokenizer(settings: dict[str, Any], pipeline: dict[str, Any]) -> bool:
    if settings.get("tokenizer_class") not in _TOKENIZERS:
        return False
    if settings["tokenizer_class"] not in _BERT_TOKENIZERS:
        return True
    made = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        "strip_accents": settings.get("strip_accents"),
        "lowercase": settings.get("do_lower_case", True),
    }
    return bool(
        pipeline["normalizer"] == made
        and pipeline["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and pipeline["model"]["type"] == "WordPiece"
    )


def _promised(layers: int, hidden: int) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    for name in ("word", "position", "token_type"):
        yield f"embeddings.{name}_embeddings.weight", None
    norms = ["embeddings.LayerNorm"]
    for n in range(layers):
        layer = f"encoder.layer.{n}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        squares = [*(f"attention.self.{part}" for part in ("query", "key", "value"))]
        for part in (*squares, "attention.output.dense"):
            yield f"{layer}.{part}.weight", (hidden, hidden)
            yield f"{layer}.{part}.bias", (hidden,)
        for part in ("intermediate.dense", "output.dense"):
            yield f"{layer}.{part}.weight", None
            yield f"{layer}.{part}.bias", None
    for norm in norms:
        yield f"{norm}.weight", (hidden,)
        yield f"{norm}.bias", (hidden,)


def assembled(plain: PlainBert) -> torch.nn.Module:
    """The model as modules of torch under the names that ``transformers.BertModel`` gives them.

    Raises:
        SafetensorError: the weights are damaged.
    """
    import torch
    from safetensors.torch import load_file

    whole = torch.nn.Module()
    weights = {n: w for n, w in load_file(plain.weights).items() if n not in _UNUSED}
    for name, weight in sorted(weights.items(), key=lambda item: _natural(item[0])):
        path, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        parent = whole
        *above, own = path.split(".")
        for step in above:
            if step not in parent._modules:
                parent.add_module(step, torch.nn.Module())
            parent = parent.get_submodule(step)
        with torch.device("meta"):  # nothing is drawn that the file's weights replace
            parent.add_module(own, _module(path, weight, plain.eps))
    whole.load_state_dict(weights, assign=True)
    return whole.requires_grad_(False).eval()


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 2 before layer 10."""
    return [(int(part) if part.isdigit() else -1, part) for part in name.split(".")]


def _module(path: str, weight: torch.Tensor, eps: float) -> torch.nn.Module:
    import torch

    if weight.dim() == 1:
        return torch.nn.LayerNorm(len(weight), eps=eps)
    if path.startswith("embeddings."):
        # Drawn on no device, its numbers would bring in torch's compiler.
        return torch.nn.Embedding(weight.shape[0], weight.shape[1], _weight=weight)
    return torch.nn.Linear(weight.shape[1], weight.shape[0])
