"""A file that is written here is read by llama.cpp as the model that it was made of."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_tokenizer
from fti.pipelines.engines.encoding import encode_prompt
from fti.pipelines.engines.llama_cpp.gguf_cache import gguf_source
from fti.pipelines.engines.llama_cpp.gguf_vocabulary import read_vocabulary
from fti.pipelines.engines.llama_cpp.gguf_weights import Tensor, packed
from fti.pipelines.engines.model_config import ModelConfig
from fti.store.errors import ContractError, IntegrityError
from fti.store.types import Message
from tests.support.llama_cpp import ids_by_template, llama_cpp, make_model, metadata, with_words_cut
from tests.support.tiny_model import (
    TEXT,
    byte_level_tokenizer,
    chatml_tokenizer,
    metaspace_tokenizer,
)

LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 256,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "gpt-2", {"tie_word_embeddings": True}),
    "llama 3": ("llama", "llama-bpe", {"tie_word_embeddings": False, "rope_parameters": LLAMA_3}),
    "qwen2": ("qwen2", "qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", "qwen2", {"tie_word_embeddings": False, "head_dim": 32}),
}
TALK = (
    Message(role="system", content="Answer shortly."),
    Message(role="user", content="When? It's 1,024.50 € on 12345 days; naïve façade 🙂\n\n  Да."),
)


def written(folder: Path, kind: Any) -> tuple[Path, Any]:
    """The file of a model's folder, and its tokenizer."""
    source = gguf_source(ModelConfig(id=str(folder)))
    tokenizer = load_tokenizer(source.base)
    path = folder / f"{kind}.gguf"
    source.write(path, tokenizer, name="tiny", kind=kind)
    return path, tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_reads_the_same_ids_and_says_the_same(family: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is an extra")
    import torch

    architecture, cut, changes = FAMILIES[family]
    tokenizer = with_words_cut(chatml_tokenizer(), cut)
    folder = make_model(tmp_path / "lm", architecture, tokenizer, **changes)
    path, tokenizer = written(folder, "f16")
    loaded = load_causal_lm(ModelConfig(id=str(folder), device="cpu"))
    prompt = encode_prompt(tokenizer, TALK)
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([prompt * 7])).logits[0, -1]
    wanted = logits.log_softmax(-1)

    with llama_cpp(path) as (server, client):
        assert ids_by_template(client, [m.model_dump() for m in TALK]) == prompt
        for text in TEXT:
            body = {"content": text, "add_special": False}
            ids = client.post("/tokenize", json=body).json()["tokens"]
            assert ids == tokenizer(text, add_special_tokens=False)["input_ids"], text
        with server.seat(prompt, lambda: False) as seat:
            found = server.likeliest(seat, prompt * 7, 5)
    assert found[0][0] == int(wanted.argmax())
    for index, chance in found:
        assert chance == pytest.approx(float(wanted[index]), abs=0.03), index


def test_eight_bits_are_half_the_size_and_nearly_the_same(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is an extra")
    folder = make_model(tmp_path / "lm", "qwen2", with_words_cut(chatml_tokenizer(), "qwen2"))
    half, tokenizer = written(folder, "f16")
    eight, _ = written(folder, "q8_0")
    prompt = encode_prompt(tokenizer, TALK)
    said = []
    for path in (half, eight):
        with llama_cpp(path) as (server, _), server.seat(prompt, lambda: False) as seat:
            said.append(dict(server.likeliest(seat, prompt, 3)))
    both = said[0].keys() & said[1].keys()
    assert both
    assert all(math.isclose(said[0][i], said[1][i], abs_tol=0.5) for i in both)
    assert (metadata(half)["general.file_type"], metadata(eight)["general.file_type"]) == (1, 7)
    assert eight.stat().st_size < 0.7 * half.stat().st_size


def test_the_file_says_what_the_model_is_and_holds_the_template(tiny_lm: Path) -> None:
    path, tokenizer = written(tiny_lm, "f16")
    said = metadata(path)
    config = json.loads((tiny_lm / "config.json").read_text("utf-8"))
    assert said["general.architecture"] == "llama"
    assert said["llama.context_length"] == config["max_position_embeddings"]
    assert said["llama.attention.head_count_kv"] == 2
    assert said["tokenizer.chat_template"] == tokenizer.chat_template
    assert said["tokenizer.ggml.pre"] == "gpt-2"
    assert said["tokenizer.ggml.add_bos_token"] is False
    assert said["tokenizer.ggml.eot_token_id"] == tokenizer.eos_token_id
    path.unlink()


@pytest.mark.parametrize(
    ("cut", "name"),
    [("gpt-2", "gpt-2"), ("smollm", "smollm"), ("qwen2", "qwen2"), ("llama-bpe", "llama-bpe")],
)
def test_how_texts_are_cut_is_read_off_the_tokenizer(cut: str, name: str) -> None:
    tokenizer = with_words_cut(byte_level_tokenizer(), cut)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer) + 2, model="tiny")
    assert vocabulary.cut == name
    assert vocabulary.pieces[-1] == f"[PAD{len(tokenizer) + 1}]"
    assert vocabulary.types[tokenizer.eos_token_id] == 3
    assert not vocabulary.begins


def test_a_tokenizer_that_llama_cpp_has_not_is_refused() -> None:
    with pytest.raises(ContractError, match="it is no byte-level BPE") as caught:
        read_vocabulary(metaspace_tokenizer(), 2000, model="two")
    assert "--format merged" in caught.value.hint
    from tokenizers import pre_tokenizers

    odd = byte_level_tokenizer()
    odd.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    with pytest.raises(ContractError, match="cuts texts into words in another way"):
        read_vocabulary(odd, 2000, model="odd")
    with pytest.raises(ContractError, match="for 5 embeddings"):
        read_vocabulary(byte_level_tokenizer(), 5, model="small")


@pytest.mark.parametrize(
    ("architecture", "changes", "why"),
    [
        ("gpt2", {}, "its architecture is 'gpt2'"),
        ("llama", {"hidden_act": "gelu"}, "its activation is 'gelu'"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 64}, "its attention slides"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}},
            "scaled by 'yarn'",
        ),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(
    architecture: str, changes: dict[str, Any], why: str
) -> None:
    from transformers import AutoConfig

    from fti.pipelines.engines.llama_cpp.gguf_weights import require_known

    config = AutoConfig.for_model(architecture, **changes)
    with pytest.raises(ContractError, match=why):
        require_known(config, model="other")


def test_weights_too_large_for_half_precision_are_named() -> None:
    huge = np.full((2, 32), 1e6, dtype=np.float32)
    tensor = Tensor("blk.0.ffn_up.weight", huge.shape, lambda: huge)
    with pytest.raises(IntegrityError, match=r"blk\.0\.ffn_up"):
        packed(tensor, "f16", model="tiny")
