"""``fti calibrate``: a model version becomes one that knows when to refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fti.app.build import Engines, build_assistant
from fti.app.cli import app
from fti.app.operations.measuring.calibrating import calibrate_model
from fti.app.settings import Settings, load_settings
from fti.store.errors import InputError, InvalidCases
from fti.store.progress import quiet
from fti.store.store import Store
from fti.store.types import Case
from tests.support.service import HANDBOOK, add_document
from tests.support.tiny_model import make_adapter
from tests.support.values import publish_adapter

CASES = [
    Case(id="1", question="When does the workshop open on Saturdays?", answers=("nine",)),
    Case(id="2", question="How hot does the kiln fire stoneware?", answers=("1240 degrees",)),
    Case(id="3", question="What does a locker cost each month?", answers=("four euros",)),
    Case(id="4", question="Which xylophone quartet toured Patagonia?"),
    Case(id="5", question="Who discovered the moons circling Neptune?"),
]


@pytest.fixture
def settings(tmp_path: Path, tiny_lm: Path) -> Settings:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "embedder: {engine: hashing, dimension: 256}\n"
        f"generator: {{engine: transformers, id: {tiny_lm}, device: cpu}}\n"
        "prompt: {max_prompt_tokens: 512, max_new_tokens: 8, max_passages: 2}\n"
        "inference: {retrieval: {min_similarity: 0.05}}\n",
        "utf-8",
    )
    return load_settings(profile, store=tmp_path / "store", environment={})


@pytest.fixture
def store(settings: Settings) -> Store:
    store = Store(settings.store)
    for source, (title, text) in HANDBOOK.items():
        add_document(store, source, title, text)
    return store


@pytest.mark.heavy
def test_a_calibrated_version_is_the_next_one_and_refuses_by_its_own_contract(
    settings: Settings, store: Store, tiny_lm: Path, tmp_path: Path
) -> None:
    engines = Engines(settings)
    contract = build_assistant(settings, store, model="base", engines=engines).contract
    publish_adapter(store, make_adapter(tiny_lm, tmp_path / "adapter"), contract)
    done = calibrate_model(
        settings, store, CASES, model="reader/1", engines=engines, progress=quiet
    )
    assert done.found.chosen.f1 == 1 > done.found.before.f1
    assert done.version is not None
    assert (done.version.ref, done.version.parent) == ("reader/2", "reader/1")
    assert store.models.verify("reader/2") == []
    assert store.models.get("reader/1").contract.abstain_below is None
    kept = store.models.get("reader/2")
    assert kept.contract.abstain_below == done.found.chosen.threshold
    assert kept.adapter == store.models.get("reader/1").adapter
    assert kept.metrics["calibration"]["cases"] == 5
    run = store.runs.get(done.run)
    assert (run.kind, run.outputs["model"]) == ("calibrate", "reader/2")
    before, after = (
        build_assistant(settings, store, model=ref, engines=engines)
        for ref in ("reader/1", "reader/2")
    )
    for case in CASES:
        assert not before.answer(case.question).abstained
        assert after.answer(case.question).abstained != case.answerable


def test_cases_that_promotions_are_decided_on_are_refused(settings: Settings, store: Store) -> None:
    store.cases.freeze("gate", CASES[3:], source="a test")
    gate = settings.gate.model_copy(update={"cases": "gate"})
    with pytest.raises(InputError, match="2 of the 5 cases are in 'gate'"):
        calibrate_model(settings.model_copy(update={"gate": gate}), store, CASES, progress=quiet)
    with pytest.raises(InvalidCases, match="unanswerable"):
        calibrate_model(settings, store, CASES[:3], progress=quiet)


def test_for_the_baseline_the_command_prints_the_setting_that_has_the_same_effect(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    cases = tmp_path / "cases.jsonl"
    rows = [{"id": c.id, "question": c.question, "answers": list(c.answers)} for c in CASES]
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    common = ["--model", "extractive", "--config", str(tmp_path / "profile.yaml")]
    common += ["--store", str(settings.store)]
    done = CliRunner().invoke(app, ["calibrate", str(cases), *common, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["version"], found["cases"], found["answerable"]) == (None, 5, 3)
    said = CliRunner().invoke(
        app, ["calibrate", str(cases), *common, "--false-refusals", "0.5"]
    ).output  # fmt: skip
    assert "put into the profile" in said
    setting = f"prompt.abstain_below={found['abstain_below']}"
    asked = CliRunner().invoke(app, ["ask", CASES[4].question, *common, "--set", setting, "--json"])
    assert json.loads(asked.stdout)["abstained"] is True
