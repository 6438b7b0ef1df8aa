"""Features as data frames, and data frames as features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fti.store.errors import EmbedderMismatch, InputError, InvalidName, StoreEmpty
from fti.store.features.feature_store import FeatureStore
from fti.store.features.filters import Condition, parse
from fti.store.files.layout import Layout
from fti.store.store import Store
from tests.support.features import IDENTITY, an_update, axis


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(Layout(tmp_path / "store"))
    store.create(IDENTITY)
    store.replace(
        [
            an_update("/a.md", {"apple pie": axis(1), "pear tart": axis(0, 1)},
                      metadata={"lang": "en", "page": "3"}, title="Fruit"),
            an_update("/b.md", {"brown bread": axis(0, 0, 1)}, metadata={"lang": "de"}),
        ]
    )  # fmt: skip
    return store


@pytest.fixture
def other(tmp_path: Path) -> FeatureStore:
    return FeatureStore(Layout(tmp_path / "other"))


def rows(**changes: object) -> pd.DataFrame:
    columns: dict[str, object] = {
        "source": ["faq", "faq", "news"],
        "text": ["one", "two", "three"],
        "vector": [axis(1), axis(0, 1), axis(0, 0, 1)],
    }
    return pd.DataFrame(columns | changes)


def test_chunks_come_as_a_table_and_as_a_data_frame(features: FeatureStore) -> None:
    table = features.to_arrow()
    assert table.num_rows == 3
    frame = features.to_pandas().sort_values("text").reset_index(drop=True)
    assert frame["text"].tolist() == ["apple pie", "brown bread", "pear tart"]
    assert frame["metadata"][0] == {"lang": "en", "page": "3"}
    np.testing.assert_array_equal(frame["vector"][0], axis(1))
    assert frame["start"].tolist() == [0, 0, 11]


def test_columns_and_rows_can_be_chosen(features: FeatureStore) -> None:
    table = features.to_arrow(["title", "text"], parse(["page>=2"]))
    assert table.column_names == ["title", "text"]
    assert set(table["text"].to_pylist()) == {"apple pie", "pear tart"}
    with pytest.raises(InputError, match=r"no columns \['colour'\]") as refused:
        features.to_arrow(["colour"])
    assert "vector" in refused.value.hint
    with pytest.raises(InputError, match="No column"):
        features.to_arrow([])


def test_an_earlier_version_comes_as_a_table_too(features: FeatureStore) -> None:
    version = features.version()
    features.replace([an_update("/b.md", [])])
    assert features.to_arrow().num_rows == 2
    assert features.checkout(version).to_arrow().num_rows == 3


def test_an_empty_store_has_no_table(other: FeatureStore) -> None:
    with pytest.raises(StoreEmpty):
        other.to_arrow()


@pytest.mark.parametrize("form", ["arrow", "pandas"])
def test_what_one_store_gives_another_takes(
    features: FeatureStore, other: FeatureStore, form: str
) -> None:
    given = features.to_arrow() if form == "arrow" else features.to_pandas()
    report = other.write(given, identity=None if form == "arrow" else IDENTITY)
    assert (report.documents, report.chunks, report.refused) == (2, 3, {})
    held = other.to_arrow().select(["source", "title", "start", "end", "text", "vector"])
    wanted = features.to_arrow().select(held.column_names)
    assert sorted(held.to_pylist(), key=str) == sorted(wanted.to_pylist(), key=str)
    assert [p.text for p in other.search_text("pear", 3)] == ["pear tart"]
    for chunk in other.chunks():
        (document,) = other.documents([chunk.document_id])
        assert document.text[chunk.start : chunk.end] == chunk.text
    assert other.identity() == IDENTITY
    assert [v.version for v in other.history.versions()] == [report.version]


def test_rows_of_a_source_replace_what_there_was(other: FeatureStore) -> None:
    other.write(rows(), identity=IDENTITY)
    report = other.write(rows().iloc[1:2])
    assert report.documents == 1
    assert sorted(c.text for c in other.chunks()) == ["three", "two"]
    health = other.heal()
    assert not health.orphans
    assert not health.broken


def test_rows_that_break_the_contract_go_to_the_ledger(other: FeatureStore) -> None:
    other.write(rows(), identity=IDENTITY)
    report = other.write(rows(vector=[axis(1), axis(5), axis(0, 1)], text=["x", "y", "z"]))
    assert report.documents == 1
    assert "length 5, not 1" in report.refused["faq"]
    assert sorted(c.text for c in other.chunks()) == ["one", "two", "z"], "the last good stays"
    (letter,) = other.failed()
    assert (letter.record.source, letter.record.chunks) == ("faq", 2)
    ragged = other.write(rows(vector=[axis(1), np.ones(2), None]))
    assert set(ragged.refused) == {"faq", "news"}
    fresh = other.write(rows(source=["bad"] * 3, vector=[axis(2)] * 3))
    assert "bad" in fresh.refused
    assert not other.heal().broken


def test_words_are_indexed_as_an_ingest_indexes_them(other: FeatureStore) -> None:
    given = rows(
        title=["Hours", "Hours", "News"],
        section=[["Hours", "Workshop"], ["Hours", "Oﬃce"], []],
        metadata=[{}, {"table_context": "Day | Opens"}, {}],
    )
    other.write(given, identity=IDENTITY)
    assert [p.text for p in other.search_text("workshop", 3)] == ["one"], "a heading"
    assert [p.text for p in other.search_text("office", 3)] == ["two"], "ligatures spelt out"
    (opens,) = other.search_text("opens", 3)
    assert (opens.text, opens.metadata["table_context"]) == ("two", "Day | Opens"), "the columns"
    texts = {c.text: c for c in other.chunks()}
    assert texts["two"].context == "Day | Opens"
    again = other.to_arrow()
    other.write(again)
    assert [p.text for p in other.search_text("opens", 3)] == ["two"], "also there and back"


def test_a_collection_is_checked_and_known_to_the_ledger(other: FeatureStore) -> None:
    other.write(rows(), identity=IDENTITY, collection="faqs")
    assert other.collections() == {"faqs": (2, 3)}
    within = [Condition("collection", "=", ("faqs",))]
    assert len(other.search_text("one two three", 9, within)) == 3
    other.write(rows(text=["1", "2", "3"]))
    assert other.collections() == {"faqs": (2, 3)}, "without one a document stays where it is"
    other.write(rows(metadata=[{"collection": "a"}, {}, {"collection": "b"}]))
    assert other.collections() == {"a": (1, 2), "b": (1, 1)}
    assert other.write(other.to_arrow()).documents == 2
    assert other.collections() == {"a": (1, 2), "b": (1, 1)}
    for bad in ("No/Name", "x' OR '1'='1"):
        with pytest.raises(InvalidName, match="collection"):
            other.write(rows(), collection=bad)
        with pytest.raises(InvalidName, match="collection"):
            other.write(rows(metadata=[{"collection": bad}] * 3))
    with pytest.raises(InputError, match="name the collections a, b"):
        other.write(rows(metadata=[{"collection": "a"}, {"collection": "b"}, {}]))
    assert other.collections() == {"a": (1, 2), "b": (1, 1)}
    other.write(rows(metadata=[{"collection": "b"}] * 3), collection="c")
    (claimed, *_) = other.search_text("one", 1)
    assert (claimed.metadata["collection"], claimed.metadata["own_collection"]) == ("c", "b")


def test_a_write_is_a_run_of_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "whole")
    report = store.features.write(rows(), identity=IDENTITY, collection="faqs")
    run = store.runs.get(report.run)
    assert (run.kind, run.status, run.settings["collection"]) == ("ingest", "done", "faqs")
    assert run.outputs["features_version"] == str(report.version)
    assert [v.run for v in store.features.history.versions()] == [run.id]
    assert run.metrics["chunks"] == 3
    broken = store.features.write(rows(vector=[axis(1), np.ones(2), axis(2)]))
    assert store.runs.get(broken.run).status == "partial"
    digests = [store.runs.get(each).inputs["digest"] for each in (report.run, broken.run)]
    assert len(set(digests)) == 2
    with pytest.raises(InputError):
        store.features.write(rows(source=["a"] * 3, start=[0, 1, 2]))
    assert store.runs.list("ingest")[0].status == "failed"


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        ([1, 2], "A list is no table"),
        (rows().drop(columns=["vector", "text"]), r"no columns \['text', 'vector'\]"),
        (rows(source=["a", None, "b"]), "Row 1 has the source None"),
        (rows(source=["a", "", "b"]), "Row 1 has the source ''"),
        (rows(text=[1, 2, 3]), "Row 0 has the text 1"),
        (rows(text=["a", 2, "c"]), "'text' cannot be read"),
        (rows(source=["a"] * 3, start=[0, 1, 2]), "Two rows of 'a' have different texts at 1"),
    ],
)
def test_what_is_no_table_of_features_is_refused(
    other: FeatureStore, frame: object, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        other.write(frame, identity=IDENTITY)
    assert not other.exists()


def test_vectors_of_an_unknown_or_another_embedder_are_refused(
    features: FeatureStore, other: FeatureStore
) -> None:
    with pytest.raises(InputError, match="does not say which embedder"):
        other.write(rows())
    with pytest.raises(EmbedderMismatch):
        features.write(rows(), identity=IDENTITY.model_copy(update={"id": "another"}))
    assert pa.Table.from_pandas(rows()).num_rows == 3
