"""Places: what their clients raise is named as the store's."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from fti.store.errors import StoreError
from fti.store.files.places import Place
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
