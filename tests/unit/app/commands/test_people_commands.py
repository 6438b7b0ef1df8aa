"""Keys with roles and quotas, what they used, and what was asked forgotten, by commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from fti.store.answer_types import Usage, user_digest
from fti.store.errors import InputError, KeyNotFound
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from tests.support.command import fti, light_store
from tests.support.values import an_answer


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    light_store(tmp_path, monkeypatch)
    return Store(tmp_path / "store")


def test_a_key_is_made_with_roles_and_a_quota_and_says_what_it_used(store: Store) -> None:
    made = fti("keys", "create", "page", "--role", "ask", "--tokens-per-day", "500")
    assert (made["roles"], made["tokens_per_day"]) == (["ask"], 500)
    assert fti("keys", "usage")["keys"] == []
    store.usage.add(made["id"], Usage(prompt_tokens=20, completion_tokens=3), requests=2)
    store.usage.flush()
    (used,) = fti("keys", "usage", made["id"], "--days", "1")["keys"]
    assert (used["name"], used["requests"], used["tokens_today"]) == ("page", 2, 23)
    with pytest.raises(KeyNotFound):
        fti("keys", "usage", "k-0")
    with pytest.raises(InputError, match="no role"):
        fti("keys", "create", "x", "--role", "admin")


def test_what_a_key_or_a_user_asked_is_forgotten(store: Store) -> None:
    key = fti("keys", "create", "page")["id"]
    for user in ("anna", "bert"):
        store.answers.append(an_answer(new_answer_id(), key=key, user=user_digest(user)))
    assert fti("forget", "--user", "anna", "--dry-run")["answers"] == 1
    assert fti("forget", "--user", "anna")["answers"] == 1
    assert fti("forget", "--key", key)["answers"] == 1
    assert store.answers.list() == []
    with pytest.raises(KeyNotFound):
        fti("forget", "--key", "k-0")


def test_what_is_to_be_forgotten_is_one_thing(store: Store) -> None:
    for words in ([], ["a.md", "--key", "k"], ["--expired", "--user", "anna"]):
        with pytest.raises(InputError, match="Say what"):
            fti("forget", *words)


def test_what_has_expired_goes_as_the_profile_says(store: Store) -> None:
    store.answers.append(an_answer(new_answer_id(), created_at=an_answer("a").created_at))
    (today,) = store.layout.answers.glob("2*.jsonl")
    today.rename(today.with_name("2020-01-01.jsonl"))
    with pytest.raises(InputError, match="no retention is set"):
        fti("forget", "--expired")
    done = fti("forget", "--expired", "--set", "answers.retention_days=30")
    assert done == {"answers": 1, "rejected_questions": 0}
