"""A turned bit in any file of a store is found, or has no effect; what is damaged is mended."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.ingesting.repair import repair
from fti.store.errors import FtiError, IntegrityError
from fti.store.files.atomic import dump_sealed, open_line, read_sealed, write_sealed
from fti.store.store import Store
from fti.store.upkeep.checking import check_store
from tests.support.flips import Contents, contents, filled, flip, without_effect


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("flips") / "store")


@pytest.fixture(scope="module")
def before(original: Path) -> Contents:
    return contents(original)


def found_by_verify(root: Path) -> str:
    try:
        problems = check_store(Store(root)).problems
    except FtiError as error:  # the marker of the store's format, before anything else
        return str(error)
    return "; ".join(f"{p.where}: {p.problem}" for p in problems)


def test_a_whole_store_has_no_problems(original: Path) -> None:
    assert found_by_verify(original) == ""
    assert check_store(Store(original)).checked["files_with_checksums"] > 10


@pytest.mark.parametrize("seed", range(24))
def test_a_turned_bit_is_found_or_has_no_effect(
    original: Path, before: Contents, seed: int
) -> None:
    with flip(original, random.Random(seed), by_file=seed % 2 > 0) as path:
        if not found_by_verify(original):
            assert without_effect(path) or contents(original) == before, path


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("features/chunks.lance/data/*", "fti doctor --repair"),
        ("features/chunks.lance/_indices/*/*", "fti doctor --repair"),
        ("features/vectors_*.lance/data/*", "fti doctor --repair"),
        ("features/documents.lance/data/*", "fti store restore PLACE"),
        ("answers/2*.jsonl", "fti store restore PLACE"),
        ("uploads/*", "upload it again"),
    ],
)
def test_what_is_damaged_comes_with_its_remedy(original: Path, pattern: str, remedy: str) -> None:
    path = sorted(original.glob(pattern))[0]
    for where in (0.1, 0.5, 0.9):
        with flip(original, random.Random(1), path=path, where=where):
            assert remedy in found_by_verify(original), where


@pytest.mark.parametrize("table", ["chunks", "vectors_*"])
def test_damaged_vectors_are_made_anew_from_the_stored_texts(tmp_path: Path, table: str) -> None:
    root = filled(tmp_path / "store")
    was = contents(root)
    data = sorted(root.glob(f"features/{table}.lance/data/*"))[0]
    with flip(root, random.Random(1), path=data, keep=True):
        assert "fti doctor --repair" in found_by_verify(root)
        done = repair(store=Store(root), embedder=HashingEmbedder(64), config=FeatureConfig())
        assert [name.partition("_")[0] for name in done.tables_remade] == [table.partition("_")[0]]
        assert done.left == ()
    assert found_by_verify(root) == ""
    assert contents(root).chunks == was.chunks


@pytest.mark.parametrize(
    "pattern",
    [
        "documents.lance/_transactions/*",
        "documents.lance/_versions/*614.manifest",
        "documents.lance/sums.jsonl",
        "chunks.lance/_indices/*/*",
        "chunks.lance/_versions/*614.manifest",
        "vectors_*.lance/_versions/*",
    ],
)
def test_what_holds_no_rows_of_today_is_written_anew(
    tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = filled(tmp_path / "store")
    was = contents(root)
    path = sorted(root.glob(f"features/{pattern}"))[0]
    with flip(root, random.Random(1), path=path, keep=True):
        assert "fti doctor --repair" in found_by_verify(root)
        embedder = HashingEmbedder(64)
        monkeypatch.setattr(embedder, "embed_documents", None)
        repair(store=Store(root), embedder=embedder, config=FeatureConfig())
    assert found_by_verify(root) == ""
    now_ = contents(root)
    assert (now_.documents, now_.chunks, now_.found) == (was.documents, was.chunks, was.found)


def test_a_repair_builds_nothing_on_damaged_texts(tmp_path: Path) -> None:
    root = filled(tmp_path / "store")
    data = sorted(root.glob("features/documents.lance/data/*"))[0]
    with (
        flip(root, random.Random(1), path=data),
        pytest.raises(IntegrityError, match=r"texts are damaged.*fti store restore"),
    ):
        repair(store=Store(root), embedder=HashingEmbedder(64), config=FeatureConfig())


def test_what_was_damaged_is_not_noted_as_whole_by_the_next_ingest(tmp_path: Path) -> None:
    root = filled(tmp_path / "store")
    more = tmp_path / "more.md"
    more.write_text("# More\n\nA text of its own about glazes.\n", "utf-8")
    data = sorted(root.glob("features/chunks.lance/data/*"))[0]
    with flip(root, random.Random(1), path=data, keep=True):
        ingest([str(more)], store=Store(root), embedder=HashingEmbedder(64), config=FeatureConfig())
    assert f"{data.name}: differs from its checksum" in found_by_verify(root)


def test_a_store_of_before_has_none_and_gets_them_with_the_next_write(tmp_path: Path) -> None:
    root = filled(tmp_path / "store")
    for journal in root.glob("features/*/sums.jsonl"):
        journal.unlink()
    assert "files_with_checksums" not in check_store(Store(root)).checked
    assert found_by_verify(root) == ""
    with Store(root).layout.writing("a test"):
        pass
    assert check_store(Store(root)).checked["files_with_checksums"] > 10


def test_files_that_go_with_their_versions_are_no_damage(tmp_path: Path) -> None:
    root = filled(tmp_path / "store")
    store = Store(root)
    for _ in range(2):
        with store.layout.writing("a test"):
            store.features.erase(store.features.records()[0].id)
        assert found_by_verify(root) == ""
    ingest(
        [str(root.parent / "docs")], store=store, embedder=HashingEmbedder(32), re_embed=True,
        config=FeatureConfig(),
    )  # fmt: skip
    assert found_by_verify(root) == ""


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"a": 'x, "fti.crc32": "00000000"}'}, {"q": "é"}])
def test_a_seal_is_read_and_a_turned_bit_breaks_it(
    tmp_path: Path, value: dict[str, object]
) -> None:
    """But for one in the seal's own key: then the rest is whole, and as good as unsealed."""
    file = tmp_path / "value.json"
    write_sealed(file, value)
    readers: list[tuple[bytes, Callable[[bytes], Any]]] = [
        (dump_sealed(value).encode(), open_line),
        (file.read_bytes(), lambda data: (file.write_bytes(data), read_sealed(file))[1]),
    ]
    for whole, read in readers:
        assert read(whole) == value
        broken = 0
        for at in range(8 * len(whole)):
            turned = bytearray(whole)
            turned[at // 8] ^= 1 << at % 8
            try:
                found = read(bytes(turned))
            except ValueError:
                broken += 1
                continue
            assert {k: v for k, v in found.items() if k in value} == value
        assert broken >= 8 * (len(whole) - 30)
