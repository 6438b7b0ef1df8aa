"""Frozen case sets: numbered, immutable, recognised by what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from fti.store.errors import CaseSetNotFound, IntegrityError, InvalidCases, InvalidName
from fti.store.store import Store
from fti.store.types import Case, sha256_hex
from fti.store.versioned.casesets import cases_digest

ONE = Case(id="1", question="When?", answers=("at nine",), document="hours.md", tags=("hours",))
TWO = Case(id="2", question="Who?", document="hours.md")


pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_set_is_kept_as_it_was_frozen(store: Store) -> None:
    frozen = store.cases.freeze("handbook", [TWO, ONE], source="questions.jsonl")
    assert (frozen.ref, frozen.cases, frozen.answerable) == ("handbook/1", 2, 1)
    assert (frozen.tags, frozen.source) == (("hours",), "questions.jsonl")
    assert frozen.digest == cases_digest([ONE, TWO])
    assert store.cases.cases("handbook") == [TWO, ONE]
    assert store.cases.get("handbook/latest") == frozen


def test_the_same_cases_are_frozen_once_and_others_are_the_next_version(store: Store) -> None:
    first = store.cases.freeze("handbook", [ONE, TWO])
    assert store.cases.freeze("handbook", [TWO, ONE]) == first
    assert store.cases.freeze("handbook", [ONE]).ref == "handbook/2"
    assert [v.ref for v in store.cases.list()] == ["handbook/1", "handbook/2"]
    assert store.cases.names() == ["handbook"]


def test_a_set_is_found_by_what_it_holds(store: Store) -> None:
    frozen = store.cases.freeze("handbook", [ONE, TWO])
    assert store.cases.with_digest(cases_digest([TWO, ONE])) == frozen
    assert store.cases.with_digest(cases_digest([ONE])) is None


def test_a_changed_set_is_refused(store: Store) -> None:
    store.cases.freeze("handbook", [ONE])
    path = store.layout.cases / "handbook" / "1" / "cases.jsonl"
    path.chmod(0o644)
    path.write_text(path.read_text("utf-8").replace("nine", "ten"), "utf-8")
    with pytest.raises(IntegrityError, match="handbook/1"):
        store.cases.cases("handbook/1")


def test_what_cannot_be_frozen_says_why(store: Store) -> None:
    with pytest.raises(InvalidCases, match="no cases"):
        store.cases.freeze("handbook", [])
    with pytest.raises(InvalidCases, match="'1'"):
        store.cases.freeze("handbook", [ONE, ONE])
    with pytest.raises(InvalidName):
        store.cases.freeze("../handbook", [ONE])
    store.cases.freeze("handbook", [ONE])
    with pytest.raises(CaseSetNotFound, match="Did you mean 'handbook'"):
        store.cases.get("handbok")


def test_a_set_without_tags_has_the_digest_it_had_before_there_were_tags() -> None:
    line = '{"id":"2","question":"Who?","answers":[],"document":"hours.md","relevant":{}}'
    assert cases_digest([TWO]) == sha256_hex(line)
    assert cases_digest([TWO]) != cases_digest([TWO.model_copy(update={"tags": ("x",)})])
