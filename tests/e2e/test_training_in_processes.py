"""Training in two processes, as ``accelerate launch`` starts them, over gloo on this CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.store.store import Store
from tests.e2e.conftest import COMMAND_WITH_MODELS, FTI, Fti
from tests.support import boxes

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

LAUNCH = str(Path(sys.executable).parent / "accelerate")


@pytest.fixture
def trained(fti: Fti, tiny_lm: Path, tmp_path: Path) -> Fti:
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        "# For tests: a tiny random model.\n"
        f"generator: {{engine: transformers, id: {tiny_lm}, device: cpu}}\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        "prompt: {max_prompt_tokens: 300, max_new_tokens: 40, max_passages: 2}\n"
        "training: {max_steps: 4, rank: 4, dropout: 0.0, evaluations: 2, learning_rate: 0.01,\n"
        "           precision: float32}\n",
        "utf-8",
    )
    fti.env["FTI_CONFIG"] = str(profile)
    fti.command = COMMAND_WITH_MODELS
    boxes.dataset(Store(fti.home / "store"))
    return fti


def launched(fti: Fti, *args: str) -> Any:
    done = subprocess.run(
        [LAUNCH, "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0",
         FTI, "finetune", "boxes", "--json", *args],
        cwd=fti.home, env=fti.environment(),
        capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout  # the first process alone tells
    return json.loads(lines[0])


def test_two_processes_learn_what_one_learns_from_the_same_steps(trained: Fti) -> None:
    two = launched(
        trained, "--name", "two", "--set", "training.batch_size=2", "--set",
        "training.checkpoint_s=0",
    )  # fmt: skip
    # In this process, to save the start of another.
    done = CliRunner().invoke(
        app,
        ["finetune", "boxes", "--name", "one", "--set", "training.batch_size=4", "--json",
         "--store", str(trained.home / "store"), "--config", trained.env["FTI_CONFIG"]],
        catch_exceptions=False,
    )  # fmt: skip
    one = json.loads(done.stdout)

    assert (two["metrics"]["processes"], one["metrics"]["processes"]) == (2, 1)
    assert two["metrics"]["precision"] == one["metrics"]["precision"] == "float32"
    assert (two["ref"], one["ref"]) == ("two/1", "one/1")
    store = Store(trained.home / "store")

    def curve(ref: str) -> list[float]:
        log = json.loads((store.models.open(ref) / "training_log.json").read_text("utf-8"))
        return [entry["loss"] for entry in log["steps"]]

    assert two["metrics"]["steps"] == one["metrics"]["steps"] == 4
    assert curve("two/1") == pytest.approx(curve("one/1"), rel=2e-3)
    assert two["metrics"]["validation_loss"] == pytest.approx(
        one["metrics"]["validation_loss"], rel=2e-3
    )
    assert [run.status for run in store.runs.list("finetune")] == ["done", "done"]
    assert not [p for p in store.layout.checkpoints.iterdir() if p.is_dir()]
