"""LanceDB without what a store never calls: the rest of it is there when it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

USED = """
import sys
from concurrent.futures import ThreadPoolExecutor
from fti.store.lance.library import lancedb
with ThreadPoolExecutor(4) as pool:
    assert len({id(each) for each in pool.map(lambda _: lancedb(), range(4))}) == 1
put_off = {"lance_namespace", "lance_namespace_urllib3_client", "overrides", "pandas", "urllib3"}
assert not put_off & set(sys.modules), put_off & set(sys.modules)

import pyarrow as pa
there = lancedb().connect(sys.argv[1])
table = there.create_table("numbers", data=pa.table({"n": [1, 2]}))
assert there.list_tables().tables == ["numbers"], there.list_tables()
import lance_namespace
assert type(there.list_tables()) is lance_namespace.ListTablesResponse
from lancedb import db
assert db.TableNotFoundError is lance_namespace.TableNotFoundError

assert list(table.to_pandas()["n"]) == [1, 2]
import pandas
assert pa.array(pandas.Series([1.0, None])).null_count == 1
table.add(pandas.DataFrame({"n": [3]}))
assert table.count_rows() == 3
import overrides
assert overrides.override.__module__ == "overrides.overrides"
"""

OTHER = """
import importlib.metadata, sys
real = importlib.metadata.version
importlib.metadata.version = lambda name: "99.0" if name == "lancedb" else real(name)
from fti.store.lance.library import lancedb
lancedb()
assert "lance_namespace" in sys.modules
"""


def run(code: str, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_what_was_put_off_comes_when_it_is_called(tmp_path: Path) -> None:
    run(USED, str(tmp_path))


def test_a_release_that_was_not_looked_through_is_imported_whole() -> None:
    run(OTHER)


NAMED = """
import sys
from datetime import timedelta
from pathlib import Path
import pyarrow as pa
from fti.store.lance.connection import Lance
lance = Lance(Path(sys.argv[1]) / "tables", chunks="chunks", max_age=timedelta(0))
assert lance.names() == []
for name in ("vectors_ab", "chunks"):
    lance.ensure(name, pa.schema([pa.field("n", pa.int64())]))
(lance.folder / "notes.lance").write_text("no table")
assert lance.names() == ["chunks", "vectors_ab"], lance.names()
assert "lance_namespace" not in sys.modules
assert list(lance._connect().list_tables().tables) == lance.names()
"""


def test_tables_are_named_without_the_client_for_catalogs(tmp_path: Path) -> None:
    run(NAMED, str(tmp_path))
