"""Embedders fine-tuned: better on held-out rows, the same every time, resumed after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.engines.embedders.trained_embedder import (
    OpenEmbedder,
    load_trained,
    open_embedder,
)
from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
from fti.pipelines.training.embedder.embedder_rows import tuples
from fti.pipelines.training.embedder.train_embedder import finetune_embedder
from fti.store.errors import ContractError, StoreLocked, TrainingError
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.types import DatasetVersion, Passage
from fti.store.versioned.model_version import ModelVersion
from tests.support.tiny_embedder import pair_dataset, pair_rows

pytestmark = pytest.mark.heavy

FAST = EmbedderTrainingConfig(
    max_steps=6, batch_size=8, learning_rate=2e-3, negatives=2, checkpoint_s=1e6
)


class Killed(BaseException):
    """Stands for a process that dies."""


@pytest.fixture
def tiny(tiny_embedder: Path) -> Path:
    return tiny_embedder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def opened(tiny: Path) -> OpenEmbedder:
    return open_embedder(EmbedderConfig(id=str(tiny), device="cpu", query_prefix="ask: "))


def compose(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}"


def run(
    store: Store,
    tiny: Path,
    data: DatasetVersion,
    config: EmbedderTrainingConfig = FAST,
    **more: Any,
) -> ModelVersion:
    return finetune_embedder(
        data, name="finder", store=store, base=opened(tiny), compose=compose, config=config, **more
    )


def weights(store: Store, version: ModelVersion) -> bytes:
    return (store.models.open(version.ref) / "model.safetensors").read_bytes()


def test_questions_come_nearer_to_their_passages(store: Store, tiny: Path) -> None:
    longer = FAST.model_copy(update={"max_steps": 100, "learning_rate": 5e-3})
    metrics = run(store, tiny, pair_dataset(store, train=50, validation=20), longer).metrics
    assert metrics["train_rows"] == 50
    assert metrics["validation_rows"] == 20
    assert metrics["steps"] == 100
    assert metrics["validation_mrr"] > metrics["validation_mrr_before"] + 0.1
    run_id = store.runs.list("finetune")[0].id
    assert [e["step"] for e in store.runs.attached(run_id, "curve")] == list(range(1, 101))


def test_a_version_is_an_embedder_with_its_own_contract(store: Store, tiny: Path) -> None:
    import numpy as np

    data = pair_dataset(store)
    version = run(store, tiny, data)
    contract = version.vector_contract
    assert (version.kind, version.ref, version.dataset_digest) == (
        "embedder",
        "finder/1",
        data.digest,
    )
    assert (contract.dimension, contract.pooling, contract.normalized) == (32, "mean", True)
    assert contract.base == opened(tiny).identity
    assert contract.weights_sha256 != contract.base.weights_sha256
    assert contract.tokenizer_sha256 == contract.base.tokenizer_sha256
    assert contract.query_prefix == "ask: "
    folder = store.models.open(version.ref)
    assert not {p.suffix for p in folder.rglob("*")} & {".bin", ".pt", ".pth", ".pkl"}
    assert json.loads((folder / "training_log.json").read_text("utf-8"))["steps"][-1]["step"] == 6
    card = (folder / "README.md").read_text("utf-8")
    assert contract.digest in card
    assert data.digest in card

    embedder = load_trained(folder, version.ref, contract, EmbedderConfig(device="cpu"))
    assert embedder.identity == contract.identity("finder/1")
    assert embedder.identity.id == "registry:finder/1"
    vector = embedder.embed_query("Where is the kiln?")
    assert np.isclose(np.linalg.norm(vector), 1.0, atol=1e-5)
    with pytest.raises(
        ContractError, match="finder/1 is an embedder: it makes vectors and answers"
    ):
        _ = version.prompt_contract


def test_the_same_training_gives_the_same_weights(store: Store, tiny: Path) -> None:
    data = pair_dataset(store)
    first, second = run(store, tiny, data), run(store, tiny, data)
    assert (first.version, second.version) == (1, 2)
    assert weights(store, first) == weights(store, second)
    other = run(store, tiny, data, FAST.model_copy(update={"seed": 8}))
    assert weights(store, other) != weights(store, first)


def test_a_killed_training_goes_on_to_the_same_weights(
    store: Store, tiny: Path, tmp_path: Path
) -> None:
    config = FAST.model_copy(update={"checkpoint_s": 0.0})
    whole_store = Store(tmp_path / "whole")
    whole = run(whole_store, tiny, pair_dataset(whole_store), config)
    data = pair_dataset(store)
    steps: list[int] = []

    def killer(event: ProgressEvent) -> None:
        if event.done == 4:
            raise Killed

    with pytest.raises(Killed):
        run(store, tiny, data, config, progress=killer)
    assert store.models.list() == []
    resumed = run(store, tiny, data, config, progress=lambda event: steps.append(event.done))
    assert steps == [4, 5, 6]
    assert resumed.version == 1
    assert resumed.metrics["resumed_from_step"] == 3
    assert weights(store, resumed) == weights(whole_store, whole)
    assert not [p for p in store.layout.checkpoints.iterdir() if p.is_dir()]


def test_a_kill_after_publishing_does_not_double_the_version(
    store: Store, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pair_dataset(store)
    publish = store.models.publish

    def die_after(*args: Any, **kwargs: Any) -> ModelVersion:
        publish(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(store.models, "publish", die_after)
    with pytest.raises(Killed):
        run(store, tiny, data)
    monkeypatch.undo()
    assert run(store, tiny, data).version == 1
    assert [v.version for v in store.models.list()] == [1]


def test_too_few_questions_for_a_batch_are_refused(store: Store, tiny: Path) -> None:
    with pytest.raises(TrainingError, match=r"has 5 questions .* fewer than the 8 of a batch"):
        run(store, tiny, pair_dataset(store, train=5))
    assert store.runs.list("finetune")[0].status == "failed"


def test_a_loss_that_is_not_a_number_names_the_step(store: Store, tiny: Path) -> None:
    import torch

    base = opened(tiny)
    with torch.no_grad():
        next(base.model.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="nan at step 1") as caught:
        finetune_embedder(
            pair_dataset(store, validation=0), name="finder", store=store, base=base,
            compose=compose, config=FAST,
        )  # fmt: skip
    assert "embedder_training.learning_rate" in caught.value.hint


def test_two_processes_do_not_train_the_same(store: Store, tiny: Path) -> None:
    data = pair_dataset(store)
    refused: list[StoreLocked] = []

    def also(event: ProgressEvent) -> None:
        if event.done == 1 and not refused:
            with pytest.raises(StoreLocked) as caught:
                run(store, tiny, data)
            refused.append(caught.value)

    run(store, tiny, data, progress=also)
    assert refused


def test_time_ends_a_training_and_registers_it(store: Store, tiny: Path) -> None:
    config = FAST.model_copy(update={"max_steps": 100_000, "max_seconds": 0.5})
    metrics = run(store, tiny, pair_dataset(store), config).metrics
    assert metrics["stopped"] == "time"
    assert 1 <= metrics["steps"] < 100_000


def test_training_says_nothing_of_its_own(
    store: Store, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(store, tiny, pair_dataset(store))
    assert capfd.readouterr() == ("", "")


def test_rows_become_texts_as_they_are_embedded(tiny: Path) -> None:
    rows = pair_rows("train", 2)
    rows[1] = rows[1].model_copy(update={"passages": rows[1].passages[:2]})
    config = FAST.model_copy(update={"negatives": 2})
    found = tuples(rows, opened(tiny), compose, config)
    assert found.questions[0] == "ask: Where is the brennofen of the toepfer?"
    assert found.positives[0] == "Things\nThe kiln of the potter was moved."
    assert found.negatives[1][0] == "Things\nThe kiln of the baker was moved."
    assert found.negatives[0][1] == found.negatives[1][1], "a missing negative repeats the last"
    without = [rows[0].model_copy(update={"passages": rows[0].passages[:1]})]
    assert tuples(without, opened(tiny), compose, config).ids == []
