"""What the process of a job does, in this process: the commands' own functions, and how it ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fti.app.operations.job_kinds import DatasetJob, EvaluateJob, FinetuneJob, PromoteJob, job_of
from fti.app.operations.job_process import do
from fti.store.errors import CaseSetNotFound, DatasetNotFound, InputError, ModelNotFound, StoreEmpty
from fti.store.logs.jobs import JobRecord
from fti.store.store import Store
from tests.support.command import fti
from tests.support.values import a_contract, publish_files

PROFILE = """\
model: extractive
embedder: {engine: hashing, dimension: 256}
generator: {engine: extractive, min_similarity: 0.1}
inference: {retrieval: {min_similarity: 0.05}}
dataset: {max_rows: 40}
"""
CORPUS = Path(__file__).parents[4] / "app" / "demo" / "corpus"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    profile = tmp_path / "light.yaml"
    profile.write_text(PROFILE, "utf-8")
    monkeypatch.setenv("FTI_CONFIG", str(profile))
    monkeypatch.setenv("FTI_STORE", str(tmp_path / "store"))
    return Store(tmp_path / "store")


def done(store: Store, code: int = 0, **asked: Any) -> JobRecord:
    """Do a job; its record afterwards."""
    record, handle = store.jobs.start(asked["kind"], asked)
    try:
        assert do(record, store, overrides=[]) == code
    finally:
        os.close(handle)
    return store.jobs.get(record.id)


def test_a_dataset_is_built_its_questions_frozen_and_a_system_measured(store: Store) -> None:
    fti("ingest", str(CORPUS / "members"), str(CORPUS / "machines"))
    built = done(store, kind="dataset", name="handbook", mask_pii=True)
    assert (built.state, built.outputs["dataset"]) == ("done", "handbook/1")
    assert built.summary.startswith("handbook/1: ")
    assert store.runs.get(built.outputs["run"]).kind == "dataset"
    assert store.runs.get(built.outputs["run"]).settings["mask"]
    notes = list(store.jobs.notes(built.id))
    assert {"questions", "rows"} <= {note.stage for note in notes}
    assert not any(note.detail for note in notes), "details quote documents"

    frozen = done(store, kind="freeze", name="quiz", dataset="handbook/1")
    assert frozen.outputs == {"cases": "quiz/1"}

    measured = done(store, kind="evaluate", cases="quiz", limit=3, compare=False)
    assert measured.state == "done", measured.error
    assert "F1" in measured.summary
    run = store.runs.get(measured.outputs["run"])
    assert (run.kind, run.metrics["cases"]) == ("evaluate", 3)


def test_a_gate_that_refuses_is_no_failure_and_says_why(store: Store) -> None:
    fti("ingest", str(CORPUS / "members"), str(CORPUS / "machines"))
    done(store, kind="dataset", name="handbook")
    done(store, kind="freeze", name="quiz", dataset="handbook")
    publish_files(store, a_contract())
    refused = done(store, code=1, kind="promote", model="reader/1")
    assert refused.state == "refused"
    assert "never evaluated" in refused.error
    free = done(store, kind="promote", model="reader/1", alias="trial", reason="to look at")
    assert (free.state, store.models.aliases("reader")) == ("done", {"trial": 1})


def test_what_fails_is_recorded_with_its_reason(store: Store) -> None:
    failed = done(store, code=1, kind="freeze", name="quiz", dataset="nothing")
    assert failed.state == "failed"
    assert "nothing" in failed.error
    unknown = done(store, code=1, kind="sing")
    assert unknown.state == "failed"


def test_a_defect_is_told_by_its_name_and_in_the_log(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("a text of the documents")

    monkeypatch.setattr(DatasetJob, "do", broken)
    failed = done(store, code=1, kind="dataset", name="handbook")
    assert failed.error == "A defect (ZeroDivisionError); its log says more."
    assert "Traceback" in capsys.readouterr().err


def test_one_that_is_stopped_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DatasetJob, "do", stopped)
    assert done(store, code=1, kind="dataset", name="handbook").state == "stopped"


def test_what_is_not_there_is_told_before_anything_starts(store: Store) -> None:
    with pytest.raises(StoreEmpty):
        DatasetJob(kind="dataset", name="handbook").check(store)
    with pytest.raises(DatasetNotFound):
        FinetuneJob(kind="finetune", dataset="handbook", name="reader").check(store)
    with pytest.raises(CaseSetNotFound):
        EvaluateJob(kind="evaluate", cases="quiz").check(store)
    with pytest.raises(ModelNotFound):
        PromoteJob(kind="promote", model="reader/1").check(store)


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "dataset", "name": "../../etc"},
        {"kind": "dataset", "name": "handbook", "cases": "/etc/passwd"},
        {"kind": "finetune", "dataset": "handbook", "name": "reader", "set": ["store=/tmp"]},
        {"kind": "promote", "model": "reader/1", "force": True},
    ],
)
def test_no_path_no_setting_and_no_way_around_the_gate_can_be_asked_for(
    asked: dict[str, Any],
) -> None:
    with pytest.raises(InputError):
        job_of(asked)
