"""Chunks in memory: found as LanceDB finds them, of this version, and only where it pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fti.store.features import held_chunks, search
from fti.store.features.feature_store import FeatureStore
from fti.store.features.held_chunks import HeldChunks
from fti.store.files.layout import Layout
from fti.store.types import Fusion, Passage
from tests.support.features import IDENTITY, an_update, axis

WORDS = ("apple", "banana", "cherry", "date", "elder", "fig", "grape")


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    """60 chunks in two commits; some have the same vector, one has none with a direction."""
    rng = np.random.default_rng(5)
    store = FeatureStore(Layout(tmp_path / "store"))
    store.create(IDENTITY)
    for number in range(2):
        texts = {
            f"{' '.join(rng.choice(WORDS, 3))} number {number * 30 + i}": (
                axis(1, 1) if i % 10 == 0 else rng.normal(size=4).astype(np.float32)
            )
            for i in range(30)
        }
        store.replace([an_update(f"/{number}.md", texts, metadata={"half": str(number)})])
    store.replace([an_update("/none.md", {"fig without direction": axis()})])
    store.maintain(thoroughly=True)
    return store


SEARCHES: dict[str, Callable[[FeatureStore], list[Passage]]] = {
    "vector": lambda f: f.search_vector(axis(1, 0.5), 20),
    "vector, all": lambda f: f.search_vector(axis(1, 0.5), 100),
    "text": lambda f: f.search_text("apple fig", 20),
    "no words": lambda f: f.search_text("the of", 20),
    "hybrid": lambda f: f.search_hybrid("apple fig", axis(1, 0.5), 20),
    "hybrid, weighted": lambda f: f.search_hybrid(
        "apple fig", axis(1, 0.5), 20, candidates=10, fusion=Fusion(method="weighted")
    ),
    "a condition": lambda f: f.search_hybrid("apple fig", axis(1, 0.5), 20, {"half": "1"}),
}


def held(features: FeatureStore) -> bool:
    return features._holding._held is not None


def hold(features: FeatureStore) -> None:
    for _ in range(4):
        features.search_text("apple", 1)
    assert held(features)


@pytest.mark.parametrize("how", SEARCHES)
def test_what_is_held_is_found_as_before(features: FeatureStore, how: str) -> None:
    before = SEARCHES[how](features)
    assert not held(features)
    hold(features)
    after = SEARCHES[how](features)
    assert after == before


def test_equal_vectors_have_equal_similarities_wherever_they_lie(features: FeatureStore) -> None:
    hold(features)
    same = [p.similarity for p in features.search_vector(axis(1, 1), 6)]
    assert same == [same[0]] * 6


def test_a_change_is_found_at_once_and_then_held_anew(features: FeatureStore) -> None:
    hold(features)
    features.replace([an_update("/new.md", {"quince": axis(-1, -1)})])
    assert [p.text for p in features.search_text("quince", 3)] == ["quince"]
    assert not held(features)
    hold(features)
    assert [p.text for p in features.search_vector(axis(-1, -1), 1)] == ["quince"]
    features.delete([features.search_text("quince", 1)[0].document_id])
    assert features.search_text("quince", 3) == []


def test_a_table_that_is_too_large_is_never_held(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_chunks, "MOST_BYTES", 61 * 4 * 4 - 1)
    for _ in range(5):
        features.search_text("apple", 1)
    assert not held(features)


def test_nobody_waits_while_the_chunks_are_read(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that comes while another one reads is answered by LanceDB."""
    meanwhile: list[list[str]] = []

    class Slow(HeldChunks):
        def __init__(self, table: object) -> None:
            meanwhile.append([p.text for p in features.search_text("direction", 3)])
            super().__init__(table)

    monkeypatch.setattr(held_chunks, "HeldChunks", Slow)
    hold(features)
    assert meanwhile == [["fig without direction"]]


def test_what_is_held_is_not_read_again(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(features)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("LanceDB was asked for vectors that are held")

    monkeypatch.setattr(search.indexing, "nearest", never)
    assert len(features.search_vector(axis(1), 3)) == 3
