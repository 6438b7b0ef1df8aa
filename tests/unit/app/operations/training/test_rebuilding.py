"""A version trained again from its record comes out the same, or the report says where not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fti.app.operations.training.embedder_training import compose
from fti.app.operations.training.rebuilding import rebuild
from fti.app.settings import Settings, load_settings
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.engines.embedders.trained_embedder import open_embedder
from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
from fti.pipelines.training.embedder.train_embedder import finetune_embedder
from fti.pipelines.training.finetune import finetune
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.errors import ContractError, DatasetNotFound, IntegrityError, RunNotFound, StoreError
from fti.store.files.atomic import read_sealed, write_json
from fti.store.progress import quiet
from fti.store.store import Store
from fti.store.versioned.model_version import ModelVersion
from tests.support.tiny_embedder import pair_dataset
from tests.support.values import EMBEDDER, a_contract

pytestmark = pytest.mark.heavy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def settings(store: Store, tiny_lm: Path, tiny_embedder: Path) -> Settings:
    return load_settings(
        store=store.layout.root,
        overrides=["generator.engine=transformers", f"generator.id={tiny_lm}",
                   f"embedder.id={tiny_embedder}", "embedder.device=cpu"],
        environment={},
    )  # fmt: skip


def an_embedder(store: Store, tiny: Path) -> ModelVersion:
    return finetune_embedder(
        pair_dataset(store), name="finder", store=store, compose=compose,
        base=open_embedder(EmbedderConfig(id=str(tiny), device="cpu")),
        config=EmbedderTrainingConfig(max_steps=3, batch_size=8, learning_rate=1e-3),
    )  # fmt: skip


def a_reader(store: Store, loaded_lm: object) -> ModelVersion:
    contract = a_contract(base=loaded_lm.identity, embedder=EMBEDDER)  # type: ignore[attr-defined]
    return finetune(
        pair_dataset(store), name="reader", store=store, base=loaded_lm, contract=contract,  # type: ignore[arg-type]
        config=TrainingConfig(max_steps=3, batch_size=4, rank=4, evaluations=1),
    )  # fmt: skip


def another(model: Path, folder: Path) -> Path:
    """The same model with one bit of its weights turned."""
    shutil.copytree(model, folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_an_embedder_and_an_adapter_come_out_the_same(
    store: Store, tiny_lm: Path, tiny_embedder: Path, loaded_lm: object
) -> None:
    profile = settings(store, tiny_lm, tiny_embedder)
    for version, weights in (
        (an_embedder(store, tiny_embedder), "model.safetensors"),
        (a_reader(store, loaded_lm), "adapter_model.safetensors"),
    ):
        found = rebuild(profile, store, version.ref, progress=quiet)
        assert found.equal, found.differences
        assert found.files[weights]
        assert found.inputs["dataset_digest"] == version.dataset_digest
        assert found.inputs["base_weights"] == version.contract.base.weights_sha256
        assert found.circumstances == ()
    assert [v.ref for v in store.models.list()] == ["finder/1", "reader/1"], "nothing registered"
    assert not list(store.layout.checkpoints.glob("rebuild-*"))


def test_where_a_version_does_not_come_out_the_same_is_said(
    store: Store, tiny_lm: Path, tiny_embedder: Path
) -> None:
    """A version whose record says another learning rate than it was trained with."""
    version = an_embedder(store, tiny_embedder)
    record = store.layout.runs / version.run_id / "run.json"
    run = read_sealed(record)
    run["settings"]["learning_rate"] = 2e-3
    run["libraries"]["torch"] = "1.0"
    write_json(record, run)
    found = rebuild(settings(store, tiny_lm, tiny_embedder), store, version.ref, progress=quiet)
    assert not found.equal
    assert not found.files["model.safetensors"]
    assert found.files["tokenizer.json"]
    told = [d.what for d in found.differences]
    assert "step 1: learning_rate" in told
    assert "contract.weights_sha256" in told
    (tensors,) = [d for d in found.differences if d.what.startswith("model.safetensors: ")]
    assert 0 < tensors.rebuilt < 1
    (torch,) = found.circumstances
    assert (torch.what, torch.recorded) == ("torch", "1.0")


def test_what_a_version_was_made_from_must_be_there(
    store: Store, tiny_lm: Path, tiny_embedder: Path, loaded_lm: object, tmp_path: Path
) -> None:
    version = an_embedder(store, tiny_embedder)
    profile = settings(store, tiny_lm, tiny_embedder)

    other = another(tiny_embedder, tmp_path / "other-embedder")
    with pytest.raises(ContractError, match=r"trained from another embedder .*weights_sha256"):
        rebuild(settings(store, tiny_lm, other), store, "finder/1", progress=quiet)
    reader = a_reader(store, loaded_lm)
    changed = settings(store, another(tiny_lm, tmp_path / "other-reader"), tiny_embedder)
    with pytest.raises(
        ContractError, match=r"reader/1 was trained from another base model .*other-reader"
    ):
        rebuild(changed, store, reader.ref, progress=quiet)

    record = store.layout.runs / version.run_id / "run.json"
    whole = record.read_text("utf-8")
    run = read_sealed(record)
    write_json(record, run | {"settings": {"from_the_future": 1}})
    with pytest.raises(StoreError, match="are not understood: from_the_future") as caught:
        rebuild(profile, store, "finder/1", progress=quiet)
    assert "version 0" in caught.value.hint
    shutil.rmtree(record.parent)
    with pytest.raises(RunNotFound, match="no run"):
        rebuild(profile, store, "finder/1", progress=quiet)
    record.parent.mkdir()
    record.write_text(whole, "utf-8")

    # The dataset was removed, and another one published under its number.
    folder = store.datasets.path(version.dataset)
    shutil.rmtree(folder)
    with pytest.raises(DatasetNotFound, match="finder-pairs"):
        rebuild(profile, store, "finder/1", progress=quiet)
    elsewhere = Store(tmp_path / "elsewhere")
    shutil.copytree(elsewhere.datasets.path(pair_dataset(elsewhere, train=20).ref), folder)
    with pytest.raises(IntegrityError, match=r"finder/1 was trained on finder-pairs/1 with digest"):
        rebuild(profile, store, "finder/1", progress=quiet)


def test_a_version_that_was_not_trained_is_not_rebuilt(
    store: Store, tiny_lm: Path, tiny_embedder: Path
) -> None:
    with store.runs.running("calibrate") as run:
        pass
    files = store.layout.root / "files"
    files.mkdir()
    (files / "card.md").write_text("A reader.", "utf-8")
    store.models.publish("reader", files, contract=a_contract(), dataset=pair_dataset(store),
                         run_id=run.id, metrics={}, parent="reader/9")  # fmt: skip
    with pytest.raises(
        StoreError, match=r"reader/1 was not trained by its run .*'calibrate'"
    ) as no:
        rebuild(settings(store, tiny_lm, tiny_embedder), store, "reader/1", progress=quiet)
    assert no.value.hint.endswith("fti models rebuild reader/9")
