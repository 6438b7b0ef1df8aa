"""``fti finetune``: its options, what it refuses before loading anything, and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from fti.app.build import Engines
from fti.app.cli import app
from fti.app.operations.releasing.exporting import export_merged
from fti.app.settings import load_settings
from fti.pipelines.training.choices import Tracker
from fti.pipelines.training.steps import tracking
from fti.store.errors import ConfigError, ContractError, InvalidName, TrainingError
from fti.store.store import Store
from tests.support import boxes

pytestmark = pytest.mark.heavy


@pytest.fixture
def profile(tmp_path: Path, tiny_lm: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "# For tests: a tiny random model.\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        f"generator: {{engine: transformers, id: {tiny_lm}, device: cpu}}\n"
        "prompt: {max_prompt_tokens: 300, max_new_tokens: 40, max_passages: 2}\n"
        "training: {max_steps: 4, batch_size: 4, rank: 4, evaluations: 2}\n",
        "utf-8",
    )
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    boxes.dataset(store)
    return store


def fti(store: Store, profile: Path, *words: str) -> Any:
    args = ["--store", str(store.layout.root), "--config", str(profile), "--json"]
    done = CliRunner().invoke(app, [*words, *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["../reader", "base", "Reader"])
def test_a_name_that_no_version_can_have_is_refused_before_any_work(
    store: Store, profile: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fti.app.operations.training.finetuning._to_train",
        lambda *a: pytest.fail("loaded the base model"),
    )
    runs = len(store.runs.list())
    with pytest.raises(InvalidName, match=name):
        fti(store, profile, "finetune", "boxes", "--name", name)
    assert len(store.runs.list()) == runs


def test_a_dry_run_foretells_and_leaves_nothing(store: Store, profile: Path) -> None:
    found = fti(store, profile, "finetune", "boxes", "--name", "reader", "--dry-run")

    assert found["train_rows"] == 16
    assert found["steps"] == 4
    assert found["memory_bytes"] == found["optimizer_bytes"] + found["activation_bytes"] > 0
    assert found["seconds"] > 0
    assert store.models.names() == []
    assert store.runs.list() == []


def test_a_full_fine_tune_is_reported_served_and_exported(
    store: Store, profile: Path, tmp_path: Path
) -> None:
    report = tmp_path / "out" / "training.html"
    found = fti(
        store, profile, "finetune", "boxes", "--name", "reader", "--method", "full",
        "--report", str(report),
    )  # fmt: skip

    assert found["report"] == str(report)
    page = report.read_text("utf-8")
    for part in ("How reader/1 was trained", "Loss by step", "Learning rate by step", "validation"):
        assert part in page
    assert "http" not in page.replace("http-equiv", "")
    settings = load_settings(profile, store=store.layout.root)
    version = store.models.get("reader/1")
    generator = Engines(settings).generator(version, store=store)
    assert generator.identity == version.contract.base
    export_merged(settings, store, version, out=tmp_path / "exported")
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "contract.json"} <= names
    server = load_settings(
        profile,
        store=store.layout.root,
        overrides=["generator.engine=extractive"],
    )
    with pytest.raises(ContractError, match="'extractive' cannot load reader/1"):
        Engines(server).generator(version, store=store)


def test_documents_of_the_gates_case_set_are_not_trained_on(
    store: Store, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fti.store.types import Case

    store.cases.freeze(
        "quiz", [Case(id="1", question="Which colour?", answers=("red",), document="box.md")]
    )
    monkeypatch.setattr(
        "fti.pipelines.inference.evaluating.cases.GoldDocuments.find",
        lambda self, reference: ["d-train"] if reference == "box.md" else [],
    )

    with pytest.raises(TrainingError, match="that quiz/1 is about: d-train"):
        fti(store, profile, "finetune", "boxes", "--name", "reader", "--set", "gate.cases=quiz")


def test_qlora_is_refused_before_the_model_is_loaded(store: Store, profile: Path) -> None:
    with pytest.raises(TrainingError, match="needs a CUDA device"):
        fti(
            store, profile, "finetune", "boxes", "--name", "reader", "--method", "qlora", "--set",
            "generator.id=/nowhere",
        )  # fmt: skip


@pytest.mark.parametrize("tracker", get_args(Tracker))
def test_a_tracker_that_is_not_installed_is_refused(
    store: Store, profile: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=f"needs the package '{tracker}'") as caught:
        fti(store, profile, "finetune", "boxes", "--name", "reader", "--log-to", tracker)

    assert f"fti-llm[{tracker}]" in caught.value.hint


def test_steps_are_logged_to_tensorboard(store: Store, profile: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = fti(store, profile, "finetune", "boxes", "--name", "reader", "--log-to", "tensorboard")

    events = EventAccumulator(str(store.layout.runs / found["run"]))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert events.Scalars("train/learning_rate")
    assert {event.step for event in events.Scalars("train/validation_loss")} == {2, 4}
    assert store.runs.get(found["run"]).status == "done"
