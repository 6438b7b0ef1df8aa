"""The feature store: what it keeps, what one commit changes, what a crash leaves, who may read."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.store.errors import (
    DocumentNotFound,
    EmbedderMismatch,
    StoreEmpty,
    StoreError,
    StoreFull,
    VersionNotFound,
)
from fti.store.features import bykey
from fti.store.features.feature_store import FeatureStore
from fti.store.files.atomic import read_sealed
from fti.store.files.layout import Layout
from fti.store.lance import indexing
from fti.store.lance.remembered import RememberedKeys
from fti.store.lance.shapes import CHUNKS, LedgerEntry
from fti.store.types import EmbedderIdentity, document_id, now, sha256_hex
from tests.support.features import IDENTITY, an_update
from tests.support.processes import run_python, start_python, wait_for_line


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "store")


@pytest.fixture
def features(layout: Layout) -> FeatureStore:
    store = FeatureStore(layout)
    store.create(IDENTITY)
    return store


def texts(features: FeatureStore) -> list[str]:
    return [c.text for c in features.chunks()]


def test_an_unused_store_is_empty_and_says_how_to_fill_it(layout: Layout) -> None:
    store = FeatureStore(layout)
    assert not store.exists()
    assert store.version() == 0
    assert store.stats().documents == 0
    assert store.identity() is None
    assert store.records() == []
    assert store.chunks() == []
    assert list(store.documents()) == []
    with pytest.raises(StoreEmpty, match="fti ingest PATH"):
        store.search_text("anything", 3)
    assert not layout.features.exists(), "looking makes nothing"


def test_a_store_whose_documents_are_all_gone_is_empty_again(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one"])])
    features.delete([document_id("/a.md")])
    assert features.exists()
    with pytest.raises(StoreEmpty, match="fti ingest PATH"):
        features.search_vector(np.ones(4, np.float32), 3)


def test_making_the_tables_again_changes_nothing(features: FeatureStore) -> None:
    before = features.version()
    features.create(IDENTITY)
    assert features.version() == before


def test_tables_that_a_crash_left_as_bare_folders_are_made(layout: Layout) -> None:
    (layout.features / "chunks.lance").mkdir(parents=True)
    store = FeatureStore(layout)
    assert not store.exists()
    store.create(IDENTITY)
    store.replace([an_update("/a.md", ["one"])])
    assert texts(store) == ["one"]


def test_what_was_stored_comes_back_as_it_was(features: FeatureStore) -> None:
    update = an_update("/a.md", ["one", "two"], metadata={"lang": "en", "odd\u2028key": "a\nb"})
    features.replace([update])
    assert features.document("/a.md") == update.document
    assert features.chunks(update.document.id) == list(update.chunks)
    assert features.chunk(update.chunks[1].id) == (update.chunks[1], "a.md", "/a.md")
    assert features.ledger() == [update.entry]
    for chunk in features.chunks():
        assert update.document.text[chunk.start : chunk.end] == chunk.text


def test_names_that_are_no_text_are_stored_escaped(features: FeatureStore) -> None:
    features.replace([an_update("/a\udcff.md", ["one"], title="t\ud800")])
    assert [r.source for r in features.records()] == ["/a\\udcff.md"]


def test_a_batch_of_documents_changes_at_once(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["a1", "a2", "a3"]), an_update("/b.md", ["b1"])])
    before = features.version()
    result = features.replace(
        [an_update("/a.md", ["a1", "a9"]), an_update("/b.md", []), an_update("/c.md", ["c1"])]
    )
    assert (result.inserted, result.updated, result.deleted) == (2, 1, 3)
    assert features.version() == result.version > before
    assert sorted(texts(features)) == ["a1", "a9", "c1"]
    seen = {
        tuple(sorted(texts(features.checkout(version))))
        for version in range(before, result.version + 1)
    }
    assert seen == {("a1", "a2", "a3", "b1"), ("a1", "a9", "c1")}, "no version shows a part"


def test_a_batch_that_takes_nothing_away_is_one_commit(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["a1"])])
    before = features.version()
    assert features.replace([an_update("/a.md", ["a1", "a2"])]).version == before + 1


def interrupted(features: FeatureStore, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """A change that takes a chunk away and fails before or after that commit."""
    delete = FeatureStore._delete

    def stop(self: FeatureStore, table: Any, ids: list[str]) -> None:
        if when == "after":
            delete(self, table, ids)
        raise OSError("the power went")

    monkeypatch.setattr(FeatureStore, "_delete", stop)
    with pytest.raises(OSError, match="power"):
        features.replace([an_update("/a.md", ["a1", "a9"]), an_update("/c.md", ["c1"])])
    monkeypatch.undo()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_change_that_broke_off_is_not_seen_and_undone_by_the_next_writer(
    layout: Layout, features: FeatureStore, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    features.replace([an_update("/a.md", ["a1", "a2", "a3"]), an_update("/b.md", ["b1"])])
    whole = ["a1", "a2", "a3", "b1"]
    interrupted(features, monkeypatch, when)

    for reader in (features, FeatureStore(layout)):
        assert sorted(texts(reader)) == whole
        assert len(reader.search_vector(np.ones(4, np.float32), 9)) == 4
        assert reader.stats().chunks == 4
        assert reader.diagnose().broken == reader.diagnose().orphans == frozenset()

    writer = FeatureStore(layout)
    writer.replace([an_update("/d.md", ["d1"])])
    assert sorted(texts(features)) == [*whole, "d1"]
    assert not writer.heal().broken
    writer.replace([an_update("/a.md", ["a1", "a9"])])
    assert sorted(texts(features)) == ["a1", "a9", "b1", "d1"]


@pytest.mark.parametrize("upkeep", ["heal", "maintain", "delete", "rewrite"])
def test_whatever_writes_next_undoes_what_broke_off(
    layout: Layout, features: FeatureStore, monkeypatch: pytest.MonkeyPatch, upkeep: str
) -> None:
    features.replace([an_update("/a.md", ["a1", "a2", "a3"]), an_update("/b.md", ["b1"])])
    interrupted(features, monkeypatch, "before")
    writer = FeatureStore(layout)
    match upkeep:
        case "heal":
            assert not writer.heal().broken
        case "maintain":
            writer.maintain(thoroughly=True)
        case "delete":
            writer.delete([document_id("/b.md")])
        case "rewrite":
            writer.erase(document_id("/b.md"))
    left = ["a1", "a2", "a3"] + (["b1"] if upkeep in ("heal", "maintain") else [])
    assert sorted(texts(features)) == left
    raw = writer._lance.latest(CHUNKS)
    assert int(raw.count_rows()) == len(left), "not only hidden"


def test_readers_see_all_of_a_document_or_nothing_while_it_changes(
    layout: Layout, features: FeatureStore
) -> None:
    ways = [["a1", "a2", "a3"], ["b1"], ["c1", "c2"]]
    features.replace([an_update("/a.md", ways[0])])
    script = """
import sys
from pathlib import Path
from fti.store.features.feature_store import FeatureStore
from fti.store.files.layout import Layout
features = FeatureStore(Layout(Path(sys.argv[1])))
seen, done = set(), Path(sys.argv[2])
print("begun", flush=True)
while not done.exists():
    seen.add(" ".join(sorted(c.text for c in features.chunks())))
print(*sorted(seen), sep=",")
"""
    done = layout.root / "done"
    reader = start_python(script, layout.root, done)
    assert wait_for_line(reader) == "begun"
    for turn in range(60):
        features.replace([an_update("/a.md", ways[turn % 3])])
    done.touch()
    out, err = reader.communicate(timeout=60)
    assert reader.returncode == 0, err
    seen = set(out.strip().split(","))
    assert seen <= {" ".join(way) for way in ways}
    assert len(seen) > 1, "it looked while they changed"


def test_another_reader_sees_the_change_at_once_and_never_a_part(
    layout: Layout, features: FeatureStore
) -> None:
    reader = FeatureStore(layout)
    features.replace([an_update("/a.md", ["old one", "old two"])])
    assert sorted(texts(reader)) == ["old one", "old two"]
    features.replace([an_update("/a.md", ["new one", "new two"])])
    assert sorted(texts(reader)) == ["new one", "new two"]


def test_a_writer_that_looks_seldom_removes_what_another_wrote_meanwhile(
    layout: Layout, features: FeatureStore
) -> None:
    other = FeatureStore(layout, read_consistency_s=600)
    other.replace([an_update("/b.md", ["b1"])])
    features.replace([an_update("/a.md", ["a1", "a2", "a3"])])
    result = other.replace([an_update("/a.md", ["a1"])])
    assert (result.inserted, result.updated, result.deleted) == (0, 1, 2)
    assert sorted(texts(FeatureStore(layout))) == ["a1", "b1"]
    features.replace([an_update("/c.md", ["c1"])])
    assert other.delete([document_id("/c.md")]) == 1
    assert sorted(texts(FeatureStore(layout))) == ["a1", "b1"]


def test_the_same_store_reads_alike_in_another_process(
    layout: Layout, features: FeatureStore
) -> None:
    features.replace([an_update("/a.md", ["apple pie"])])
    script = """
import sys
from pathlib import Path
from fti.store.features.feature_store import FeatureStore
from fti.store.files.layout import Layout
from fti.store.lance.remembered import RememberedKeys
features = FeatureStore(Layout(Path(sys.argv[1])))
print(features.version(), [p.text for p in features.search_text("pies", 3)])
"""
    printed = run_python(script, layout.root)
    assert printed.split(maxsplit=1) == [str(features.version()), "['apple pie']\n"]


def test_a_document_without_chunks_stays_in_the_ledger_only(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one"])])
    features.replace([an_update("/a.md", [])])
    assert [(r.source, r.state) for r in features.records()] == [("/a.md", "empty")]
    assert list(features.documents()) == []
    assert features.stats().empty == 1


def test_a_document_twice_in_a_batch_is_refused(features: FeatureStore) -> None:
    with pytest.raises(StoreError, match="twice"):
        features.replace([an_update("/a.md", ["one"]), an_update("/a.md", ["two"])])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_no_number_is_refused(features: FeatureStore, value: float) -> None:
    bad = an_update("/a.md", {"one": np.full(4, value, np.float32)})
    with pytest.raises(StoreError, match="not finite"):
        features.replace([bad])
    assert features.records() == []


def test_a_note_leaves_text_and_chunks_and_adds_unknown_sources(features: FeatureStore) -> None:
    update = an_update("/a.md", ["one"])
    features.replace([update])
    failed = update.entry.record.model_copy(update={"state": "failed", "cause": "torn"})
    unknown = failed.model_copy(
        update={"id": document_id("/b.md"), "source": "/b.md", "chunks": 0, "content_hash": ""}
    )
    features.note([LedgerEntry(failed, "/a.md", "h"), LedgerEntry(unknown, "/b.md", "")])
    assert [(r.source, r.state, r.cause) for r in features.records()] == [
        ("/a.md", "failed", "torn"),
        ("/b.md", "failed", "torn"),
    ]
    assert features.document("/a.md").text == "one"
    assert texts(features) == ["one"]
    assert features.stats().failed == 2


def test_deleting_counts_what_was_there(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one"]), an_update("/b.md", ["two"])])
    assert features.delete([document_id("/a.md"), document_id("/never.md")]) == 1
    assert [r.source for r in features.records()] == ["/b.md"]
    assert texts(features) == ["two"]


# Finding documents


def test_a_document_is_found_by_source_id_and_end_of_path(features: FeatureStore) -> None:
    features.replace([an_update("/docs/en/x.md", ["one"]), an_update("/docs/de/x.md", ["zwei"])])
    assert features.document("en/x.md").text == "one"
    assert features.document("./de/x.md").text == "zwei"
    assert features.document(document_id("/docs/de/x.md")).text == "zwei"
    assert [r.source for r in features.find_document("x.md")] == ["/docs/de/x.md", "/docs/en/x.md"]
    assert features.find_document("n/x.md") == [], "half a folder's name is no end of a path"


def test_an_unknown_or_ambiguous_document_is_refused_with_what_there_is(
    features: FeatureStore,
) -> None:
    features.replace([an_update("/docs/en/x.md", ["one"]), an_update("/docs/de/x.md", ["zwei"])])
    with pytest.raises(DocumentNotFound, match=r"2 documents.*/docs/de/x\.md, /docs/en/x\.md"):
        features.document("x.md")
    with pytest.raises(DocumentNotFound, match=r"No document 'en/xx\.md'.*x\.md"):
        features.document("en/xx.md")
    with pytest.raises(DocumentNotFound, match="no chunk 'c-none'"):
        features.chunk("c-none")


# The passport


def test_the_passport_lies_in_the_table(layout: Layout, features: FeatureStore) -> None:
    assert FeatureStore(layout).identity() == IDENTITY


def test_another_embedder_is_refused_naming_both(features: FeatureStore) -> None:
    other = IDENTITY.model_copy(update={"id": "another", "query_prefix": "q: "})
    with pytest.raises(EmbedderMismatch, match=r"'by-hand'.*'another'.*query_prefix") as caught:
        features.require_identity(other)
    assert "--re-embed" in caught.value.hint
    with pytest.raises(EmbedderMismatch):
        features.create(other)


def test_a_rebuild_is_seen_at_adoption_and_not_before(
    layout: Layout, features: FeatureStore
) -> None:
    other = IDENTITY.model_copy(update={"id": "another", "dimension": 6})
    features.replace([an_update("/a.md", ["apple pie"])])
    features.remember_vectors(["k"], np.ones((1, 4), np.float32), IDENTITY)
    reader = FeatureStore(layout)
    rebuilt = features.rebuilding(other)
    rebuilt.replace([an_update("/a.md", ["apple pie", "more apples"], dimension=6)])
    assert reader.identity() == IDENTITY
    assert len(reader.search_text("apple", 3)) == 1

    before = features.version()
    assert features.adopt(rebuilt) > before, "versions go on counting"

    assert reader.identity() == other
    assert len(reader.search_vector(np.ones(6, np.float32), 5)) == 2
    assert len(reader.search_text("apple", 3)) == 2
    assert features.known_vectors(["k"], IDENTITY) == {}
    assert not (layout.features / "chunks_rebuild.lance").exists()
    earlier = reader.checkout(before)
    assert earlier.identity() == IDENTITY
    assert texts(earlier) == ["apple pie"]


def test_a_second_rebuild_begins_anew(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one"])])
    features.rebuilding(IDENTITY).replace([an_update("/a.md", ["left over"])])
    rebuilt = features.rebuilding(IDENTITY)
    rebuilt.replace([an_update("/b.md", ["kept"])])
    features.adopt(rebuilt)
    assert texts(features) == ["kept"]


# The embedding cache


def test_vectors_are_remembered_per_embedder(features: FeatureStore) -> None:
    keys = [f"k{i}" for i in range(2500)]
    vectors = np.arange(10_000, dtype=np.float32).reshape(2500, 4)
    features.remember_vectors(keys, vectors, IDENTITY)
    found = features.known_vectors([*keys, "unknown", "k3"], IDENTITY)
    assert len(found) == 2500
    assert all((found[key] == vectors[i]).all() for i, key in enumerate(keys))
    other = IDENTITY.model_copy(update={"revision": "2"})
    assert features.known_vectors(keys, other) == {}


def test_remembered_keys_are_read_once_while_nobody_else_writes(
    layout: Layout, features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(*numbers: int) -> list[str]:
        return [sha256_hex(str(number)) for number in numbers]

    def remember(into: FeatureStore, *numbers: int) -> None:
        rows = np.array([[n, 0, 0, 0] for n in numbers], dtype=np.float32)
        into.remember_vectors(keys(*numbers), rows, IDENTITY)

    def known(*numbers: int) -> list[int]:
        found = features.known_vectors(keys(*numbers), IDENTITY)
        have = [(n, key) for n, key in zip(numbers, keys(*numbers), strict=True) if key in found]
        assert all(found[key][0] == n for n, key in have)
        return [n for n, _ in have]

    read = []

    class Counted(RememberedKeys):
        def __init__(self, table: Any) -> None:
            read.append(1)
            super().__init__(table)

    monkeypatch.setattr("fti.store.features.writing.RememberedKeys", Counted)
    remember(features, 5, 1)
    assert known(1, 2, 5) == [1, 5]
    remember(features, 9, 2, 0)
    assert known(0, 1, 2, 3, 9) == [0, 1, 2, 9]
    assert len(read) == 1
    remember(FeatureStore(layout), 3)
    remember(features, 7)
    assert known(3, 4, 7) == [3, 7], "also what another one wrote in between"
    assert len(read) == 2


# Crashes


def test_a_crash_between_chunks_and_texts_is_named(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    features.replace([an_update("/a.md", ["old"]), an_update("/b.md", ["same"])])

    def die(rows: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(features, "_upsert_documents", die)
        with pytest.raises(KeyboardInterrupt):
            features.replace([an_update("/a.md", ["new"]), an_update("/c.md", ["never noted"])])

    health = features.heal()
    assert health.broken == {document_id("/a.md")}
    assert health.orphans == {document_id("/c.md")}
    assert "never noted" not in texts(features)
    features.replace([an_update("/a.md", ["new"])])
    assert features.heal().broken == frozenset()


def test_chunks_that_were_lost_are_named(layout: Layout, features: FeatureStore) -> None:
    import lancedb

    features.replace([an_update("/a.md", ["one", "two"])])
    lancedb.connect(layout.features).open_table("chunks").delete("ordinal = 1")
    assert features.heal().broken == {document_id("/a.md")}


def test_a_full_disk_is_named_and_leaves_the_store_readable(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    features.replace([an_update("/a.md", ["one"])])

    def full(rows: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features, "_upsert_documents", full)
    with pytest.raises(StoreFull, match="No space left") as caught:
        features.replace([an_update("/b.md", ["two"])])
    assert "again" in caught.value.hint
    assert features.document("/a.md").text == "one"


def test_a_file_limit_inside_lancedb_is_a_full_disk(layout: Layout) -> None:
    script = """
import resource, sys
from pathlib import Path
from fti.store.errors import StoreFull
from fti.store.features.feature_store import FeatureStore
from fti.store.files.layout import Layout
from fti.store.lance.remembered import RememberedKeys
from tests.support.features import IDENTITY, an_update
features = FeatureStore(Layout(Path(sys.argv[1])))
features.create(IDENTITY)
features.replace([an_update("/a.md", ["small"])])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    features.replace([an_update("/b.md", [f"{i} {'long ' * 200}" for i in range(200)])])
except StoreFull:
    print([c.text for c in features.chunks()], [p.text for p in features.search_text("small", 2)])
"""
    assert run_python(script, layout.root) == "['small'] ['small']\n"


def test_what_breaks_in_lancedb_is_a_store_error(layout: Layout, features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one"])])
    for data in (layout.features / "chunks.lance" / "data").iterdir():
        data.unlink()
    with pytest.raises(StoreError, match="cannot be used"):
        FeatureStore(layout).search_vector(np.ones(4, np.float32), 3)


# History


def test_an_earlier_version_can_be_read_and_not_written(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["first"])])
    version = features.version()
    features.replace([an_update("/a.md", ["second"]), an_update("/b.md", ["other"])])
    features.maintain()
    features.delete([document_id("/b.md")])

    earlier = features.checkout(version)
    assert texts(earlier) == ["first"]
    assert [d.text for d in earlier.documents()] == ["first"]
    assert [p.text for p in earlier.search_text("first", 3)] == ["first"]
    assert earlier.version() == version
    with pytest.raises(StoreError, match="history"):
        earlier.delete([document_id("/a.md")])
    assert texts(features) == ["second"]


def test_a_version_that_never_was_is_refused(features: FeatureStore) -> None:
    with pytest.raises(VersionNotFound, match="no version 99"):
        features.checkout(99)


# Maintenance


def test_maintenance_keeps_every_version_and_bounds_the_fragments(
    layout: Layout, features: FeatureStore
) -> None:
    import lancedb

    for number in range(40):
        features.replace([an_update(f"/{number}.md", [f"word{number}"])])
        features.remember_vectors([f"k{number}"], np.ones((1, 4), np.float32), IDENTITY)
    first = features.version() - 39
    report = features.maintain()
    assert report.optimized
    assert report.unindexed_rows == 0
    database = lancedb.connect(layout.features)
    for name in database.list_tables().tables:
        fragments = database.open_table(name).stats()["fragment_stats"]["num_fragments"]
        assert fragments <= 2, name
    assert texts(features.checkout(first)) == ["word0"]
    assert len(features.known_vectors([f"k{i}" for i in range(40)], IDENTITY)) == 40


def test_remembered_vectors_that_no_chunk_has_go_when_they_are_many(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fti.store.features.writing._CACHED_AT_LEAST", 5)
    other = IDENTITY.model_copy(update={"id": "the one before"})

    def remembered(identity: EmbedderIdentity) -> set[str]:
        return set(features.known_vectors([*current, *past], identity))

    def remember(keys: list[str], identity: EmbedderIdentity) -> None:
        rows = np.arange(4.0 * len(keys), dtype=np.float32).reshape(-1, 4)
        features.remember_vectors(keys, rows, identity)

    updates = [an_update("/a.md", ["one", "two"]), an_update("/b.md", ["three"])]
    features.replace(updates)
    current = [sha256_hex(text) for update in updates for text in update.search_texts]
    past = [sha256_hex(f"gone {number}") for number in range(4)]
    remember([*past[:2], *current], other)
    remember([*past[:3], *current], IDENTITY)
    features.maintain()
    assert len(remembered(IDENTITY)) == 6, "twice the chunks may be there"

    remember(past[3:], IDENTITY)
    kept = features.known_vectors(current, IDENTITY)
    features.maintain()

    assert remembered(IDENTITY) == set(current)
    assert len(remembered(other)) == 5, "few enough"
    found = features.known_vectors(current, IDENTITY)
    assert all(np.array_equal(found[key], kept[key]) for key in current)
    remember(past[:1], IDENTITY)
    assert remembered(IDENTITY) == {*current, past[0]}
    assert features.maintain().rows == 3


def test_no_vectors_stay_remembered_of_a_store_that_was_emptied(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fti.store.features.writing._CACHED_AT_LEAST", 0)
    features.replace([an_update("/a.md", ["one"])])
    features.remember_vectors(["0" * 64], np.ones((1, 4), np.float32), IDENTITY)
    features.delete([document_id("/a.md")])

    assert features.forget_stale_vectors() == 1
    assert features.forget_stale_vectors() == 0
    assert features.known_vectors(["0" * 64], IDENTITY) == {}


def test_maintenance_with_nothing_to_do_makes_no_version(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one"])])
    features.maintain()
    version = features.version()
    assert not features.maintain().optimized
    assert features.version() == version


@pytest.mark.parametrize("scanned", [7, 4096])
def test_the_nearest_to_many_questions_are_those_of_an_exact_search(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr(indexing, "_SCANNED", scanned)
    rng = np.random.default_rng(2)
    parts = {f"chunk {i}": rng.normal(size=4).astype(np.float32) for i in range(60)}
    parts["without direction"] = np.zeros(4, np.float32)
    features.replace([an_update("/a.md", parts)])
    questions = rng.normal(size=(9, 4)).astype(np.float32)
    table = features._searchable()

    found = indexing.nearest_of_all(table, questions, 5)

    for question, ids in zip(questions, found, strict=True):
        rows = indexing.nearest(table, question, 5, exact=True).select(["id", "_distance"])
        assert ids == set(rows.to_arrow()["id"].to_pylist())
    assert [len(ids) for ids in indexing.nearest_of_all(table, questions, 100)] == [61] * 9


@pytest.mark.parametrize(
    ("rows", "rate"), [(1000, 256), (30_000, 256), (100_000, 83), (1_000_000, 39)]
)
def test_the_sample_that_centres_are_found_with_is_bounded(rows: int, rate: int) -> None:
    assert indexing._sample_rate(rows) == rate


ALIKE = """
import sys
from pathlib import Path
import numpy as np
from fti.store.store import Store
from tests.support.features import IDENTITY, an_update

features = Store(Path(sys.argv[1])).features
features.create(IDENTITY)
one = np.array([1, 0, 0, 0], np.float32)
features.replace([an_update("/a.md", {f"chunk {i}": one for i in range(3000)})])
print(features.maintain(ann_threshold=1000).vector_index)
"""


def test_what_lancedb_notes_of_an_index_stays_out_of_a_commands_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANCEDB_LOG", raising=False)
    process = start_python(ALIKE, tmp_path / "store")
    assert process.communicate(timeout=120) == ("IvfSq\n", "")


def test_a_large_table_gets_a_vector_index_and_its_recall_is_measured(
    features: FeatureStore,
) -> None:
    rng = np.random.default_rng(1)
    parts = {f"chunk {i}": rng.normal(size=4).astype(np.float32) for i in range(1200)}
    assert features.index_recall() is None
    features.replace([an_update("/a.md", parts)])
    report = features.maintain(ann_threshold=1000)
    assert report.vector_index != "exact"
    assert report.recall_at_10 is not None
    assert report.recall_at_10 >= 0.9
    assert features.index_recall() == report.recall_at_10
    text, vector = next(iter(parts.items()))
    found = features.search_vector(vector, 1)
    assert [p.text for p in found] == [text]
    assert found[0].similarity == pytest.approx(1.0, abs=1e-5)

    measured = read_sealed(features.layout.features / "vector_index.json")
    assert features.maintain(ann_threshold=1000).recall_at_10 is None, "nothing has changed"
    more = {f"more {i}": rng.normal(size=4).astype(np.float32) for i in range(700)}
    features.replace([an_update("/more.md", more)])
    again = features.maintain(ann_threshold=1000)
    assert again.recall_at_10 is not None, "measured again as the table grows"
    assert features.index_recall() == again.recall_at_10
    kept = read_sealed(features.layout.features / "vector_index.json")
    assert (measured["rows"], kept["rows"]) == (1200, 1900)

    late = {"late": np.asarray([9, -9, 9, -9], np.float32)}
    features.replace([an_update("/b.md", late)])
    assert features.search_vector(late["late"], 1)[0].text == "late", "also before it is indexed"


def test_ledger_times_are_utc(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one"])])
    record = features.records()[0]
    assert record.attempted_at.utcoffset() is not None
    assert abs((now() - record.attempted_at).total_seconds()) < 60


def test_chunks_are_looked_up_by_key(features: FeatureStore) -> None:
    features.replace([an_update("/a.md", ["one", "two"]), an_update("/b.md", ["three"])])
    one, _, three = features.chunks()
    assert features.lookup([three.id, one.id, "c-unknown"]) == {one.id: one, three.id: three}
    assert features.lookup([]) == {}


@pytest.mark.parametrize(("most", "pylance"), [(0, False), (100, False), (100, True)])
def test_chunks_are_read_by_key_as_they_are_at_the_version(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch, most: int, pylance: bool
) -> None:
    if pylance:
        pytest.importorskip("lance")
    monkeypatch.setattr(bykey, "MOST", most)
    monkeypatch.setattr(bykey, "has_pylance", lambda: pylance)
    features.replace([an_update("/a.md", ["one", "two"]), an_update("/b.md", ["three"])])
    keys = [chunk.id for chunk in features.chunks()]
    before = features.version()
    assert [c.text for c in features.lookup([*keys, *keys]).values()] == ["one", "two", "three"]
    features.replace([an_update("/a.md", ["one", "other"])])
    features.delete([an_update("/b.md", ["three"]).document.id])
    now = [chunk.id for chunk in features.chunks()]
    assert sorted(c.text for c in features.lookup([*keys, *now]).values()) == ["one", "other"]
    assert sorted(features.checkout(before).lookup(keys)) == sorted(keys)
    assert features.lookup(["c-unknown"]) == {}


def test_an_unused_store_holds_no_key(layout: Layout) -> None:
    assert FeatureStore(layout).lookup(["c1"]) == {}
