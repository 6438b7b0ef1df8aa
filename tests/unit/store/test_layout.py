"""The store's root: made once, recognised, refused when newer or no store at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store.errors import StoreError, StoreFormatError, StoreLocked
from store.layout import FORMAT, Layout


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
