"""The answer log keeps every answer and gives it back, whatever else is in its files."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fti.store.answer_types import Answer, Feedback
from fti.store.errors import AnswerNotFound
from fti.store.files.layout import Layout
from fti.store.logs.answers import AnswerLog, new_answer_id
from tests.support.processes import start_python
from tests.support.values import a_passage, an_answer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def log(tmp_path: Path) -> AnswerLog:
    return AnswerLog(Layout(tmp_path))


def _log(log: AnswerLog, at: datetime = NOON, **changes: object) -> Answer:
    answer = an_answer(new_answer_id(at), created_at=at, **changes)
    log.append(answer)
    return answer


def test_an_id_holds_the_day_in_utc() -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert new_answer_id(late).startswith("a-20260302-")
    assert len(new_answer_id()) == len("a-20260302-") + 12
    assert len({new_answer_id(NOON) for _ in range(100)}) == 100


@pytest.mark.in_a_folder("its files")
def test_a_logged_answer_comes_back_whole(log: AnswerLog, tmp_path: Path) -> None:
    answer = _log(log, question='What "exactly"\nis \u2028 \\ this?', timings={"generate": 0.5})
    assert log.get(answer.id) == answer
    assert AnswerLog(Layout(tmp_path)).get(answer.id) == answer
    assert (tmp_path / "answers" / "2026-03-01.jsonl").is_file()


@pytest.mark.in_a_folder("its files")
def test_an_answer_of_before_keys_were_recorded_is_read(log: AnswerLog, tmp_path: Path) -> None:
    answer = _log(log, key="k-1")
    file = tmp_path / "answers" / "2026-03-01.jsonl"
    line = json.loads(file.read_bytes())
    assert line.pop("key") == "k-1"
    del line["fti.crc32"]  # nor were lines sealed then
    file.write_text(json.dumps(line) + "\n", "utf-8")
    assert log.get(answer.id) == answer.model_copy(update={"key": ""})


def test_what_is_not_visible_is_neither_found_nor_named(log: AnswerLog) -> None:
    mine, other = _log(log, key="k-1"), _log(log, key="k-2")
    assert log.get(mine.id, visible=lambda a: a.key == "k-1") == mine
    for identifier in (other.id, "a-20260301-000000000000"):
        with pytest.raises(AnswerNotFound, match=identifier) as missing:
            log.get(identifier, visible=lambda a: a.key == "k-1")
        assert missing.value.hint == f"The newest are: {mine.id}."
        with pytest.raises(AnswerNotFound, match=f"{identifier}.*No answer was logged"):
            log.get(identifier, visible=lambda a: a.key == "k-3")


def test_half_a_surrogate_pair_in_a_question_does_not_lose_the_answer(log: AnswerLog) -> None:
    answer = _log(log, question="broken \ud83d emoji")
    assert log.get(answer.id) == answer


@pytest.mark.in_a_folder("its files")
def test_answers_of_several_threads_are_flushed_together(
    log: AnswerLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [_log(log)]
    begun, go = threading.Event(), threading.Event()
    flushed: list[int] = []

    def flush(handle: int) -> None:
        flushed.append(handle)
        begun.set()
        assert go.wait(30)

    monkeypatch.setattr("fti.store.files.atomic.os.fsync", flush)
    answers += [an_answer(new_answer_id(NOON), created_at=NOON) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(log.append, answers[1])]
        assert begun.wait(30)
        waiting += [pool.submit(log.append, answer) for answer in answers[2:]]
        while len(log._commit._waiting) < 5:
            threading.Event().wait(0.001)
        go.set()
    assert all(future.exception() is None for future in waiting)
    assert len(flushed) == 2
    assert [log.get(answer.id) for answer in answers] == answers
    assert (tmp_path / "answers" / "2026-03-01.jsonl").read_bytes().count(b"\n") == 7


def test_answers_logged_together_go_to_their_days(log: AnswerLog) -> None:
    days = [NOON, NOON + timedelta(days=1), NOON]
    answers = [an_answer(new_answer_id(at), created_at=at) for at in days]
    log.append_all(answers)
    log.append_all([])
    assert log.many(answer.id for answer in answers) == {a.id: a for a in answers}


def test_an_answer_with_a_foreign_id_is_refused(log: AnswerLog) -> None:
    with pytest.raises(AssertionError, match="new_answer_id"):
        log.append(an_answer("../../x"))


def test_answers_are_listed_newest_first(log: AnswerLog) -> None:
    days = [_log(log, NOON + timedelta(days=n)) for n in (0, 2, 1)]
    later = _log(log, NOON + timedelta(minutes=1))
    earlier = _log(log, NOON - timedelta(minutes=1))
    expected = [days[1], days[2], later, days[0], earlier]
    assert log.list() == expected
    assert log.list(limit=2) == expected[:2]
    assert log.list(limit=0) == []
    assert log.list(since=NOON) == expected[:4]
    assert log.list(since=NOON + timedelta(days=1), limit=5) == expected[:2]
    east = (NOON + timedelta(days=2)).astimezone(timezone(timedelta(hours=14)))
    assert log.list(since=east) == expected[:1]


def test_an_empty_log_lists_nothing_and_makes_nothing(log: AnswerLog, tmp_path: Path) -> None:
    assert log.list() == []
    assert log.by_document("d1") == []
    assert log.all_feedback() == []
    assert log.broken_lines() == 0
    assert not (tmp_path / "answers").exists()


def test_an_unknown_answer_is_answered_with_recent_ones(log: AnswerLog) -> None:
    with pytest.raises(AnswerNotFound, match="No answer was logged yet"):
        log.get("a-20260301-0123456789ab")
    answer = _log(log)
    for wrong in ("a-20260301-0123456789ab", "a-20250101-0123456789ab", "", "../x", answer.id[:-1]):
        with pytest.raises(AnswerNotFound, match=f"newest are: {answer.id}"):
            log.get(wrong)


def test_an_id_that_stands_in_another_answer_is_not_taken_for_it(log: AnswerLog) -> None:
    wanted = new_answer_id(NOON)
    _log(log, question=f"What was {wanted}?")
    with pytest.raises(AnswerNotFound):
        log.get(wanted)
    log.append(an_answer(wanted))
    assert log.get(wanted).id == wanted


def test_answers_are_found_by_the_documents_they_were_shown(log: AnswerLog) -> None:
    shown = _log(log, passages=(a_passage(document_id="d1"), a_passage(document_id="d2")))
    later = _log(log, NOON + timedelta(days=1), passages=(a_passage(document_id="d2"),))
    _log(log, question="about d2", passages=())
    assert log.by_document("d2") == [later, shown]
    assert log.by_document("d1") == [shown]
    assert log.by_document("d") == []


def test_answers_are_found_by_model(log: AnswerLog) -> None:
    one, base = _log(log, model="reader/1"), _log(log, model="base")
    _log(log, model="reader/11")
    assert log.by_model("reader/1") == [one]
    assert log.by_model("base") == [base]


def test_document_ids_with_quotes_are_found_too(log: AnswerLog) -> None:
    answer = _log(log, passages=(a_passage(document_id='d"\\ü\ud800'),))
    assert log.by_document('d"\\ü\ud800') == [answer]
    plain = _log(log, passages=(a_passage(document_id='d"\\ü'),))
    assert log.by_document('d"\\ü') == [plain]


@pytest.mark.in_a_folder("its files")
def test_broken_lines_are_skipped_and_counted(log: AnswerLog, tmp_path: Path) -> None:
    first = _log(log)
    path = tmp_path / "answers" / "2026-03-01.jsonl"
    with path.open("ab") as handle:
        handle.write(b"\xff\xfe\n{}\n[]\n\n")
        handle.write(json.dumps({"id": first.id}).encode() + b"\n")
        handle.write(b'{"id": "cut')
    second = _log(log, NOON + timedelta(minutes=1))
    assert log.list() == [second, first]
    assert log.get(first.id) == first
    assert log.by_model("reader/1") == [second, first]
    assert log.broken_lines() == 5


def test_feedback_is_kept_for_its_answer(log: AnswerLog) -> None:
    one, two = _log(log), _log(log)
    up = Feedback(answer_id=one.id, rating="up", created_at=NOON)
    down = Feedback(
        answer_id=one.id, rating="down", comment="no\nlonger", created_at=NOON + timedelta(days=1)
    )
    for given in (up, down):
        log.feedback(given)
    assert log.feedback_of(one.id) == [up, down]
    assert log.feedback_of(two.id) == []
    assert log.all_feedback() == [up, down]
    assert log.all_feedback(since=down.created_at) == [down]
    assert log.list() == [two, one] or log.list() == [one, two]


def test_feedback_on_no_answer_is_refused(log: AnswerLog) -> None:
    with pytest.raises(AnswerNotFound):
        log.feedback(Feedback(answer_id="a-20260301-0123456789ab", rating="up"))


@pytest.mark.in_a_folder("its files")
def test_broken_feedback_is_counted(log: AnswerLog, tmp_path: Path) -> None:
    answer = _log(log)
    log.feedback(Feedback(answer_id=answer.id, rating="up"))
    with (tmp_path / "answers" / "feedback.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"rating": "sideways"}\n')
    assert len(log.feedback_of(answer.id)) == 1
    assert log.broken_lines() == 1


@pytest.mark.in_a_folder("several processes")
def test_two_processes_log_at_once(log: AnswerLog, tmp_path: Path) -> None:
    script = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from fti.store.logs.answers import AnswerLog, new_answer_id
from fti.store.files.layout import Layout
from tests.support.values import a_passage, an_answer
log = AnswerLog(Layout(Path(sys.argv[1])))
noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
for _ in range(50):
    log.append(an_answer(new_answer_id(noon), passages=(a_passage("x" * 5000),)))
"""
    processes = [start_python(script, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
    assert len(log.list()) == 100
    assert log.broken_lines() == 0


def test_several_answers_are_found_at_once(log: AnswerLog) -> None:
    answers = [_log(log, NOON + timedelta(days=n)) for n in (0, 0, 1, 2)]
    wanted = [answers[1], answers[2]]
    found = log.many([*(a.id for a in wanted), "a-20200101-000000000000", "no id"])
    assert found == {a.id: a for a in wanted}
    assert log.many([]) == {}


@pytest.mark.in_a_folder("its files")
def test_what_is_erased_leaves_no_byte_and_takes_what_goes_on_from_it(
    log: AnswerLog, tmp_path: Path
) -> None:
    mine = _log(log, key="k-1", question="secret one")
    others = _log(log, key="k-2", question="kept")
    later = _log(log, NOON + timedelta(days=1), previous=mine.id, question="secret two")
    for answer in (mine, others, later):
        log.feedback(Feedback(answer_id=answer.id, rating="down", correction=f"of {answer.id}"))
    log.review(mine.id, "accepted", answer="secret review")

    gone = log.erase(lambda answer: answer.key == "k-1")

    assert {answer.id for answer in gone} == {mine.id, later.id}
    assert [answer.id for answer in log.list()] == [others.id]
    assert [verdict.answer_id for verdict in log.all_feedback()] == [others.id]
    assert log.broken_lines() == 0
    held = b"".join(path.read_bytes() for path in (tmp_path / "answers").iterdir())
    for word in (b"secret", mine.id.encode(), later.id.encode()):
        assert word not in held
    again = _log(log, key="k-1")
    assert log.get(again.id) == again  # the log goes on


def test_answers_that_are_logged_meanwhile_stay(log: AnswerLog) -> None:
    for _ in range(20):
        _log(log, key="k-1")
    with ThreadPoolExecutor(3) as pool:
        logged = [pool.submit(_log, log, key="k-2") for _ in range(50)]
        erased = [pool.submit(log.erase, lambda a: a.key == "k-1") for _ in range(3)]
        assert sum(len(done.result()) for done in erased) >= 20
        kept = {done.result().id for done in logged}
    assert {answer.id for answer in log.list()} == kept
    assert log.broken_lines() == 0


def test_days_that_are_too_old_go_with_what_was_said_of_them(
    log: AnswerLog, tmp_path: Path
) -> None:
    old, new = _log(log), _log(log, NOON + timedelta(days=2))
    for answer in (old, new):
        log.feedback(Feedback(answer_id=answer.id, rating="up"))
    assert log.expire(NOON) == 0  # the day is not over
    assert log.expire(NOON + timedelta(days=1)) == 1
    assert [answer.id for answer in log.list()] == [new.id]
    assert [verdict.answer_id for verdict in log.all_feedback()] == [new.id]
    assert not (tmp_path / "answers" / "2026-03-01.jsonl").exists()
