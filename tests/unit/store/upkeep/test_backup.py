"""Backups: what is copied, what comes back, and what is refused; a folder and a remote place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fti.store.answer_types import Feedback
from fti.store.errors import (
    BackupNotFound,
    ConfigError,
    InputError,
    IntegrityError,
    StoreError,
    StoreFormatError,
    StoreLocked,
)
from fti.store.files import layout as layouts
from fti.store.files.layout import Layout
from fti.store.files.places import Place
from fti.store.lance.shapes import LedgerEntry
from fti.store.store import Store
from fti.store.types import sha256_hex
from fti.store.upkeep.backup import back_up, backups, check, find_backup, restore
from fti.store.upkeep.checking import check_store
from fti.store.upkeep.moving import is_upload, settle
from tests.support.features import IDENTITY, an_update
from tests.support.values import an_answer, publish_adapter


def fill(root: Path) -> Store:
    """A store with documents, an answer, a model, a cache and a lock."""
    store = Store(root)
    store.features.create(IDENTITY)
    store.features.replace([an_update("/a.md", ["one", "two"]), an_update("/b.md", ["three"])])
    store.answers.append(an_answer("a-20260301-000000000001"))
    store.answers.feedback(Feedback(answer_id="a-20260301-000000000001", rating="up"))
    files = root.parent / "files"
    files.mkdir(exist_ok=True)
    (files / "card.md").write_text("a card", "utf-8")
    from tests.support.values import a_contract

    publish_adapter(store, files, a_contract())
    store.models.promote("reader", 1, "champion", reason="the only one")
    store.runs.finish(store.runs.start("ingest"), status="done")
    (root / "results").mkdir()
    (root / "results" / "cache.jsonl").write_text("{}\n", "utf-8")
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fill(tmp_path / "store")


@pytest.fixture(params=["folder", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A folder, and fsspec's own remote file system in memory."""
    if request.param == "folder":
        yield Place(str(tmp_path / "backups"))
        return
    found = Place(f"memory://{tmp_path.name}/backups")
    yield found
    found._files.rm("/", recursive=True)


def texts(store: Store) -> dict[str, str]:
    return {d.source: d.text for d in store.features.documents()}


def blob_files(place: Place) -> int:
    return len(place.sizes("blobs"))


def test_what_was_backed_up_comes_back_as_it_was(
    store: Store, place: Place, tmp_path: Path
) -> None:
    done = back_up(store.layout, place)
    assert done.new_files <= done.files
    made = restore(place, tmp_path / "again")
    assert made.id == done.backup
    again = Store(tmp_path / "again")
    assert texts(again) == texts(store)
    assert again.features.search_text("three", 1)[0].source == "/b.md"
    assert again.models.get("reader@champion").ref == "reader/1"
    assert again.answers.feedback_of("a-20260301-000000000001")
    settle(again)
    assert check_store(again).problems == ()
    assert check_store(again).checked["chunks"] == 3


def test_caches_and_locks_stay_behind(store: Store, place: Place, tmp_path: Path) -> None:
    back_up(store.layout, place)
    restore(place, tmp_path / "again")
    there = {p.name for p in (tmp_path / "again").rglob("*")}
    assert "format.json" in there
    assert not there & {"results", "writer.lock", "writer.owner", ".locks", "locks"}


def test_the_next_backup_copies_only_what_changed(store: Store, place: Place) -> None:
    first = back_up(store.layout, place)
    second = back_up(store.layout, place)
    assert (second.new_files, second.files) == (0, first.files)
    store.features.replace([an_update("/c.md", ["four"])])
    third = back_up(store.layout, place)
    assert 0 < third.new_files < third.files
    assert [b.id for b in backups(place)] == [first.backup, second.backup, third.backup]


def test_an_earlier_backup_stays_what_it_was(store: Store, place: Place, tmp_path: Path) -> None:
    first = back_up(store.layout, place)
    store.features.delete([r.id for r in store.features.records()])
    back_up(store.layout, place)
    restore(place, tmp_path / "then", identifier=first.backup)
    assert set(texts(Store(tmp_path / "then"))) == {"/a.md", "/b.md"}
    restore(place, tmp_path / "now")
    assert texts(Store(tmp_path / "now")) == {}


def test_a_copy_that_broke_off_is_made_again(store: Store, place: Place, tmp_path: Path) -> None:
    done = back_up(store.layout, place)
    file = find_backup(place, done.backup).files[0]
    place.write(f"blobs/{file.sha256[:2]}/{file.sha256}", b"")
    assert back_up(store.layout, place).new_files == 1
    assert check(place, find_backup(place)) == []


def test_a_damaged_file_is_found_and_never_restored(
    store: Store, place: Place, tmp_path: Path
) -> None:
    backup = find_backup(place, back_up(store.layout, place).backup)
    file = next(f for f in backup.files if f.path.startswith("answers/2026"))
    blob = f"blobs/{file.sha256[:2]}/{file.sha256}"
    place.write(blob, b"x" * file.bytes)
    assert check(place, backup) == [f"{file.path}: differs from its digest"]
    with pytest.raises(IntegrityError, match=r"differs from its digest\. Nothing was restored"):
        restore(place, tmp_path / "again")
    place._files.rm(place._at(blob))
    assert check(place, backup) == [f"{file.path}: missing"]
    with pytest.raises(IntegrityError, match="is missing"):
        restore(place, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".staged-*"))


def test_a_list_of_files_that_was_changed_is_refused(store: Store, place: Place) -> None:
    key = f"backups/{back_up(store.layout, place).backup}.json"
    body = json.loads(place.read(key))
    body["root"] = "/elsewhere"
    place.write(key, json.dumps(body).encode())
    with pytest.raises(IntegrityError, match="its seal does not fit"):
        find_backup(place)


def test_paths_that_lead_out_are_refused(store: Store, place: Place, tmp_path: Path) -> None:
    from fti.store.upkeep.backup import _seal

    key = f"backups/{back_up(store.layout, place).backup}.json"
    body = json.loads(place.read(key))
    del body["seal"]
    body["files"][0]["path"] = "../outside"
    place.write(key, json.dumps({**body, "seal": _seal(body)}).encode())
    with pytest.raises(IntegrityError, match="leads out of the store"):
        restore(place, tmp_path / "again")


def test_a_store_is_never_overwritten(store: Store, place: Place, tmp_path: Path) -> None:
    back_up(store.layout, place)
    with pytest.raises(InputError, match="not an empty folder"):
        restore(place, store.layout.root)
    (tmp_path / "empty").mkdir()
    restore(place, tmp_path / "empty")


def test_what_is_not_there_is_said_with_what_is(store: Store, place: Place, tmp_path: Path) -> None:
    with pytest.raises(BackupNotFound, match="There is no backup at"):
        restore(place, tmp_path / "again")
    done = back_up(store.layout, place)
    with pytest.raises(BackupNotFound) as refused:
        find_backup(place, "b-20260101-000000-000000")
    assert done.backup in refused.value.hint


def test_a_backup_of_a_newer_fti_is_refused(
    store: Store, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(store.layout, place)
    monkeypatch.setattr(layouts, "FORMAT", 0)
    with pytest.raises(StoreFormatError, match="has format 1; this fti reads up to 0"):
        restore(place, tmp_path / "again")


def test_a_place_inside_the_store_and_one_that_is_a_file_are_refused(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="lies in the store itself"):
        back_up(store.layout, Place(str(store.layout.root / "backups")))
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(InputError, match="is a file, not a folder"):
        Place(str(tmp_path / "file"))


def test_what_is_written_while_it_is_copied_matches_its_digest(
    store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is published and promoted just then."""
    changing = ("models/.numbers/reader", "models/reader/aliases.json", "answers/answers.jsonl")
    paths = [store.layout.root / name for name in changing]
    changing_now = [path for path in paths if path.exists()]
    assert paths[0] in changing_now
    put = Place.put

    def put_late(self: Place, key: str, source: Path) -> None:
        for path in changing_now:
            path.write_bytes(path.read_bytes() + b" ")
        put(self, key, source)

    monkeypatch.setattr(Place, "put", put_late)
    back_up(store.layout, place)

    assert check(place, find_backup(place)) == []


def test_a_symbolic_link_is_refused(store: Store, place: Place) -> None:
    (store.layout.root / "uploads").symlink_to(store.layout.root.parent)
    with pytest.raises(StoreError, match="is a symbolic link"):
        back_up(store.layout, place)


def test_a_backup_waits_for_a_writer_and_says_so(store: Store, place: Place) -> None:
    with store.layout.writing("an ingest"), pytest.raises(StoreLocked, match="an ingest"):
        back_up(Layout(store.layout.root), place, lock_timeout_s=0.05)
    assert backups(place) == []


def test_an_unknown_kind_of_place_and_a_missing_package_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="is no place to write to"):
        Place("nowhere://bucket")
    import fsspec.core

    def missing(url: str, **settings: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ConfigError, match="s3:// needs a package") as refused:
        Place("s3://bucket/prefix")
    assert "fti-llm[remote]" in refused.value.hint


# A store that was moved


def upload(store: Store, name: str, text: str) -> str:
    path = store.layout.uploads / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    update = an_update(str(path), [text])
    entry = LedgerEntry(update.entry.record, str(path), sha256_hex(text))
    store.features.replace([type(update)(**{
        "document": update.document, "entry": entry, "chunks": update.chunks,
        "vectors": update.vectors, "search_texts": update.search_texts,
    })])  # fmt: skip
    return str(path)


def test_a_moved_store_works_and_finds_its_uploads(store: Store, tmp_path: Path) -> None:
    source = upload(store, "note.txt", "The kiln fires.")
    shutil.move(store.layout.root, tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere")
    assert moved.features.search_text("kiln", 1)[0].source == source
    assert moved.models.verify("reader/1") == []
    assert [p.where for p in check_store(moved).problems] == ["store"]
    assert settle(moved) == [source]
    assert check_store(moved).problems == ()
    here = str(moved.layout.uploads / "note.txt")
    assert [e.file for e in moved.features.ledger() if e.record.source == source] == [here]
    assert is_upload(moved, source)
    assert is_upload(moved, here)
    assert not is_upload(moved, "/a.md")
    assert settle(moved) == []


def test_a_file_of_the_old_place_that_is_not_here_is_left_alone(
    store: Store, tmp_path: Path
) -> None:
    upload(store, "note.txt", "The kiln fires.")
    shutil.move(store.layout.root, tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere")
    (moved.layout.uploads / "note.txt").write_text("Another text.", "utf-8")
    assert settle(moved) == []
