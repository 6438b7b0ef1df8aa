"""Promises of the store that hold wherever it lies.

Modules that use the fixture ``anywhere`` run twice, with stores in their folders and with stores in
a bucket, which fsspec's memory stands for. Tests that look at the files of a folder, or start other
processes, are marked ``in_a_folder``, and run once; ``tests/e2e`` has real servers for those.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fti.store.files import bucket, layout
from fti.store.files.atomic import dump_json, write_json
from fti.store.files.places import Place
from tests.support.buckets import a_bucket


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "anywhere" in metafunc.fixturenames:
        once = metafunc.definition.get_closest_marker("in_a_folder")
        metafunc.parametrize(
            "anywhere", ["folder"] if once else ["folder", "bucket"], indirect=True
        )


@pytest.fixture
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Stores at ``tmp_path`` or ``tmp_path/store``, which lie there or in a bucket."""
    if request.param == "folder":
        yield
        return
    with a_bucket("memory", tmp_path) as url:
        for name in (".", "store"):
            at = f"{url}/{name.replace('.', 'root')}"
            Place(at).write(bucket.MARKER, dump_json({"format": bucket.FORMAT, "id": name}))
            root = tmp_path / name
            write_json(root / "format.json", {"format": layout.PLACED, "store": at})
        yield
