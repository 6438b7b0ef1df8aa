"""The ledger's lines: found by file, in order, and by document, however many there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fti.store.features.feature_store import FeatureStore
from fti.store.features.ledger import LedgerLines
from fti.store.files.layout import Layout
from fti.store.lance.shapes import LedgerEntry
from fti.store.types import SourceRecord, document_id, now
from tests.support.features import IDENTITY, an_update


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(Layout(tmp_path / "store"))
    store.create(IDENTITY)
    return store


def line(source: str, file: str, duplicate_of: str = "") -> LedgerEntry:
    record = SourceRecord(
        id=document_id(source),
        source=source,
        title=source,
        state="failed",
        cause="broken",
        attempted_at=now(),
        duplicate_of=duplicate_of,
    )
    return LedgerEntry(record, file, "0" * 64)


def test_lines_are_found_by_file_in_order_of_source(features: FeatureStore) -> None:
    # More than are read at a time, one file's across that border, names not in order of arrival.
    files = ["/b.zip", *(f"/{n:04}.md" for n in range(700, 0, -1)), "/ü.md", "/a.zip"]
    entries = [
        *(line(f"/b.zip!/{n:03}", "/b.zip") for n in range(299, -1, -1)),
        *(line(file, file) for file in files if not file.endswith(".zip")),
        line("/a.zip!/one", "/a.zip"),
    ]
    features.note(entries)

    lines = features.lines()

    assert list(lines.files()) == sorted(files)
    assert [e.record.source for e in lines.of_file("/b.zip")] == [
        f"/b.zip!/{n:03}" for n in range(300)
    ]
    by_source = {e.record.source: e for e in entries}
    assert all(lines.of_file(f) == [by_source[f]] for f in files if f.endswith(".md"))
    for absent in ("", "/0000.md", "/0350", "/b.zip!", "/z"):
        assert lines.of_file(absent) == []
    assert {e.record.source: e for e in lines} == by_source


def test_lines_stay_as_they_were_when_they_were_asked_for(features: FeatureStore) -> None:
    features.note([line("/a.md", "/a.md")])
    before = features.lines()
    features.note([line("/b.md", "/b.md")])
    assert list(before.files()) == ["/a.md"]
    assert list(features.lines().files()) == ["/a.md", "/b.md"]


def test_a_store_that_was_never_filled_has_no_lines(tmp_path: Path) -> None:
    unused = FeatureStore(Layout(tmp_path / "unused"))
    for lines in (unused.lines(), LedgerLines()):
        assert list(lines) == list(lines.files()) == lines.of_file("/a.md") == []
    assert unused.entries(["d"]) == unused.near_duplicates() == {}
    ids, signatures = unused.signatures()
    assert ids == []
    assert len(signatures) == 0


def test_lines_are_found_by_document(features: FeatureStore) -> None:
    entries = [line(f"/{n}.md", f"/{n}.md") for n in range(5)]
    features.note(entries)
    wanted = [entries[3].record.id, entries[1].record.id, "absent", entries[3].record.id]
    assert features.entries(wanted) == {e.record.id: e for e in (entries[1], entries[3])}
    assert features.entries([]) == {}


def test_only_what_is_marked_counts_as_a_near_duplicate(features: FeatureStore) -> None:
    features.note([line("/a.md", "/a.md"), line("/c.md", "/c.md", "/a.md")])
    features.note([line("/b.md", "/b.md", "/a.md")])
    assert list(features.near_duplicates().items()) == [("/b.md", "/a.md"), ("/c.md", "/a.md")]


def test_noting_leaves_all_else_of_a_document(features: FeatureStore) -> None:
    # More than are written at a time, known and unknown ones together.
    update = replace(an_update("/a.md", ["one"], metadata={"k": "v"}), signature=bytes(8))
    features.replace([update])
    again = update.entry.record.model_copy(update={"cause": "noted", "duplicate_of": "/b.md"})
    others = [line(f"/{n:03}.md", f"/{n:03}.md") for n in range(300)]
    features.note([*others, replace(update.entry, record=again)])
    assert features.document("/a.md") == update.document
    assert features.signatures()[0] == [update.document.id]
    assert len(features.records()) == 301
    assert features.record("/a.md") == again


def test_signatures_are_those_of_documents_that_are_served(features: FeatureStore) -> None:
    first, second, bare = (an_update(f"/{name}.md", [name]) for name in ("a", "b", "c"))
    signed = [
        replace(first, signature=bytes(range(8))),
        replace(second, signature=bytes(range(8, 16))),
        bare,
        replace(an_update("/empty.md", []), signature=bytes(8)),
    ]
    features.replace(signed)

    ids, signatures = features.signatures()

    assert dict(zip(ids, map(bytes, signatures), strict=True)) == {
        first.document.id: bytes(range(8)),
        second.document.id: bytes(range(8, 16)),
    }
    assert ids == sorted(ids)
    assert signatures.dtype == np.uint8


def test_a_name_is_meant_in_either_form_of_unicode(features: FeatureStore) -> None:
    composed, taken_apart = "/Bücher/Öfen.md", "/Bu\u0308cher/O\u0308fen.md"
    features.replace([an_update(taken_apart, ["one"])])
    for name in (composed, taken_apart, "Öfen.md", "Bu\u0308cher/Öfen.md"):
        assert [r.source for r in features.find_document(name)] == [taken_apart], name
    features.replace([an_update(composed, ["two"])])
    for name in (composed, taken_apart):
        assert [r.source for r in features.find_document(name)] == [name], "the exact one first"
