from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel, Turns
from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_to_answer
from fti.pipelines.engines.causal_lm.plain_llama import PlainLlama
from fti.pipelines.engines.causal_lm.saving import save_merged
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.generator import GenerationRequest
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, file_sha256
from fti.store.errors import (
    ConfigError,
    ContractError,
    EngineError,
    IntegrityError,
    ModelUnavailable,
)
from fti.store.types import Message
from tests.support.tiny_model import make_adapter, make_tiny_lm


@pytest.fixture
def lm_copy(tiny_lm: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_lm, tmp_path / "copied-lm"))


@pytest.fixture(scope="module")
def adapter(tiny_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_lm, tmp_path_factory.mktemp("adapters") / "a")


@pytest.fixture
def adapter_copy(adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter, tmp_path / "adapter"))


@pytest.fixture(params=["transformers", "plain"])
def fresh_lm(tiny_lm: Path, request: pytest.FixtureRequest) -> LoadedModel:
    load = load_causal_lm if request.param == "transformers" else load_to_answer
    return load(ModelConfig(id=str(tiny_lm), device="cpu"))


def logits(loaded: LoadedModel, adapter: str | None = None) -> Any:
    import torch

    with loaded.using(adapter) as model, torch.inference_mode():
        return model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


def test_the_identity_holds_the_hashes_of_weights_and_tokenizer(
    tiny_lm: Path, fresh_lm: LoadedModel
) -> None:
    identity = fresh_lm.identity

    assert identity.id == "tiny-lm"
    assert identity.weights_sha256 == file_sha256(tiny_lm / "model.safetensors")
    assert len(identity.tokenizer_sha256) == 64
    assert fresh_lm.context_tokens == 1024
    assert fresh_lm.tokenizer.eos_token_id in fresh_lm.stop_ids


def test_another_chat_template_is_another_tokenizer(lm_copy: Path, fresh_lm: LoadedModel) -> None:
    template = lm_copy / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("|>\n", "|> "), "utf-8")

    changed = load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu")).identity

    assert changed.weights_sha256 == fresh_lm.identity.weights_sha256
    assert changed.tokenizer_sha256 != fresh_lm.identity.tokenizer_sha256


def test_encoding_does_not_change_the_tokenizers_hash(tiny_lm: Path) -> None:
    from fti.pipelines.engines.weights import tokenizer_sha256

    loaded = load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu"))
    loaded.tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=8)

    assert tokenizer_sha256(loaded.tokenizer) == loaded.identity.tokenizer_sha256


def test_weights_are_float32_on_a_cpu_whatever_the_files_hold(lm_copy: Path) -> None:
    import torch

    loaded = load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu"))
    loaded.model.to(torch.bfloat16).save_pretrained(lm_copy)

    again = load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu"))

    assert {p.dtype for p in again.model.parameters()} == {torch.float32}


def test_less_context_can_be_asked_for_and_more_cannot(tiny_lm: Path) -> None:
    def context(tokens: int) -> int:
        config = ModelConfig(id=str(tiny_lm), device="cpu", context_tokens=tokens)
        return load_causal_lm(config).context_tokens

    assert context(256) == 256
    assert context(4096) == 1024


def test_a_model_with_only_pickled_weights_is_refused(lm_copy: Path) -> None:
    import torch

    (lm_copy / "model.safetensors").unlink()
    torch.save({}, lm_copy / "pytorch_model.bin")

    with pytest.raises(ModelUnavailable, match=r"pytorch_model\.bin") as caught:
        load_causal_lm(ModelConfig(id=str(lm_copy)))

    assert "safe_serialization" in caught.value.hint


def test_damaged_weights_are_an_integrity_error(lm_copy: Path) -> None:
    whole = (lm_copy / "model.safetensors").read_bytes()
    (lm_copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(IntegrityError, match="copied-lm"):
        load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu"))


def test_missing_weights_are_not_replaced_by_random_ones(lm_copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(lm_copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, lm_copy / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(IntegrityError, match="lacks weights"):
        load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu"))


def test_weights_of_another_shape_are_an_integrity_error(lm_copy: Path) -> None:
    config = json.loads((lm_copy / "config.json").read_text("utf-8"))
    config["intermediate_size"] = 96
    (lm_copy / "config.json").write_text(json.dumps(config), "utf-8")

    with pytest.raises(IntegrityError, match="copied-lm"):
        load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu"))


def test_a_missing_tokenizer_is_an_integrity_error(lm_copy: Path) -> None:
    (lm_copy / "tokenizer.json").unlink()

    with pytest.raises(IntegrityError, match="tokenizer"):
        load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu"))


def test_four_bit_on_a_cpu_is_refused(tiny_lm: Path) -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu", quantization="4bit"))


def test_code_that_comes_with_a_model_is_not_run(lm_copy: Path) -> None:
    config = json.loads((lm_copy / "config.json").read_text("utf-8"))
    config["model_type"] = "home-made"
    config["auto_map"] = {
        "AutoConfig": "home_made.HomeMadeConfig",
        "AutoModelForCausalLM": "home_made.HomeMadeModel",
    }
    (lm_copy / "config.json").write_text(json.dumps(config), "utf-8")
    (lm_copy / "home_made.py").write_text("raise SystemExit('the code was run')\n", "utf-8")

    with pytest.raises(IntegrityError):
        load_causal_lm(ModelConfig(id=str(lm_copy), device="cpu"))


def test_an_adapter_acts_only_while_it_is_used(
    fresh_lm: LoadedModel, adapter: Path, tiny_lm: Path, tmp_path: Path
) -> None:
    import torch

    other = make_adapter(tiny_lm, tmp_path / "b", seed=2)
    base = logits(fresh_lm)

    first, second = fresh_lm.add_adapter(adapter), fresh_lm.add_adapter(other)
    by_first, by_second = logits(fresh_lm, first), logits(fresh_lm, second)

    assert not torch.allclose(by_first, base)
    assert not torch.allclose(by_first, by_second)
    assert torch.equal(logits(fresh_lm), base)
    assert torch.equal(logits(fresh_lm, first), by_first)
    fresh_lm.remove_adapter(first)
    assert torch.equal(logits(fresh_lm, second), by_second)
    assert torch.equal(logits(fresh_lm), base)
    fresh_lm.remove_adapter(second)
    assert torch.equal(logits(fresh_lm), base)
    if not isinstance(fresh_lm.model, PlainLlama):
        assert not any("lora" in name for name, _ in fresh_lm.model.named_parameters())


def test_an_adapter_gives_what_peft_alone_gives(
    fresh_lm: LoadedModel, adapter: Path, tiny_lm: Path
) -> None:
    import torch
    from peft import PeftModel

    from fti.pipelines.engines.weights import quiet_loading

    alone = load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu"))
    with quiet_loading():
        reference = PeftModel.from_pretrained(alone.model, str(adapter))
    with torch.inference_mode():
        expected = reference(input_ids=torch.tensor([[5, 6, 7, 8]])).logits

    found = logits(fresh_lm, fresh_lm.add_adapter(adapter))
    if isinstance(fresh_lm.model, PlainLlama):
        torch.testing.assert_close(found, expected, rtol=0.0, atol=5e-5)
    else:
        assert torch.equal(found, expected)


def test_an_adapter_asked_for_twice_is_held_once(fresh_lm: LoadedModel, adapter: Path) -> None:
    first, again = fresh_lm.add_adapter(adapter), fresh_lm.add_adapter(adapter)
    by_adapter = logits(fresh_lm, first)

    fresh_lm.remove_adapter(first)

    assert first == again
    assert bool((logits(fresh_lm, again) == by_adapter).all())


def test_adapters_can_come_and_go(fresh_lm: LoadedModel, adapter: Path) -> None:
    import torch

    first = fresh_lm.add_adapter(adapter)
    expected = logits(fresh_lm, first)
    fresh_lm.remove_adapter(first)

    again = fresh_lm.add_adapter(adapter)

    assert torch.equal(logits(fresh_lm, again), expected)


def test_an_adapter_of_another_base_is_refused(fresh_lm: LoadedModel, adapter_copy: Path) -> None:
    settings = json.loads((adapter_copy / ADAPTER_CONFIG).read_text("utf-8"))
    settings["base_model_name_or_path"] = "acme/other"
    (adapter_copy / ADAPTER_CONFIG).write_text(json.dumps(settings), "utf-8")

    with pytest.raises(ContractError, match="'acme/other'"):
        fresh_lm.add_adapter(adapter_copy)


def test_an_adapter_of_other_shapes_is_refused_and_the_base_stays_as_it_was(
    fresh_lm: LoadedModel, tmp_path: Path
) -> None:
    import torch

    wide = make_tiny_lm(tmp_path / "tiny-lm", hidden=96)  # of the same name
    misfit = make_adapter(wide, tmp_path / "misfit")
    before = logits(fresh_lm)

    with pytest.raises(ContractError, match="features"):
        fresh_lm.add_adapter(misfit)

    assert torch.equal(logits(fresh_lm), before)


def test_an_adapter_that_lacks_weights_is_refused_and_the_base_stays_as_it_was(
    fresh_lm: LoadedModel, adapter: Path, adapter_copy: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter_copy / ADAPTER_WEIGHTS)
    weights.pop(next(iter(weights)))
    save_file(weights, adapter_copy / ADAPTER_WEIGHTS)
    before = logits(fresh_lm)

    with pytest.raises(ContractError, match="lacks weights"):
        fresh_lm.add_adapter(adapter_copy)
    assert torch.equal(logits(fresh_lm), before)

    good = fresh_lm.add_adapter(adapter)
    with_good = logits(fresh_lm, good)
    with pytest.raises(ContractError, match="lacks weights"):
        fresh_lm.add_adapter(adapter_copy)
    assert torch.equal(logits(fresh_lm, good), with_good)
    assert torch.equal(logits(fresh_lm), before)


def test_a_pickled_adapter_is_refused(fresh_lm: LoadedModel, adapter_copy: Path) -> None:
    (adapter_copy / ADAPTER_WEIGHTS).rename(adapter_copy / "adapter_model.bin")

    with pytest.raises(IntegrityError, match=ADAPTER_WEIGHTS):
        fresh_lm.add_adapter(adapter_copy)


def test_a_damaged_adapter_is_an_integrity_error(fresh_lm: LoadedModel, adapter_copy: Path) -> None:
    (adapter_copy / ADAPTER_WEIGHTS).write_bytes(b"\x08\0\0\0\0\0\0\0not json")

    with pytest.raises(IntegrityError, match="cannot be read"):
        fresh_lm.add_adapter(adapter_copy)


def test_the_same_adapter_is_saved_as_the_same_bytes(tiny_lm: Path, tmp_path: Path) -> None:
    make_adapter(tiny_lm, tmp_path / "one")
    make_adapter(tiny_lm, tmp_path / "two")

    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    modules = json.loads((tmp_path / "one" / ADAPTER_CONFIG).read_text("utf-8"))["target_modules"]
    assert modules == sorted(modules)


def test_a_merged_model_says_what_the_adapter_says_without_peft(
    fresh_lm: LoadedModel, tiny_lm: Path, adapter: Path, tmp_path: Path
) -> None:
    import torch

    name = fresh_lm.add_adapter(adapter)
    wanted, bare = logits(fresh_lm, name), logits(fresh_lm)
    save_merged(load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu")), adapter, tmp_path / "m")

    merged = load_causal_lm(ModelConfig(id=str(tmp_path / "m"), device="cpu"))

    torch.testing.assert_close(logits(merged), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(merged), bare)
    assert merged.identity.tokenizer_sha256 == fresh_lm.identity.tokenizer_sha256
    assert not list((tmp_path / "m").glob("adapter*"))


def test_an_adapter_of_another_base_is_not_merged(
    fresh_lm: LoadedModel, adapter_copy: Path, tmp_path: Path
) -> None:
    settings = json.loads((adapter_copy / ADAPTER_CONFIG).read_text("utf-8"))
    settings["base_model_name_or_path"] = "another"
    (adapter_copy / ADAPTER_CONFIG).write_text(json.dumps(settings), "utf-8")

    with pytest.raises(ContractError, match="another"):
        save_merged(fresh_lm, adapter_copy, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_turns_are_given_in_the_order_asked() -> None:
    turns, order = Turns(), []
    threads = []

    def take(n: int) -> None:
        with turns:
            order.append(n)

    with turns:
        for n in range(5):
            thread = threading.Thread(target=take, args=(n,))
            thread.start()
            threads.append(thread)
            while len(turns._waiting) <= n:  # it waits before the next one comes
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join(timeout=10)

    assert order == [0, 1, 2, 3, 4]


# int8 on a CPU


def test_a_model_in_int8_answers_much_as_the_whole_one(tiny_lm: Path, loaded_lm: Any) -> None:
    import torch

    int8 = load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu", quantization="int8"))
    ids = torch.tensor([list(range(20, 120))])
    with torch.inference_mode():
        exact = loaded_lm.model(input_ids=ids).logits.flatten()
        close = int8.model(input_ids=ids).logits.flatten()
    assert not torch.equal(exact, close)
    assert float(torch.corrcoef(torch.stack([exact, close]))[0, 1]) > 0.95
    assert int8.identity.weights_sha256 == loaded_lm.identity.weights_sha256
    assert int8.identity.revision == f"{loaded_lm.identity.revision}+int8"
    generated = TransformersGenerator(int8).generate(
        [GenerationRequest(messages=(Message(role="user", content="Who?"),), question="Who?")]
    )
    assert generated[0].finish_reason in ("stop", "length")


def test_int8_is_refused_where_it_cannot_be(tiny_lm: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float32 weights on a CPU"):
        load_causal_lm(
            ModelConfig(id=str(tiny_lm), device="cpu", dtype="bfloat16", quantization="int8")
        )
    int8 = load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu", quantization="int8"))
    with pytest.raises(ContractError, match="in int8") as caught:
        int8.add_adapter(adapter)
    assert "--format merged" in caught.value.hint
    with pytest.raises(EngineError, match="in int8 without loss"):
        save_merged(int8, adapter, tmp_path / "out")
