"""Values are frozen, strict, and the same after JSON."""

from __future__ import annotations

import hashlib
import inspect
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fti.store import types
from fti.store.types import Case, Passage, Value
from tests.support.values import BASE, EMBEDDER, a_passage, a_row, an_answer

CLASSES = [
    value
    for _, value in inspect.getmembers(types, inspect.isclass)
    if issubclass(value, Value) and value.__module__ == types.__name__
]
EXAMPLES = [
    a_passage(similarity=0.5),
    a_row(),
    an_answer("a-20260301-0123456789ab"),
    EMBEDDER,
    BASE,
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_value_is_frozen_and_strict(cls: type[Value]) -> None:
    assert cls.model_config["frozen"] is True
    assert cls.model_config["extra"] == "forbid"
    assert cls.__doc__


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_a_value_survives_json_and_refuses_what_it_does_not_know(value: Value) -> None:
    assert type(value).model_validate_json(value.model_dump_json()) == value
    with pytest.raises(ValidationError, match="surprise"):
        type(value).model_validate(value.model_dump() | {"surprise": 1})
    with pytest.raises(ValidationError, match="frozen"):
        value.id = "other"  # type: ignore[attr-defined]


def test_now_is_in_utc() -> None:
    assert types.now().tzinfo is UTC


@settings(deadline=None)
@given(st.text(st.characters()))
def test_any_text_has_a_hash(text: str) -> None:
    assert len(types.sha256_hex(text)) == 64
    assert types.sha256_hex(text) == types.sha256_hex(text.encode("utf-8", "surrogatepass"))


def test_hashes_are_sha256() -> None:
    assert types.sha256_hex("") == hashlib.sha256(b"").hexdigest()
    assert types.sha256_hex("é") == hashlib.sha256("é".encode()).hexdigest()


def test_a_document_is_known_by_its_source_alone() -> None:
    assert types.document_id("/a.md") == types.document_id("/a.md") != types.document_id("/b.md")
    assert len(types.document_id("x" * 10_000)) == 25


@pytest.mark.parametrize(
    ("title", "section", "heading"),
    [
        ("Hours", (), "Hours"),
        ("Hours", ("Hours", "Week"), "Hours > Week"),
        ("Hours", ("Week\n days ", " "), "Hours > Week days"),
        ("", ("Week",), "Week"),
        (" ", (), ""),
    ],
)
def test_a_heading_is_one_line(title: str, section: tuple[str, ...], heading: str) -> None:
    assert a_passage(title=title, section=section).heading == heading


@pytest.mark.parametrize("rank", [0, -1])
def test_ranks_begin_at_one(rank: int) -> None:
    with pytest.raises(ValidationError):
        Passage(**(a_passage().model_dump() | {"rank": rank}))


def test_a_case_without_answers_is_not_answerable() -> None:
    assert not Case(id="1", question="Why?").answerable
    assert Case(id="1", question="Why?", answers=("So.",)).answerable


def test_the_passport_changes_with_every_field() -> None:
    changed = {
        "id": "x",
        "revision": "x",
        "weights_sha256": "x",
        "dimension": 9,
        "normalized": False,
        "query_prefix": "x",
        "document_prefix": "x",
        "max_tokens": 9,
    }
    assert set(changed) == set(type(EMBEDDER).model_fields)
    digests = {EMBEDDER.model_copy(update={k: v}).digest for k, v in changed.items()}
    assert len(digests | {EMBEDDER.digest}) == len(changed) + 1
