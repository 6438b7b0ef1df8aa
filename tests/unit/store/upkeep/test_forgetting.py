"""Forgetting a document: it is gone from the files themselves, and the others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fti.store.errors import StoreLocked
from fti.store.lance import shapes
from fti.store.store import Store
from fti.store.types import document_id, sha256_hex
from fti.store.upkeep.checking import check_store
from fti.store.upkeep.forgetting import erase
from tests.support.features import IDENTITY, an_update
from tests.unit.store.upkeep.test_backup import upload

SECRET = "/docs/secret.md"
WORD = "swordfish"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two documents, one of them secret and changed once, with remembered vectors."""
    store = Store(tmp_path / "store")
    store.features.create(IDENTITY)
    store.features.replace([an_update("/docs/other.md", ["one", "two"])])
    for text in (f"the {WORD} of old", f"the new {WORD}"):
        update = an_update(SECRET, [text])
        store.features.replace([update])
        keys = [sha256_hex(t) for t in update.search_texts]
        store.features.remember_vectors(keys, np.ones((1, 4), np.float32), IDENTITY)
    store.features.maintain()
    return store


def files_with(root: Path, word: str) -> list[str]:
    return [str(p) for p in root.rglob("*") if p.is_file() and word.encode() in p.read_bytes()]


def forget(store: Store, source: str = SECRET) -> object:
    return erase(store, document_id(source), source)


def test_no_file_of_the_store_holds_it_any_more(store: Store) -> None:
    assert files_with(store.layout.root, WORD)
    erased = erase(store, document_id(SECRET), SECRET)
    assert (erased.chunks, erased.cached_vectors, erased.kept_by_tags) == (1, 1, ())
    assert erased.old_versions > 0
    assert files_with(store.layout.root, WORD) == []
    assert files_with(store.layout.root, "secret.md") == []


def test_the_other_documents_stay_and_are_found(store: Store) -> None:
    forget(store)
    again = Store(store.layout.root)
    assert [d.source for d in again.features.documents()] == ["/docs/other.md"]
    assert again.features.search_text("two", 1)[0].text == "two"
    assert again.features.search_vector(np.ones(4, np.float32), 5)
    assert again.features.identity() == IDENTITY
    assert check_store(again).problems == ()
    again.features.replace([an_update("/docs/third.md", ["three"])])
    assert again.features.search_text("three", 1)


def test_an_open_reader_goes_on(store: Store) -> None:
    reader = Store(store.layout.root)
    assert reader.features.search_text(WORD, 1)
    forget(store)
    assert reader.features.search_text(WORD, 1) == []
    assert reader.features.search_text("two", 1)


def test_one_that_was_deleted_before_is_erased_from_old_versions(store: Store) -> None:
    store.features.delete([document_id(SECRET)])
    assert files_with(store.layout.root, WORD)
    forget(store)
    assert files_with(store.layout.features, "secret.md") == []
    assert not [f for f in files_with(store.layout.features, WORD) if "vectors" not in f]


def test_a_tagged_version_keeps_it_and_that_is_said(store: Store) -> None:
    store.features._lance.open(shapes.CHUNKS).tags.create("before-move", 2)
    erased = erase(store, document_id(SECRET), SECRET)
    assert erased.kept_by_tags == ("before-move",)
    assert store.features.search_text(WORD, 1) == []
    store.features._lance.open(shapes.CHUNKS).tags.delete("before-move")
    assert erase(store, document_id(SECRET), SECRET).kept_by_tags == ()
    assert files_with(store.layout.root, WORD) == []


def test_caches_rejected_records_and_an_uploaded_file_go_too(store: Store) -> None:
    source = upload(store, "note.txt", f"an uploaded {WORD}")
    store.layout.results.mkdir()
    for name in "ab":
        (store.layout.results / f"{name}.jsonl").write_text('{"reply": "of a model"}\n', "utf-8")
    store.rejected.append(stream="s", position="1", source=source, reason="r", record=b"x")
    store.rejected.append(stream="s", position="2", source="other", reason="r", record=b"y")
    erased = erase(store, document_id(source), source)
    assert (erased.cached_scores, erased.rejected_records, erased.uploaded_file) == (2, 1, True)
    assert not store.layout.results.exists()
    assert [r.source for r in store.rejected.list()] == ["other"]
    assert not list(store.layout.uploads.iterdir())


def test_a_file_outside_of_the_store_is_named_and_left(store: Store, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text", "utf-8")
    store.features.replace([an_update(str(page), ["text"])])
    assert erase(store, document_id(str(page)), str(page)).file == str(page)
    assert page.exists()


def test_nothing_is_erased_while_another_process_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(store.layout.root)
    real = other.layout.writing
    monkeypatch.setattr(other.layout, "writing", lambda what: real(what, timeout_s=0.05))
    with store.layout.writing("an ingest"), pytest.raises(StoreLocked):
        forget(other)
    assert store.features.search_text(WORD, 1)
