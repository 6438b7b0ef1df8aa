"""Kept scores: found again under the same circumstances, whole, whatever a crash left."""

from __future__ import annotations

from pathlib import Path

from store.store import Store


def test_rows_are_found_again_under_the_same_circumstances_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.results.under({"model": "base", "seed": 0}).keep("case", {"f1": 0.5})
    assert store.results.under({"seed": 0, "model": "base"}).get("case") == {"f1": 0.5}
    assert store.results.under({"seed": 0, "model": "base"}).get("other") is None
    assert store.results.under({"seed": 1, "model": "base"}).get("case") is None


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
