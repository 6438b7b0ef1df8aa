"""The Llama that answers without the libraries that train: the numbers of transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_to_answer
from fti.pipelines.engines.causal_lm.plain_llama import KeysValues, PlainLlama, read_plain_llama
from fti.pipelines.engines.causal_lm.transformers_generator import serve_here
from fti.pipelines.engines.generator import GenerationRequest, GeneratorConfig
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.model_files import ADAPTER_CONFIG
from fti.store.errors import IntegrityError
from fti.store.types import Message
from tests.support.tiny_model import make_adapter

ASKED = "When is the kiln fired?"


def plain_of(folder: Path) -> PlainLlama:
    config = read_plain_llama(folder)
    assert config is not None
    return PlainLlama(config, folder)


def changed(path: Path, **values: Any) -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(settings), encoding="utf-8")


def padded() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    ids = torch.randint(5, 200, (3, 21))
    mask = torch.ones_like(ids)
    mask[1, :13], mask[2, :20] = 0, 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return ids, {"attention_mask": mask, "position_ids": positions}


def assert_steps_agree(ours: PlainLlama, theirs: Any, ids: torch.Tensor, **given: Any) -> None:
    """After a prompt and four steps the logits of the last tokens are the same."""
    kept: Any = None
    held: Any = None
    mask = given.get("attention_mask")
    with torch.inference_mode():
        for _ in range(5):
            found = ours(ids, past_key_values=kept, logits_to_keep=1, **given)
            wanted = theirs(
                input_ids=ids, past_key_values=held, use_cache=True, logits_to_keep=1, **given
            )
            torch.testing.assert_close(found.logits, wanted.logits, rtol=0.0, atol=2e-5)
            kept, held = found.past_key_values, wanted.past_key_values
            ids = wanted.logits[:, -1].argmax(-1, keepdim=True)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones((len(ids), 1))], dim=1)
                positions = (mask.cumsum(1) - 1)[:, -1:]
                given = {"attention_mask": mask, "position_ids": positions}


@pytest.mark.parametrize("rows", ["one", "padded"])
def test_logits_are_those_of_transformers(rows: str, tiny_lm: Path, loaded_lm: Any) -> None:
    ids, given = padded()
    if rows == "one":
        ids, given = ids[:1], {}

    assert_steps_agree(plain_of(tiny_lm), loaded_lm.model, ids, **given)


def test_biases_and_an_output_of_its_own_count(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=200, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=2, head_dim=16, attention_bias=True,
        mlp_bias=True, tie_word_embeddings=False, initializer_range=0.3, rms_norm_eps=1e-3,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).eval()
    for name, weight in theirs.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    theirs.save_pretrained(tmp_path)
    ids, given = padded()

    assert_steps_agree(plain_of(tmp_path), theirs, ids % 200, **given)


def test_a_prompt_in_pieces_is_the_whole_prompt(tiny_lm: Path) -> None:
    model = plain_of(tiny_lm)
    ids, _ = padded()
    with torch.inference_mode():
        whole = model(ids).logits
        begun = model(ids[:, :8]).past_key_values
        rest = model(ids[:, 8:], past_key_values=begun).logits

    torch.testing.assert_close(rest, whole[:, 8:], rtol=0.0, atol=2e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "mistral"},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"quantization_config": {"bits": 4}},
    ],
)
def test_whatever_says_anything_else_is_none(
    values: dict[str, Any], tiny_lm: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_lm, tmp_path / "other")
    changed(folder / "config.json", **values)

    assert read_plain_llama(folder) is None


def answer(generator: Any) -> str:
    request = GenerationRequest(
        messages=(Message(role="user", content=ASKED),), question=ASKED, max_new_tokens=12
    )
    return str(generator.generate([request])[0].text)


@pytest.mark.parametrize("plain", [True, False], ids=["lora", "more than lora"])
def test_what_answers_is_plain_while_it_can_carry_its_adapters(
    plain: bool, tiny_lm: Path, tmp_path: Path
) -> None:
    config = GeneratorConfig(id=str(tiny_lm), device="cpu")
    adapter = make_adapter(tiny_lm, tmp_path / "adapter")
    if not plain:
        changed(adapter / ADAPTER_CONFIG, auto_mapping={"of": "no layer"})
    whole = load_causal_lm(config)
    base, tuned = serve_here(whole, config), serve_here(whole, config, adapter)
    wanted = (answer(base), answer(tuned))
    loaded = load_to_answer(config)
    assert isinstance(loaded.model, PlainLlama)
    assert loaded.identity == whole.identity
    assert loaded.context_tokens == whole.context_tokens
    assert loaded.stop_ids == whole.stop_ids

    alone = serve_here(loaded, config)
    before = answer(alone)
    adapted = serve_here(loaded, config, adapter)

    assert isinstance(loaded.model, PlainLlama) == plain
    if not isinstance(loaded.model, PlainLlama):
        assert loaded.model.config.name_or_path == tiny_lm.name
    assert (before, answer(adapted)) == wanted
    assert answer(alone) == before, "what it had read goes on with the other model"


def test_a_cache_goes_over_to_transformers(tiny_lm: Path, loaded_lm: Any) -> None:
    ids, _ = padded()
    with torch.inference_mode():
        kept = plain_of(tiny_lm)(ids[:, :8]).past_key_values
        assert isinstance(kept, KeysValues)
        found = loaded_lm.model(input_ids=ids[:, 8:], past_key_values=kept.as_transformers())
        wanted = loaded_lm.model(input_ids=ids).logits[:, 8:]

    torch.testing.assert_close(found.logits, wanted, rtol=0.0, atol=2e-5)


@pytest.mark.parametrize("how", ["lacking", "cut off"])
def test_damaged_weights_are_refused_by_name(how: str, tiny_lm: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_lm, tmp_path / "damaged")
    path = folder / "model.safetensors"
    if how == "lacking":
        kept = {n: w for n, w in load_file(path).items() if n != "model.norm.weight"}
        save_file(kept, path, metadata={"format": "pt"})
    else:
        path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(IntegrityError, match="damaged"):
        load_to_answer(ModelConfig(id=str(folder), device="cpu"))
