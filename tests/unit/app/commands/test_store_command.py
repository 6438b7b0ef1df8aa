"""Backups and checks through the command line: what is printed, and the exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fti.app.cli import app
from fti.store.errors import InputError, StoreFormatError
from fti.store.store import Store
from tests.unit.store.upkeep.test_backup import fill, upload


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fill(tmp_path / "store")


def fti(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["store", *words, "--json"])
    if isinstance(done.exception, InputError | StoreFormatError):
        raise done.exception
    assert done.exit_code == code, (done.stdout, done.exception)
    return json.loads(done.stdout)


def test_backup_list_verify_and_restore(store: Store, tmp_path: Path) -> None:
    root, place = str(store.layout.root), str(tmp_path / "backups")
    assert fti("backups", place) == {"backups": []}
    done = fti("backup", place, "--store", root)
    assert done["new_files"] > 0
    (listed,) = fti("backups", place)["backups"]
    assert (listed["id"], listed["root"], listed["files"]) == (done["backup"], root, done["files"])
    assert fti("verify", place) == {
        "ok": True, "checked": {"backups": 1, "files": done["new_files"]}, "problems": [],
    }  # fmt: skip
    again = str(tmp_path / "again")
    assert fti("restore", place, "--store", again)["store"] == again
    checked = fti("verify", "--store", again)
    assert checked["ok"]
    assert checked["checked"]["chunks"] == 3
    with pytest.raises(InputError, match="not an empty folder"):
        fti("restore", place, "--store", again)


def test_verify_exits_with_1_and_names_what_is_wrong(store: Store, tmp_path: Path) -> None:
    root, place = str(store.layout.root), tmp_path / "backups"
    fti("backup", str(place), "--store", root)
    (store.models.path("reader/1") / "card.md").write_text("changed", "utf-8")
    found = fti("verify", "--store", root, code=1)
    assert [p["where"] for p in found["problems"]] == ["model reader/1"]
    next(place.glob("blobs/*/*")).write_bytes(b"")
    assert not fti("verify", str(place), code=1)["ok"]


def test_migrate_settles_a_moved_store(store: Store, tmp_path: Path) -> None:
    source = upload(store, "note.txt", "The kiln fires.")
    here = str(tmp_path / "elsewhere")
    shutil.move(store.layout.root, here)
    assert not fti("verify", "--store", here, code=1)["ok"]
    done = fti("migrate", "--store", here)
    assert done == {"format": 1, "formats": [], "moved": True, "uploads": [source]}
    assert fti("verify", "--store", here)["ok"]
    assert fti("migrate", "--store", here)["moved"] is False


def test_a_store_of_a_newer_fti_is_not_migrated_back(store: Store) -> None:
    (store.layout.root / "format.json").write_text('{"format": 99}', "utf-8")
    with pytest.raises(StoreFormatError, match="format 99"):
        fti("migrate", "--store", str(store.layout.root))
