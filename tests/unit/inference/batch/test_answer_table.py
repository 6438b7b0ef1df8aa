from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.generator import GenerationRequest
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.batch.answer_table import BatchReport, answer_batch
from fti.pipelines.inference.batch.asked_together import AskedTogether
from fti.pipelines.inference.batch.outputs import (
    JsonLines,
    Output,
    Parquet,
    TableOutput,
    open_output,
)
from fti.pipelines.inference.batch.question_tables import read_questions
from fti.pipelines.inference.inference_config import BatchConfig
from fti.store.errors import (
    InputError,
    InvalidCases,
    InvalidName,
    StoreError,
    StoreFull,
    StoreLocked,
)
from fti.store.files.atomic import writer_lock
from fti.store.logs.answertables import AnswerRow
from fti.store.progress import ProgressEvent
from fti.store.types import sha256_hex
from tests.unit.inference.conftest import DOCUMENTS, World

QUESTIONS = [
    {"id": "k", "question": "When is the kiln fired?"},
    {"id": "b", "question": "For how long are books lent?", "note": "ignored"},
    {"id": 3, "question": "Where are maps read?"},
]

Make = Callable[[World, Path], Output]
OUTPUTS: dict[str, Make] = {
    "jsonl": lambda world, folder: JsonLines(folder / "new folder" / "answers.jsonl"),
    "parquet": lambda world, folder: Parquet(
        folder / "answers.parquet", journals=world.store.layout.batches
    ),
    "table": lambda world, folder: TableOutput(world.store.tables, "answers"),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "answers.jsonl"


@pytest.fixture(params=list(OUTPUTS))
def make(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Callable[[], Output]:
    """Each kind of output, opened anew for every run, as a new process would."""
    kind: Make = OUTPUTS[request.param]
    return lambda: kind(world, tmp_path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows(world: World, out: Output) -> list[dict[str, Any]]:
    """The rows as a reader finds them, whatever holds them."""
    if isinstance(out, TableOutput):
        return [row.model_dump() for row in world.store.tables.rows("answers")]
    if isinstance(out, Parquet):
        import pyarrow.parquet as pq

        return list(pq.read_table(out.name).to_pylist())
    return lines(Path(out.name))


def run(
    world: World, out: Path | Output, questions: Any = QUESTIONS, generator: Any = None, **how: Any
) -> BatchReport:
    return answer_batch(
        questions,
        assistant=world.assistant(generator),
        store=world.store,
        out=JsonLines(out) if isinstance(out, Path) else out,
        **how,
    )


def counts(report: BatchReport) -> tuple[int, int, int]:
    return report.done, report.failed, report.skipped


def test_every_question_gets_a_row_with_its_lineage(
    world: World, make: Callable[[], Output], tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    report = run(world, make(), questions)
    assert counts(report) == (3, 0, 0)
    found = sorted(rows(world, make()), key=lambda row: "kb3".index(row["id"]))
    assert [row["id"] for row in found] == ["k", "b", "3"]
    first = found[0]
    answer = world.store.answers.get(first["answer_id"])
    assert answer.run_id == first["run"] == report.run
    assert first["answer"] == answer.text
    assert first["citations"][0]["document"] == "/docs/workshop/kiln.md"
    assert first["model"] == "base"
    assert first["contract"] == answer.contract_digest
    assert first["features_version"] == world.store.features.version()
    assert len(first["made_under"]) == 64
    recorded = world.store.runs.get(report.run)
    assert recorded.status == "done"
    assert (recorded.metrics["done"], recorded.metrics["causes"]) == (3, {"new": 3})
    assert len(recorded.inputs["questions_digest"]) == 64


def test_a_second_run_has_nothing_to_do(world: World, make: Callable[[], Output]) -> None:
    run(world, make())
    before = rows(world, make())
    report = run(world, make())
    assert counts(report) == (0, 0, 3)
    assert rows(world, make()) == before


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is done."""


@pytest.mark.parametrize("dies_after_put", [False, True])
def test_a_killed_run_is_gone_on_with_and_every_key_is_there_once(
    world: World, make: Callable[[], Output], dies_after_put: bool
) -> None:
    out = make()
    real = out.put
    puts = 0

    def put(new: Sequence[AnswerRow]) -> None:
        nonlocal puts
        puts += 1
        if puts == 2:
            if dies_after_put:
                real(new)
            raise Killed
        real(new)

    out.put = put  # type: ignore[method-assign]
    one = BatchConfig(group=1)
    with pytest.raises(Killed):
        run(world, out, config=one)
    again = run(world, make(), config=one)
    kept = 2 if dies_after_put else 1
    assert counts(again) == (3 - kept, 0, kept)
    assert sorted(row["id"] for row in rows(world, make())) == ["3", "b", "k"]


def test_a_question_asked_otherwise_is_answered_anew(
    world: World, make: Callable[[], Output]
) -> None:
    run(world, make())
    changed = [{"id": "k", "question": "Who may open the kiln?"}, *QUESTIONS[1:]]
    report = run(world, make(), changed)
    assert counts(report) == (1, 0, 2)
    assert report.causes == {"changed": 1}
    found = {row["id"]: row["question"] for row in rows(world, make())}
    assert found["k"] == "Who may open the kiln?"
    assert len(found) == 3


def test_all_are_answered_anew_when_the_documents_changed(
    world: World, make: Callable[[], Output]
) -> None:
    run(world, make())
    hotter = DOCUMENTS["/docs/workshop/kiln.md"].replace("Thursdays", "Fridays")
    world.put({**DOCUMENTS, "/docs/workshop/kiln.md": hotter})
    report = run(world, make())
    assert (counts(report), report.causes) == ((3, 0, 0), {"outdated": 3})
    found = {row["id"]: row["answer"] for row in rows(world, make())}
    assert "Fridays" in found["k"]
    assert len(found) == 3


def test_all_are_answered_anew_by_another_model_unless_they_are_to_stand(
    world: World, make: Callable[[], Output]
) -> None:
    run(world, make())
    scripted = world.scripted("On some day [1]")
    assert counts(run(world, make(), generator=scripted, keep_outdated=True)) == (0, 0, 3)
    report = run(world, make(), generator=scripted)
    assert (counts(report), report.causes) == ((3, 0, 0), {"outdated": 3})
    assert {row["answer"] for row in rows(world, make())} == {"On some day [1]"}


def test_maintenance_alone_makes_no_answer_outdated(world: World, out: Path) -> None:
    run(world, out)
    before = world.store.features.version()
    world.put(DOCUMENTS)  # the same content, as another version
    assert world.store.features.version() > before
    assert counts(run(world, out)) == (0, 0, 3)


def test_answers_made_while_the_documents_changed_are_asked_again(world: World, out: Path) -> None:
    def changing(request: GenerationRequest) -> list[str]:
        world.put({"/docs/new.md": "# New\n\nThe kiln was moved."})
        return ["On Thursdays [1]"]

    run(world, out, QUESTIONS[:1], world.scripted(pieces=changing))
    assert lines(out)[0]["made_under"] == ""
    report = run(world, out, QUESTIONS[:1], world.scripted("On Thursdays [1]"))
    assert report.causes == {"outdated": 1}
    assert len(lines(out)) == 1


def test_a_failure_is_a_row_and_is_tried_again(world: World, make: Callable[[], Output]) -> None:
    questions = [*QUESTIONS, {"id": "e", "question": " "}, {"id": "l", "question": "kiln " * 999}]
    report = run(world, make(), questions, world.scripted("x", fails_after=0))
    assert counts(report) == (0, 5, 0)
    errors = {row["id"]: row["error"]["code"] for row in rows(world, make())}
    assert errors == {
        "k": "generation_failed",
        "b": "generation_failed",
        "3": "generation_failed",
        "e": "empty_question",
        "l": "question_too_long",
    }
    assert world.store.runs.get(report.run).status == "partial"
    again = run(world, make(), questions)
    assert (counts(again), again.causes) == ((3, 2, 0), {"failed": 5})
    assert sorted(row["id"] for row in rows(world, make())) == sorted(errors)


def test_groups_that_are_done_in_any_order_make_the_same_rows(
    world: World, make: Callable[[], Output]
) -> None:
    started: list[float] = []
    told: list[ProgressEvent] = []

    def elsewhere(assistant: Assistant, run_id: str) -> Any:
        ask = AskedTogether(assistant, run_id)

        class Backwards:
            def each(self, groups: Sequence[Mapping[str, str]]) -> Iterator[Any]:
                began = time.perf_counter()
                time.sleep(0.4)  # as replicas take to start
                for number in reversed(range(len(groups))):
                    yield number, ask(groups[number])
                started.append(time.perf_counter() - began)

        return Backwards()

    report = answer_batch(
        [*QUESTIONS, {"id": "d", "question": "When are maps lent?"}],
        assistant=world.assistant(), store=world.store, out=make(), config=BatchConfig(group=1),
        limit=3, executor=elsewhere, progress=told.append,
    )  # fmt: skip
    assert (report.done, report.failed, report.remaining) == (3, 0, 1)
    assert report.estimate is not None
    assert report.estimate.seconds < 0.4 < started[0], "a start is no pace"
    assert [event.detail != "" for event in told] == [False, True, False]
    found = {row["id"]: row for row in rows(world, make())}
    assert list(found) == ["3", "b", "k"] or isinstance(make(), TableOutput)
    assert sorted(found) == ["3", "b", "k"]
    for row in found.values():
        assert world.store.answers.get(row["answer_id"]).text == row["answer"]
    again = run(world, make())
    assert (counts(again), again.causes) == ((0, 0, 3), {})


def test_a_limit_leaves_the_rest_and_says_what_it_would_take(
    world: World, make: Callable[[], Output]
) -> None:
    prices = BatchConfig(group=1, prompt_price=2.0, completion_price=4.0, currency="EUR")
    first = run(world, make(), limit=2, config=prices)
    assert (counts(first), first.remaining) == ((2, 0, 0), 1)
    assert first.prompt_tokens > 0
    spent = (first.prompt_tokens * 2.0 + first.completion_tokens * 4.0) / 1e6
    assert first.cost == pytest.approx(spent)
    assert first.estimate is not None
    assert first.estimate.questions == 1
    assert first.estimate.prompt_tokens == round(first.prompt_tokens / 2)
    assert first.estimate.cost == pytest.approx(spent / 2)
    assert first.estimate.seconds > 0
    second = run(world, make())
    assert (counts(second), second.remaining, second.estimate) == ((1, 0, 2), 0, None)
    assert second.cost is None, "without prices there is no cost"


def test_progress_tells_the_estimate_first_and_the_time_left(world: World, out: Path) -> None:
    told: list[ProgressEvent] = []
    run(world, out, config=BatchConfig(group=1, hour_price=1.0), progress=told.append)
    assert [(e.done, e.total) for e in told] == [(1, 3), (2, 3), (3, 3)]
    assert "3 questions: about" in told[0].detail
    assert "USD" in told[0].detail
    assert told[0].values["seconds_left"] > 0
    assert "seconds_left" not in told[-1].values


def test_answers_to_questions_no_longer_asked_are_kept(
    world: World, make: Callable[[], Output]
) -> None:
    run(world, make())
    assert counts(run(world, make(), QUESTIONS[:1])) == (0, 0, 1)
    assert len(rows(world, make())) == 3


# Questions


def test_csv_and_parquet_hold_questions_as_jsonl_does(world: World, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = tmp_path / "questions.csv"
    table.write_text('\ufeffid,question,by\nk,"When, then, is the kiln fired?",me\n', "utf-8")
    assert counts(run(world, tmp_path / "a.jsonl", table)) == (1, 0, 0)
    assert lines(tmp_path / "a.jsonl")[0]["question"] == "When, then, is the kiln fired?"
    columns = tmp_path / "questions.parquet"
    content = {"n": [1.5, 2.5], "id": [7, 8], "question": ["When is it fired?", "Who opens it?"]}
    pq.write_table(pa.table(content), columns)
    assert counts(run(world, tmp_path / "b.jsonl", columns)) == (2, 0, 0)
    assert [row["id"] for row in lines(tmp_path / "b.jsonl")] == ["7", "8"]


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


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("q.csv", b"id,text\n1,x\n", "no column 'question'; its columns are: id, text"),
        ("q.csv", b"", "no column 'id'; its columns are: none"),
        ("q.csv", b"id,question\n1,a,b\n", "Line 2 .*more fields"),
        ("q.csv", b'id,question\n1,"a\n', "cannot be read: unexpected end"),
        ("q.csv", b"id,question\n1,\xff\n", "cannot be read: .*utf-8"),
        ("q.csv", b"id,question\n,a\n", "Line 2 .*no 'id'"),
        ("q.csv", b"id,question\n1\n", "Line 2 .*None, which is no text"),
        ("q.parquet", b"PAR1 and more", "cannot be read"),
        ("q.jsonl", b"{\n", "Line 1 .*not JSON"),
    ],
)
def test_a_file_that_holds_no_questions_says_where_and_why(
    world: World, out: Path, tmp_path: Path, name: str, content: bytes, fault: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidCases, match=fault):
        run(world, out, path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("excel.csv", 'id;question\r\n1;"What; now?"\r\n2;Where, then?\r\n'.encode("utf-8-sig")),
        ("titled.csv", b"Questions of May\n\nid|question\n1|What; now?\n2|Where, then?\n"),
        ("wide.csv", "id\tquestion\n1\tWhat; now?\n2\tWhere, then?\n".encode("utf-16")),
        ("turned.csv", b'question,owner,id\nWhat; now?,me,1\n"Where, then?",you,2\n'),
        ("tabs.tsv", b"id\tquestion\n1\tWhat; now?\n2\tWhere, then?\n"),
    ],
)
def test_questions_are_read_from_the_dialects_that_documents_are_read_from(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read_questions(path) == {"1": "What; now?", "2": "Where, then?"}


def test_a_row_of_a_table_without_an_id_is_explained_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("id;question\n1;Who?\n;When?\n", "utf-8")
    with pytest.raises(InvalidCases, match=r"Line 3 .*no 'id'") as caught:
        read_questions(path)
    assert "a table with the columns id, question" in caught.value.hint
    assert "{" not in caught.value.hint


@pytest.mark.parametrize("name", ["no.jsonl", "no.csv", "no.parquet"])
def test_a_file_that_is_not_there_is_named(world: World, out: Path, name: str) -> None:
    with pytest.raises(InvalidCases, match=f"{name}' cannot be read: No such file"):
        run(world, out, Path(name))


def test_questions_of_an_unknown_format_are_refused(world: World, out: Path) -> None:
    with pytest.raises(InputError, match=r"'\.xlsx'.*\.jsonl, \.ndjson, \.csv, \.tsv, \.parquet"):
        run(world, out, Path("questions.xlsx"))


# Outputs


@pytest.mark.parametrize(
    ("out", "table", "error", "fault"),
    [
        (None, None, InputError, "where the answers go"),
        (Path("a.jsonl"), "a", InputError, "where the answers go"),
        (Path("a.csv"), None, InputError, r"'\.csv'.*\.jsonl, \.ndjson or \.parquet"),
        (Path("answers"), None, InputError, "'nothing'"),
        (None, "../x", InvalidName, "not a name for a table"),
    ],
)
def test_an_output_that_cannot_be_is_refused(
    world: World, out: Path | None, table: str | None, error: type[Exception], fault: str
) -> None:
    with pytest.raises(error, match=fault):
        open_output(world.store, out, table)


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


def test_a_second_line_of_a_key_is_taken_out(world: World, out: Path) -> None:
    run(world, out)
    out.write_bytes(out.read_bytes() * 2)
    assert counts(run(world, out)) == (0, 0, 3)
    assert [row["id"] for row in lines(out)] == ["k", "b", "3"]


@pytest.mark.parametrize("content", ["# notes\n", '{"a": 1}\n', '["id"]\n', '{"id": "a"}\n'])
def test_a_file_of_something_else_is_left_alone(world: World, tmp_path: Path, content: str) -> None:
    out = tmp_path / "notes.jsonl"
    out.write_text(content)
    with pytest.raises(InputError, match=r"Line 1 of .*left as it is"):
        run(world, out)
    assert out.read_text() == content


def test_a_parquet_file_of_something_else_is_left_alone(world: World, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"id": ["1"], "sold": [3]}), path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"no column 'question'.*left as it is"):
        run(world, Parquet(path, journals=tmp_path / "journals"))
    path.write_bytes(b"notes")
    with pytest.raises(InputError, match=r"no Parquet file .*left as it is"):
        run(world, Parquet(path, journals=tmp_path / "journals"))
    assert path.read_bytes() == b"notes" != before


def test_a_table_of_something_else_is_left_alone(world: World) -> None:
    import lancedb

    lancedb.connect(str(world.store.layout.tables)).create_table("sales", [{"id": "1"}])
    with pytest.raises(InputError, match="no column 'question'"):
        run(world, TableOutput(world.store.tables, "sales"))
    with pytest.raises(InputError, match=r"no table 'other'.*sales"):
        next(world.store.tables.rows("other"))


def test_a_parquet_file_stays_as_it_was_until_the_batch_ends(world: World, tmp_path: Path) -> None:
    out = Parquet(tmp_path / "a.parquet", journals=world.store.layout.batches)
    run(world, out)
    before = Path(out.name).read_bytes()

    def killed(event: ProgressEvent) -> None:
        raise Killed

    scripted = world.scripted("On some day [1]")
    with pytest.raises(Killed):
        run(world, out, generator=scripted, config=BatchConfig(group=2), progress=killed)
    assert Path(out.name).read_bytes() == before
    assert counts(run(world, out, generator=scripted)) == (1, 0, 2)
    assert {row["answer"] for row in rows(world, out)} == {"On some day [1]"}
    assert list(world.store.layout.batches.iterdir()) == []


def test_two_batches_do_not_write_one_place(world: World, make: Callable[[], Output]) -> None:
    out = make()
    name = f"batch-{sha256_hex(out.identity)[:16]}.lock"
    lock = world.store.layout.root / "locks" / name
    with writer_lock(lock, timeout_s=1, what="other"), pytest.raises(StoreLocked):
        run(world, out)


def test_a_full_disk_ends_the_run_and_keeps_what_was_answered(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fti.pipelines.inference.batch.outputs as outputs

    real = outputs.append_lines

    def full(path: Path, new: Sequence[str]) -> None:
        if path == out and out.exists():
            raise StoreFull("No space left.")
        real(path, new)

    monkeypatch.setattr(outputs, "append_lines", full)
    with pytest.raises(StoreError):
        run(world, out, config=BatchConfig(group=1))
    assert [row["id"] for row in lines(out)] == ["k"]
    assert world.store.runs.list("batch")[0].status == "failed"
    monkeypatch.undo()
    report = run(world, out)
    assert (report.done, report.skipped) == (2, 1)
