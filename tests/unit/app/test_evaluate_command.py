"""``fti evaluate`` and ``fti monitor`` as scripts call them: options, one object, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.settings import load_settings
from pipelines.engines.embedding import HashingEmbedder
from pipelines.feature.config import FeatureConfig
from pipelines.feature.ingest import ingest
from store.store import Store

LINES = [
    {"id": "1", "question": "When is the kiln fired?", "answers": ["Thursdays"],
     "document": "kiln.md", "tags": ["kiln"]},
    {"id": "2", "question": "For how long are books lent?", "answers": ["three weeks"],
     "document": "loans.md"},
]  # fmt: skip


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A case file, beside a store of two documents that the environment names."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "kiln.md").write_text("# Kiln\n\nThe kiln is fired on Thursdays.\n", "utf-8")
    (docs / "loans.md").write_text("# Loans\n\nBooks are lent for three weeks.\n", "utf-8")
    profile = tmp_path / "light.yaml"
    profile.write_text(
        "model: extractive\n"
        "embedder: {engine: hashing, dimension: 256}\n"
        "generator: {engine: extractive, min_similarity: 0.1}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n",
        "utf-8",
    )
    monkeypatch.setenv("FTI_CONFIG", str(profile))
    monkeypatch.setenv("FTI_STORE", str(tmp_path / "store"))
    settings = load_settings()
    ingest([str(docs)], store=Store(settings.store),
           embedder=HashingEmbedder(256), config=FeatureConfig())  # fmt: skip
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES), "utf-8")
    return path


def fti(*args: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*args, "--json"])
    assert done.exit_code == code, (done.exception, done.output)
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_compare_without_a_value_may_stand_anywhere(cases: Path) -> None:
    for args in (["--compare", str(cases)], [str(cases), "--compare"]):
        body = fti("evaluate", *args)
        assert (body["cases"], body["model"]) == (2, "extractive")
        assert "systems" not in body


def test_compare_with_a_list_measures_each_system(cases: Path) -> None:
    names = "extractive+text,extractive+rag,extractive+oracle,vector"
    for args in (["--compare", names], [f"--compare={names}"]):
        body = fti("evaluate", str(cases), *args)
        assert list(body["systems"]) == names.split(",")
        assert (body["reference"], body["system"]) == ("extractive+text", "extractive+oracle")
    assert [s["reused"] for s in body["systems"].values()] == [2, 2, 2, 0]


def test_a_frozen_set_is_evaluated_by_its_name(cases: Path) -> None:
    frozen = fti("cases", "freeze", "handbook", str(cases))
    assert (frozen["ref"], frozen["cases"], frozen["tags"]) == ("handbook/1", 2, ["kiln"])
    by_name, by_file = fti("evaluate", "handbook"), fti("evaluate", str(cases))
    assert by_name["frozen"] == by_file["frozen"] == "handbook/1"
    assert by_name["case_set"] == frozen["digest"]
    assert fti("evaluate", "handbook", "--limit", "1")["frozen"] == "", "a sample is another set"
    assert [c["ref"] for c in fti("cases", "list")["case_sets"]] == ["handbook/1"]
    assert fti("cases", "show", "handbook")["examples"][0]["id"] == "1"


def test_floors_and_a_baseline_decide_the_exit_code(cases: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    good = fti("evaluate", str(cases), "--fail-below", "recall@5=0.5", "--report", str(report))
    assert good["failed"] == []
    assert [Path(p).name for p in good["report"]] == ["report.html", "report.md", "report.json"]
    baseline = ("--baseline", str(report / "report.json"))
    assert fti("evaluate", str(cases), *baseline)["failed"] == []
    bad = fti("evaluate", str(cases), "--fail-below", "exact_match=0.9", *baseline, code=1)
    (sentence,) = bad["failed"]
    assert sentence.startswith("exact_match is 0.")
    done = CliRunner().invoke(app, ["evaluate", str(cases), "--fail-below", "exact_match=0.9"])
    assert done.exit_code == 1
    assert "failed: extractive: exact_match is 0." in " ".join(done.stderr.split())


def test_monitor_writes_a_page_and_exits_with_three_on_alerts(cases: Path, tmp_path: Path) -> None:
    fti("evaluate", str(cases))
    quiet = fti("monitor", "--report", str(tmp_path / "out"))
    assert quiet["answers"]["count"] == 0, "evaluations are no users"
    assert Path(quiet["report"]).read_text("utf-8").startswith("<!doctype html>")
    for _ in range(2):  # nothing in the store is near to this
        assert fti("ask", "xyzzy qqq?")["abstained"]
    loud = fti("monitor", "--set", "monitoring.min_sample=2", code=3)
    assert loud["answers"]["count"] == 2
    assert [alert["what"] for alert in loud["alerts"]] == ["unanswered"]
