"""Several commands as one: run, fail, go on, skip, and run what a change bears on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fti.store.store import Store
from tests.e2e.conftest import COMMAND_WITH_MODELS, TINY_PROFILE, Fti

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]

NIGHTLY = Path(__file__).parents[2] / "configs" / "pipelines" / "nightly.yaml"
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


@pytest.fixture
def night(tmp_path: Path, tiny_lm: Path) -> Fti:
    """The round that ships, with all that it needs, and a tiny real model to train."""
    home = tmp_path / "home"
    shutil.copytree(DEMO / "corpus" / "members", home / "documents" / "corpus" / "members")
    shutil.copytree(DEMO / "corpus" / "areas", home / "documents" / "corpus" / "areas")
    shutil.copy(NIGHTLY, home / "nightly.yaml")
    there = {str(p.relative_to(home / "documents")) for p in (home / "documents").rglob("*.md")}
    lines = (DEMO / "cases.jsonl").read_text("utf-8").splitlines(keepends=True)
    cases = [line for line in lines if json.loads(line)["document"] in there]
    (home / "cases.jsonl").write_text("".join(cases[::2][:12]), "utf-8")
    (home / "training.jsonl").write_text("".join(cases[1::2][:24]), "utf-8")
    asked = [f"{n},{json.loads(line)['question']}\n" for n, line in enumerate(cases[:20])]
    (home / "questions.csv").write_text("id,question\n" + "".join(asked), "utf-8")
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        TINY_PROFILE.format(model=tiny_lm) + "training: {epochs: 40, max_steps: 60}\n",
        "utf-8",
    )
    return Fti(home, {"FTI_CONFIG": str(profile)}, COMMAND_WITH_MODELS)


def test_a_night_that_is_killed_twice_is_finished_by_the_third_run(night: Fti) -> None:
    run = ("pipeline", "run", "nightly.yaml")
    store = Store(night.home / "store")

    def training() -> bool:
        return bool(store.runs.list("finetune"))

    def answering() -> bool:
        return bool(store.runs.list("batch"))

    night.kill_when(training, *run, timeout=280)
    night.kill_when(answering, *run, timeout=280)
    last = night.run(*run, timeout=280, code=None)

    ended = became(last)
    assert list(ended) == [
        "verify", "ingest", "freeze", "validate", "dataset", "finetune", "calibrate", "evaluate",
        "promote", "batch", "monitor",
    ]  # fmt: skip
    assert set(ended.values()) <= {"done", "skipped", "refused"}, last
    for step in ("ingest", "freeze", "dataset", "finetune", "calibrate", "evaluate"):
        assert ended[step] == "skipped", "done before the kill, and not done again"
    rows = [json.loads(x) for x in (night.home / "answers.jsonl").read_text("utf-8").splitlines()]
    assert sorted(int(row["id"]) for row in rows) == list(range(20)), "each answered once"
    assert (night.home / "monitor.html").exists()
    assert len(store.models.list()) == 2, "what was trained, and its calibrated next version"
    assert not night.run("store", "verify")["problems"]


def test_a_pipeline_that_is_wrong_is_refused_before_anything_runs(works: Fti) -> None:
    (works.home / "p.yaml").write_text("name: p\nsteps: [{ingest: {source: [x]}}]\n", "utf-8")
    refused = works.run("pipeline", "run", "p.yaml", code=2)
    assert refused["error"]["code"] == "config"
    assert "did you mean sources?" in refused["error"]["message"]
    assert not (works.home / "store" / "pipelines").exists()
