"""Jobs: one at a time, and what became of each can be told whoever was killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fti.store.errors import IntegrityError, JobNotFound, JobRunning
from fti.store.files.places import Place
from fti.store.logs.jobs import JobLog
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.upkeep.backup import back_up
from fti.store.upkeep.checking import check_store
from tests.support.processes import start_python, wait_for_line

#: A process that is given a job to hold, says so, and waits.
HOLDER = """
import sys, time
print("here", flush=True)
time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def jobs(store: Store) -> JobLog:
    return store.jobs


def test_a_job_is_running_while_its_process_holds_it(jobs: JobLog) -> None:
    record, handle = jobs.start("finetune", {"dataset": "handbook"}, key="k-1")
    assert jobs.get(record.id) == record
    assert (record.state, record.key, record.attempts) == ("running", "k-1", 1)
    assert jobs.running() == record
    os.close(handle)
    left = jobs.get(record.id)
    assert left.state == "interrupted"
    assert "can be taken up again" in left.error
    assert jobs.running() is None


def test_another_process_takes_the_job_over_and_its_death_is_noticed(jobs: JobLog) -> None:
    record, handle = jobs.start("finetune", {})
    process = start_python(HOLDER)
    wait_for_line(process)
    # The lock stays with this process; the name in the file is what tells.
    jobs.handed_over(record.id, handle, process.pid)
    assert jobs.get(record.id).state == "running"
    assert jobs.ask_to_stop(record.id) == process.pid
    process.kill()
    process.communicate()
    assert jobs.get(record.id).state == "stopped", "somebody asked for it"
    os.close(handle)


def test_there_is_one_job_at_a_time(jobs: JobLog) -> None:
    first, handle = jobs.start("dataset", {})
    with pytest.raises(JobRunning, match=first.id):
        jobs.start("dataset", {})
    with pytest.raises(JobRunning, match=first.id):
        jobs.again(first.id)
    jobs.finish(first, "done", summary="handbook/1", outputs={"dataset": "handbook/1"})
    os.close(handle)
    second, handle = jobs.start("finetune", {})
    os.close(handle)
    assert [job.id for job in jobs.list()] == [second.id, first.id]
    assert jobs.get(first.id).outputs == {"dataset": "handbook/1"}


def test_a_job_is_taken_up_again_under_its_id(jobs: JobLog) -> None:
    record, handle = jobs.start("finetune", {"name": "reader"})
    jobs.ask_to_stop(record.id)
    os.close(handle)
    assert jobs.get(record.id).state == "stopped"
    again, handle = jobs.again(record.id)
    assert (again.id, again.attempts, again.state) == (record.id, 2, "running")
    assert again.asked == {"name": "reader"}
    os.close(handle)
    assert jobs.get(record.id).state == "interrupted", "the wish to stop was of the first attempt"


def test_notes_are_thinned_but_losses_and_ends_are_kept(jobs: JobLog) -> None:
    record, handle = jobs.start("finetune", {})
    with jobs.noting(record) as noting:
        for done in range(1, 101):
            noting(ProgressEvent("encode", done, 100))
        for step in range(1, 51):
            noting(ProgressEvent("finetune", step, 50, values={"loss": 1 / step}))
    os.close(handle)
    notes = list(jobs.notes(record.id))
    encoded = [note.done for note in notes if note.stage == "encode"]
    assert (encoded[0], encoded[-1]) == (1, 100)
    assert len(encoded) < 50
    assert [n.values["loss"] for n in notes if n.stage == "finetune"] == [
        1 / step for step in range(1, 51)
    ]
    path = jobs.text_file(record.id).with_name("progress.jsonl")
    with path.open("a", encoding="utf-8") as broken:
        broken.write('{"half a li')
    assert len(list(jobs.notes(record.id))) == len(notes)


def test_the_end_of_a_log_begins_with_a_whole_line(jobs: JobLog) -> None:
    record, handle = jobs.start("finetune", {})
    os.close(handle)
    assert jobs.text(record.id, 100) == ""
    jobs.text_file(record.id).write_bytes("first line\nsecond ü\n".encode() + b"\xff\n")
    assert jobs.text(record.id, 1000) == "first line\nsecond ü\n�\n"
    assert jobs.text(record.id, 15) == "second ü\n�\n"


def test_an_unknown_job_is_none(jobs: JobLog) -> None:
    for wrong in ("", "..", "j-20260301-120000-0123ab", "../runs", "x" * 400):
        with pytest.raises(JobNotFound):
            jobs.get(wrong)


def test_a_damaged_record_hides_no_other_and_verify_finds_it(store: Store) -> None:
    records = []
    for _ in range(2):
        record, handle = store.jobs.start("dataset", {})
        store.jobs.finish(record, "done")
        os.close(handle)
        records.append(record)
    path = store.layout.jobs / records[0].id / "job.json"
    path.write_text("{", "utf-8")
    with pytest.raises(IntegrityError, match=records[0].id):
        store.jobs.get(records[0].id)
    shown = {job.id: job for job in store.jobs.list()}
    assert shown[records[1].id].state == "done"
    assert shown[records[0].id].state == "failed"
    assert "cannot be read" in shown[records[0].id].error
    assert any(records[0].id in str(problem) for problem in check_store(store).problems)


def test_a_copy_of_the_store_takes_up_no_job_of_it(store: Store, tmp_path: Path) -> None:
    _, handle = store.jobs.start("finetune", {})
    back_up(store.layout, Place(str(tmp_path / "copies")))
    os.close(handle)
    assert not [path for path in (tmp_path / "copies").rglob("*") if "job" in path.name]
