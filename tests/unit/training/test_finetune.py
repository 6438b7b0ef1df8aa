from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.training.steps import loss
from fti.pipelines.training.steps.loss import Measured
from fti.pipelines.training.steps.methods import get_weights
from fti.store.errors import ContractError, StoreLocked, TrainingError
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.versioned.model_version import ModelVersion
from tests.support.boxes import FAST, contract_for, dataset, run
from tests.support.tiny_model import make_tiny_lm
from tests.support.values import EMBEDDER

pytestmark = pytest.mark.heavy


class Killed(BaseException):
    """Stands for a process that dies."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_lm(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def base(tiny: Path) -> LoadedModel:
    return load_causal_lm(ModelConfig(id=str(tiny), device="cpu"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def adapter_bytes(store: Store, version: ModelVersion) -> bytes:
    return (store.models.open(version.ref) / "adapter_model.safetensors").read_bytes()


def test_the_loss_goes_down_and_the_version_says_so(store: Store, base: LoadedModel) -> None:
    version = run(
        store, base, dataset(store), FAST.model_copy(update={"max_steps": 30, "evaluations": 3})
    )

    metrics = version.metrics
    assert metrics["validation_loss"] < 0.7 * metrics["validation_loss_before"]
    assert metrics["train_rows"] == 16
    assert metrics["steps"] == metrics["planned_steps"] == 30
    assert metrics["tokens_per_second"] > 0
    assert metrics["stopped"] == "complete"


def test_a_version_holds_what_it_takes_to_serve_it_and_nothing_that_runs(
    store: Store, base: LoadedModel
) -> None:
    data = dataset(store)
    version = run(store, base, data)
    folder = store.models.open(version.ref)

    names = {p.name for p in folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= names
    assert not {p.suffix for p in folder.iterdir()} & {".bin", ".pt", ".pth", ".pkl"}
    settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert settings["base_model_name_or_path"] == base.identity.id
    assert settings["target_modules"] == sorted(settings["target_modules"])
    assert not any("lm_head" in name for name in settings["target_modules"])
    assert str(store.layout.root) not in (folder / "adapter_config.json").read_text("utf-8")
    curve = json.loads((folder / "training_log.json").read_text("utf-8"))["steps"]
    assert [entry["step"] for entry in curve] == [1, 2, 3, 4, 5, 6]
    card = (folder / "README.md").read_text("utf-8")
    assert version.contract.digest in card
    assert data.digest in card
    assert version.dataset_digest == data.digest
    assert version.adapter is not None
    assert version.adapter.rank == 4


def test_only_the_last_layers_learn_where_so_many_are_named(
    store: Store, base: LoadedModel
) -> None:
    from safetensors import safe_open

    config = FAST.model_copy(update={"max_steps": 4, "last_layers": 1})
    version = run(store, base, dataset(store), config)

    last = base.model.config.num_hidden_layers - 1
    with safe_open(store.models.open(version.ref) / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
        changed = [name for name in names if "lora_B" in name and file.get_tensor(name).any()]
    assert last >= 1
    assert changed
    assert all(f".layers.{last}." in name for name in names)


def test_the_adapter_can_be_put_on_the_base_again(store: Store, base: LoadedModel) -> None:
    import torch

    version = run(store, base, dataset(store))
    ids = torch.tensor([[5, 6, 7, 8]])
    before = base.model(ids).logits

    name = base.add_adapter(store.models.open(version.ref))
    with base.using(name) as model:
        tuned = model(ids).logits
    with base.using(None) as model:
        bare = model(ids).logits

    assert not torch.allclose(before, tuned)
    assert torch.equal(before, bare)


def test_the_base_is_as_before_afterwards(store: Store, base: LoadedModel) -> None:
    import torch

    names = [name for name, _ in base.model.named_modules()]
    weights = {k: v.clone() for k, v in base.model.state_dict().items()}

    run(store, base, dataset(store))

    assert [name for name, _ in base.model.named_modules()] == names
    assert all(torch.equal(v, weights[k]) for k, v in base.model.state_dict().items())
    assert not base.model.training
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_same_training_gives_the_same_adapter(store: Store, base: LoadedModel) -> None:
    data = dataset(store)
    first, second = run(store, base, data), run(store, base, data)

    assert (first.version, second.version) == (1, 2)
    assert adapter_bytes(store, first) == adapter_bytes(store, second)
    other = run(store, base, data, FAST.model_copy(update={"seed": 8}))
    assert adapter_bytes(store, other) != adapter_bytes(store, first)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_killed_training_goes_on_to_the_same_adapter(
    store: Store, base: LoadedModel, tmp_path: Path, accumulation: int
) -> None:
    config = FAST.model_copy(
        update={"checkpoint_s": 0.0, "dropout": 0.2, "gradient_accumulation": accumulation}
    )
    whole_store = Store(tmp_path / "whole")
    whole = run(whole_store, base, dataset(whole_store), config)

    data = dataset(store)
    steps: list[int] = []

    def killer(event: ProgressEvent) -> None:
        if event.stage == "finetune" and event.done == 4:
            raise Killed

    def watcher(event: ProgressEvent) -> None:
        if event.stage == "finetune" and event.values:
            steps.append(event.done)

    with pytest.raises(Killed):
        run(store, base, data, config, progress=killer)
    assert store.models.list() == []
    resumed = run(store, base, data, config, progress=watcher)

    assert steps == [4, 5, 6]  # steps 1 to 3 lay in the checkpoint
    assert resumed.version == 1
    assert adapter_bytes(store, resumed) == adapter_bytes(whole_store, whole)
    for key in ("validation_loss", "best_step", "validation_loss_before", "steps"):
        assert resumed.metrics[key] == whole.metrics[key]
    assert [r.status for r in store.runs.list("finetune")] == ["done", "failed"]


def test_a_half_written_checkpoint_is_passed_over(store: Store, base: LoadedModel) -> None:
    config = FAST.model_copy(update={"checkpoint_s": 0.0})
    data = dataset(store)

    def killer(event: ProgressEvent) -> None:
        if event.stage == "finetune" and event.done == 4:
            raise Killed

    with pytest.raises(Killed):
        run(store, base, data, config, progress=killer)
    (folder,) = (p for p in store.layout.checkpoints.iterdir() if p.is_dir())
    (folder / "checkpoint-3" / "log.json").unlink()
    steps: list[int] = []
    run(
        store,
        base,
        data,
        config,
        progress=lambda e: steps.append(e.done) if e.stage == "finetune" and e.values else None,
    )

    assert steps == [3, 4, 5, 6]


def test_a_kill_after_publishing_does_not_double_the_version(
    store: Store, base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(store)
    publish = store.models.publish

    def die_after(*args: Any, **kwargs: Any) -> ModelVersion:
        publish(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(store.models, "publish", die_after)
    with pytest.raises(Killed):
        run(store, base, data)
    monkeypatch.undo()

    again = run(store, base, data)

    assert again.version == 1
    assert [v.version for v in store.models.list()] == [1]
    assert run(store, base, data).version == 2  # asked for anew: a new version


def test_nothing_is_left_of_the_checkpoints(store: Store, base: LoadedModel) -> None:
    run(store, base, dataset(store), FAST.model_copy(update={"checkpoint_s": 0.0}))

    assert not [p for p in store.layout.checkpoints.iterdir() if p.is_dir()]


def test_a_time_limit_ends_the_training_and_registers_it(store: Store, base: LoadedModel) -> None:
    config = FAST.model_copy(update={"max_steps": 100_000, "max_seconds": 1.0})
    version = run(store, base, dataset(store), config)

    assert version.metrics["stopped"] == "time"
    assert 1 <= version.metrics["steps"] < 100_000
    assert version.metrics["seconds"] < 10
    assert "validation_loss" in version.metrics


def test_patience_ends_a_training_that_no_longer_helps(store: Store, base: LoadedModel) -> None:
    config = FAST.model_copy(
        update={"max_steps": 60, "evaluations": 60, "patience": 2, "learning_rate": 0.2}
    )
    version = run(store, base, dataset(store), config)

    assert version.metrics["stopped"] == "no lower validation loss"
    assert version.metrics["steps"] == version.metrics["best_step"] + 2


def test_the_adapter_kept_is_the_best_one_measured(
    store: Store, base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file

    losses = iter([9.0, 5.0, 3.0, 4.0, 8.0, 7.0, 6.0])  # of the base, then after each step
    seen: list[dict[str, Any]] = []

    def scripted(model: Any, *_: Any, **__: Any) -> Measured:
        seen.append({k: v.detach().clone() for k, v in get_weights(model).items()})
        return Measured(loss=next(losses), exact=0.0)

    monkeypatch.setattr(loss, "measure", scripted)
    version = run(store, base, dataset(store), FAST.model_copy(update={"evaluations": 6}))

    assert version.metrics["best_step"] == 2
    assert version.metrics["validation_loss"] == 3.0
    kept = load_file(store.models.open(version.ref) / "adapter_model.safetensors")
    assert all(torch.equal(kept[name], weights) for name, weights in seen[2].items())
    assert any(not torch.equal(kept[name], weights) for name, weights in seen[6].items())


def test_without_validation_rows_the_last_adapter_is_kept(store: Store, base: LoadedModel) -> None:
    version = run(store, base, dataset(store, validation=0))

    assert "validation_loss" not in version.metrics
    assert version.metrics["steps"] == 6


def test_progress_tells_loss_and_time_left(store: Store, base: LoadedModel) -> None:
    events: list[ProgressEvent] = []
    run(store, base, dataset(store), progress=events.append)

    steps = [e for e in events if e.stage == "finetune" and e.values]
    assert [e.done for e in steps] == [1, 2, 3, 4, 5, 6]
    assert all(e.total == 6 for e in steps)
    assert all({"loss", "seconds_left", "tokens_per_second"} <= set(e.values) for e in steps)
    assert steps[-1].values["seconds_left"] == 0


def test_training_says_nothing_of_its_own(
    store: Store, base: LoadedModel, capfd: pytest.CaptureFixture[str]
) -> None:
    run(store, base, dataset(store))

    assert capfd.readouterr() == ("", "")


def test_another_base_than_the_contracts_is_refused(store: Store, base: LoadedModel) -> None:
    other = base.identity.model_copy(update={"weights_sha256": "f" * 64})

    with pytest.raises(ContractError, match="weights_sha256"):
        run(store, base, dataset(store), contract=contract_for(base, base=other))


def test_rows_of_another_embedder_are_refused(store: Store, base: LoadedModel) -> None:
    other = EMBEDDER.model_copy(update={"id": "another"})

    with pytest.raises(ContractError, match="'another'"):
        run(store, base, dataset(store), contract=contract_for(base, embedder=other))


def test_an_empty_training_split_is_refused(store: Store, base: LoadedModel) -> None:
    with pytest.raises(TrainingError, match="training split is empty") as caught:
        run(store, base, dataset(store, train=0))

    assert "fti dataset build boxes" in caught.value.hint
    assert store.runs.list("finetune")[0].status == "failed"


def test_rows_that_do_not_fit_are_named_when_none_is_left(store: Store, base: LoadedModel) -> None:
    with pytest.raises(TrainingError, match="response_too_long 16"):
        run(store, base, dataset(store), contract=contract_for(base, max_new_tokens=2))


def test_a_loss_that_is_not_a_number_names_step_and_rows(store: Store, base: LoadedModel) -> None:
    import torch

    with torch.no_grad():
        base.model.model.norm.weight.fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"nan at step 1 \(rows train\d+") as caught:
        run(store, base, dataset(store, validation=0))

    assert "learning_rate" in caught.value.hint


def test_two_processes_do_not_train_the_same(store: Store, base: LoadedModel) -> None:
    data = dataset(store)
    refused: list[BaseException] = []

    def also(event: ProgressEvent) -> None:
        if event.stage == "finetune" and event.done == 1 and not refused:
            with pytest.raises(StoreLocked) as caught:
                run(store, replace(base), data)
            refused.append(caught.value)

    run(store, base, data, progress=also)

    assert refused


def test_a_decoder_made_from_bert_is_trained_alike(store: Store, base: LoadedModel) -> None:
    import torch
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    model = BertLMHeadModel(
        BertConfig(
            vocab_size=len(base.tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=1024,
            is_decoder=True,
            tie_word_embeddings=True,
            pad_token_id=base.tokenizer.pad_token_id,
        )
    )
    model.requires_grad_(False).eval()
    decoder = LoadedModel(
        model=model,
        tokenizer=base.tokenizer,
        identity=base.identity,
        context_tokens=1024,
        device="cpu",
        stop_ids=base.stop_ids,
    )
    version = run(store, decoder, dataset(store), FAST.model_copy(update={"max_steps": 12}))

    assert version.adapter is not None
    targets = version.adapter.target_modules
    assert len(targets) == 2 * 6 + 1  # each layer's six, and the head's transform
    assert not any(name.endswith("decoder") for name in targets)
    assert version.metrics["validation_loss"] < version.metrics["validation_loss_before"]
    decoder.add_adapter(store.models.open(version.ref))
