"""Several commands as one: run, fail, go on, skip, and run what a change bears on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Fti

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]

DEMO = Path(__file__).parents[2] / "app" / "demo"
PIPELINE = """\
name: nightly
steps:
  - ingest: {sources: [documents]}
  - freeze: {cases: quiz, file: cases.jsonl}
  - dataset: {dataset: handbook}
  - batch: {questions: questions.csv, out: answers.jsonl}
"""


@pytest.fixture
def works(fti: Fti) -> Fti:
    """Documents, questions and a pipeline over them; no cases yet."""
    shutil.copytree(DEMO / "corpus" / "members", fti.home / "documents" / "corpus" / "members")
    (fti.home / "questions.csv").write_text("id,question\n1,Who are the members?\n", "utf-8")
    (fti.home / "nightly.yaml").write_text(PIPELINE, "utf-8")
    return fti


def became(report: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["status"] for step in report["steps"]}


def test_a_pipeline_runs_what_changed_and_goes_on_where_it_failed(works: Fti) -> None:
    run = ("pipeline", "run", "nightly.yaml")
    failed = works.run(*run, code=1, timeout=280)
    assert became(failed) == {
        "ingest": "done",
        "freeze": "failed",
        "dataset": "not reached",
        "batch": "not reached",
    }
    assert "cases.jsonl" in failed["steps"][1]["error"]["message"]

    lines = (DEMO / "cases.jsonl").read_text("utf-8").splitlines(keepends=True)
    (works.home / "cases.jsonl").write_text("".join(lines[:5]), "utf-8")
    went_on = became(works.run(*run, timeout=280))
    assert went_on == {"ingest": "skipped", "freeze": "done", "dataset": "done", "batch": "done"}
    assert became(works.run(*run, timeout=280)) == dict.fromkeys(went_on, "skipped")

    page = next((works.home / "documents").rglob("*.md"))
    page.write_text(page.read_text("utf-8") + "\nThe lathe was moved to the north hall.\n", "utf-8")
    shown = " ".join(works.raw(*run, "--dry-run", timeout=280).stdout.split())
    assert "ingest" in shown
    assert "changed:" in shown
    changed = works.run(*run, timeout=280)
    assert became(changed) == {**dict.fromkeys(went_on, "done"), "freeze": "skipped"}
    assert changed["steps"][0]["summary"].startswith("0 added, 1 updated")


def test_a_pipeline_that_is_wrong_is_refused_before_anything_runs(works: Fti) -> None:
    (works.home / "p.yaml").write_text("name: p\nsteps: [{ingest: {source: [x]}}]\n", "utf-8")
    refused = works.run("pipeline", "run", "p.yaml", code=2)
    assert refused["error"]["code"] == "config"
    assert "did you mean sources?" in refused["error"]["message"]
    assert not (works.home / "store" / "pipelines").exists()
