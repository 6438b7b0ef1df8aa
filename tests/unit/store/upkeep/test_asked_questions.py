"""What people asked is removed by age, by key and by user, and where it stays is said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fti.store.answer_types import Answer, Feedback, user_digest
from fti.store.errors import InputError
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.types import now
from fti.store.upkeep.asked_questions import AnswersConfig, Expiry, erase_asked, expire_asked
from tests.support.values import EMBEDDER, a_row, an_answer

pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def asked(store: Store, question: str, *, key: str = "", user: str = "", days: int = 0) -> Answer:
    at = now() - timedelta(days=days)
    answer = an_answer(
        new_answer_id(at), created_at=at, question=question, key=key, user=user_digest(user)
    )
    store.answers.append(answer)
    return answer


def questions(store: Store) -> set[str]:
    return {answer.question for answer in store.answers.list()}


def test_a_key_or_a_user_is_forgotten_and_nobody_else(store: Store) -> None:
    asked(store, "one", key="k-1", user="anna")
    asked(store, "two", key="k-1", user="bert")
    asked(store, "three", key="k-2", user="anna")
    asked(store, "four")
    assert erase_asked(store, key="k-1", user="anna", dry=True).answers == 1
    assert questions(store) == {"one", "two", "three", "four"}
    assert erase_asked(store, key="k-1", user="anna").answers == 1
    assert questions(store) == {"two", "three", "four"}
    assert erase_asked(store, user="anna").answers == 1
    assert questions(store) == {"two", "four"}
    assert erase_asked(store, key="k-1").answers == 1
    assert questions(store) == {"four"}
    assert erase_asked(store, key="k-1").answers == 0
    with pytest.raises(InputError, match="Whose"):
        erase_asked(store)


@pytest.mark.in_a_folder("its files")
def test_a_user_is_kept_as_a_digest_alone(store: Store) -> None:
    asked(store, "one", user="anna@example.org")
    held = b"".join(path.read_bytes() for path in store.layout.answers.iterdir())
    assert b"anna" not in held
    assert user_digest("") == ""


def test_datasets_that_learnt_from_it_are_named(store: Store) -> None:
    answer = asked(store, "When does it open?", key="k-1")
    store.answers.feedback(Feedback(answer_id=answer.id, rating="down", correction="At ten."))
    for name, row in {
        "learnt": a_row(kind="feedback", question="When does it open?"),
        "same-words": a_row(kind="cloze", question="When does it open?"),
        "other": a_row(kind="feedback", question="Why?"),
    }.items():
        store.datasets.publish(
            name, rows={"train": [row]}, features_version=1, embedder=EMBEDDER,
            prompt_digest="p", run_id="r-1",
        )  # fmt: skip
    erased = erase_asked(store, key="k-1")
    assert (erased.answers, erased.verdicts, erased.remains) == (1, 1, ("learnt/1",))
    assert store.answers.all_feedback() == []


def test_what_is_too_old_goes_where_a_profile_says_how_long(store: Store) -> None:
    asked(store, "old", days=40)
    asked(store, "new", days=20)
    assert expire_asked(store, AnswersConfig()) == Expiry()
    assert questions(store) == {"old", "new"}
    assert expire_asked(store, AnswersConfig(retention_days=30)).answers == 1
    assert questions(store) == {"new"}


@pytest.mark.in_a_folder("its files")
def test_rejected_questions_expire_and_rejected_documents_do_not(store: Store) -> None:
    for question in (True, False):
        store.rejected.append(
            stream="s", position="1", source="", reason="r", record=b"x", question=question
        )
    today = next(store.layout.rejected.iterdir())
    today.rename(today.with_name("2026-01-01.jsonl"))
    done = expire_asked(store, AnswersConfig(retention_days=1))
    assert done.rejected_questions == 1
    assert [kept.question for kept in store.rejected.list()] == [False]
    assert store.rejected.broken_lines() == 0
