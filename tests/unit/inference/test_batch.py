from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.generation import GenerationRequest
from pipelines.inference.batch import answer_batch
from store.atomic import writer_lock
from store.errors import InputError, InvalidCases, StoreError, StoreFull, StoreLocked
from store.types import sha256_hex
from tests.unit.inference.conftest import World

QUESTIONS = [
    {"id": "k", "question": "When is the kiln fired?"},
    {"id": "b", "question": "For how long are books lent?", "note": "ignored"},
    {"id": 3, "question": "Where are maps read?"},
]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def run(world: World, out: Path, questions: Any = QUESTIONS, generator: Any = None) -> Any:
    return answer_batch(questions, assistant=world.assistant(generator), store=world.store, out=out)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "answers.jsonl"


def test_every_question_gets_a_line(world: World, out: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    report = run(world, out, questions)
    assert (report.done, report.failed, report.skipped) == (3, 0, 0)
    assert [row["id"] for row in lines(out)] == ["k", "b", "3"]
    first = lines(out)[0]
    answer = world.store.answers.get(first["answer_id"])
    assert answer.run_id == first["run"] == report.run
    assert first["answer"] == answer.text
    assert first["citations"][0]["document"] == "/docs/workshop/kiln.md"
    recorded = world.store.runs.get(report.run)
    assert (recorded.status, recorded.metrics) == ("done", {"done": 3, "failed": 0, "skipped": 0})


def test_a_second_run_has_nothing_to_do(world: World, out: Path) -> None:
    run(world, out)
    before = out.read_bytes()
    report = run(world, out)
    assert (report.done, report.skipped) == (0, 3)
    assert out.read_bytes() == before


def test_a_run_goes_on_after_a_half_written_line(world: World, out: Path) -> None:
    run(world, out)
    whole = out.read_bytes()
    cut = whole[: whole.rindex(b'"id": "3"') + 20]
    out.write_bytes(cut)
    report = run(world, out)
    assert (report.done, report.skipped) == (1, 2)
    assert [row["id"] for row in lines(out)] == ["k", "b", "3"]


def test_a_last_line_without_its_end_counts(world: World, out: Path) -> None:
    run(world, out)
    out.write_bytes(out.read_bytes().rstrip(b"\n"))
    report = run(world, out, [*QUESTIONS, {"id": "new", "question": "Who opens the kiln?"}])
    assert (report.done, report.skipped) == (1, 3)
    assert [row["id"] for row in lines(out)] == ["k", "b", "3", "new"]


def test_a_failure_is_a_line_and_is_tried_again(world: World, out: Path) -> None:
    def fail(request: GenerationRequest) -> list[str]:
        raise AssertionError("not reached")

    questions = [*QUESTIONS, {"id": "e", "question": " "}, {"id": "l", "question": "kiln " * 999}]
    broken = world.scripted("x", fails_after=0)
    report = run(world, out, questions, broken)
    assert (report.done, report.failed) == (0, 5)
    errors = {row["id"]: row["error"]["code"] for row in lines(out)}
    assert errors == {
        "k": "generation_failed",
        "b": "generation_failed",
        "3": "generation_failed",
        "e": "empty_question",
        "l": "question_too_long",
    }
    assert world.store.runs.get(report.run).status == "partial"
    again = run(world, out, questions)
    assert (again.done, again.failed, again.skipped) == (3, 2, 0)
    assert sorted(row["id"] for row in lines(out)) == sorted(errors)


def test_a_question_asked_otherwise_is_answered_anew(world: World, out: Path) -> None:
    run(world, out)
    changed = [{"id": "k", "question": "Who may open the kiln?"}, *QUESTIONS[1:]]
    report = run(world, out, changed)
    assert (report.done, report.skipped) == (1, 2)
    assert {row["id"]: row["question"] for row in lines(out)}["k"] == "Who may open the kiln?"


def test_answers_to_questions_no_longer_asked_are_kept(world: World, out: Path) -> None:
    run(world, out)
    report = run(world, out, QUESTIONS[:1])
    assert (report.done, report.skipped) == (0, 1)
    assert len(lines(out)) == 3


@pytest.mark.parametrize(
    ("questions", "fault"),
    [
        ([{"question": "x"}], "Line 1 .*no 'id'"),
        ([{"id": "a", "question": "x"}, {"id": "a", "question": "y"}], "Line 2 .*repeats"),
        ([{"id": "a", "question": None}], "Line 1 .*None"),
    ],
)
def test_unusable_questions_end_the_run_before_it_begins(
    world: World, out: Path, questions: list[dict[str, Any]], fault: str
) -> None:
    with pytest.raises(InvalidCases, match=fault):
        run(world, out, questions)
    assert not out.exists()
    assert world.store.runs.list() == []


@pytest.mark.parametrize("content", ["# notes\n", '{"a": 1}\n', '["id"]\n'])
def test_a_file_of_something_else_is_left_alone(world: World, tmp_path: Path, content: str) -> None:
    out = tmp_path / "notes.md"
    out.write_text(content)
    with pytest.raises(InputError, match=r"Line 1 of .*left as it is"):
        run(world, out)
    assert out.read_text() == content


def test_two_batches_do_not_write_one_file(world: World, out: Path) -> None:
    name = f"batch-{sha256_hex(str(out.absolute()))[:16]}.lock"
    lock = world.store.layout.root / "locks" / name
    with writer_lock(lock, timeout_s=1, what="other"), pytest.raises(StoreLocked):
        run(world, out)


def test_a_full_disk_ends_the_run_and_keeps_what_was_answered(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.inference.batch as batch

    real = batch.append_line

    def full(path: Path, line: str) -> None:
        if path == out and out.exists():
            raise StoreFull("No space left.")
        real(path, line)

    monkeypatch.setattr(batch, "append_line", full)
    with pytest.raises(StoreError):
        run(world, out)
    assert [row["id"] for row in lines(out)] == ["k"]
    assert world.store.runs.list("batch")[0].status == "failed"
    monkeypatch.undo()
    report = run(world, out)
    assert (report.done, report.skipped) == (2, 1)
