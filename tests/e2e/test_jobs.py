"""Jobs of ``fti serve``: what becomes of a training when the service, and then it, is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fti.pipelines.training.steps.callbacks import MARKER
from fti.store.files.liveness import holder
from fti.store.store import Store
from tests.e2e.conftest import COMMAND_WITH_MODELS, Fti
from tests.support.forked import FTI

pytestmark = pytest.mark.heavy
CORPUS = Path(__file__).parents[2] / "app" / "demo" / "corpus"


@pytest.fixture
def workshop(fti: Fti, tiny_lm: Path, tmp_path: Path) -> Fti:
    """Documents and a dataset in a store, and a tiny real model to train."""
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        "# For tests: a tiny random model.\n"
        "model: extractive\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        f"generator: {{engine: transformers, id: {tiny_lm}}}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n"
        "prompt: {max_prompt_tokens: 500, max_new_tokens: 16, max_passages: 2}\n"
        "dataset: {max_passages: 2, max_rows: 60}\n"
        "training: {epochs: 1, max_steps: 8, checkpoint_s: 0}\n",
        "utf-8",
    )
    fti.env["FTI_CONFIG"] = str(profile)
    fti.command = COMMAND_WITH_MODELS
    fti.run("ingest", str(CORPUS / "members"), str(CORPUS / "machines"))
    fti.run("dataset", "build", "handbook")
    return fti


@contextmanager
def served(fti: Fti) -> Iterator[httpx.Client]:
    """A client of a running service, which is killed at the end without a word."""
    log = fti.home / "serve.log"
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [FTI, "serve", "--port", "0"], cwd=fti.home, env=fti.environment(), stderr=said
        )
    try:

        def address() -> str:
            assert process.poll() is None, log.read_text("utf-8")
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8"))
            return found[0] if found else ""

        with httpx.Client(base_url=until(address), timeout=60) as client:
            yield client
    finally:
        process.kill()
        process.wait()


def until(ready: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def test_a_training_survives_its_service_and_is_taken_up_again_after_its_own_death(
    workshop: Fti,
) -> None:
    root = workshop.home / "store"
    store = Store(root)
    with served(workshop) as client:
        asked = {"kind": "finetune", "dataset": "handbook", "name": "reader"}
        started = client.post("/v1/jobs", json=asked)
        assert started.status_code == 202, started.text
        identifier = started.json()["id"]
    process = root / "jobs" / identifier / "process"
    assert store.jobs.get(identifier).state == "running", "the service was killed, the job not"
    until(lambda: list((root / "checkpoints").glob(f"**/{MARKER}")))
    worker = holder(process)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    until(lambda: store.jobs.get(identifier).state == "interrupted")
    assert workshop.run("models", "list")["models"] == []

    with served(workshop) as client:

        def over() -> Any:
            job = client.get(f"/v1/jobs/{identifier}").json()
            return job if job["state"] != "running" else None

        job = until(over)
        assert (job["state"], job["attempts"]) == ("done", 2), job
        assert job["outputs"]["model"] == "reader/1"
        assert job["curve"][-1]["step"] == 8
        log = client.get(f"/v1/jobs/{identifier}/log").text
        assert "finetune, attempt 1" in log
        assert "finetune, attempt 2" in log
    (model,) = workshop.run("models", "list")["models"]
    assert model["metrics"]["resumed_from_step"] >= 1
