"""Kept scores: found again under the same circumstances, whole, whatever a crash left."""

from __future__ import annotations

from pathlib import Path

from fti.store.store import Store


def test_rows_are_found_again_under_the_same_circumstances_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.results.under({"model": "base", "seed": 0}).keep("case", {"f1": 0.5})
    assert store.results.under({"seed": 0, "model": "base"}).get("case") == {"f1": 0.5}
    assert store.results.under({"seed": 0, "model": "base"}).get("other") is None
    assert store.results.under({"seed": 1, "model": "base"}).get("case") is None


def test_rows_that_are_kept_together_are_all_found(tmp_path: Path) -> None:
    kept = Store(tmp_path).results.under({})
    kept.keep_all((f"case {n}", {"f1": n / 4}) for n in range(3))
    kept.keep_all([])
    again = Store(tmp_path).results.under({})
    assert [again.get(f"case {n}") for n in range(4)] == [
        {"f1": 0.0}, {"f1": 0.25}, {"f1": 0.5}, None,
    ]  # fmt: skip


def test_a_line_that_a_crash_cut_off_is_asked_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = store.results.under({})
    kept.keep("one", {"f1": 1.0})
    kept.keep("two", {"f1": 0.0})
    (path,) = store.layout.results.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    again = store.results.under({})
    assert (again.get("one"), again.get("two")) == ({"f1": 1.0}, None)
    again.keep("two", {"f1": 0.25})
    assert store.results.under({}).get("two") == {"f1": 0.25}
