"""Stores, backups and sources in an object store, over HTTP.

Each test runs against a real S3-compatible server, and against one of the tests' own that speaks
Cloud Storage's APIs to the same clients that Google's is asked by.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from fti.store.answer_types import Feedback
from fti.store.errors import InputError, StoreError
from fti.store.features.feature_store import FeatureStore
from fti.store.files.atomic import write_json
from fti.store.files.layout import Layout
from fti.store.files.places import Place
from fti.store.store import Store
from fti.store.types import now
from fti.store.upkeep.checking import check_store
from fti.store.upkeep.placing import place_store
from tests.support.command import fti, light_store
from tests.support.features import IDENTITY, an_update
from tests.support.gcs_server import gcs_server
from tests.support.object_store import BUCKET, s3_server
from tests.support.processes import kill, start_python, wait_for_line

pytestmark = pytest.mark.heavy

INGEST = """
import sys
from pathlib import Path
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.errors import StoreLocked
from fti.store.store import Store
from fti.store.types import now
from fti.store.answer_types import Feedback

store = Store(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        report = ingest(sys.argv[2:], store=store, embedder=HashingEmbedder(256),
                        config=FeatureConfig())
        break
    except StoreLocked:
        continue
print(report.added, report.unchanged, len(report.failed), flush=True)
"""


@pytest.fixture(scope="module", autouse=True, params=["s3", "gs"])
def scheme(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Of the addresses; a server runs that this process and its children reach by them."""
    scheme: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        server = s3_server() if scheme == "s3" else gcs_server(tmp_path_factory.mktemp("gcs"))
        with server as variables:
            for name, value in variables.items():
                patch.setenv(name, value)
            files = fsspec.get_filesystem_class(scheme)
            files.clear_instance_cache()
            yield scheme
            files.clear_instance_cache()


@pytest.fixture
def url(request: pytest.FixtureRequest, scheme: str) -> str:
    """A prefix of this test's own."""
    return f"{scheme}://{BUCKET}/{request.node.originalname}"


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return light_store(tmp_path, monkeypatch)


def titles(query: str, *words: str) -> list[str]:
    found = fti("search", query, "--mode", "text", *words)["passages"]
    return [passage["title"] for passage in found]


def test_a_store_in_a_bucket_is_used_like_any(docs: Path, url: str, tmp_path: Path) -> None:
    first = fti("ingest", str(docs / "kiln.md"))
    placed = fti("store", "place", url)
    assert placed["store"] == placed["features"] == url
    assert placed["files"] > 0
    assert list((tmp_path / "store" / "features").glob("*.lance")) == []

    assert titles("kiln") == ["Kiln"], "what was ingested before is found there"
    assert fti("ingest", str(docs))["added"] == 1
    assert titles("books lent") == ["Loans"]
    assert titles("books lent", "--at", str(first["features_version"])) == []
    (docs / "kiln.md").unlink()
    assert fti("ingest", str(docs), "--delete-missing")["deleted"] == 1
    assert titles("kiln") == []
    with pytest.raises(InputError, match="already"):
        fti("store", "place", f"{url}/other")

    # What is asked here is known on another machine.
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "1", "question": "How long are books lent?"}\n', "utf-8")
    batch = fti("batch", str(questions), "--table", "lent")
    answer = fti("ask", "How long are books lent?")
    said = Feedback(answer_id=answer["id"], rating="up", created_at=now())
    Store(tmp_path / "store").answers.feedback(said)
    other = tmp_path / "other"
    assert fti("store", "place", url, "--store", str(other))["joined"]
    there = Store(other)
    assert [row.id for row in there.tables.rows("lent")] == ["1"]
    assert there.runs.get(batch["run"]).status == "done"
    assert there.answers.feedback_of(answer["id"])[0].rating == "up"
    assert fti("batch", str(questions), "--table", "lent", "--store", str(other))["skipped"] == 1

    # A backup holds them, and what is restored has them in its own folder.
    backups = f"{url}/backups"
    made = fti("store", "backup", backups)
    assert made["new_bytes"] > 0
    again = fti("store", "backup", backups)
    assert (again["files"], again["new_files"]) == (made["files"], 0)
    assert fti("store", "verify", backups)["ok"]
    new = str(tmp_path / "new")
    fti("store", "restore", backups, "--store", new)
    fti("store", "migrate", "--store", new)
    checked = fti("store", "verify", "--store", new)["checked"]
    assert (checked["documents"], checked["answers"]) == (1, 2)
    assert [row.id for row in Store(tmp_path / "new").tables.rows("lent")] == ["1"]
    assert titles("books lent", "--store", new) == ["Loans"]
    assert list((tmp_path / "new" / "features").glob("*.lance"))
    fti("ingest", str(docs), "--delete-missing", "--store", new)
    (docs / "loans.md").unlink()
    fti("ingest", str(docs), "--delete-missing", "--store", new)
    assert titles("books lent") == ["Loans"], "the original is another store"


def test_a_damaged_backup_in_a_bucket_is_found(docs: Path, url: str, tmp_path: Path) -> None:
    fti("ingest", str(docs))
    fti("store", "backup", url)
    place = Place(url)
    blob = max(place.sizes("blobs"), key=place.sizes("blobs").__getitem__)
    place.write(blob, b"something else")
    assert fti("store", "verify", url, code=1)["problems"]
    with pytest.raises(StoreError, match="damaged"):
        fti("store", "restore", url, "--store", str(tmp_path / "new"))


def test_two_writers_of_one_place_lose_and_double_nothing(url: str, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "both.md").write_text("# Both\n\nBoth bring this.\n", "utf-8")
    writers = []
    try:
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            for number in range(3):
                text = f"# {name} {number}\n\nNumber {number} of {name}.\n"
                (folder / f"{number}.md").write_text(text, "utf-8")
            root = tmp_path / f"root-{name}"
            place_store(Store(root), url)
            writers.append(start_python(INGEST, root, folder, tmp_path / "shared", stdin=True))
        for writer in writers:
            assert wait_for_line(writer) == "ready"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        done = sorted(wait_for_line(writer) for writer in writers)
    finally:
        for writer in writers:
            kill(writer)
    assert done == ["3 1 0", "4 0 0"], "what both bring is taken once"
    for name in ("one", "two"):
        store = Store(tmp_path / f"root-{name}")
        found = check_store(store)
        assert not found.problems
        assert found.checked["documents"] == 7
        assert found.checked["chunks"] == 7
    assert Place(url).sizes("writer"), "each held the lease"


def test_of_two_conditional_puts_one_succeeds(url: str) -> None:
    place = Place(url)
    place.create("here", b"1")
    with pytest.raises(FileExistsError):
        place.create("here", b"2")
    assert place.read("here") == b"1"
    place.delete("here")
    place.delete("here")
    assert place.sizes("") == {}


def test_a_store_is_not_put_where_another_is(url: str, tmp_path: Path) -> None:
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    for store in (first, second):
        store.features.create(IDENTITY)
        store.features.replace([an_update("/a.md", ["one"])])
    place_store(first, url)
    with pytest.raises(InputError, match="both hold a store"):
        place_store(second, url)
    assert second.features.stats().chunks == 1, "and nothing was lost"
    with pytest.raises(StoreError, match="since this process opened"):
        first.runs.start("ingest")


def test_features_that_lie_there_are_used_or_refused(url: str, tmp_path: Path) -> None:
    """As a store left them whose features alone were put into a bucket."""
    first, second, third = (Store(tmp_path / name) for name in ("first", "second", "third"))
    for store in (first, second):
        store.features.create(IDENTITY)
        store.features.replace([an_update("/a.md", ["one"])])
    place = Place(url)
    for file in (tmp_path / "first" / "features").rglob("*"):
        if file.is_file() and ".lance/" in file.as_posix():
            place.put(file.relative_to(tmp_path / "first" / "features").as_posix(), file)
    with pytest.raises(InputError, match="both hold features"):
        place_store(second, url)
    assert Store(tmp_path / "second").features.stats().chunks == 1
    write_json(tmp_path / "old" / "format.json", {"format": 1, "features": url})
    old = Store(tmp_path / "old")
    assert old.features.stats().chunks == 1
    with old.runs.running("ingest"):
        pass
    with pytest.raises(InputError, match=f"features lie at '{url}' already"):
        place_store(old, f"{url}/elsewhere")
    done = place_store(old, url)
    assert (done.shared, done.joined) == (True, False)
    assert place_store(third, url).joined
    for name in ("old", "third"):
        store = Store(tmp_path / name)
        assert store.features.stats().chunks == 1
        assert [run.status for run in store.runs.list()] == ["done"]


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path, scheme: str) -> None:
    nowhere = f"{scheme}://nowhere/x"
    with pytest.raises(StoreError, match=nowhere):
        place_store(Store(tmp_path), nowhere)
    Layout(tmp_path).placed_at(nowhere)
    layout = Layout(tmp_path)
    with pytest.raises(StoreError, match=nowhere):
        FeatureStore(layout).create(IDENTITY)


def test_objects_of_a_bucket_become_documents(docs: Path, url: str) -> None:
    place = Place(url)
    place.write("a.md", b"# Apple\n\nAn apple a day.")
    place.write("deep/b.txt", b"Bread is baked at night.")
    assert fti("ingest", url)["added"] == 2
    assert titles("baked bread") == ["B"]
    place.write("a.md", b"# Apple\n\nTwo apples a day.")
    place.delete("deep/b.txt")
    again = fti("ingest", url, "--delete-missing")
    assert (again["updated"], again["deleted"]) == (1, 1)
    place.write("b.md", b"# Bread\n\nBread is baked at night.")
    cut = fti("ingest", url, "--delete-missing", "--set", "features.sources.max_pages=1", code=3)
    assert cut["deleted"] == 0, "what was not looked at is not gone"
