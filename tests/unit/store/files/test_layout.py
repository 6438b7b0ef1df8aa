"""The store's root: made once, recognised, refused when newer or no store at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fti.store.errors import StoreError, StoreFormatError, StoreLocked
from fti.store.files import layout as layout_module
from fti.store.files.atomic import dump_json, write_json, writer_lock
from fti.store.files.layout import FORMAT, Layout
from fti.store.files.places import Place
from tests.support.buckets import a_bucket
from tests.support.processes import start_python, wait_for_line


def test_opening_makes_the_root_and_marks_its_format(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "deep" / "store")
    assert json.loads((layout.root / "format.json").read_text("utf-8"))["format"] == FORMAT
    assert [p.name for p in layout.root.iterdir()] == ["format.json"]


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    Layout(tmp_path)
    before = (tmp_path / "format.json").read_bytes()
    Layout(tmp_path)
    assert (tmp_path / "format.json").read_bytes() == before


def test_everything_lies_under_the_root(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    folders = [
        layout.features,
        layout.datasets,
        layout.cases,
        layout.models,
        layout.runs,
        layout.answers,
        layout.results,
        layout.checkpoints,
    ]
    assert {folder.parent for folder in folders} == {tmp_path}
    assert len(set(folders)) == len(folders)


def test_the_root_does_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout(Path("store"))
    monkeypatch.chdir("/")
    assert layout.root == tmp_path / "store"
    assert layout.root.is_dir()


def test_a_newer_format_is_refused_with_the_way_to_upgrade(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_text(json.dumps({"format": FORMAT + 1}), "utf-8")
    with pytest.raises(StoreFormatError, match=f"format {FORMAT + 1}.*pip install --upgrade"):
        Layout(tmp_path)


@pytest.mark.parametrize(
    "marker",
    ["", "{", "[]", "null", "{}", '{"format": null}', '{"format": "1"}', '{"format": 0}', "\x00"],
)
def test_an_unreadable_marker_is_refused(tmp_path: Path, marker: str) -> None:
    (tmp_path / "format.json").write_text(marker, "utf-8")
    with pytest.raises(StoreError, match=r"format\.json.*cannot be read"):
        Layout(tmp_path)


def test_a_marker_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(StoreError, match="cannot be read"):
        Layout(tmp_path)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("", "utf-8")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        Layout(path)
    with pytest.raises(StoreError, match="cannot be used"):
        Layout(path / "below")


def test_a_marker_that_is_a_folder_and_a_name_too_long_are_store_errors(tmp_path: Path) -> None:
    (tmp_path / "format.json").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        Layout(tmp_path)
    with pytest.raises(StoreError, match="cannot be used: File name too long"):
        Layout(tmp_path / ("x" * 300))


def test_an_unknown_home_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        Layout(Path("~nobody-of-this-name/store"))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with (
        layout.writing("first"),
        pytest.raises(StoreLocked, match="first"),
        Layout(tmp_path).writing("second", timeout_s=0.05),
    ):
        pytest.fail("two writers at once")
    with layout.writing("third", timeout_s=0):
        pass


def test_a_format_that_changes_while_the_store_is_open_is_noticed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.require_format()
    marker = tmp_path / "format.json"
    body = marker.read_text("utf-8")
    write_json(marker, {**json.loads(body), "format": FORMAT + 1})
    for _ in range(2):
        with pytest.raises(StoreFormatError, match="pip install --upgrade"):
            layout.require_format()
    marker.write_text(body, "utf-8")
    layout.require_format()


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An fti that writes format 2, made of format 1 by adding a file."""
    monkeypatch.setattr(layout_module, "FORMAT", 2)
    monkeypatch.setattr(
        layout_module, "MIGRATIONS", {1: lambda root: write_json(root / "added.json", {})}
    )


def test_a_store_that_was_moved_while_its_marker_was_read_is_not_taken_for_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_bucket("memory", tmp_path) as url:
        layout = Layout(tmp_path)
        with layout.moving(url):
            pass  # that move broke off: the folder is the store, and is written to
        assert Layout(tmp_path).store_url == ""
        layout.require_format()

        def moved_now(lock: Path) -> bool:
            monkeypatch.undo()
            layout.placed_at(url)
            return False

        monkeypatch.setattr(layout_module, "is_locked", moved_now)
        assert Layout(tmp_path).store_url == url
        with pytest.raises(StoreError, match="Start it again"):
            layout.require_format()


def test_while_it_is_not_known_where_a_store_lies_it_is_not_opened(tmp_path: Path) -> None:
    """Killed at the switch, and the bucket cannot be asked whether that was done."""
    with a_bucket("memory", tmp_path) as url:
        Layout(tmp_path).switching(f"{url}/at", "1")
        assert Layout(tmp_path).store_url == ""
        Place(f"{url}/at").write("format.json", b"{")
        with pytest.raises(StoreError, match="cannot be read"):
            Layout(tmp_path)
        Place(f"{url}/at").write("format.json", dump_json({"format": 2, "id": "2"}))
        assert Layout(tmp_path).store_url == "", "of another store"
        Place(f"{url}/at").write("format.json", dump_json({"format": 2, "id": "1"}))
        assert Layout(tmp_path).store_url == f"{url}/at"
    assert Layout(tmp_path).store_url == f"{url}/at", "and is not asked again"


def marked(root: Path, found: int) -> Path:
    (root / "format.json").write_text(json.dumps({"format": found}), "utf-8")
    return root


@pytest.mark.usefixtures("newer")
def test_an_older_format_is_refused_until_it_is_migrated(tmp_path: Path) -> None:
    marked(tmp_path, 1)
    with pytest.raises(StoreFormatError, match=r"has format 1; this fti writes 2.*store migrate"):
        Layout(tmp_path)
    opened = Layout(tmp_path, migrating=True)
    assert opened.migrate() == [2]
    assert (tmp_path / "added.json").exists()
    assert Layout(tmp_path).format() == 2
    assert Layout(tmp_path).migrate() == []


@pytest.mark.usefixtures("newer")
def test_a_migration_that_breaks_off_keeps_the_format_it_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(root: Path) -> None:
        raise OSError("no space")

    monkeypatch.setitem(layout_module.MIGRATIONS, 1, fails)
    opened = Layout(marked(tmp_path, 1), migrating=True)
    with pytest.raises(OSError, match="no space"):
        opened.migrate()
    assert opened.format() == 1


@pytest.mark.usefixtures("newer")
def test_nobody_writes_while_a_store_is_migrated(tmp_path: Path) -> None:
    opened = Layout(marked(tmp_path, 1), migrating=True)
    with (
        writer_lock(tmp_path / "writer.lock", timeout_s=1, what="an ingest"),
        pytest.raises(StoreLocked, match="an ingest"),
    ):
        opened.migrate()
    assert opened.format() == 1


OLDER_PROCESS = """
import sys
from pathlib import Path
from fti.store.errors import StoreFormatError
from fti.store.store import Store
from tests.support.features import IDENTITY, an_update
from tests.support.values import a_contract, an_answer, publish_adapter

store = Store(Path(sys.argv[1]))
store.features.create(IDENTITY)
print("open", flush=True)
sys.stdin.readline()  # meanwhile a newer fti migrates the store
files = Path(sys.argv[2])
refused = []
for name, write in {
    "features": lambda: store.layout.writing("ingest").__enter__(),
    "models": lambda: publish_adapter(store, files, a_contract()),
    "runs": lambda: store.runs.start("ingest"),
    "answers": lambda: store.answers.append(an_answer("a-20260301-000000000001")),
}.items():
    try:
        write()
    except StoreFormatError as error:
        refused.append(name)
        assert "pip install --upgrade" in error.hint
print(*refused, flush=True)
"""


@pytest.mark.usefixtures("newer")
def test_an_older_fti_that_still_runs_refuses_to_write_after_a_migration(tmp_path: Path) -> None:
    root, files = tmp_path / "store", tmp_path / "files"
    files.mkdir()
    (files / "card.md").write_text("a card", "utf-8")
    older = start_python(OLDER_PROCESS, root, files, stdin=True)
    assert wait_for_line(older) == "open"
    before = {p for p in root.rglob("*") if p.is_file()}
    assert Layout(root, migrating=True).migrate() == [2]
    out, err = older.communicate("go on\n", timeout=120)
    assert out.split() == ["features", "models", "runs", "answers"], err
    left = {p.name for p in root.rglob("*") if p.is_file()} - {p.name for p in before}
    assert left <= {"added.json", "writer.lock", "reader.lock", "sums.jsonl"}


def test_a_url_is_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is not a folder") as refused:
        Layout(Path("s3://bucket/prefix"))
    assert "fti store place" in refused.value.hint
    assert list(tmp_path.iterdir()) == []
