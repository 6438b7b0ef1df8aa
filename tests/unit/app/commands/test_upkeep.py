"""Comparing model versions, and letting them go, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.app.commands.upkeep import differences
from fti.store.store import Store
from fti.store.types import DatasetVersion, now
from tests.support.values import EMBEDDER, a_contract

DATASET = DatasetVersion(
    name="faq", version=2, created_at=now(), rows={"train": 1}, documents={}, digest="4" * 64,
    features_version=1, embedder=EMBEDDER, prompt_digest="5" * 64,
    run_id="r-20260301-120000-0123ab", files=(),
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    files = tmp_path / "files"
    files.mkdir()
    for loss in (0.5, 0.25):
        (files / "card.md").write_text(f"loss {loss}", "utf-8")
        store.models.publish(
            "reader", files, contract=a_contract(), dataset=DATASET,
            run_id="r-20260301-130000-0123ab", metrics={"loss": loss},
        )  # fmt: skip
    return store


def fti(store: Store, *words: str) -> Any:
    done = CliRunner().invoke(
        app, ["models", *words, "--store", str(store.layout.root), "--json"],
        catch_exceptions=False,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_differences_are_named_by_their_path() -> None:
    left, right = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert differences(left, right) == {"a.c": (2, 4), "d": (3, None), "e": (None, 5)}


def test_diff_says_in_what_two_versions_differ(store: Store) -> None:
    found = fti(store, "diff", "reader/1", "reader/2")
    assert found["differences"]["metrics.loss"] == [0.5, 0.25]
    assert set(found["differences"]) == {"metrics.loss", "files.card.md"}


def test_gc_says_first_and_removes_when_told(store: Store) -> None:
    fti(store, "retire", "reader/1", "--reason", "the other is better")
    assert fti(store, "gc") == {"removed": {}, "removable": ["reader/1"], "kept": {}}
    assert len(store.models.list("reader")) == 2
    assert list(fti(store, "gc", "--yes")["removed"]) == ["reader/1"]
    assert [v.ref for v in store.models.list("reader")] == ["reader/2"]


def test_a_pinned_version_is_said_to_stay(store: Store) -> None:
    fti(store, "retire", "reader/1")
    fti(store, "pin", "reader/1", "--reason", "the audit")
    assert fti(store, "gc", "--yes") == {
        "removed": {}, "removable": [], "kept": {"reader/1": "pinned: the audit"},
    }  # fmt: skip
    assert len(store.models.list("reader")) == 2
