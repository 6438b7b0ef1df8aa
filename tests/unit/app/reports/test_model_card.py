"""The card of a model version: everything known of it on one page, and nothing that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.app.reports.model_card import as_html, gather
from fti.store.contracts.embedder_contract import EmbedderContract
from fti.store.store import Store
from fti.store.versioned.model_version import AdapterInfo
from tests.support.tiny_embedder import pair_dataset
from tests.support.values import BASE, a_contract

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 30}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    data = pair_dataset(store)
    files = tmp_path / "files"
    files.mkdir()
    (files / "adapter_model.safetensors").write_bytes(b"weights")
    curve = [{"step": n, "loss": 3.0 / n, "learning_rate": 0.01 * n} for n in range(1, 6)]
    curve[-1]["validation_loss"] = 0.7
    (files / "training_log.json").write_text(json.dumps({"steps": curve}), "utf-8")
    with store.runs.running("finetune", settings={"seed": 7, "rank": 4}) as run:
        pass
    adapter = AdapterInfo(rank=4, alpha=8, target_modules=("q_proj",))
    for parent in (None, "reader/1"):
        store.models.publish(
            "reader", files, contract=a_contract(), dataset=data, run_id=run.id, adapter=adapter,
            parent=parent, metrics={"validation_loss": 0.7, "validation_loss_before": 2.5,
                                    "train_rows": 24, "f1": INTERVAL, "attempt": "secret"},
        )  # fmt: skip
    vectors = EmbedderContract(base=BASE, weights_sha256="c" * 64, tokenizer_sha256="2" * 64,
                               dimension=32, pooling="mean", max_tokens=62)  # fmt: skip
    (files / "training_log.json").unlink()
    store.models.publish("finder", files, contract=vectors, dataset=data, run_id="r-gone",
                         metrics={"validation_recall@1": 0.8})  # fmt: skip
    return store


def card(store: Store, ref: str) -> str:
    return as_html(gather(store, store.models.get(ref)))


def test_a_card_has_contract_lineage_metrics_and_plots(store: Store) -> None:
    with store.runs.running(
        "evaluate", inputs={"model": "reader/2", "frozen": "quiz/1"}
    ) as evaluation:
        evaluation.metrics["answers"] = {"f1": INTERVAL}
    store.models.promote("reader", 2, "champion", reason="better <script>alert(1)</script>")
    page = card(store, "reader/2")
    version = store.models.get("reader/2")
    data = store.datasets.get(version.dataset)
    for part in (
        "champion of reader", "Every file is as published", version.contract.digest,
        BASE.weights_sha256, BASE.tokenizer_sha256, data.digest, "24 train, 6 validation",
        "setting seed", "python", "rank 4, alpha 8, on q_proj", "0.700", "was 2.500",
        "Loss by step", "Learning rate by step", "validation loss", "0.5 [0.4, 0.6]", "quiz/1",
        evaluation.id, "promote champion: nothing → 2", version.files[0].sha256, "trained on from",
    ):  # fmt: skip
        assert part in page, part
    assert page.count("<polyline") >= 2
    assert "<script>" not in page
    assert "secret" not in page
    assert "Content-Security-Policy" in page
    assert "others rest on it" in card(store, "reader/1")
    assert "It was not evaluated yet" in card(store, "reader/1")


def test_a_card_of_an_embedder_says_what_its_vectors_are(store: Store) -> None:
    page = card(store, "finder/1")
    for part in (
        "A fine-tuned embedder", "32 dimensions, mean pooling, unit length", "c" * 64,
        "the run is not in the log any more", "It has no training log", "0.800",
        "No alias ever pointed at it",
    ):  # fmt: skip
        assert part in page, part


def test_a_damaged_version_says_so_on_its_card(store: Store) -> None:
    (store.models.path("reader/1") / "adapter_model.safetensors").write_bytes(b"other")
    assert "Not as published: adapter_model.safetensors: differs" in card(store, "reader/1")


def test_show_writes_the_card(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "cards" / "reader.html"
    done: Any = CliRunner().invoke(
        app, ["models", "show", "reader/1", "--html", str(out), "--store", str(store.layout.root),
              "--json"], catch_exceptions=False,
    )  # fmt: skip
    body = json.loads(done.stdout)
    assert (body["html"], body["kind"]) == (str(out), "llm")
    assert out.read_text("utf-8").startswith("<!doctype html>")


def test_a_card_says_that_a_promotion_went_against_the_gate(store: Store) -> None:
    refusal = "f1: the challenger is not better"
    store.models.promote(
        "reader", 2, "champion", reason="asked for", evidence={"forced": True, "refusal": refusal}
    )
    page = as_html(gather(store, store.models.get("reader/2")))
    assert "promote, against the gate, champion: nothing → 2" in page
    assert f"asked for. The gate had said: {refusal}" in page
