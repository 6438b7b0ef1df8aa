"""API keys: shown once, kept as digests, revoked for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.store.errors import InputError, IntegrityError, InvalidName, KeyNotFound
from fti.store.files.layout import Layout
from fti.store.logs.keys import KeyStore
from tests.support.processes import start_python

pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(Layout(tmp_path))


@pytest.mark.in_a_folder("its files")
def test_a_key_is_found_by_its_text_and_kept_without_it(keys: KeyStore, tmp_path: Path) -> None:
    key, text = keys.create("  web \n team ", requests_per_minute=9, read_only=True)
    assert (key.name, key.requests_per_minute, key.read_only) == ("web team", 9, True)
    assert keys.find(text) == key
    assert keys.find(text + "x") is None
    assert keys.find("") is None
    assert keys.list() == (key,)
    held = (tmp_path / "keys.json").read_text("utf-8")
    assert text not in held
    assert text.removeprefix("fti_") not in held


def test_keys_are_long_and_never_the_same(keys: KeyStore) -> None:
    texts = {keys.create("x")[1] for _ in range(20)}
    assert len(texts) == 20
    assert min(map(len, texts)) >= 43


def test_a_revoked_key_stays_in_the_list_and_lets_nobody_in(keys: KeyStore) -> None:
    (one, text), (two, other) = keys.create("one"), keys.create("two")
    revoked = keys.revoke(one.id)
    assert (revoked.active, keys.revoke(one.id).revoked_at) == (False, revoked.revoked_at)
    assert keys.find(text) is None
    assert keys.find(other) == two
    assert [k.id for k in keys.list()] == [one.id, two.id]


@pytest.mark.in_a_folder("several processes")
def test_another_process_key_is_seen_at_once(keys: KeyStore, tmp_path: Path) -> None:
    keys.create("first")
    assert len(keys.list()) == 1
    script = "from pathlib import Path; import sys; from fti.store.logs.keys import KeyStore\n"
    script += "from fti.store.files.layout import Layout\n"
    script += "print(KeyStore(Layout(Path(sys.argv[1]))).create('second')[1])"
    process = start_python(script, tmp_path)
    text, error = process.communicate(timeout=60)
    assert error == ""
    found = keys.find(text.strip())
    assert found is not None
    assert found.name == "second"


def test_an_unknown_key_is_answered_with_those_there_are(keys: KeyStore) -> None:
    with pytest.raises(KeyNotFound, match="fti keys create"):
        keys.revoke("k-0")
    key, _ = keys.create("web")
    with pytest.raises(KeyNotFound, match=key.id):
        keys.revoke("k-0")


@pytest.mark.parametrize("name", ["", " \n ", "x" * 101])
def test_a_key_has_a_name(keys: KeyStore, name: str) -> None:
    with pytest.raises(InvalidName):
        keys.create(name)


@pytest.mark.parametrize("held", ["", "[]", '{"keys": [{"id": 1}]}', "\x00"])
@pytest.mark.in_a_folder("its files")
def test_a_broken_list_lets_nobody_in(keys: KeyStore, tmp_path: Path, held: str) -> None:
    (tmp_path / "keys.json").write_text(held, "utf-8")
    with pytest.raises(IntegrityError):
        keys.find("anything")


def test_only_a_key_of_the_whole_store_that_may_write_can_start_jobs(keys: KeyStore) -> None:
    assert keys.create("trainer", jobs=True)[0].jobs
    assert not keys.create("other")[0].jobs
    with pytest.raises(InputError, match="can start no jobs"):
        keys.create("both", jobs=True, read_only=True)
    with pytest.raises(InputError, match="can start no jobs"):
        keys.create("both", jobs=True, collections=["public"])
    assert [key.name for key in keys.list()] == ["trainer", "other"]


def test_roles_say_what_a_key_may_do(keys: KeyStore) -> None:
    asking, _ = keys.create("page", roles=["ask"])
    both, _ = keys.create("crew", roles=["operate", "write"], tokens_per_day=5)
    assert (asking.may, asking.roles) == ({"ask"}, ("ask",))
    assert (both.may, both.roles, both.tokens_per_day) == (
        {"write", "operate"}, ("write", "operate"), 5,
    )  # fmt: skip
    assert keys.get(both.id) == both
    with pytest.raises(KeyNotFound, match=both.id):
        keys.get("k-0")


def test_a_key_without_roles_may_what_such_keys_always_might(keys: KeyStore) -> None:
    assert keys.create("old")[0].may == {"ask", "write", "review"}
    assert keys.create("reader", read_only=True)[0].may == {"ask"}
    assert keys.create("trainer", jobs=True)[0].may == {"ask", "write", "review", "operate"}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"roles": ["admin"]}, "no role 'admin'"),
        ({"roles": ["ask"], "read_only": True}, "Roles say all"),
        ({"roles": ["ask"], "jobs": True}, "Roles say all"),
        ({"roles": ["ask", "write"], "collections": ["public"]}, "about the whole store"),
    ],
)
def test_roles_that_contradict_are_refused(keys: KeyStore, how: Any, why: str) -> None:
    with pytest.raises(InputError) as refused:
        keys.create("x", **how)
    assert why in str(refused.value)
    assert keys.list() == ()
