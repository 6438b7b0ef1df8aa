"""Runs are recorded before they begin, however they end."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import fti.store.logs.runs
from fti.store.errors import IntegrityError, InvalidName, RunNotFound, StoreEmpty
from fti.store.files.layout import Layout
from fti.store.files.liveness import namespace
from fti.store.logs.runs import RunLog
from fti.store.types import Interval, Run
from tests.support.processes import kill, run_python, start_python, wait_for_line

pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def runs(tmp_path: Path) -> RunLog:
    return RunLog(Layout(tmp_path))


def test_a_run_is_recorded_when_it_begins_and_when_it_ends(runs: RunLog, tmp_path: Path) -> None:
    run = runs.start("ingest", inputs={"source": "docs"}, settings={"batch": 8})
    assert RunLog(Layout(tmp_path)).get(run.id) == run
    assert (run.status, run.finished_at) == ("running", None)
    ended = runs.finish(run, status="partial", outputs={"chunks": "12"}, metrics={"seconds": 1.5})
    assert runs.get(run.id) == ended
    assert ended.status == "partial"
    assert ended.finished_at is not None
    assert ended.finished_at >= run.started_at
    assert (ended.inputs, ended.settings) == ({"source": "docs"}, {"batch": 8})
    assert (ended.outputs, ended.metrics) == ({"chunks": "12"}, {"seconds": 1.5})


def test_an_id_says_when(runs: RunLog) -> None:
    run = runs.start("batch")
    prefix, day, second, tail = run.id.split("-")
    assert prefix == "r"
    assert f"{run.started_at:%Y%m%d-%H%M%S}" == f"{day}-{second}"
    assert len(tail) == 6
    int(tail, 16)


def test_a_run_names_the_code_that_ran(runs: RunLog) -> None:
    assert runs.start("ingest").code_version


def test_settings_and_metrics_become_json(runs: RunLog, tmp_path: Path) -> None:
    run = runs.start("evaluate", settings={"path": tmp_path, "sizes": (1, 2)})
    ended = runs.finish(
        run,
        status="done",
        metrics={"f1": Interval(mean=0.5, low=0.4, high=0.6, n=3), "loss": float("inf")},
    )
    assert ended.settings == {"path": str(tmp_path), "sizes": [1, 2]}
    assert ended.metrics == {"f1": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 3}, "loss": None}


def test_a_block_that_ends_is_done(runs: RunLog) -> None:
    with runs.running("finetune", inputs={"dataset": "faq/1"}) as going:
        assert runs.get(going.id).status == "running"
        going.outputs["model"] = "reader/1"
        going.metrics["loss"] = 0.25
    run = runs.get(going.id)
    assert run == going.run
    assert (run.status, run.outputs, run.metrics) == ("done", {"model": "reader/1"}, {"loss": 0.25})


def test_a_block_can_end_in_part(runs: RunLog) -> None:
    with runs.running("ingest") as going:
        going.status = "partial"
        going.error = "1 of 3 sources failed"
    assert (runs.get(going.id).status, runs.get(going.id).error) == (
        "partial",
        "1 of 3 sources failed",
    )


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        (StoreEmpty("Nothing here.", hint="Ingest."), "Nothing here. Ingest."),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_block_that_raises_has_failed_with_the_cause(
    runs: RunLog, raised: BaseException, cause: str
) -> None:
    def fail() -> None:
        with runs.running("batch") as going:
            going.outputs["answers"] = "answers.jsonl"
            raise raised

    with pytest.raises(type(raised)) as caught:
        fail()
    assert caught.value is raised
    (run,) = runs.list()
    assert (run.status, run.error) == ("failed", cause)
    assert run.outputs == {"answers": "answers.jsonl"}
    assert run.finished_at is not None


RUN = """
import sys, time
from pathlib import Path
from fti.store.files.layout import Layout
from fti.store.logs.runs import RunLog
runs = RunLog(Layout(Path(sys.argv[1])))
"""
SLEEP = "run = runs.start('finetune')\nprint(run.id, flush=True)\ntime.sleep(600)\n"


@pytest.mark.in_a_folder("several processes")
def test_a_run_whose_process_died_is_shown_as_failed(runs: RunLog, tmp_path: Path) -> None:
    process = start_python(RUN + SLEEP, tmp_path)
    run_id = wait_for_line(process)
    assert runs.get(run_id).status == "running"
    assert [r.status for r in runs.list()] == ["running"]
    kill(process)
    run = runs.get(run_id)
    assert (run.status, run.error) == ("failed", "the process died")
    assert [r.status for r in runs.list()] == ["failed"]
    record = json.loads((tmp_path / "runs" / run_id / "run.json").read_text("utf-8"))
    assert record["status"] == "running"


@pytest.mark.in_a_folder("several processes")
def test_a_child_that_outlives_the_run_does_not_keep_it_alive(runs: RunLog, tmp_path: Path) -> None:
    script = RUN + (
        "import os\n"
        "run = runs.start('finetune')\n"
        "child = os.fork()\n"
        "if child: print(run.id, child, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = start_python(script, tmp_path)
    run_id, child = wait_for_line(process).split()
    try:
        process.kill()
        process.wait()
        assert runs.get(run_id).error == "the process died"
    finally:
        os.kill(int(child), 9)
        process.communicate()


@pytest.mark.in_a_folder("its files")
def test_a_run_in_another_container_is_alive_while_its_lock_is_held(
    runs: RunLog, tmp_path: Path
) -> None:
    run = runs.start("ingest")
    process = tmp_path / "runs" / run.id / "process"
    process.write_text('{"pid": 999999999, "namespace": "elsewhere"}', "utf-8")
    assert runs.get(run.id).status == "running"
    process.write_text(json.dumps({"pid": 999999999, "namespace": namespace()}), "utf-8")
    assert runs.get(run.id).status == "failed"


@pytest.mark.in_a_folder("several processes")
def test_somebody_who_looks_is_not_taken_for_the_run(runs: RunLog, tmp_path: Path) -> None:
    process = start_python(RUN + SLEEP, tmp_path)
    run_id = wait_for_line(process)
    kill(process)
    path = tmp_path / "runs" / run_id / "process"
    path.write_text('{"pid": 1, "namespace": "elsewhere"}', "utf-8")
    with path.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert runs.get(run_id).error == "the process died"


@pytest.mark.in_a_folder("several processes")
def test_looking_does_not_disturb_a_run(runs: RunLog, tmp_path: Path) -> None:
    run = runs.start("ingest")
    script = RUN + "for _ in range(50): print(runs.get(sys.argv[2]).status)"
    lookers = [start_python(script, tmp_path, run.id) for _ in range(2)]
    for looker in lookers:
        out, err = looker.communicate(timeout=120)
        assert err == ""
        assert set(out.split()) == {"running"}
    assert runs.finish(run, status="done").status == "done"


def test_a_run_that_ends_while_it_is_looked_at_has_not_died(
    runs: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.start("ingest")

    def ends_now(process: str) -> bool:
        monkeypatch.undo()
        runs.finish(run, status="done")
        return False

    monkeypatch.setattr(runs._storage, "is_held", ends_now)
    assert runs.get(run.id).status == "done"


def test_runs_are_listed_newest_first_also_within_a_second(
    runs: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    times = iter([start + timedelta(seconds=n / 4) for n in range(10)])
    monkeypatch.setattr(fti.store.logs.runs, "now", lambda: next(times))
    started = [runs.start("ingest" if n % 2 else "batch").id for n in range(10)]
    assert [r.id for r in runs.list()] == started[::-1]
    assert [r.id for r in runs.list(limit=3)] == started[:-4:-1]
    assert [r.id for r in runs.list("ingest", limit=2)] == [started[9], started[7]]
    assert runs.list(limit=0) == []
    assert runs.list("evaluate") == []


def test_a_run_names_its_pipeline_and_the_memory_that_its_process_held(runs: RunLog) -> None:
    with runs.running("dataset", pipeline="pairs") as open_run:
        assert runs.get(open_run.id).memory_mb is None
    ended = runs.get(open_run.id)
    assert (ended.kind, ended.pipeline) == ("dataset", "pairs")
    assert ended.memory_mb is not None
    assert 5 < ended.memory_mb < 1_000_000
    with runs.running("batch") as other:
        pass
    assert runs.get(other.id).pipeline == "batch"


def test_figures_can_be_added_while_a_run_goes_on_and_when_it_has_ended(runs: RunLog) -> None:
    with runs.running("ingest") as going:
        runs.amend(going.id, {"records": 3})
        assert runs.get(going.id).metrics == {"records": 3}
        assert runs.get(going.id).status == "running"
        going.metrics["chunks"] = 1
    runs.amend(going.id, {"freshness": {"p99_s": 0.5}})
    assert runs.get(going.id).metrics == {"chunks": 1, "freshness": {"p99_s": 0.5}}
    assert runs.get(going.id).status == "done"
    with pytest.raises(RunNotFound):
        runs.amend("r-20200101-000000-000000", {})


@pytest.mark.in_a_folder("its files")
def test_runs_since_a_moment_are_those_that_began_or_go_on(
    runs: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def began(days: int) -> Run:
        at = datetime(2026, 3, 9, tzinfo=UTC) - timedelta(days=days)
        monkeypatch.setattr(fti.store.logs.runs, "now", lambda: at)
        return runs.start("ingest")

    stream, old, new = began(90), began(30), began(1)
    runs.finish(old, status="done")
    runs.finish(new, status="done")
    found = runs.since(datetime(2026, 3, 1, tzinfo=UTC))
    assert [run.id for run in found] == [new.id, stream.id]
    (tmp_path / "runs" / new.id / "run.json").write_text("{", "utf-8")
    assert [run.id for run in runs.since(datetime(2026, 3, 1, tzinfo=UTC))] == [stream.id]


def test_an_unknown_run_is_answered_with_recent_ones(runs: RunLog) -> None:
    with pytest.raises(RunNotFound, match="Nothing has run yet"):
        runs.get("r-20260301-120000-0123ab")
    run = runs.start("ingest")
    for wrong in ("r-20260301-120000-0123ab", "", "..", "../runs", run.id + "\n", "x" * 500):
        with pytest.raises(RunNotFound, match=f"newest are: {run.id}"):
            runs.get(wrong)


def test_a_folder_without_a_record_is_no_run(runs: RunLog, tmp_path: Path) -> None:
    (tmp_path / "runs" / "r-20260301-120000-0123ab").mkdir(parents=True)
    assert runs.list() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "r"}'])
@pytest.mark.in_a_folder("its files")
def test_a_broken_record_is_named(runs: RunLog, tmp_path: Path, text: str) -> None:
    run = runs.start("ingest")
    (tmp_path / "runs" / run.id / "run.json").write_text(text, "utf-8")
    with pytest.raises(IntegrityError, match=f"record of run '{run.id}' cannot be read"):
        runs.get(run.id)


def test_rows_are_kept_beside_a_run(runs: RunLog) -> None:
    run = runs.start("evaluate")
    rows = [{"case": "1", "f1": 0.5}, {"case": "ü\u2028", "f1": float("nan"), "at": (1, 2)}]
    runs.attach(run.id, "scores", iter(rows))
    assert list(runs.attached(run.id, "scores")) == [
        {"case": "1", "f1": 0.5},
        {"case": "ü\u2028", "f1": None, "at": [1, 2]},
    ]
    runs.attach(run.id, "scores", [])
    runs.attach(run.id, "answers", [{"n": 1}])
    assert list(runs.attached(run.id, "scores")) == []
    assert runs.attachments(run.id) == ["answers", "scores"]


def test_rows_that_are_not_there_are_answered_with_what_is(runs: RunLog) -> None:
    run = runs.start("evaluate")
    with pytest.raises(RunNotFound, match=r"nothing named 'scores' attached. It has: nothing"):
        runs.attached(run.id, "scores")
    runs.attach(run.id, "answers", [])
    with pytest.raises(RunNotFound, match="It has: answers"):
        runs.attached(run.id, "scores")
    with pytest.raises(RunNotFound):
        runs.attach("r-20260301-120000-0123ab", "scores", [])
    with pytest.raises(InvalidName):
        runs.attach(run.id, "../scores", [])


def test_a_failed_attachment_keeps_the_earlier_one(runs: RunLog) -> None:
    run = runs.start("evaluate")
    runs.attach(run.id, "scores", [{"n": 1}])

    def rows():
        yield {"n": 2}
        raise KeyError("broken off")

    with pytest.raises(KeyError):
        runs.attach(run.id, "scores", rows())
    assert list(runs.attached(run.id, "scores")) == [{"n": 1}]


@pytest.mark.in_a_folder("several processes")
def test_starting_ends_are_seen_by_another_process(runs: RunLog, tmp_path: Path) -> None:
    script = RUN + "with runs.running('batch') as going: going.outputs['n'] = '1'\nprint(going.id)"
    run_id = run_python(script, tmp_path).strip()
    run = runs.get(run_id)
    assert isinstance(run, Run)
    assert (run.status, run.outputs) == ("done", {"n": "1"})
