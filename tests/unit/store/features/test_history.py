"""Versions of the feature store: recorded, tagged, searched, gone back to, and let go of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fti.store.errors import InvalidName, StoreEmpty, StoreError, VersionNotFound
from fti.store.features import history
from fti.store.features.feature_store import FeatureStore
from fti.store.files.layout import Layout
from fti.store.store import Store
from fti.store.types import document_id
from tests.support.features import IDENTITY, an_update
from tests.support.values import EMBEDDER, a_contract, a_row


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(Layout(tmp_path / "store"))
    store.create(IDENTITY)
    return store


def texts(features: FeatureStore) -> list[str]:
    return [c.text for c in features.chunks()]


def left(features: FeatureStore, *parts: str, run: str = "") -> int:
    """Make the one document say this, as an ingest does; the version that leaves."""
    features.replace([an_update("/a.md", list(parts))])
    return features.record_version(run).version


def test_every_recorded_version_reads_as_it_was_by_number_and_by_tag(
    features: FeatureStore,
) -> None:
    first = left(features, "apple", run="r1")
    second = left(features, "pear", "plum", run="r2")
    features.history.tag("orchard", first)

    assert [(v.version, v.chunks, v.run, v.tags) for v in features.history.versions()] == [
        (first, 1, "r1", ("orchard",)),
        (second, 2, "r2", ()),
    ]
    for reference in (first, str(first), "orchard"):
        earlier = features.checkout(reference)
        assert texts(earlier) == ["apple"]
        assert [d.text for d in earlier.documents()] == ["apple"]
        assert [p.text for p in earlier.search_text("apple pear", 3)] == ["apple"]
        with pytest.raises(StoreError, match="history"):
            earlier.rollback(second)


def test_recording_the_same_state_again_adds_no_version(features: FeatureStore) -> None:
    left(features, "apple")
    features.record_version("again")
    assert [v.run for v in features.history.versions()] == [""]


def test_a_record_that_a_crash_cut_is_passed_over(features: FeatureStore, tmp_path: Path) -> None:
    left(features, "apple")
    file = tmp_path / "store" / "features" / "versions.jsonl"
    file.write_bytes(file.read_bytes() + b'{"version": 7, "docu')
    after = left(features, "pear")
    assert [v.version for v in features.history.versions()][-1] == after
    assert len(features.history.versions()) == 2


def test_a_tag_moves_and_goes(features: FeatureStore) -> None:
    first = left(features, "apple")
    second = left(features, "pear")
    assert features.history.tag("prod", first) is None
    assert features.history.tag("prod", second) == first
    assert features.history.tags() == {"prod": second}
    assert features.history.untag("prod") == second
    assert features.history.tags() == {}


@pytest.mark.parametrize("name", ["7", "", "Prod", "a b", "fti.kept.1", "x' OR '1'='1"])
def test_what_is_no_name_for_a_tag_is_refused(features: FeatureStore, name: str) -> None:
    version = left(features, "apple")
    with pytest.raises(InvalidName, match="is not a name for a tag"):
        features.history.tag(name, version)


def test_what_there_is_not_is_refused_with_what_there_is(features: FeatureStore) -> None:
    version = left(features, "apple")
    features.history.tag("prod", version)
    with pytest.raises(VersionNotFound, match="no version 99") as refused:
        features.history.resolve("99")
    assert str(version) in refused.value.hint
    with pytest.raises(VersionNotFound, match="'staging'") as refused:
        features.checkout("staging")
    assert "prod" in refused.value.hint
    with pytest.raises(VersionNotFound):
        features.history.tag("new", 99)
    for name in ("staging", "7"):
        with pytest.raises(VersionNotFound):
            features.history.untag(name)


def test_an_empty_store_has_no_versions(tmp_path: Path) -> None:
    empty = FeatureStore(Layout(tmp_path / "empty"))
    assert empty.history.versions() == []
    assert empty.history.tags() == {}
    with pytest.raises(StoreEmpty, match="fti ingest"):
        empty.checkout("prod")


def test_a_rollback_brings_documents_chunks_and_ledger_back_as_a_new_version(
    features: FeatureStore,
) -> None:
    first = left(features, "apple")
    features.replace([an_update("/b.md", ["bread"])])
    second = left(features, "pear")

    made = features.rollback(first)

    assert made.version > second
    assert texts(features) == ["apple"]
    assert [r.source for r in features.records()] == ["/a.md"]
    assert [p.text for p in features.search_text("apple bread pear", 5)] == ["apple"]
    health = features.heal()
    assert not health.orphans
    assert not health.broken
    assert sorted(texts(features.checkout(second))) == ["bread", "pear"], "nothing is lost"
    assert left(features, "quince") > made.version, "and it can be written again"


def test_a_reader_elsewhere_sees_a_rollback(features: FeatureStore) -> None:
    reader = FeatureStore(features.layout)
    first = left(features, "apple")
    left(features, "pear")
    assert texts(reader) == ["pear"]
    features.rollback(first)
    assert texts(reader) == ["apple"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are old as soon as they are there."""
    monkeypatch.setattr(history, "SHORTEST_AGE", timedelta(0))


@pytest.fixture(params=["with pylance", "without"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "without":
        monkeypatch.setattr(history, "has_pylance", lambda: False)
    else:
        pytest.importorskip("lance", reason="pylance is an extra")
    return str(request.param)


def test_pruning_removes_the_old_and_keeps_what_is_tagged_or_in_use(
    features: FeatureStore, at_once: None, way: str
) -> None:
    versions = [left(features, f"text {number}") for number in range(6)]
    features.history.tag("prod", versions[2])

    planned = features.history.prune({versions[4]: "dataset faq/1"}, older_than=timedelta(0),
                                     dry=True)  # fmt: skip
    assert set(versions[:2]) <= set(planned.removed)
    assert texts(features.checkout(versions[0])) == ["text 0"], "a plan removes nothing"

    done = features.history.prune({versions[4]: "dataset faq/1"}, older_than=timedelta(0))

    assert texts(features.checkout("prod")) == ["text 2"]
    assert [d.text for d in features.checkout("prod").documents()] == ["text 2"]
    assert texts(features.checkout(versions[4])) == ["text 4"]
    assert [d.text for d in features.checkout(versions[4]).documents()] == ["text 4"]
    assert texts(features) == ["text 5"]
    assert set(versions[:2]) <= set(done.removed)
    assert done.freed_bytes > 0
    assert done.kept[versions[2]] == "tagged prod"
    assert done.kept[versions[4]] == "dataset faq/1"
    with pytest.raises(VersionNotFound):
        features.checkout(versions[0])
    if way == "with pylance":
        assert set(done.removed) == set(planned.removed)
    assert features.history.tags() == {"prod": versions[2]}, "no tag of our own is left"
    left(features, "text 6")
    assert features.maintain().rows == 1


def test_a_refused_pruning_takes_what_it_can_and_leaves_the_rest_to_the_next(
    features: FeatureStore, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LanceDB's clock may be read so late that a version that stays seems old enough to go."""
    monkeypatch.setattr(history, "has_pylance", lambda: False)
    versions = [left(features, f"text {number}") for number in range(4)]
    features.history.tag("prod", versions[2])
    clock = history.now
    time.sleep(3)
    with monkeypatch.context() as late:
        late.setattr(history, "now", lambda: clock() - timedelta(seconds=2.9))
        late.setattr(history, "SHORTEST_AGE", timedelta(seconds=-60))
        refused = features.history.prune({}, older_than=timedelta(seconds=-60))

    assert refused.removed == ()
    assert texts(features.checkout(versions[0])) == ["text 0"], "nothing half removed"
    assert features.history.tags() == {"prod": versions[2]}
    done = features.history.prune({}, older_than=timedelta(0))
    assert set(versions[:2]) <= set(done.removed)
    assert texts(features.checkout("prod")) == ["text 2"]


def test_versions_beyond_those_to_stay_go_and_their_records_too(
    features: FeatureStore, at_once: None, tmp_path: Path
) -> None:
    retention = history.RetentionConfig(versions=12, hours=0)  # a changed chunk takes four
    versions = [left(features, f"text {number}") for number in range(8)]
    features.history.tag("prod", versions[1])

    assert features.history.due(retention)
    done = features.history.expire(retention, {versions[2]: "dataset faq/1"})

    assert done is not None
    assert versions[0] in done.removed
    assert not {versions[1], versions[2], *versions[-3:]} & set(done.removed)
    recorded = [v.version for v in features.history.versions()]
    assert {versions[1], versions[2], versions[-1]} <= set(recorded)
    lines = (tmp_path / "store" / "features" / "versions.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == len(recorded)
    assert texts(features) == ["text 7"]
    assert not features.history.due(retention), "it was looked at just now"
    left(features, "text 8")
    left(features, "text 9")
    assert features.history.due(retention)


def test_a_version_amid_a_change_is_tagged_as_readers_see_it(features: FeatureStore) -> None:
    before = left(features, "one", "two")
    after = left(features, "three")
    assert after > before + 2
    for number in range(before + 1, after):
        features.history.tag("amid", number)
        assert features.history.tags() == {"amid": before}
        assert texts(features.checkout("amid")) == ["one", "two"]


def test_pruning_undoes_a_change_that_broke_off_before_it_removes_anything(
    features: FeatureStore, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(features, "one", "two")

    def stop(*_: object) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(FeatureStore, "_delete", stop)
        with pytest.raises(OSError, match="power"):
            features.replace([an_update("/a.md", ["three"])])
    features.history.prune({}, older_than=timedelta(0))
    assert sorted(texts(features)) == ["one", "two"]


def test_versions_to_stay_and_young_ones_are_not_let_go_of(features: FeatureStore) -> None:
    versions = [left(features, f"text {number}") for number in range(4)]
    many, never = (history.RetentionConfig(versions=n) for n in (1000, None))
    assert not features.history.due(many)
    assert not features.history.due(never)
    few = history.RetentionConfig(versions=1)
    assert features.history.due(few)
    done = features.history.expire(few, {})
    assert done is not None
    assert done.removed == (), "none is an hour old"
    assert features.history.expire(many, {}) is None
    assert texts(features.checkout(versions[0])) == ["text 0"]


def test_the_last_ingests_stay_behind_any_number_of_a_stream_s_versions(
    features: FeatureStore,
) -> None:
    ingests = [left(features, f"ingest {n}", run=f"r{n}") for n in range(3)]
    stream = [left(features, f"record {n}") for n in range(4)]
    assert set(features.history.last(2)) == {*ingests[-2:], *stream[-2:]}


def test_nothing_younger_than_an_hour_is_pruned(features: FeatureStore) -> None:
    first = left(features, "apple")
    left(features, "pear")
    assert features.history.prune({}, older_than=timedelta(0)).removed == ()
    assert texts(features.checkout(first)) == ["apple"]


def test_versions_before_there_were_records_find_their_documents(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["apple"])])
    version = features.version()
    features.replace([an_update("/a.md", ["pear"])])
    features.delete([document_id("/a.md")])
    assert [d.text for d in features.checkout(version).documents()] == ["apple"]


def test_datasets_and_their_models_name_the_version_they_were_made_from(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.features.create(IDENTITY)
    version = left(store.features, "apple")
    for _ in range(2):
        dataset = store.datasets.publish(
            "faq", rows={"train": [a_row()]}, features_version=version, embedder=EMBEDDER,
            prompt_digest="5" * 64, run_id="r-20260301-120000-0123ab",
        )  # fmt: skip
    files = tmp_path / "files"
    files.mkdir()
    (files / "card.md").write_text("card", "utf-8")
    store.models.publish(
        "reader", files, contract=a_contract(), dataset=dataset,
        run_id="r-20260301-130000-0123ab", metrics={},
    )  # fmt: skip
    assert store.features_in_use() == {version: "dataset faq/1, dataset faq/2, model reader/1"}


def test_a_size_is_taken_while_others_remove_files(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(features, "apple")
    table = features._lance.folder / "chunks.lance"
    (table / "data" / "gone").write_bytes(b"x" * 100)
    before = features._lance.size("chunks")

    def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in os_walk(folder):
            if "gone" in found[2]:
                (table / "data" / "gone").unlink()
            yield found

    os_walk = os.walk
    monkeypatch.setattr("os.walk", walk)
    assert features._lance.size("chunks") == before - 100
