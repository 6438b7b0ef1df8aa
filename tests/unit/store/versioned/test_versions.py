"""Version folders: all or nothing, numbered for good, checked to the byte."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fti.store.errors import (
    DatasetNotFound,
    InputError,
    IntegrityError,
    InvalidName,
    StoreError,
    StoreFull,
)
from fti.store.versioned.manifests import digest
from fti.store.versioned.versions import MANIFEST, VersionedFolders, check_name
from tests.support.processes import kill, run_python, start_python, wait_for_line

Fill = Callable[[Path], None]


@pytest.fixture
def folders(tmp_path: Path) -> VersionedFolders:
    return VersionedFolders(
        tmp_path / "root",
        what="dataset",
        not_found=DatasetNotFound,
        allowed_suffixes={".json", ".txt"},
    )


def _publish(folders: VersionedFolders, name: str = "faq", fill: Fill | None = None) -> int:
    return folders.publish(name, fill or _two_files, lambda n, files: {"number": n})[0]


def _two_files(folder: Path) -> None:
    (folder / "a.txt").write_text("one", "utf-8")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.json").write_text("{}", "utf-8")


def test_versions_are_numbered_from_one_and_listed(folders: VersionedFolders) -> None:
    assert folders.names() == []
    assert [_publish(folders), _publish(folders), _publish(folders, "other")] == [1, 2, 1]
    assert folders.names() == ["faq", "other"]
    assert folders.versions("faq") == [1, 2]
    assert folders.versions("absent") == []


def test_versions_sort_as_numbers(folders: VersionedFolders) -> None:
    for _ in range(11):
        _publish(folders)
    assert folders.versions("faq") == list(range(1, 12))
    assert folders.resolve("faq") == ("faq", 11)


def test_the_manifest_lists_every_file_with_its_hash(folders: VersionedFolders) -> None:
    _publish(folders)
    manifest = folders.manifest("faq", 1)
    assert manifest["number"] == 1
    assert [(f["path"], f["bytes"]) for f in manifest["files"]] == [("a.txt", 3), ("sub/b.json", 2)]
    assert manifest["files"][0]["sha256"] == (
        "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    )


def test_a_reference_names_a_version(folders: VersionedFolders) -> None:
    _publish(folders)
    _publish(folders)
    assert folders.resolve("faq") == ("faq", 2)
    assert folders.resolve("faq/latest") == ("faq", 2)
    assert folders.resolve("faq/1") == ("faq", 1)


@pytest.mark.parametrize("ref", ["faq/", "faq/0", "faq/01", "faq/-1", "faq/x", "faq/1/2", "faq/²"])
def test_what_is_no_number_is_refused(folders: VersionedFolders, ref: str) -> None:
    _publish(folders)
    with pytest.raises(InvalidName, match="is not a version number"):
        folders.resolve(ref)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "A", "-a", ".a", "a b", "a\n", "é", "a" * 65, "a\x00", "/abs"],
)
def test_names_are_plain(folders: VersionedFolders, name: str) -> None:
    with pytest.raises(InvalidName, match="is not a name for a dataset"):
        _publish(folders, name)
    with pytest.raises(InvalidName):
        check_name(name, "dataset")
    assert not folders.root.exists()


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-1", "a" * 64, "1..2"])
def test_plain_names_are_taken(folders: VersionedFolders, name: str) -> None:
    assert _publish(folders, name) == 1


def test_what_is_not_there_is_answered_with_what_is(folders: VersionedFolders) -> None:
    with pytest.raises(DatasetNotFound, match="No dataset is published yet"):
        folders.resolve("faq")
    _publish(folders)
    _publish(folders)
    with pytest.raises(DatasetNotFound, match=r"no version 9 of dataset 'faq'.*are: 1, 2\."):
        folders.resolve("faq/9")
    with pytest.raises(DatasetNotFound, match=r"no dataset 'fag'.*Did you mean 'faq'\?.*is: faq"):
        folders.resolve("fag")


def test_a_long_list_of_versions_is_shortened(folders: VersionedFolders) -> None:
    for _ in range(12):
        _publish(folders)
    with pytest.raises(DatasetNotFound, match=r"are: \.\.\., 3, 4, .*, 12\."):
        folders.path("faq", 99)


def test_an_untouched_version_verifies(folders: VersionedFolders) -> None:
    _publish(folders)
    assert folders.verify("faq", 1) == []
    assert folders.open("faq", 1) == folders.root / "faq" / "1"


def _change_byte(folder: Path) -> None:
    (folder / "a.txt").write_text("onf", "utf-8")


def _remove_file(folder: Path) -> None:
    (folder / "sub" / "b.json").unlink()


def _add_file(folder: Path) -> None:
    (folder / "sub" / "new.txt").write_text("", "utf-8")


def _add_other_kind(folder: Path) -> None:
    (folder / "run.pkl").write_bytes(b"")


def _link_instead(folder: Path) -> None:
    same = folder.parent / "same.txt"
    same.write_text("one", "utf-8")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(same)


def _link_folder_instead(folder: Path) -> None:
    (folder / "sub").rename(folder.parent / "moved")
    (folder / "sub").symlink_to(folder.parent / "moved")


def _pipe_instead(folder: Path) -> None:
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")


def _no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _change_manifest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text("utf-8")
    (folder / MANIFEST).write_text(text.replace('"number": 1', '"number": 2'), "utf-8")


def _break_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff{")


def _unsealed_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"files": []}', "utf-8")


def _list_as_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]", "utf-8")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (_change_byte, ["a.txt: differs from the manifest"]),
        (_remove_file, ["sub/b.json: missing"]),
        (_add_file, ["sub/new.txt: not in the manifest"]),
        (_add_other_kind, ["run.pkl: not in the manifest"]),
        (_link_instead, ["a.txt: it is a symbolic link"]),
        (_link_folder_instead, ["sub/b.json: missing", "sub: not in the manifest"]),
        (_pipe_instead, ["a.txt: it is a special file"]),
        (_no_manifest, ["manifest.json: missing"]),
        (_change_manifest, ["manifest.json was changed"]),
    ],
)
def test_verify_says_what_is_not_as_published(
    folders: VersionedFolders, damage: Fill, found: list[str]
) -> None:
    _publish(folders)
    damage(folders.root / "faq" / "1")
    assert folders.verify("faq", 1) == found
    with pytest.raises(IntegrityError, match=r"faq/1 is not as published"):
        folders.open("faq", 1)


@pytest.mark.parametrize("damage", [_break_manifest, _unsealed_manifest, _list_as_manifest])
def test_a_manifest_that_cannot_be_read_is_a_problem_not_a_crash(
    folders: VersionedFolders, damage: Fill
) -> None:
    _publish(folders)
    damage(folders.root / "faq" / "1")
    (problem,) = folders.verify("faq", 1)
    assert "manifest.json cannot be read" in problem
    with pytest.raises(IntegrityError, match="cannot be read"):
        folders.manifest("faq", 1)


def test_a_version_that_is_a_link_is_refused(folders: VersionedFolders) -> None:
    _publish(folders)
    home = folders.root / "faq"
    (home / "2").symlink_to(home / "1")
    assert folders.verify("faq", 2) == ["the version is a symbolic link"]
    with pytest.raises(IntegrityError, match="symbolic link"):
        folders.open("faq", 2)


@pytest.mark.parametrize(
    "path", ["/etc/passwd.txt", "../2/a.txt", "sub//b.json", "a.pkl", ".a.txt"]
)
def test_a_manifest_that_lists_a_foreign_path_is_refused(
    folders: VersionedFolders, path: str
) -> None:
    _publish(folders)
    _forge(folders.root / "faq" / "1", [{"path": path, "sha256": "0" * 64, "bytes": 1}])
    (problem,) = folders.verify("faq", 1)
    assert f"lists {path!r}" in problem


@pytest.mark.parametrize("files", [None, 3, [3], [{"path": "a.txt"}]])
def test_a_manifest_that_lists_no_files_is_refused(
    folders: VersionedFolders, files: object
) -> None:
    _publish(folders)
    _forge(folders.root / "faq" / "1", files)
    (problem,) = folders.verify("faq", 1)
    assert "manifest.json lists no files" in problem


def _forge(folder: Path, files: object) -> None:
    """A manifest whose own hash is right."""
    body = {"files": files}
    sealed = body | {"manifest_sha256": digest(body)}
    (folder / MANIFEST).write_text(json.dumps(sealed), "utf-8")


def _symlink(folder: Path) -> None:
    (folder / "a.txt").symlink_to("/etc/hostname")


def _symlinked_folder(folder: Path) -> None:
    (folder / "sub").symlink_to("/etc")


def _pickle(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"")


def _hidden(folder: Path) -> None:
    (folder / ".a.txt").write_bytes(b"")


def _newline(folder: Path) -> None:
    (folder / "a\nb.txt").write_bytes(b"")


def _own_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"{}")


@pytest.mark.parametrize(
    ("fill", "why"),
    [
        (_symlink, "'a.txt' cannot be published in a dataset: it is a symbolic link"),
        (_symlinked_folder, "'sub' cannot be published in a dataset: it is a symbolic link"),
        (_pickle, r"'\.bin' files are not allowed.*end in \.json, \.txt"),
        (_hidden, "its path is not plain"),
        (_newline, "its path is not plain"),
        (_own_manifest, "its name is taken"),
        (lambda folder: None, "nothing to publish"),
    ],
)
def test_publishing_refuses_what_a_version_may_not_hold(
    folders: VersionedFolders, fill: Fill, why: str
) -> None:
    with pytest.raises(StoreError, match=why):
        _publish(folders, fill=fill)
    assert folders.names() == []
    assert list((folders.root / "faq").iterdir()) == []
    assert _publish(folders) == 1


def test_a_full_disk_while_publishing_leaves_nothing(
    folders: VersionedFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(folders)

    def full(folder: Path) -> None:
        (folder / "a.txt").write_text("half", "utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreFull):
        _publish(folders, fill=full)
    assert [p.name for p in (folders.root / "faq").iterdir()] == ["1"]


def test_a_deleted_number_is_never_given_again(folders: VersionedFolders) -> None:
    for _ in range(3):
        _publish(folders)
    shutil.rmtree(folders.root / "faq" / "3")
    assert folders.versions("faq") == [1, 2]
    assert _publish(folders) == 4
    shutil.rmtree(folders.root / "faq")
    assert _publish(folders) == 5


def test_a_store_copied_without_its_hidden_files_goes_on_counting(
    folders: VersionedFolders,
) -> None:
    _publish(folders)
    _publish(folders)
    shutil.rmtree(folders.root / ".numbers")
    assert _publish(folders) == 3


def test_an_unreadable_highest_number_is_named(folders: VersionedFolders) -> None:
    _publish(folders)
    (folders.root / ".numbers" / "faq").write_text("many", "utf-8")
    with pytest.raises(StoreError, match=r"\.numbers/faq.*highest number"):
        _publish(folders)


def test_a_folder_without_a_manifest_is_no_version_and_keeps_its_number(
    folders: VersionedFolders,
) -> None:
    _publish(folders)
    (folders.root / "faq" / "2").mkdir()
    (folders.root / "faq" / "2" / "a.txt").write_text("half", "utf-8")
    assert folders.versions("faq") == [1]
    assert folders.resolve("faq") == ("faq", 1)
    with pytest.raises(IntegrityError, match=r"faq/2 has no manifest\.json"):
        folders.resolve("faq/2")
    assert _publish(folders) == 3


def test_a_number_taken_past_the_lock_is_skipped(
    folders: VersionedFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(folders)
    _publish(folders)
    monkeypatch.setattr(folders, "_next_number", lambda name: 1)
    assert _publish(folders) == 3
    assert folders.manifest("faq", 3)["number"] == 3
    assert folders.verify("faq", 3) == []


PUBLISH = """
import sys
from pathlib import Path
from fti.store.errors import DatasetNotFound
from fti.store.versioned.versions import VersionedFolders
folders = VersionedFolders(Path(sys.argv[1]), what="dataset", not_found=DatasetNotFound,
                           allowed_suffixes={".txt"})
def fill(folder):
    (folder / "a.txt").write_text(sys.argv[2])
"""


def test_two_processes_publish_under_different_numbers(folders: VersionedFolders) -> None:
    script = PUBLISH + (
        "for _ in range(10): print(folders.publish('faq', fill, lambda n, files: {})[0])"
    )
    processes = [start_python(script, folders.root, who) for who in ("ada", "bob")]
    given = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert err == ""
        given.append([int(n) for n in out.split()])
    assert sorted(given[0] + given[1]) == list(range(1, 21))
    for who, numbers in zip(("ada", "bob"), given, strict=True):
        for number in numbers:
            assert (folders.path("faq", number) / "a.txt").read_text("utf-8") == who
    assert [folders.verify("faq", n) for n in range(1, 21)] == [[]] * 20


@pytest.mark.parametrize(
    "crash",
    [
        "os.rename = Path.rename = lambda *a: os._exit(9)",
        "fti.store.versioned.versions.fsync_tree = lambda *a: os._exit(9)",
        "fti.store.versioned.versions.write_bytes = lambda *a: os._exit(9)",
    ],
)
def test_a_crash_before_the_rename_leaves_nothing_to_see(
    folders: VersionedFolders, crash: str
) -> None:
    _publish(folders)
    script = PUBLISH + (
        f"import os, fti.store.versioned.versions\n{crash}\n"
        "folders.publish('faq', fill, lambda n, files: {})\nprint('published')"
    )
    process = start_python(script, folders.root, "half")
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (9, "")
    home = folders.root / "faq"
    assert len(list(home.glob(".staged-*"))) == 1
    assert folders.versions("faq") == [1]
    assert folders.names() == ["faq"]
    number = _publish(folders)
    assert number in (2, 3)
    assert sorted(p.name for p in home.iterdir()) == ["1", str(number)]


def test_a_killed_publisher_does_not_block_the_next(folders: VersionedFolders) -> None:
    script = PUBLISH + (
        "def slow(folder):\n"
        "    import time\n"
        "    fill(folder)\n"
        "    print('filling', flush=True)\n"
        "    time.sleep(600)\n"
        "folders.publish('faq', slow, lambda n, files: {})"
    )
    process = start_python(script, folders.root, "half")
    assert wait_for_line(process) == "filling"
    kill(process)
    assert _publish(folders) == 1
    assert [p.name for p in (folders.root / "faq").iterdir()] == ["1"]


def test_a_version_is_read_in_another_process(folders: VersionedFolders) -> None:
    _publish(folders)
    script = PUBLISH.replace('".txt"', '".txt", ".json"') + "print(folders.open('faq', 1))"
    assert run_python(script, folders.root, "").strip() == str(folders.root / "faq" / "1")


def test_copying_out_gives_the_files_and_the_manifest(
    folders: VersionedFolders, tmp_path: Path
) -> None:
    _publish(folders)
    out = folders.copy_out("faq", 1, tmp_path / "deep" / "out")
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == [
        "a.txt",
        MANIFEST,
        "sub/b.json",
    ]
    assert json.loads((out / MANIFEST).read_text("utf-8"))["number"] == 1


def test_copying_out_fills_an_empty_folder_and_overwrites_nothing(
    folders: VersionedFolders, tmp_path: Path
) -> None:
    _publish(folders)
    out = tmp_path / "out"
    out.mkdir()
    folders.copy_out("faq", 1, out)
    before = sorted(out.iterdir())
    (tmp_path / "file").write_text("mine", "utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for taken in (out, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(InputError, match=r"is there already.*--out"):
            folders.copy_out("faq", 1, taken)
    assert sorted(out.iterdir()) == before
    assert (tmp_path / "file").read_text("utf-8") == "mine"


def test_a_damaged_version_is_not_copied_out(folders: VersionedFolders, tmp_path: Path) -> None:
    _publish(folders)
    _change_byte(folders.root / "faq" / "1")
    with pytest.raises(IntegrityError, match=r"a\.txt: differs"):
        folders.copy_out("faq", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_copying_that_fails_half_way_leaves_nothing(
    folders: VersionedFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(folders)
    copy = shutil.copyfile

    def copy_wrongly(source: Path, target: Path, **options: bool) -> None:
        copy(source, target, **options)
        if target.name == "b.json":
            target.write_text("changed under way", "utf-8")

    monkeypatch.setattr(shutil, "copyfile", copy_wrongly)
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new"):
        with pytest.raises(IntegrityError, match=r"sub/b\.json changed while it was copied"):
            folders.copy_out("faq", 1, out)
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "new").exists()
