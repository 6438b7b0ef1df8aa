"""Search over the feature store: order, scores, fusion, filters, and text that means harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fti.store.errors import EmbedderMismatch, EngineError, InvalidFilter
from fti.store.features.feature_store import FeatureStore
from fti.store.features.search import combine, combine_bounded, fuse, highest_match
from fti.store.files.layout import Layout
from fti.store.types import Fusion
from tests.support.features import IDENTITY, an_update, axis

INJECTION = "x' OR '1'='1"


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(Layout(tmp_path / "store"))
    store.create(IDENTITY)
    store.replace(
        [
            an_update(
                "/docs/fruit.md",
                {"apple pie with cream": axis(1), "banana split": axis(1, 1)},
                metadata={"lang": "en", "tag": INJECTION},
                title="Fruit",
            ),
            an_update(
                "/docs/old/fruit.md",
                {"apples were smaller then": axis(0, 1)},
                metadata={"lang": "de"},
                title="Old fruit",
            ),
            an_update("/docs/bikes.md", {"wheels and spokes": axis(-1)}, title="Bikes"),
        ]
    )
    return store


def test_vector_search_orders_by_cosine(features: FeatureStore) -> None:
    found = features.search_vector(axis(2), 3)
    assert [p.text for p in found] == [
        "apple pie with cream",
        "banana split",
        "apples were smaller then",
    ]
    assert [p.rank for p in found] == [1, 2, 3]
    assert [p.similarity for p in found] == pytest.approx([1.0, 2**-0.5, 0.0], abs=1e-6)
    assert all(p.score == p.similarity and p.found_by == ("vector",) for p in found)
    assert all(p.text_score is None for p in found)


def test_text_search_finds_inflected_words(features: FeatureStore) -> None:
    found = features.search_text("apple", 9)
    assert {p.text for p in found} == {"apple pie with cream", "apples were smaller then"}
    assert all(p.text_score and p.text_score > 0 and p.similarity is None for p in found)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)


def test_text_search_finds_rows_before_and_after_they_are_indexed(features: FeatureStore) -> None:
    before = features.search_text("apple cream", 9)
    features.maintain()
    after = features.search_text("apple cream", 9)
    assert [p.chunk_id for p in before] == [p.chunk_id for p in after]
    assert [p.score for p in before] == pytest.approx([p.score for p in after], rel=0.05)


def test_text_search_reads_every_script_and_splits_names(features: FeatureStore) -> None:
    features.replace(
        [an_update("/w.md", ["東京都は日本の首都です", "مرحبا بالعالم", "app.get(max_length=5)"])]
    )
    for query in ("首都", "مرحبا", "length", "get"):
        assert len(features.search_text(query, 3)) == 1, query


@pytest.mark.parametrize("query", ["", "   ", "the of and", "?!", 'AND (" ~ * :', "\ud800", "\0"])
def test_a_query_without_words_finds_nothing(features: FeatureStore, query: str) -> None:
    assert features.search_text(query, 3) == []


def test_hybrid_search_tells_the_similarity_of_every_passage(features: FeatureStore) -> None:
    found = features.search_hybrid("spokes", axis(1), 4, candidates=4)
    by_text = {p.text: p for p in found}
    assert len(found) == 4
    assert found[0].text == "wheels and spokes", "in both lists"
    assert found[0].found_by == ("vector", "text")
    assert by_text["wheels and spokes"].similarity == pytest.approx(-1.0, abs=1e-6)
    assert by_text["banana split"].found_by == ("vector",)


def test_a_passage_that_only_words_found_has_its_similarity(features: FeatureStore) -> None:
    features.replace(
        [an_update("/many.md", {f"near {i}": axis(1, i / 1000) for i in range(60)}, title="Many")]
    )
    found = features.search_hybrid("spokes", axis(1), 50)
    spokes = next(p for p in found if p.text == "wheels and spokes")
    assert spokes.found_by == ("text",)
    assert spokes.similarity == pytest.approx(-1.0, abs=1e-6)
    assert spokes.text_score is not None
    assert len({p.chunk_id for p in found}) == len(found) == 50


def test_hybrid_search_without_words_is_the_vector_search(features: FeatureStore) -> None:
    hybrid = features.search_hybrid("the of", axis(1), 4)
    assert [p.chunk_id for p in hybrid] == [p.chunk_id for p in features.search_vector(axis(1), 4)]


def test_a_vector_without_direction_is_near_nothing(features: FeatureStore) -> None:
    assert features.search_vector(axis(), 3) == []
    found = features.search_hybrid("spokes", axis(), 3)
    assert [(p.text, p.similarity) for p in found] == [("wheels and spokes", 0.0)]


def test_a_vector_of_another_embedder_or_none_at_all_is_refused(features: FeatureStore) -> None:
    with pytest.raises(EmbedderMismatch, match=r"shape \(7,\).*4 dimensions"):
        features.search_vector(np.ones(7, np.float32), 3)
    with pytest.raises(EngineError, match="not finite"):
        features.search_vector(axis(np.nan), 3)


# Filters


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"source": "/docs/fruit.md"}, {"apple pie with cream", "banana split"}),
        ({"document": "/docs/old/fruit.md"}, {"apples were smaller then"}),
        ({"document": "old/fruit.md"}, {"apples were smaller then"}),
        ({"document": "nowhere.md"}, set()),
        ({"title": "Bikes"}, {"wheels and spokes"}),
        ({"media_type": "text/plain"}, set()),
        ({"lang": "en"}, {"apple pie with cream", "banana split"}),
        ({"lang": "en", "title": "Old fruit"}, set()),
        ({"tag": INJECTION}, {"apple pie with cream", "banana split"}),
    ],
)
def test_filters_hold_in_every_search(
    features: FeatureStore, where: dict[str, str], expected: set[str]
) -> None:
    words = "apple banana wheels"
    for found in (
        features.search_vector(axis(1), 9, where),
        features.search_text(words, 9, where),
        features.search_hybrid(words, axis(1), 9, where),
    ):
        assert {p.text for p in found} == expected


@pytest.mark.parametrize("key", ["source", "document", "title", "media_type", "lang", "tag"])
@pytest.mark.parametrize(
    "value", ["' OR '1'='1", "en' OR '1'='1", '"] OR ["', "%", 'en"]\n["lang","en', "\\", "e\0n"]
)
def test_a_hostile_value_matches_nothing(features: FeatureStore, key: str, value: str) -> None:
    assert features.search_vector(axis(1), 9, {key: value}) == []


@pytest.mark.parametrize("key", ["nope", "text", "vector", "1=1 OR source", "id", ""])
def test_another_key_is_refused_naming_those_there_are(features: FeatureStore, key: str) -> None:
    with pytest.raises(InvalidFilter, match="media_type, ingested_at, lang, tag"):
        features.search_text("apple", 3, {key: "x"})


def test_filtering_comes_before_the_cut(features: FeatureStore) -> None:
    near = {f"near {i}": axis(1, i / 1000) for i in range(200)}
    features.replace([an_update("/many.md", near, title="Many")])
    found = features.search_vector(axis(1), 1, {"title": "Bikes"})
    assert [p.text for p in found] == ["wheels and spokes"]


def test_metadata_comes_with_the_passage(features: FeatureStore) -> None:
    found = features.search_text("banana", 1)[0]
    assert found.metadata == {"lang": "en", "tag": INJECTION}
    assert found.heading == "Fruit > Top"


# Fusion


def test_fusion_adds_reciprocal_ranks() -> None:
    fused = fuse([["a", "b"], ["b", "c"]])
    assert [key for key, _ in fused] == ["b", "a", "c"]
    assert dict(fused) == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})


def test_fusion_breaks_ties_by_rank_then_id() -> None:
    assert [key for key, _ in fuse([["b"], ["a"]])] == ["a", "b"]
    assert fuse([[], []]) == []


def test_weights_decide_between_the_lists() -> None:
    by_rank = fuse([["a", "b"], ["b", "c"]], weights=[2, 0])
    assert [key for key, _ in by_rank] == ["a", "b", "c"]
    assert dict(by_rank)["c"] == 0
    near, worded = {"a": 0.9, "b": 0.5, "c": 0.1}, {"c": 8.0, "b": 4.0}
    assert [k for k, _ in combine(near, worded, 1.0)] == ["a", "b", "c"]
    assert [k for k, _ in combine(near, worded, 0.0)] == ["c", "b", "a"]
    assert dict(combine(near, worded, 0.5)) == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.5})
    assert [k for k, _ in combine(near, worded, 0.5)] == ["a", "b", "c"], "ties by similarity"
    assert combine({}, {}, 0.5) == []
    assert combine({"a": 0.3}, {"a": 2.0}, 0.5) == [("a", 0.5)], "no spread says nothing"


def test_few_words_in_common_weigh_little_against_a_likeness() -> None:
    near, worded = {"likely": 0.7, "unlikely": 0.1}, {"unlikely": 2.0}
    assert combine(near, worded, 0.4)[0][0] == "unlikely", "the best match of its list"
    highest = highest_match("How early should I ask for a holiday?", 1000)
    assert combine_bounded(near, worded, 0.2, highest)[0][0] == "likely"
    assert combine_bounded(near, {"unlikely": highest}, 0.2, highest)[0][0] == "unlikely"
    assert dict(combine_bounded({"a": 0.5}, {"a": 3.0}, 0.2, 1.5)) == {"a": pytest.approx(0.9)}
    assert combine_bounded({}, {}, 0.2, highest) == []


def test_the_highest_match_counts_words_once_and_never_vanishes() -> None:
    assert highest_match("kiln kiln Kiln", 50) == highest_match("kiln", 50)
    assert highest_match("fire the kiln", 50) == pytest.approx(3 * highest_match("kiln", 50))
    assert highest_match("kiln", 5000) > highest_match("kiln", 50) > highest_match("kiln", 1) > 0
    assert highest_match("", 0) == highest_match("?!", 1) > 0
    assert highest_match("図書館の本", 50) == pytest.approx(3 * highest_match("kiln", 50))


def test_no_passage_matches_higher_than_the_highest(features: FeatureStore) -> None:
    asked = "apple pie with cream"
    found = features.search_text(asked, 10)
    chunks = sum(features.chunk_counts().values())
    assert 0 < max(p.text_score or 0 for p in found) <= highest_match(asked, chunks)


@pytest.mark.parametrize(
    ("fusion", "first"),
    [
        (Fusion(vector_weight=1.0), "apple pie with cream"),
        (Fusion(vector_weight=0.2), "wheels and spokes"),
        (Fusion(method="weighted", vector_weight=0.9), "apple pie with cream"),
        (Fusion(method="weighted", vector_weight=0.1), "wheels and spokes"),
        (Fusion(method="bounded", vector_weight=0.9), "apple pie with cream"),
        (Fusion(method="bounded", vector_weight=0.1), "wheels and spokes"),
    ],
)
def test_a_hybrid_search_is_fused_as_asked(
    features: FeatureStore, fusion: Fusion, first: str
) -> None:
    found = features.search_hybrid("spokes", axis(1), 4, fusion=fusion)
    assert found[0].text == first
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert len(found) == 4
