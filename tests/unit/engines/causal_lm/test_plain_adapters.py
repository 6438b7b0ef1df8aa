"""LoRA adapters on the Llama that answers: the numbers of peft, and what goes over to peft."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_to_answer
from fti.pipelines.engines.causal_lm.plain_llama import PlainLlama
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from fti.store.errors import ContractError
from tests.support.tiny_model import make_adapter


@pytest.fixture
def loaded(tiny_lm: Path) -> LoadedModel:
    return load_to_answer(ModelConfig(id=str(tiny_lm), device="cpu"))


def logits(loaded: LoadedModel, adapter: str | None = None) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with loaded.using(adapter) as model, torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


def by_peft(tiny_lm: Path, adapter: Path) -> torch.Tensor:
    whole = load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu"))
    return logits(whole, whole.add_adapter(adapter))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rank": 3, "lora_alpha": 24},
        {"use_rslora": True},
        {"target_modules": ["k_proj", "v_proj", "up_proj"]},
        {"target_modules": ["model.layers.1.self_attn.v_proj", "model.layers.1.mlp.down_proj"]},
    ],
    ids=["all", "rank and alpha", "rslora", "parts of what is one", "some of the last layer"],
)
def test_logits_are_those_of_peft(
    settings: dict[str, Any], loaded: LoadedModel, tiny_lm: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tiny_lm, tmp_path / "made", seed=3, std=0.1, **settings)
    base = logits(loaded)

    found = logits(loaded, loaded.add_adapter(adapter))

    assert isinstance(loaded.model, PlainLlama)
    assert not torch.allclose(found, base)
    torch.testing.assert_close(found, by_peft(tiny_lm, adapter), rtol=0.0, atol=5e-5)
    assert torch.equal(logits(loaded), base)


@pytest.mark.parametrize(
    "settings",
    [{"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"modules_to_save": ["norm"]}],
    ids=["dora", "ranks of their own", "weights of its own"],
)
def test_what_is_more_than_lora_goes_over_to_peft_with_all_others(
    settings: dict[str, Any], loaded: LoadedModel, tiny_lm: Path, tmp_path: Path
) -> None:
    other = make_adapter(tiny_lm, tmp_path / "other")
    adapter = make_adapter(tiny_lm, tmp_path / "made", seed=3, std=0.1, **settings)
    base, held = logits(loaded), loaded.add_adapter(other)
    before = logits(loaded, held)

    name = loaded.add_adapter(adapter)

    assert not isinstance(loaded.model, PlainLlama)
    torch.testing.assert_close(logits(loaded, name), by_peft(tiny_lm, adapter))
    torch.testing.assert_close(logits(loaded, held), before, rtol=0.0, atol=5e-5)
    torch.testing.assert_close(logits(loaded), base, rtol=0.0, atol=5e-5)
    loaded.remove_adapter(held)
    loaded.remove_adapter(name)
    torch.testing.assert_close(logits(loaded), base, rtol=0.0, atol=5e-5)


@pytest.mark.parametrize("how", ["lacks a matrix", "of another shape", "a setting that lies"])
def test_an_adapter_that_is_none_leaves_the_model_as_it_was(
    how: str, loaded: LoadedModel, tiny_lm: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    good = make_adapter(tiny_lm, tmp_path / "good")
    bad = Path(shutil.copytree(good, tmp_path / "bad"))
    weights = load_file(bad / ADAPTER_WEIGHTS)
    first = next(iter(weights))
    if how == "lacks a matrix":
        del weights[first]
    elif how == "of another shape":
        weights[first] = torch.cat([weights[first]] * 2, dim=1)
    else:
        settings = json.loads((bad / ADAPTER_CONFIG).read_text("utf-8")) | {"r": 7}
        (bad / ADAPTER_CONFIG).write_text(json.dumps(settings), "utf-8")
    save_file(weights, bad / ADAPTER_WEIGHTS)
    held = loaded.add_adapter(good)
    base, by_good = logits(loaded), logits(loaded, held)

    with pytest.raises(ContractError):
        loaded.add_adapter(bad)

    assert isinstance(loaded.model, PlainLlama)
    assert torch.equal(logits(loaded, held), by_good)
    assert torch.equal(logits(loaded), base)


def test_a_packed_model_carries_an_adapter_too(
    loaded: LoadedModel, tiny_lm: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tiny_lm, tmp_path / "made", std=0.1)
    loaded.pack(bfloat16=False)

    found = logits(loaded, loaded.add_adapter(adapter))

    torch.testing.assert_close(found, by_peft(tiny_lm, adapter), rtol=0.0, atol=1e-4)
