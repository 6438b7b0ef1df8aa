"""Tiny models of the architectures that are written as GGUF, and what llama.cpp says of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from fti.pipelines.engines.llama_cpp.native_server import NativeServer

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def with_words_cut(tokenizer: Any, cut: str) -> Any:
    """A byte-level tokenizer whose texts are cut into words as a family of models does."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    inner = tokenizer.backend_tokenizer
    numbers = {"qwen2": r"\p{N}", "llama-bpe": r"\p{N}{1,3}"}.get(cut)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=numbers is None)
    first: list[Any] = []
    if numbers is not None:
        regex = Regex(_WORDS.replace("NUMBERS", numbers))
        first = [pre_tokenizers.Split(regex, "isolated")]
    elif cut == "smollm":
        first = [pre_tokenizers.Digits(individual_digits=True)]
    inner.pre_tokenizer = pre_tokenizers.Sequence([*first, bytes_]) if first else bytes_
    if cut == "qwen2":
        inner.normalizer = normalizers.NFC()
    if cut == "llama-bpe":
        inner.model.ignore_merges = True
    return tokenizer


def make_model(folder: Path, architecture: str, tokenizer: Any, **changes: Any) -> Path:
    """Write a tiny causal LM of an architecture, with random weights; the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from fti.pipelines.engines.weights import quiet_loading

    sizes = {
        "vocab_size": len(tokenizer) + 3,  # rows without a piece, as the published models have
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(architecture, **(sizes | changes))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config)
        for name, weight in model.named_parameters():  # biases are made as zeros, norms as ones
            if name.endswith(".bias") or "norm" in name:
                weight.data.add_(torch.randn_like(weight) * 0.2)
    with quiet_loading():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def llama_cpp(path: Path, **options: Any) -> Iterator[tuple[NativeServer, httpx.Client]]:
    """llama.cpp with a file, and a client of the HTTP server that it opens."""
    server = NativeServer(path, **({"context_tokens": 512, "seats": 2} | options))
    try:
        door = server._door
        transport = httpx.HTTPTransport(uds=door.hostnames[0])
        headers = {"Authorization": f"Bearer {door.keys[0]}"}
        with httpx.Client(
            transport=transport, base_url="http://llama", headers=headers, timeout=60
        ) as client:
            yield server, client
    finally:
        server.close()


def ids_by_template(client: httpx.Client, messages: list[dict[str, str]]) -> list[int]:
    """What llama.cpp makes of a conversation by the template in its file."""
    rendered = client.post("/apply-template", json={"messages": messages}).json()["prompt"]
    body = {"content": rendered, "add_special": True, "parse_special": True}
    return list(client.post("/tokenize", json=body).json()["tokens"])


def metadata(path: Path) -> dict[str, Any]:
    """The values of a GGUF file that are no lists."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    return {
        name: field.contents()
        for name, field in fields.items()
        if not isinstance(field.contents(), list)
    }


def dumped(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text("utf-8"))
