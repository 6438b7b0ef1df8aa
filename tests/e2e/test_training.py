"""Dataset, fine-tune, evaluate, promote, roll back: through the installed command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fti.pipelines.training.steps.callbacks import MARKER
from tests.e2e.conftest import COMMAND_WITH_MODELS, Fti

pytestmark = pytest.mark.heavy

PARTS = ("members", "machines")  # enough documents for three splits


@pytest.fixture
def workshop(fti: Fti, tiny_lm: Path, tmp_path: Path) -> Fti:
    """The demo's documents in a store, and a tiny real model to train."""
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        "# For tests: a tiny random model.\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        f"generator: {{engine: transformers, id: {tiny_lm}}}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n"
        "prompt: {max_prompt_tokens: 500, max_new_tokens: 16, max_passages: 2}\n"
        "dataset: {max_passages: 2, max_rows: 60}\n"
        "training: {epochs: 1}\n",
        "utf-8",
    )
    fti.env["FTI_CONFIG"] = str(profile)
    fti.command = COMMAND_WITH_MODELS
    corpus = Path(__file__).parents[2] / "app" / "demo" / "corpus"
    assert fti.run("ingest", *(str(corpus / part) for part in PARTS))["failed"] == []
    return fti


def test_dataset_finetune_evaluate_promote_and_roll_back(workshop: Fti, tmp_path: Path) -> None:
    cases = Path(__file__).parents[2] / "app" / "demo" / "cases.jsonl"
    dataset = workshop.run("dataset", "build", "handbook", "--cases", str(cases))
    assert dataset["version"] == 1
    assert min(dataset["rows"].values()) > 0
    assert len(dataset["digest"]) == 64
    shown = workshop.run("dataset", "show", "handbook/1")
    train, test = (set(shown["sources"][s]) for s in ("train", "test"))
    assert not train & test

    again = workshop.run("dataset", "build", "handbook", "--cases", str(cases))
    assert (again["version"], again["digest"]) == (2, dataset["digest"])

    out = tmp_path / "exported"
    exported = workshop.run("dataset", "export", "handbook/1", "--out", str(out))
    first = json.loads(Path(exported["files"][0]).read_text("utf-8").splitlines()[0])
    assert [m["role"] for m in first["messages"]][-2:] == ["user", "assistant"]

    limits = ("--set", "training.max_steps=6")
    one = workshop.run("finetune", "handbook/1", "--name", "reader", *limits)
    two = workshop.run("finetune", "handbook/1", "--name", "reader", *limits)
    assert (one["version"], two["version"]) == (1, 2)
    assert workshop.run("models", "verify")["ok"]

    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text("".join(cases.read_text("utf-8").splitlines(keepends=True)[::4]), "utf-8")
    workshop.run("cases", "freeze", "quiz", str(quiz))
    nothing = workshop.run("models", "promote", "reader/2", "--alias", "champion", code=1)
    assert "never evaluated" in nothing["error"]["message"]
    folder = tmp_path / "report"
    report = workshop.run(
        "evaluate", "quiz", "--model", "reader/2", "--compare", "--report", str(folder)
    )
    assert (report["frozen"], report["reused"]) == ("quiz/1", 0)
    assert (folder / "report.html").stat().st_size > 10_000
    systems = "base,base+rag,tuned,tuned+rag,text"
    four = workshop.run("evaluate", "quiz", "--model", "reader/2", "--compare", systems)
    assert list(four["systems"]) == systems.split(",")
    assert four["systems"]["tuned+rag"]["reused"] == report["cases"], "asked a moment ago"
    assert four["systems"]["tuned+rag"]["answers"] == report["answers"]
    assert {"recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"} <= set(report["retrieval"])
    for metric in ("exact_match", "f1", "abstention", "citation_precision", "faithfulness"):
        assert {"mean", "low", "high", "n"} <= set(report["answers"][metric])
    assert report["baseline"]["model"] == "base"
    assert report["trained_on"]["count"] > 0

    # An untrained model cannot be proven better: the gate refuses, and force needs a reason.
    refused = workshop.run("models", "promote", "reader/2", "--alias", "champion", code=1)
    assert refused["error"]["code"] == "gate_refused"
    assert "reader/2 is not promoted over base (on quiz/1)" in refused["error"]["message"]
    args = ("models", "promote", "reader/1", "--alias", "champion", "--force")
    assert workshop.run(*args, code=2)["error"]["code"] == "input"
    workshop.run(*args, "--reason", "first one")
    workshop.run(
        "models", "promote", "reader/2", "--alias", "champion", "--force", "--reason", "newer"
    )
    assert workshop.run("models", "rollback", "reader")["version"] == 1
    answer = workshop.run("ask", "Who is the tool librarian?", "--model", "reader@champion")
    assert answer["model"] == "reader/1"
    lineage = json.dumps(workshop.run("trace", answer["id"]))
    for part in ("reader", one["run"], "handbook", dataset["digest"]):
        assert part in lineage, part


def test_kill_in_the_middle_of_a_finetune_resumes_and_registers_once(workshop: Fti) -> None:
    workshop.run("dataset", "build", "handbook")
    settings = ("--set", "training.max_steps=12", "--set", "training.checkpoint_s=0")
    args = ("finetune", "handbook", "--name", "reader", *settings)
    checkpoints = workshop.home / "store" / "checkpoints"

    workshop.kill_when(lambda: bool(list(checkpoints.glob(f"**/{MARKER}"))), *args)
    assert workshop.run("models", "list")["models"] == []

    resumed = workshop.run(*args)
    assert resumed["version"] == 1
    assert resumed["metrics"]["resumed_from_step"] >= 1
    assert not [p for p in checkpoints.glob("*/*") if p.is_dir()]

    # The same training without a kill gives the same adapter, to the byte.
    straight = workshop.run("finetune", "handbook", "--name", "straight", *settings)
    assert straight["version"] == 1
    root = workshop.home / "store" / "models"
    killed, whole = (
        (root / name / "1" / "adapter_model.safetensors").read_bytes()
        for name in ("reader", "straight")
    )
    assert killed == whole


def test_training_on_a_changed_base_is_refused_at_serving(
    workshop: Fti, tmp_path: Path, tiny_lm: Path
) -> None:
    import shutil

    workshop.run("dataset", "build", "handbook")
    workshop.run("finetune", "handbook", "--name", "reader", "--set", "training.max_steps=2")
    other = tmp_path / "elsewhere" / tiny_lm.name
    shutil.copytree(tiny_lm, other)
    weights = other / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused = workshop.run(
        "ask", "Who?", "--model", "reader/1", "--set", f"generator.id={other}", code=1
    )
    assert refused["error"]["code"] == "contract"
    assert "weights" in refused["error"]["message"]


def test_doctor_monitor_and_config_say_what_is_there(workshop: Fti) -> None:
    found = workshop.run("doctor")
    verdicts = {check["name"]: (check["verdict"], check["found"]) for check in found["checks"]}
    assert found["ok"]
    assert {verdict for verdict, _ in verdicts.values()} <= {"ok", "note"}
    assert "tiny-lm" in verdicts["language model"][1]
    assert "256 dimensions" in verdicts["embedder"][1]
    monitored = workshop.run("monitor")
    served = workshop.run("failed")
    assert served["failed"] == []
    assert monitored["features"]["documents"] > 10
    assert monitored["features"]["chunks"] > monitored["features"]["documents"]
    assert monitored["features"]["failed"] == 0
    assert workshop.run("config", "show")["prompt"]["max_passages"] == 2
