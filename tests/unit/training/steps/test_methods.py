"""What can be trained and how: each kind of adapter, whole models, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_whole
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.generator import GenerationRequest
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.training.steps import methods
from fti.pipelines.training.steps.methods import noisy_embeddings, require_device, trainable
from fti.store.errors import ContractError, TrainingError
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.types import Message
from tests.support.boxes import FAST, dataset, run
from tests.support.tiny_model import make_tiny_lm

pytestmark = pytest.mark.heavy

FULL = FAST.model_copy(update={"method": "full", "learning_rate": 1e-3})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_lm(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def base(tiny: Path) -> LoadedModel:
    return load_causal_lm(ModelConfig(id=str(tiny), device="cpu"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def losses(store: Store, version: Any) -> list[float]:
    file = store.models.open(version.ref) / "training_log.json"
    return [entry["loss"] for entry in json.loads(file.read_text("utf-8"))["steps"]]


@pytest.mark.parametrize("method", ["rslora", "dora"])
def test_other_adapters_are_trained_and_served(
    store: Store, base: LoadedModel, method: str
) -> None:
    import torch

    version = run(store, base, dataset(store), FAST.model_copy(update={"method": method}))

    folder = store.models.open(version.ref)
    settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert (settings["use_rslora"], settings["use_dora"]) == (method == "rslora", method == "dora")
    assert version.metrics["validation_loss"] < version.metrics["validation_loss_before"]
    assert f"Adapter: {method}" in (folder / "README.md").read_text("utf-8")
    ids = torch.tensor([[5, 6, 7, 8]])
    bare = base.model(ids).logits
    name = base.add_adapter(folder)
    with base.using(name) as model:
        assert not torch.allclose(model(ids).logits, bare)


def test_a_full_fine_tune_is_a_whole_model_that_is_served(store: Store, base: LoadedModel) -> None:
    import torch

    version = run(store, base, dataset(store), FULL)

    folder = store.models.open(version.ref)
    assert version.whole
    assert version.adapter is None
    assert version.metrics["validation_loss"] < version.metrics["validation_loss_before"]
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {f.path for f in version.files}
    assert version.metrics["trainable_parameters"] == sum(
        p.numel() for p in base.model.parameters()
    )
    loaded = load_whole(folder, ModelConfig(device="cpu"), version.contract.base)
    assert loaded.identity == base.identity
    ids = torch.tensor([[5, 6, 7, 8]])
    assert not torch.allclose(loaded.model(ids).logits, base.model(ids).logits)
    request = GenerationRequest(
        messages=(Message(role="user", content="What colour is box 3?"),), question="?"
    )
    assert TransformersGenerator(loaded).generate([request])[0].usage.completion_tokens > 0


def test_a_full_fine_tune_leaves_the_base_as_it_was(store: Store, base: LoadedModel) -> None:
    import torch

    weights = {k: v.clone() for k, v in base.model.state_dict().items()}

    run(store, base, dataset(store), FULL)

    assert all(torch.equal(v, weights[k]) for k, v in base.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in base.model.parameters())


def test_a_killed_full_fine_tune_goes_on_to_the_same_model(
    store: Store, base: LoadedModel, tmp_path: Path
) -> None:
    config = FULL.model_copy(update={"checkpoint_s": 0.0, "neftune_alpha": 5.0})
    other = Store(tmp_path / "whole")
    whole = run(other, base, dataset(other), config)

    def killer(event: ProgressEvent) -> None:
        if event.stage == "finetune" and event.done == 4:
            raise KeyboardInterrupt

    data = dataset(store)
    with pytest.raises(KeyboardInterrupt):
        run(store, base, data, config, progress=killer)
    resumed = run(store, base, data, config)

    assert resumed.metrics["resumed_from_step"] == 3
    digests = [{f.path: f.sha256 for f in v.files}["model.safetensors"] for v in (whole, resumed)]
    assert digests[0] == digests[1]


def test_a_whole_model_with_another_tokenizer_is_refused(store: Store, base: LoadedModel) -> None:
    version = run(store, base, dataset(store), FULL.model_copy(update={"max_steps": 1}))
    other = base.identity.model_copy(update={"tokenizer_sha256": "f" * 64})

    with pytest.raises(ContractError, match="its contract says ffffffffffff"):
        load_whole(store.models.open(version.ref), ModelConfig(device="cpu"), other)


def test_accumulated_batches_make_the_same_steps_as_one_large(
    store: Store, base: LoadedModel
) -> None:
    data = dataset(store)
    large = run(store, base, data, FAST.model_copy(update={"dropout": 0.0}))
    small = run(
        store,
        base,
        data,
        FAST.model_copy(update={"dropout": 0.0, "batch_size": 1, "gradient_accumulation": 4}),
    )

    assert losses(store, small) == pytest.approx(losses(store, large), rel=1e-3)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_checkpointed_activations_change_no_loss(
    store: Store, base: LoadedModel, method: str
) -> None:
    data, config = dataset(store), FULL.model_copy(update={"method": method, "dropout": 0.0})

    plain = run(store, base, data, config)
    checkpointed = run(
        store, base, data, config.model_copy(update={"gradient_checkpointing": True})
    )

    assert losses(store, checkpointed) == pytest.approx(losses(store, plain), rel=1e-5)
    assert not base.model.is_activation_checkpointing


def test_noise_is_added_in_training_alone(base: LoadedModel) -> None:
    import torch

    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
    embeddings = base.model.get_input_embeddings()
    quiet = embeddings(ids)
    with noisy_embeddings(base.model, 5.0):
        assert torch.equal(embeddings(ids), quiet)
        base.model.train()
        noise = embeddings(ids) - quiet
        base.model.eval()
    bound = 5.0 / (8 * quiet.shape[-1]) ** 0.5
    assert 0.9 * bound < noise.abs().max() <= bound * 1.0001
    base.model.train()
    assert torch.equal(embeddings(ids), quiet)
    base.model.eval()


def test_products_in_bfloat16_train_to_nearly_the_same(
    store: Store, base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, config = dataset(store), FAST.model_copy(update={"dropout": 0.0})
    exact = losses(
        store, run(store, base, data, config.model_copy(update={"precision": "float32"}))
    )
    # A CPU without the instructions emulates them: slow, and the same numbers.
    monkeypatch.setattr(methods, "has_bfloat16", lambda device: True)
    version = run(store, base, data, config.model_copy(update={"precision": "auto"}))
    rounded = losses(store, version)

    assert version.metrics["precision"] == "bfloat16"
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)


def test_bfloat16_is_refused_where_it_would_be_emulated(
    store: Store, base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "has_bfloat16", lambda device: False)

    with pytest.raises(TrainingError, match="not something that this 'cpu' computes in") as caught:
        run(store, base, dataset(store), FAST.model_copy(update={"precision": "bfloat16"}))

    assert "training.precision=auto" in caught.value.hint


def test_qlora_is_refused_on_a_cpu() -> None:
    with pytest.raises(TrainingError, match="needs a CUDA device") as caught:
        require_device(FAST.model_copy(update={"method": "qlora"}), "cpu")

    assert "training.method=lora" in caught.value.hint


def test_qlora_is_refused_on_a_base_that_is_not_in_4_bit(
    store: Store, base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "device", "cuda")

    with pytest.raises(TrainingError, match="loaded whole") as caught:
        run(store, base, dataset(store), FAST.model_copy(update={"method": "qlora"}))

    assert "generator.quantization=4bit" in caught.value.hint


def test_all_weights_are_not_trained_in_short_formats(store: Store, tiny: Path) -> None:
    short = load_causal_lm(ModelConfig(id=str(tiny), device="cpu", dtype="bfloat16"))

    with pytest.raises(TrainingError, match="cannot be trained in bfloat16") as caught:
        run(store, short, dataset(store), FULL)

    assert "generator.dtype=float32" in caught.value.hint


def test_all_weights_are_not_those_of_the_last_layers(store: Store, base: LoadedModel) -> None:
    both = FULL.model_copy(update={"last_layers": 1})

    with pytest.raises(
        TrainingError, match=r"last_layers is 1, and training\.method full"
    ) as caught:
        run(store, base, dataset(store), both)

    assert "training.method=lora" in caught.value.hint


def test_all_weights_are_not_trained_in_4_bit(
    store: Store, base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.model, "is_loaded_in_4bit", True, raising=False)

    with pytest.raises(TrainingError, match="while they are in 4 bit") as caught:
        run(store, base, dataset(store), FULL)

    assert "training.method=qlora" in caught.value.hint


def test_layers_that_do_not_exist_are_refused(store: Store, base: LoadedModel) -> None:
    config = FAST.model_copy(update={"target_modules": ("attention_of_some_other_model",)})

    with pytest.raises(TrainingError, match="takes no adapter at") as caught:
        run(store, base, dataset(store), config)

    assert "all-linear" in caught.value.hint
    with trainable(base, FAST) as model:
        assert sum(p.requires_grad for p in model.parameters()) > 0
