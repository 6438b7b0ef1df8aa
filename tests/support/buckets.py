"""Buckets of a test: fsspec's memory, moto's S3, and the tests' own Cloud Storage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.support.gcs_server import gcs_server
from tests.support.object_store import BUCKET, s3_server


@contextlib.contextmanager
def a_bucket(scheme: str, folder: Path) -> Iterator[str]:
    """The address of a bucket that this process and its children reach; ``folder`` is scratch."""
    if scheme == "memory":
        yield f"memory://{folder.name}"
        fsspec.filesystem("memory").rm("/", recursive=True)
        return
    server = s3_server() if scheme == "s3" else gcs_server(folder)
    with pytest.MonkeyPatch.context() as patch, server as variables:
        for name, value in variables.items():
            patch.setenv(name, value)
        files = fsspec.get_filesystem_class(scheme)
        files.clear_instance_cache()
        yield f"{scheme}://{BUCKET}"
        files.clear_instance_cache()
