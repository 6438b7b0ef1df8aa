"""A whole store in a bucket: moved there, killed while it is, and used by machines that share it.

Each test runs against a real S3-compatible server, and against one of the tests' own that speaks
Cloud Storage's APIs. A machine is a process with a folder of its own.
"""

from __future__ import annotations

import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fti.store.answer_types import Feedback, Usage
from fti.store.errors import InputError, IntegrityError, StoreError, StoreFormatError, StoreLocked
from fti.store.files import bucket
from fti.store.files.atomic import dump_json, write_json, writer_lock
from fti.store.files.layout import Layout
from fti.store.files.places import Place
from fti.store.store import Store
from fti.store.types import now
from fti.store.upkeep.backup import back_up, restore
from fti.store.upkeep.checking import check_store
from fti.store.upkeep.moving import settle
from fti.store.upkeep.placing import place_store
from tests.support.buckets import a_bucket
from tests.support.processes import start_python

pytestmark = pytest.mark.heavy

#: A store that an earlier version made; see ``test_old_store.py``.
ARCHIVE = Path(__file__).parents[1] / "data" / "store-b0c5e89.tar.xz"


@pytest.fixture(scope="module", params=["s3", "gs"])
def where(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a bucket."""
    with a_bucket(request.param, tmp_path_factory.mktemp("bucket")) as url:
        yield url


@pytest.fixture
def url(request: pytest.FixtureRequest, where: str) -> str:
    """A prefix of this test's own."""
    return f"{where}/{request.node.name.partition('[')[0]}"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which there is something of everything. Not to be changed."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    store = Store(folder / "store")
    settle(store)
    store.models.promote("reader", 1, "champion", reason="it is there")
    store.models.mark("reader/1", "pin", reason="the first")
    answer = store.answers.list()[0]
    said = Feedback(answer_id=answer.id, rating="down", correction="At ten.", created_at=now())
    store.answers.feedback(said)
    store.answers.review(answer.id, "accepted")
    store.keys.create("somebody")
    store.usage.add("k-1", Usage(prompt_tokens=3, completion_tokens=4), requests=1)
    store.usage.flush()
    store.rejected.append(
        stream="s", position="1", source="a", reason="odd", record=b"\xff{", question=True
    )
    store.pipelines.write("nightly", {})
    return folder / "store"


@pytest.fixture
def root(old: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(old, tmp_path / "store")
    settle(Store(tmp_path / "store"))
    return tmp_path / "store"


def told(root: Path) -> dict[str, Any]:
    """All that a store tells of itself."""
    store = Store(root)
    return {
        "documents": sorted(entry.record.source for entry in store.features.ledger()),
        "versions": store.features.history.versions(),
        "models": [(v, store.models.verify(v.ref)) for v in store.models.list()],
        "weights": {
            v.ref: sorted((p.name, p.stat().st_size) for p in store.models.open(v.ref).iterdir())
            for v in store.models.list()
        },
        "aliases": store.models.aliases("reader"),
        "moves": store.models.history("reader"),
        "marks": store.models.marks("reader"),
        "datasets": [
            (d, len([*store.datasets.rows(d.ref, "train")])) for d in store.datasets.list()
        ],
        "cases": [(c, store.cases.cases(c.ref)) for c in store.cases.list()],
        "runs": store.runs.list(),
        "kept": {
            (run.id, name): [*store.runs.attached(run.id, name)]
            for run in store.runs.list()
            for name in store.runs.attachments(run.id)
        },
        "answers": store.answers.list(),
        "said": store.answers.all_feedback(),
        "corrections": store.answers.corrections(),
        "keys": store.keys.list(),
        "usage": store.usage.list(days=3000),
        "rejected": [*store.rejected.list()],
        "tables": {name: [*store.tables.rows(name)] for name in store.tables.names()},
        "pipelines": store.pipelines.names(),
    }


def test_a_store_that_was_moved_tells_what_it_told(root: Path, url: str, tmp_path: Path) -> None:
    before = told(root)
    done = place_store(Store(root), url)
    assert (done.joined, done.versions) == (False, 3)
    assert done.bytes > 0
    moved = {"models", "datasets", "cases", "runs", "answers", "rejected", "usage", "pipelines",
             "tables", "keys.json"}  # fmt: skip
    assert not moved & {path.name for path in root.iterdir()}
    assert not list(root.glob("features/*"))
    assert told(root) == before
    assert not check_store(Store(root)).problems

    other = tmp_path / "other"
    assert place_store(Store(other), url).joined
    assert told(other) == before
    shutil.rmtree(other / "cache")
    assert told(other) == before, "copies are fetched again"
    weights = next((other / "cache" / "models" / "reader" / "1").glob("*.safetensors"))
    weights.write_bytes(b"something else")
    assert told(other) == before, "and where one is damaged"
    assert place_store(Store(other), url).files == 0, "again is nothing"

    made = back_up(Layout(root), Place(str(tmp_path / "backups")))
    again = back_up(Layout(root), Place(str(tmp_path / "backups")))
    assert (again.files, again.new_files) == (made.files, 0)
    restore(Place(str(tmp_path / "backups")), tmp_path / "back")
    assert Layout(tmp_path / "back").store_url == ""
    assert told(tmp_path / "back") == before
    assert (tmp_path / "back" / "models" / "reader" / "1" / "manifest.json").is_file()


def test_what_is_damaged_in_the_bucket_is_found(root: Path, url: str) -> None:
    place_store(Store(root), url)
    place = Place(url)
    (weights,) = [key for key in place.sizes("files") if key.endswith(".safetensors")]
    place.write(weights, b"something else")
    store = Store(root)
    assert store.models.verify("reader/1") == [f"{Path(weights).name}: differs from the manifest"]
    assert [p.where for p in check_store(store).problems] == ["model reader/1"]
    store.models.open("reader/1")  # the copy here is as published
    shutil.rmtree(root / "cache")
    with pytest.raises(IntegrityError, match="not as published"):
        Store(root).models.open("reader/1")
    key = next(key for key in place.sizes("models") if "aliases.json" in key)
    place.write(key, b"{")
    with pytest.raises(IntegrityError, match=f"{url}/models/reader/aliases.json"):
        Store(root).models.aliases("reader")


MOVE = """
import os, shutil, signal, sys
from pathlib import Path
from fti.store.files import layout
from fti.store.files.places import Place
from fti.store.store import Store
from fti.store.upkeep.placing import place_store

root, url, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
done = 0

def counted(real):
    def call(*args, **named):
        global done
        done += 1
        if done > last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **named)
    return call

store = Store(root)
for owner, name in ((Place, "put"), (Place, "write"), (Place, "create"), (Place, "delete"),
                    (layout, "write_json"), (shutil, "rmtree"), (Path, "unlink"), (Path, "rename")):
    setattr(owner, name, counted(getattr(owner, name)))
place_store(store, url)
print(done)
"""


def move(root: Path, url: str, *, last: int) -> int | None:
    """Move a store in a process that is killed after so many steps; how many they are in all."""
    process = start_python(MOVE, root, url, last)
    out, err = process.communicate(timeout=200)
    if process.returncode == -signal.SIGKILL:
        return None
    assert process.returncode == 0, err
    return int(out)


@pytest.mark.timeout(600)
def test_a_move_that_is_killed_anywhere_leaves_one_store(
    root: Path, url: str, tmp_path: Path
) -> None:
    before = told(root)
    shutil.copytree(root, tmp_path / "first")
    steps = move(tmp_path / "first", f"{url}/first", last=10**9)
    assert steps is not None
    # Fewer in the middle, where it copies, and each at the end, where it switches over.
    switch = steps - 45
    points = [6, steps // 2, *range(switch, steps, 9), steps - 1]
    where = set()
    for point in points:
        here, at = tmp_path / f"at-{point}", f"{url}/{point}"
        shutil.copytree(root, here)
        settle(Store(here))
        assert move(here, at, last=point) is None
        placed = Layout(here).store_url
        assert placed in ("", at)
        assert (bucket.marker(Place(at)) is None) == (placed == "")
        where.add(placed == "")
        assert told(here) == before, point
        with Store(here).runs.running("ingest") as run:  # it goes on, wherever it lies
            pass
        assert place_store(Store(here), at).store == at
        other = tmp_path / f"other-{point}"
        assert place_store(Store(other), at).joined
        for machine in (here, other):
            found = told(machine)
            assert found["runs"][0].id == run.id
            assert {**found, "runs": found["runs"][1:]} == before, point
        assert not list(here.glob("features/*.lance"))
        shutil.rmtree(here)
    assert where == {True, False}, "it was killed before and after the switch"


def test_while_a_store_is_moved_nobody_changes_it(root: Path, url: str) -> None:
    opened = Store(root)
    with opened.runs.running("ingest"), pytest.raises(InputError, match="goes on in the store"):
        place_store(Store(root), url)
    with writer_lock(root / "moving.lock", timeout_s=1, what="store place"):
        write_json(
            root / "format.json",
            {"format": 2, "moving": {"url": url, "id": "1", "switching": False}},
        )
        for change in (
            lambda: opened.runs.start("ingest"),
            lambda: opened.keys.create("x"),
            lambda: opened.models.promote("reader", 1, "next", reason=""),
            lambda: Store(root),
        ):
            with pytest.raises(StoreLocked, match="is moved to"):
                change()
    opened.keys.create("x")
    place_store(Store(root), url)
    with pytest.raises(StoreError, match="Start it again"):
        opened.keys.create("y")
    assert [key.name for key in Store(root).keys.list()] == ["somebody", "x"]


def test_places_that_are_taken_are_refused(root: Path, url: str, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "second")
    with pytest.raises(InputError, match="is a folder"):
        place_store(Store(root), str(tmp_path / "elsewhere"))
    Place(f"{url}/broken").write("moving.json", dump_json({"id": "another"}))
    with pytest.raises(InputError, match="broke off"):
        place_store(Store(root), f"{url}/broken")
    place_store(Store(root), f"{url}/one")
    with pytest.raises(InputError, match=f"lies at '{url}/one' already"):
        place_store(Store(root), f"{url}/two")
    with pytest.raises(InputError, match="both hold a store"):
        place_store(Store(tmp_path / "second"), f"{url}/one")
    assert told(tmp_path / "second") == told(root)
    Place(f"{url}/newer").write(bucket.MARKER, dump_json({"format": 99, "id": "1"}))
    with pytest.raises(StoreFormatError, match="format 99"):
        place_store(Store(tmp_path / "new"), f"{url}/newer")
