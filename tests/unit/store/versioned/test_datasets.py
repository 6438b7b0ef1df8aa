"""Dataset versions: a file per split, one digest, rows that are what was published."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fti.store.errors import DatasetNotFound, InputError, IntegrityError, InvalidName, StoreError
from fti.store.files.layout import Layout
from fti.store.types import DatasetVersion, InstructionExample, Message, Split
from fti.store.versioned.datasets import DatasetStore
from tests.support.processes import run_python
from tests.support.values import EMBEDDER, a_pair, a_passage, a_row

ROWS: dict[Split, list[InstructionExample]] = {
    "train": [a_row("r1"), a_row("r2", kind="heading", question="Größe\u2028好?")],
    "test": [a_row("r3", "test", kind="unanswerable", answer="", citations=(), passages=())],
}


pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def datasets(tmp_path: Path) -> DatasetStore:
    return DatasetStore(Layout(tmp_path / "store"))


def _publish(datasets: DatasetStore, name: str = "faq", **changes: Any) -> DatasetVersion:
    fields: dict[str, Any] = {
        "rows": ROWS,
        "features_version": 7,
        "embedder": EMBEDDER,
        "prompt_digest": "5" * 64,
        "run_id": "r-20260301-120000-0123ab",
    }
    return datasets.publish(name, **(fields | changes))


def test_a_name_that_no_dataset_can_have_can_be_refused_before_the_work(
    datasets: DatasetStore,
) -> None:
    datasets.check_name("hand-book")
    with pytest.raises(InvalidName, match="hand/book"):
        datasets.check_name("hand/book")


def test_a_published_version_says_what_it_holds(datasets: DatasetStore) -> None:
    version = _publish(datasets, settings={"seed": 1})
    assert version.ref == "faq/1"
    assert version.rows == {"train": 2, "validation": 0, "test": 1}
    assert version.kinds == {"cloze": 1, "heading": 1, "unanswerable": 1}
    assert version.documents == {"train": ("d-train",), "validation": (), "test": ("d-test",)}
    assert [f.path for f in version.files] == ["test.jsonl", "train.jsonl"]
    assert version.settings == {"seed": 1}
    assert version == datasets.get("faq/1") == datasets.get("faq") == datasets.get("faq/latest")


def test_rows_come_back_as_they_went_in(datasets: DatasetStore) -> None:
    _publish(datasets)
    assert list(datasets.rows("faq", "train")) == ROWS["train"]
    assert list(datasets.rows("faq/1", "test")) == ROWS["test"]
    assert list(datasets.rows("faq", "validation")) == []


def test_the_same_rows_have_the_same_digest_and_other_rows_another(
    datasets: DatasetStore,
) -> None:
    first = _publish(datasets)
    again = _publish(datasets, "other", run_id="r-20270101-000000-0123ab")
    turned = _publish(datasets, rows={**ROWS, "train": ROWS["train"][::-1]})
    moved = _publish(datasets, rows={"train": ROWS["train"]})
    assert first.digest == again.digest
    assert len({first.digest, turned.digest, moved.digest}) == 3


def test_named_documents_are_kept(datasets: DatasetStore) -> None:
    version = _publish(datasets, documents={"train": ["b", "a"], "validation": ["c"]})
    assert version.documents == {"train": ("a", "b"), "validation": ("c",), "test": ()}


def test_a_document_on_two_sides_of_the_split_is_refused(datasets: DatasetStore) -> None:
    shared = {
        "train": [a_row("r1", documents=("d1",))],
        "test": [a_row("r2", "test", documents=("d1",))],
    }
    with pytest.raises(StoreError, match="'d1' stands in the splits 'train' and 'test'"):
        _publish(datasets, rows=shared)
    with pytest.raises(StoreError, match="'d1' stands"):
        _publish(datasets, documents={"train": ["d1"], "test": ["d1"]})
    assert datasets.names() == []


def test_a_row_under_another_split_and_a_doubled_id_are_refused(datasets: DatasetStore) -> None:
    with pytest.raises(StoreError, match="'r1' says split 'train' and stands under 'test'"):
        _publish(datasets, rows={"test": [a_row("r1")]})
    with pytest.raises(StoreError, match="Two rows have the id 'r1'"):
        _publish(datasets, rows={"train": [a_row("r1")], "test": [a_row("r1", "test")]})


@pytest.mark.parametrize("rows", [{}, {"train": [], "test": []}])
def test_a_dataset_without_rows_is_refused(datasets: DatasetStore, rows: Any) -> None:
    with pytest.raises(StoreError, match="has no rows"):
        _publish(datasets, rows=rows)
    assert datasets.list() == []


def test_versions_are_listed_by_name_then_number(datasets: DatasetStore) -> None:
    for name in ("b", "a", "b"):
        _publish(datasets, name)
    assert [v.ref for v in datasets.list()] == ["a/1", "b/1", "b/2"]
    assert [v.ref for v in datasets.list("b")] == ["b/1", "b/2"]
    assert datasets.names() == ["a", "b"]


def test_what_is_not_there_is_answered_with_what_is(datasets: DatasetStore) -> None:
    with pytest.raises(DatasetNotFound, match="No dataset is published yet"):
        datasets.get("faq")
    _publish(datasets)
    with pytest.raises(DatasetNotFound, match=r"Its versions are: 1\."):
        datasets.get("faq/2")
    with pytest.raises(DatasetNotFound, match="There is: faq"):
        datasets.list("other")
    with pytest.raises(DatasetNotFound, match=r"no split 'dev'.*train, validation, test"):
        datasets.rows("faq", "dev")  # type: ignore[arg-type]
    with pytest.raises(InvalidName):
        datasets.get("../faq")


@pytest.mark.in_a_folder("its files")
def test_changed_and_missing_rows_are_refused_before_the_first_is_given(
    datasets: DatasetStore,
) -> None:
    _publish(datasets)
    path = datasets.path("faq") / "train.jsonl"
    path.write_text(path.read_text("utf-8").replace("nine", "five"), "utf-8")
    with pytest.raises(IntegrityError, match=r"train\.jsonl.*fti dataset build faq"):
        datasets.rows("faq", "train")
    assert datasets.verify("faq") == ["train.jsonl: differs from the manifest"]
    assert len(list(datasets.rows("faq", "test"))) == 1
    path.unlink()
    with pytest.raises(IntegrityError):
        datasets.rows("faq", "train")


def test_rows_behind_a_link_are_refused(datasets: DatasetStore, tmp_path: Path) -> None:
    _publish(datasets)
    path = datasets.path("faq") / "train.jsonl"
    shutil.move(path, tmp_path / "train.jsonl")
    path.symlink_to(tmp_path / "train.jsonl")
    with pytest.raises(IntegrityError):
        datasets.rows("faq", "train")


def test_a_manifest_of_another_shape_is_named(
    datasets: DatasetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = DatasetVersion.model_dump
    monkeypatch.setattr(
        DatasetVersion, "model_dump", lambda self, **options: dump(self, **options) | {"later": 1}
    )
    with pytest.raises(IntegrityError, match=r"later.*pip install --upgrade"):
        _publish(datasets)


@pytest.mark.in_a_folder("several processes")
def test_another_process_reads_the_same_rows(datasets: DatasetStore, tmp_path: Path) -> None:
    _publish(datasets)
    script = """
import sys
from pathlib import Path
from fti.store.versioned.datasets import DatasetStore
from fti.store.files.layout import Layout
datasets = DatasetStore(Layout(Path(sys.argv[1])))
print([row.id for row in datasets.rows("faq", "train")])
"""
    assert run_python(script, tmp_path / "store").strip() == "['r1', 'r2']"


def test_preference_pairs_come_back_as_they_went_in(datasets: DatasetStore) -> None:
    pairs = {
        "train": [a_pair("p1"), a_pair("p2", kind="correction")],
        "test": [a_pair("p3", "test")],
    }
    version = _publish(datasets, "liked", rows=pairs, statistics={"rows": 3})

    assert (version.kind, version.statistics) == ("preference", {"rows": 3})
    assert version.kinds == {"correction": 1, "wrong_passage": 2}
    assert list(datasets.pairs("liked", "train")) == pairs["train"]
    assert list(datasets.examples("liked", "test")) == pairs["test"]
    assert list(datasets.pairs("liked", "validation")) == []


def test_rows_and_pairs_are_not_taken_for_one_another(datasets: DatasetStore) -> None:
    _publish(datasets)
    _publish(datasets, "liked", rows={"train": [a_pair()]})

    assert list(datasets.examples("faq", "train")) == ROWS["train"]
    with pytest.raises(
        InputError, match="liked/1 holds preference pairs, and instruction rows are"
    ):
        datasets.rows("liked", "train")
    with pytest.raises(InputError, match="faq/1 holds instruction rows, and preference pairs are"):
        datasets.pairs("faq", "train")


@pytest.mark.heavy
def test_the_files_load_with_the_datasets_library(datasets: DatasetStore, tmp_path: Path) -> None:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    passages = (a_passage(metadata={"lang": "de"}, section=("A",), similarity=0.5), a_passage())
    messages = (Message(role="user", content="Q"),)
    rows = {
        "train": [a_row("r1"), a_row("r2", passages=passages, messages=messages)],
        "test": ROWS["test"],
    }
    _publish(datasets, rows=rows)
    folder = datasets.path("faq")
    loaded = load_dataset(
        "json",
        data_files={s: str(folder / f"{s}.jsonl") for s in ("train", "test")},
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded["train"]["id"][:] == ["r1", "r2"]
    assert loaded["train"][1]["messages"] == [{"role": "user", "content": "Q"}]
    assert loaded["train"][1]["passages"][0]["text"] == "The hall opens at nine."
    assert loaded["test"].num_rows == 1
