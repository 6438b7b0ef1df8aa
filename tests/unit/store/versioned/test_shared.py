"""Versions in a bucket: the promises of version folders, between machines.

fsspec's memory is the bucket here; ``tests/e2e/test_shared_store.py`` has real servers.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fti.store.errors import DatasetNotFound, IntegrityError
from fti.store.files import bucket
from fti.store.files.atomic import dump_json
from fti.store.files.bucket import BucketStorage
from fti.store.files.places import Place
from fti.store.versioned import shared
from fti.store.versioned.versions import VersionedFolders
from tests.support.buckets import a_bucket


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with a_bucket("memory", tmp_path) as url:
        found = Place(url)
        found.write(bucket.MARKER, dump_json({"format": bucket.FORMAT, "id": "1"}))
        yield found


def machine(place: Place, folder: Path) -> VersionedFolders:
    """What one more machine sees, which keeps its copies in a folder of its own."""
    return VersionedFolders(
        folder / "datasets",
        what="dataset",
        storage=BucketStorage(place),
        not_found=DatasetNotFound,
        allowed_suffixes=[".txt"],
    )


def publish(folders: VersionedFolders, text: str, name: str = "a") -> int:
    def fill(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "x.txt").write_text(text, "utf-8")

    number, path = folders.publish(name, fill, lambda number, files: {"number": number})
    assert (path / "deep" / "x.txt").read_text("utf-8") == text
    return number


def text_of(folders: VersionedFolders, number: int, name: str = "a") -> str:
    return (folders.open(name, number) / "deep" / "x.txt").read_text("utf-8")


def test_what_one_publishes_another_reads(place: Place, tmp_path: Path) -> None:
    one, two = machine(place, tmp_path / "one"), machine(place, tmp_path / "two")
    assert two.names() == []
    with pytest.raises(DatasetNotFound, match="There is no dataset 'a'"):
        two.open("a", 1)
    assert [publish(one, "first"), publish(two, "second"), publish(two, "b", "b")] == [1, 2, 1]
    for each in (one, two):
        assert each.refs() == ["a/1", "a/2", "b/1"]
        assert each.resolve("a") == ("a", 2)
        assert [text_of(each, 1), text_of(each, 2)] == ["first", "second"]
        assert each.manifest("a", 2)["number"] == 2
        assert each.verify("a", 1) == []
        assert each.copy_out("a", 1, tmp_path / f"out-{each.root.parent.name}").is_dir()


def test_numbers_are_given_once_whatever_is_removed(place: Place, tmp_path: Path) -> None:
    one, two = machine(place, tmp_path / "one"), machine(place, tmp_path / "two")
    for text in ("1", "2", "3"):
        publish(one, text)
    assert text_of(two, 3) == "3"
    with two.locked("a", "remove"):
        assert two.remove("a", 3) == 1
    assert one.versions("a") == two.versions("a") == [1, 2]
    with pytest.raises(DatasetNotFound, match="no version 3"):
        one.path("a", 3)
    assert len(place.sizes("files")) == 2, "and its files are gone"
    assert publish(two, "4") == 4
    assert text_of(one, 4) == "4"


def test_publishers_that_take_each_other_for_dead_harm_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlocked(self: Any, key: str, **named: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    monkeypatch.setattr(BucketStorage, "locked", unlocked)
    every = [machine(place, tmp_path / str(n)) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda n: publish(every[n], f"of {n}"), range(4)))
    assert len(set(numbers)) == 4
    fresh = machine(place, tmp_path / "fresh")
    assert {number: text_of(fresh, number) for number in numbers} == {
        number: f"of {n}" for n, number in enumerate(numbers)
    }


@pytest.mark.parametrize("step", ["put", "create"])
def test_a_publication_that_breaks_off_is_not_there(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    def die(self: Place, key: str, *given: object) -> None:
        if "locks/" not in key and ".numbers" not in key:
            raise Killed
        real(self, key, *given)

    real = getattr(Place, step)
    one = machine(place, tmp_path / "one")
    monkeypatch.setattr(Place, step, die)
    with pytest.raises(Killed):
        publish(one, "never")
    monkeypatch.undo()
    two = machine(place, tmp_path / "two")
    assert two.refs() == []
    assert publish(two, "next") == 2, "its number is not given again"
    assert text_of(one, 2) == "next"


def test_files_that_broken_publications_left_are_removed_a_day_later(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine(place, tmp_path / "one")
    publish(one, "kept")
    place.write("files/0123/x.txt", b"left")
    publish(one, "too early to say", "b")
    assert place.read("files/0123/x.txt") == b"left"
    monkeypatch.setattr(shared, "_BROKEN_OFF_NS", -(10**9))
    publish(one, "the next")
    with pytest.raises(FileNotFoundError):
        place.read("files/0123/x.txt")
    fresh = machine(place, tmp_path / "fresh")
    assert [text_of(fresh, n) for n in (1, 2)] == ["kept", "the next"]
    assert text_of(fresh, 1, "b") == "too early to say"


def test_a_copy_that_is_damaged_is_made_anew(place: Place, tmp_path: Path) -> None:
    one, two = machine(place, tmp_path / "one"), machine(place, tmp_path / "two")
    publish(one, "text")
    copy = two.open("a", 1) / "deep" / "x.txt"
    copy.write_text("else", "utf-8")
    assert text_of(two, 1) == "text"
    copy.unlink()
    assert text_of(two, 1) == "text"
    (two.root / "a" / "1" / "manifest.json").write_text("{}", "utf-8")
    assert two.path("a", 1).is_dir()
    assert two.manifest("a", 1)["number"] == 1
    shutil.rmtree(two.root)
    assert text_of(two, 1) == "text"


def test_damage_in_the_bucket_is_never_copied(place: Place, tmp_path: Path) -> None:
    one, two = machine(place, tmp_path / "one"), machine(place, tmp_path / "two")
    publish(one, "text")
    (key,) = place.sizes("files")
    place.write(key, b"else")
    assert two.verify("a", 1) == ["deep/x.txt: differs from the manifest"]
    with pytest.raises(IntegrityError, match=r"deep/x\.txt: differs"):
        two.open("a", 1)
    assert not (two.root / "a" / "1").exists()
    place.write(f"{key}.txt", b"more")
    place.delete(key)
    assert two.verify("a", 1) == [
        "deep/x.txt: missing",
        "deep/x.txt.txt: not in the manifest",
    ]
    manifest = "datasets/a/1/manifest.json"
    place.write(manifest, place.read(manifest).replace(b'"number": 1', b'"number": 2'))
    assert two.verify("a", 1) == ["manifest.json was changed"]
    with pytest.raises(IntegrityError, match="was changed"):
        machine(place, tmp_path / "three").manifest("a", 1)
