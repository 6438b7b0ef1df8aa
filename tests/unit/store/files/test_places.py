"""Places: what their clients raise is named as the store's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from fti.store.errors import StoreError
from fti.store.files.places import Place
from tests.support.buckets import a_bucket
from tests.support.gcs_server import SECRET, gcs_server


def test_a_bucket_that_refuses_is_named_by_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gcs_server(tmp_path) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        refused = f"'gs://{SECRET}/x' cannot be used: Anonymous caller does not have access"
        with pytest.raises(StoreError, match=refused):
            Place(f"gs://{SECRET}/x").write("a", b"1")
        fsspec.get_filesystem_class("gs").clear_instance_cache()


def test_a_conditional_write_that_met_another_is_told_as_one_that_came_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S3 answers 409 while the other is under way, and 412 once it is done."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    def refuse(code: str) -> Callable[..., None]:
        def pipe_file(*args: object, **named: object) -> None:
            raise translate_boto_error(ClientError({"Error": {"Code": code}}, "PutObject"))

        return pipe_file

    place = Place("s3://bucket/prefix")
    monkeypatch.setattr(place._files, "pipe_file", refuse("ConditionalRequestConflict"))
    with pytest.raises(FileExistsError, match="a"):
        place.create("a", b"1")
    monkeypatch.setattr(place._files, "pipe_file", refuse("SlowDown"))
    with pytest.raises(StoreError, match="cannot be used"):
        place.create("a", b"1")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_what_another_wrote_beside_what_was_listed_is_read(scheme: str, tmp_path: Path) -> None:
    with a_bucket(scheme, tmp_path) as url:
        ours, theirs = Place(f"{url}/seen"), Place(f"{url}/seen")
        theirs._files = fsspec.filesystem(scheme, skip_instance_cache=True)  # of another process
        ours.write("folder/a", b"1")
        assert ours.sizes("folder") == {"folder/a": 1}
        theirs.write("folder/b", b"22")
        theirs.write("folder/a", b"333")
        assert ours.read("folder/b") == b"22"
        assert ours.digest("folder/b") == hashlib.sha256(b"22").hexdigest()
        assert ours.sizes("folder") == {"folder/a": 3, "folder/b": 2}
        found = ours.read_all(["folder/a", "folder/b", "folder/c"])
        assert found == {"folder/a": b"333", "folder/b": b"22"}
        assert ours.read_all(["folder/c"]) == {}
        theirs.delete("folder/b")
        with pytest.raises(FileNotFoundError):
            ours.read("folder/b")
