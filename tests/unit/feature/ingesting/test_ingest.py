"""Ingest: what is taken, skipped, replaced, removed and reported; kills, bad files, embedders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting import preparing
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.feature.reading import parsing
from fti.pipelines.feature.reading.readers import READERS, Reader
from fti.pipelines.feature.splitting.chunking import ChunkingConfig
from fti.store.errors import EmbedderMismatch, SourceNotFound, StoreFull, StoreLocked
from fti.store.features import history
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.types import document_id
from tests.support.documents import a_pdf, zipped
from tests.support.processes import kill, start_python, wait_for_line

CONFIG = FeatureConfig(chunking=ChunkingConfig(max_tokens=64, overlap_tokens=0, min_tokens=0))
PARAGRAPHS = [
    f"This paragraph says that the {name} is kept in the store. "
    f"Whoever takes the {name} out writes their name on the board beside the {name} and brings "
    f"the {name} back before the hall is closed in the evening."
    for name in ("anvil", "bellows", "chisel", "drill")
]


class CountingEmbedder(HashingEmbedder):
    """Counts what it embeds; after ``budget`` texts it dies as a killed process would."""

    def __init__(self, dimension: int = 64, budget: int = 10**9) -> None:
        super().__init__(dimension)
        self.embedded: list[str] = []
        self.budget = budget

    def embed_documents(self, texts: Sequence[str]) -> Any:
        if len(self.embedded) + len(texts) > self.budget:
            raise KeyboardInterrupt
        self.embedded += texts
        return super().embed_documents(texts)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return three_documents(tmp_path / "docs")


def three_documents(folder: Path) -> Path:
    write(folder / "tools.md", "# Tools\n\n" + "\n\n".join(PARAGRAPHS))
    write(folder / "sub" / "hours.txt", "The hall opens at nine and closes at ten in the evening.")
    write(folder / "prices.csv", "item,price\nlathe hour,4 euros\nkiln firing,9 euros\n")
    return folder


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def run(store: Store, *sources: Path, embedder: Any = None, **options: Any) -> IngestReport:
    options = {"config": CONFIG} | options
    return ingest(
        [str(s) for s in sources], store=store, embedder=embedder or CountingEmbedder(), **options
    )


def content(store: Store) -> list[tuple[Any, ...]]:
    """Everything that is served, for comparing two stores: texts, places and vectors."""
    features = store.features
    titles = {d.id: (d.source.rsplit("/docs/", 1)[-1], d.text) for d in features.documents()}
    table = features._lance.open("chunks").search().to_arrow().to_pylist()
    return sorted(
        (*titles[row["document_id"]], row["ordinal"], row["start"], row["end"], row["text"],
         row["search_text"], tuple(row["vector"]))
        for row in table
    )  # fmt: skip


def consistent(store: Store) -> None:
    """Nothing doubled, nothing half: ids are unique, offsets hold, ledger and table agree."""
    features = store.features
    chunks = features.chunks()
    assert len({c.id for c in chunks}) == len(chunks)
    texts = {d.id: d.text for d in features.documents()}
    for chunk in chunks:
        assert texts[chunk.document_id][chunk.start : chunk.end] == chunk.text
    counts = {r.id: r.chunks for r in features.records() if r.chunks}
    assert features.chunk_counts() == counts
    assert features.heal().broken == frozenset()


def counts(report: IngestReport) -> tuple[int, int, int, int, int, int]:
    return (
        report.added, report.updated, report.unchanged, report.deleted, len(report.failed),
        report.missing,
    )  # fmt: skip


def test_documents_become_searchable_passages(store: Store, docs: Path) -> None:
    report = run(store, docs)
    assert counts(report) == (3, 0, 0, 0, 0, 0)
    assert report.embedded_chunks == report.chunks == len(store.features.chunks())
    assert report.features_version == store.features.version()
    found = store.features.search_text("kiln price", 1)[0]
    assert found.source == str(docs / "prices.csv")
    assert "9 euros" in found.text
    consistent(store)


def test_the_report_has_the_fields_that_scripts_rely_on(store: Store, docs: Path) -> None:
    write(docs / "bad.md", b"")
    body = run(store, docs).model_dump(mode="json")
    assert set(body) == {
        "added", "updated", "unchanged", "deleted", "failed", "chunks", "embedded_chunks",
        "seconds", "missing", "empty", "skipped", "waiting", "near_duplicates", "run",
        "features_version", "removed_versions", "statistics", "warnings",
    }  # fmt: skip
    assert body["failed"] == [{"source": str(docs / "bad.md"), "reason": "the file is empty"}]


def test_old_versions_go_by_themselves_and_what_is_named_stays(
    store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SHORTEST_AGE", timedelta(milliseconds=1))
    config = FeatureConfig(retention=history.RetentionConfig(versions=2, hours=0))
    first = run(store, docs).features_version
    store.features.history.tag("before", first)
    left, removed = [], 0
    for turn in range(8):
        write(docs / "note.md", f"# Note\n\nThis is turn {turn}.\n".encode())
        report = ingest([str(docs)], store=store, embedder=HashingEmbedder(64), config=config)
        left.append(report.features_version)
        removed += report.removed_versions
    there = [v.version for v in store.features.history.versions()]
    assert removed > 0
    assert first in there, "it has a tag"
    assert set(left[-5:]) <= set(there), "the last five ingests stay"
    assert not set(left[:2]) & set(there)
    assert store.features.checkout("before").search_text("kiln", 1)
    consistent(store)


def test_the_run_is_recorded_with_settings_and_outcome(store: Store, docs: Path) -> None:
    report = run(store, docs)
    logged = store.runs.get(report.run)
    assert logged.kind == "ingest"
    assert logged.status == "done"
    assert logged.inputs["sources"] == f'["{docs}"]'
    assert logged.outputs["features_version"] == str(report.features_version)
    assert logged.settings["chunking"]["max_tokens"] == 64
    assert logged.settings["embedder"]["id"] == "hashing"
    assert logged.metrics["added"] == 3


# Unchanged, changed, moved


def test_unchanged_files_are_not_read_again(
    store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, docs)
    version = store.features.version()
    monkeypatch.setattr(preparing, "read", lambda *a, **k: pytest.fail("read an unchanged file"))
    os.utime(docs / "tools.md")
    report = run(store, docs)
    assert counts(report) == (0, 0, 3, 0, 0, 0)
    assert report.embedded_chunks == 0
    assert store.features.version() == version


def test_an_edit_embeds_only_what_changed(store: Store, docs: Path) -> None:
    run(store, docs)
    text = (docs / "tools.md").read_text("utf-8")
    write(docs / "tools.md", text.replace("chisel is kept", "chisel was kept"))
    embedder = CountingEmbedder()
    report = run(store, docs, embedder=embedder)
    assert counts(report) == (0, 1, 2, 0, 0, 0)
    assert report.embedded_chunks == len(embedder.embedded) == 1
    assert "chisel was kept" in embedder.embedded[0]
    consistent(store)
    assert not any("chisel is kept" in c.text for c in store.features.chunks())


def test_a_shorter_version_leaves_nothing_of_the_longer(store: Store, docs: Path) -> None:
    run(store, docs)
    write(docs / "tools.md", "# Tools\n\n" + PARAGRAPHS[0])
    run(store, docs)
    assert store.features.search_text("drill", 5) == []
    consistent(store)


def test_a_moved_file_embeds_nothing(store: Store, docs: Path) -> None:
    run(store, docs)
    (docs / "elsewhere").mkdir()
    shutil.move(docs / "tools.md", docs / "elsewhere" / "tools.md")
    embedder = CountingEmbedder()
    report = run(store, docs, embedder=embedder, delete_missing=True)
    assert counts(report) == (1, 0, 2, 1, 0, 0)
    assert embedder.embedded == []
    assert store.features.document("elsewhere/tools.md")
    consistent(store)


def test_a_text_that_was_deleted_before_is_not_embedded_again(store: Store, docs: Path) -> None:
    run(store, docs)
    text = (docs / "tools.md").read_bytes()
    (docs / "tools.md").unlink()
    run(store, docs, delete_missing=True)
    write(docs / "tools.md", text)
    report = run(store, docs)
    assert (report.added, report.embedded_chunks) == (1, 0)


def test_other_settings_cut_all_documents_again(store: Store, docs: Path) -> None:
    run(store, docs)
    other = FeatureConfig(chunking=ChunkingConfig(max_tokens=200))
    report = run(store, docs, config=other)
    assert counts(report) == (0, 3, 0, 0, 0, 0)
    assert counts(run(store, docs, config=other)) == (0, 0, 3, 0, 0, 0)
    consistent(store)


def test_a_source_given_twice_counts_once(store: Store, docs: Path) -> None:
    assert run(store, docs, docs / "tools.md", docs).added == 3
    consistent(store)


def test_text_repeated_in_several_documents_is_embedded_once(store: Store, docs: Path) -> None:
    for name in ("one", "two"):
        write(docs / name / "same.txt", "Exactly the same words in two places.")
    embedder = CountingEmbedder()
    report = run(store, docs, embedder=embedder)
    assert report.added == 5
    assert len(embedder.embedded) == len(set(embedder.embedded)) == report.chunks - 1


# Bad files


def test_a_bad_file_is_a_line_and_the_rest_goes_on(store: Store, docs: Path) -> None:
    write(docs / "a-broken.pdf", b"%PDF-1.7 but not really")
    write(docs / "z.docx", b"PK not a zip")
    report = run(store, docs)
    assert report.added == 3
    assert [Path(f.source).name for f in report.failed] == ["a-broken.pdf", "z.docx"]
    assert all(f.reason for f in report.failed)
    assert report.succeeded
    assert store.runs.get(report.run).status == "partial"
    ledger = {Path(r.source).name: r for r in store.features.records()}
    assert ledger["z.docx"].state == "failed"
    assert ledger["z.docx"].cause == report.failed[1].reason
    again = run(store, docs)
    assert [f.source for f in again.failed] == [f.source for f in report.failed]


def test_what_is_no_document_is_counted_by_kind_and_no_failure(store: Store, docs: Path) -> None:
    for name in ("a.ttf", "b.ttf", "~$plan.docx", ".hidden.md"):
        write(docs / name, b"x")
    write(docs / "all.zip", zipped({"in.md": "# In\n\nInside the archive.", "c.mp4": "x"}))
    report = run(store, docs)
    assert report.failed == ()
    assert report.skipped == {"font (.ttf)": 2, "lock file": 1, "hidden": 1, "video (.mp4)": 1}
    assert store.runs.get(report.run).status == "done"
    assert store.runs.get(report.run).metrics["skipped"] == 5
    assert counts(run(store, docs)) == (0, 0, 4, 0, 0, 0)
    consistent(store)


def test_what_is_named_itself_and_cannot_be_read_is_a_failure(store: Store, docs: Path) -> None:
    write(docs / "a.ttf", b"x")
    report = run(store, docs / "a.ttf")
    assert [f.reason for f in report.failed] == ["files ending in '.ttf' are not read"]
    assert [r.state for r in store.features.records()] == ["failed"]
    again = run(store, docs)
    assert (again.failed, again.skipped) == ((), {"font (.ttf)": 1})
    assert "failed" not in {r.state for r in store.features.records()}


def test_what_was_read_once_and_is_no_document_now_can_be_removed(store: Store, docs: Path) -> None:
    write(docs / "desktop.ini", "[shell] an icon of the bellows workshop folder")
    run(store, docs / "desktop.ini")
    assert run(store, docs).missing == 1
    assert run(store, docs, delete_missing=True).deleted == 1
    consistent(store)


def test_a_reader_that_breaks_is_a_line_too(
    store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(data: bytes, config: Any) -> Any:
        raise KeyError("/Root")

    broken = Reader("text/plain", breaking)
    monkeypatch.setattr(parsing, "READERS", {**READERS, ".txt": broken})
    report = run(store, docs)
    assert report.added == 2
    assert "KeyError" in report.failed[0].reason


def test_a_file_that_turns_bad_keeps_its_last_good_version(store: Store, docs: Path) -> None:
    run(store, docs)
    good = (docs / "tools.md").read_bytes()
    write(docs / "tools.md", b"\x00\x01\x02 binary \x00" * 50)
    report = run(store, docs, delete_missing=True)
    assert counts(report) == (0, 0, 2, 0, 1, 0)
    record = store.features.record(str(docs / "tools.md"))
    assert record is not None
    assert record.state == "failed"
    assert record.content_hash != record.attempted_hash
    assert store.features.search_text("bellows", 1)
    consistent(store)

    write(docs / "tools.md", good)
    report = run(store, docs)
    assert counts(report) == (0, 0, 3, 0, 0, 0)
    record = store.features.record(str(docs / "tools.md"))
    assert record is not None
    assert (record.state, record.cause) == ("indexed", "")


def test_a_white_file_is_empty_and_no_longer_found(store: Store, docs: Path) -> None:
    run(store, docs)
    write(docs / "sub" / "hours.txt", " \n\t\n ")
    report = run(store, docs)
    assert [Path(e.source).name for e in report.empty] == ["hours.txt"]
    assert report.empty[0].reason
    assert not report.failed
    assert store.features.search_text("opens", 1) == []
    again = run(store, docs)
    assert again.empty == report.empty
    assert again.unchanged == 2
    consistent(store)


def test_only_bad_files_is_no_success(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "only" / "bad.pdf", b"no")
    assert not run(store, tmp_path / "only").succeeded


def test_an_empty_folder_is_no_failure(store: Store, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    report = run(store, tmp_path / "none")
    assert counts(report) == (0, 0, 0, 0, 0, 0)
    assert store.features.exists()


def test_a_missing_path_makes_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        run(store, tmp_path / "nowhere")
    assert not store.features.exists()
    assert store.runs.list() == []


def test_a_name_with_line_breaks_and_dots_is_data(store: Store, docs: Path) -> None:
    name = "odd\n..%2f ' OR '1'='1 .md"
    write(docs / name, "# Odd\n\nA strange name for a plain text.")
    run(store, docs)
    found = store.features.search_text("strange", 1, {"source": str(docs / name)})
    assert [p.source for p in found] == [str(docs / name)]
    assert counts(run(store, docs)) == (0, 0, 4, 0, 0, 0)


def test_the_store_does_not_ingest_itself(docs: Path) -> None:
    store = Store(docs / "inside")
    run(store, docs)
    assert counts(run(store, docs)) == (0, 0, 3, 0, 0, 0)


# Vanished files


def test_a_vanished_file_is_counted_and_removed_when_asked(store: Store, docs: Path) -> None:
    run(store, docs)
    (docs / "tools.md").unlink()
    report = run(store, docs)
    assert counts(report) == (0, 0, 2, 0, 0, 1)
    assert store.features.search_text("bellows", 1)
    report = run(store, docs, delete_missing=True)
    assert counts(report) == (0, 0, 2, 1, 0, 0)
    assert store.features.search_text("bellows", 1) == []
    consistent(store)


def test_only_what_lies_under_the_given_sources_can_vanish(
    store: Store, docs: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "docs2" / "other.txt", "Another folder whose name begins alike.")
    run(store, docs, other.parent)
    other.unlink()
    (docs / "tools.md").unlink()
    report = run(store, docs / "sub", delete_missing=True)
    assert (report.deleted, report.missing) == (0, 0)
    report = run(store, docs, delete_missing=True)
    assert report.deleted == 1
    assert store.features.document("other.txt")


def test_a_file_that_cannot_be_looked_at_has_not_vanished(
    store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, docs)
    hidden = str(docs / "sub" / "hours.txt")
    real = os.stat

    def refusing(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if str(path) == hidden:
            raise PermissionError(13, "Permission denied", hidden)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", refusing)
    report = run(store, docs, delete_missing=True)
    assert (report.deleted, report.missing) == (0, 0)
    assert [(f.source, f.reason) for f in report.failed] == [
        (hidden, "the file cannot be opened: permission denied")
    ]
    record = store.features.record(hidden)
    assert record is not None
    assert record.state == "failed"
    assert store.features.search_text("opens", 1)


def test_the_line_of_a_bad_file_goes_with_the_file(store: Store, docs: Path) -> None:
    bad = write(docs / "bad.pdf", b"no")
    run(store, docs)
    bad.unlink()
    report = run(store, docs)
    assert (report.deleted, report.missing) == (0, 0)
    assert store.features.record(str(bad)) is None


# Files of many documents

BEIR = (
    '{"_id": "1", "title": "One", "text": "Ants carry leaves."}\n'
    '{"_id": "2", "title": "Two", "text": "Bees carry pollen."}\n'
    '{"_id": "3", "title": "Three", "text": "Crows carry sticks."}\n'
)


def test_records_of_a_corpus_are_documents_of_their_own(store: Store, tmp_path: Path) -> None:
    corpus = write(tmp_path / "beir" / "corpus.jsonl", BEIR)
    assert run(store, corpus.parent).added == 3
    assert counts(run(store, corpus.parent)) == (0, 0, 3, 0, 0, 0)
    assert store.features.document(f"{corpus}#2").text == "Bees carry pollen."

    changed = BEIR.replace("pollen", "nectar").splitlines(keepends=True)[:2]
    write(corpus, "".join(changed))
    report = run(store, corpus.parent)
    assert counts(report) == (0, 1, 1, 1, 0, 0)
    assert report.embedded_chunks == 1
    assert counts(run(store, corpus.parent)) == (0, 0, 2, 0, 0, 0)
    consistent(store)

    corpus.unlink()
    assert run(store, corpus.parent).missing == 2
    assert run(store, corpus.parent, delete_missing=True).deleted == 2


def test_a_corpus_that_turns_bad_keeps_its_records(store: Store, tmp_path: Path) -> None:
    corpus = write(tmp_path / "beir" / "corpus.jsonl", BEIR)
    run(store, corpus.parent)
    write(corpus, "")
    report = run(store, corpus.parent)
    assert [f.source for f in report.failed] == [str(corpus)]
    assert report.missing == 0
    assert len(store.features.chunks()) == 3
    write(corpus, BEIR)
    report = run(store, corpus.parent)
    assert counts(report) == (0, 0, 3, 0, 0, 0)
    assert store.features.stats().failed == 0
    consistent(store)


def test_a_corpus_taken_in_part_is_taken_again(store: Store, tmp_path: Path) -> None:
    corpus = write(tmp_path / "beir" / "corpus.jsonl", BEIR)
    config = CONFIG.model_copy(update={"batch_documents": 1})
    with pytest.raises(KeyboardInterrupt):
        run(store, corpus, config=config, embedder=CountingEmbedder(budget=2))
    assert len(store.features.chunks()) == 2
    report = run(store, corpus, config=config)
    assert counts(report) == (1, 0, 2, 0, 0, 0)
    assert report.embedded_chunks == 1
    consistent(store)


# Kills


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What is served after an ingest of the three documents that nobody disturbed."""
    return _served(tmp_path_factory.mktemp("undisturbed"), edited=False)


@pytest.fixture(scope="module")
def undisturbed_after_an_edit(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The same, of documents one of which was edited and another one is broken."""
    return _served(tmp_path_factory.mktemp("undisturbed"), edited=True)


def _served(folder: Path, *, edited: bool) -> list[tuple[Any, ...]]:
    store, docs = Store(folder / "store"), three_documents(folder / "docs")
    if edited:
        edit(docs)
    run(store, docs, config=CONFIG.model_copy(update={"batch_documents": 1}))
    return content(store)


def edit(docs: Path) -> None:
    write(docs / "sub" / "hours.txt", "The hall is closed today, all day long.")
    write(docs / "bad.pdf", b"no")


@pytest.mark.parametrize("budget", [0, 1, 3, 5])
def test_an_ingest_killed_while_embedding_ends_as_if_undisturbed(
    store: Store, docs: Path, undisturbed: list[tuple[Any, ...]], budget: int
) -> None:
    config = CONFIG.model_copy(update={"batch_documents": 1, "embed_batch": 1})
    with pytest.raises(KeyboardInterrupt):
        run(store, docs, config=config, embedder=CountingEmbedder(budget=budget))
    assert store.runs.list()[0].status == "failed"
    run(store, docs, config=config)
    consistent(store)
    assert content(store) == undisturbed


@pytest.mark.parametrize("point", ["remember_vectors", "replace", "_upsert_documents", "note"])
@pytest.mark.parametrize("after", [False, True])
def test_an_ingest_killed_while_storing_ends_as_if_undisturbed(
    store: Store,
    docs: Path,
    undisturbed_after_an_edit: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    after: bool,
) -> None:
    config = CONFIG.model_copy(update={"batch_documents": 1})
    run(store, docs / "sub", config=config)
    edit(docs)
    real = getattr(store.features, point)

    def die(*args: Any) -> Any:
        if after:
            real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.features, point, die)
        with pytest.raises(KeyboardInterrupt):
            run(store, docs, config=config)
    run(store, docs, config=config)
    consistent(store)
    assert content(store) == undisturbed_after_an_edit


def test_a_document_lost_between_kill_and_rerun_leaves_no_chunks(
    store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(rows: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.features, "_upsert_documents", die)
        with pytest.raises(KeyboardInterrupt):
            run(store, docs)
    assert store.features.search_text("bellows", 1)
    (docs / "tools.md").unlink()
    run(store, docs)
    assert store.features.search_text("bellows", 1) == []
    consistent(store)


SLOW = """
import sys, time
from pathlib import Path
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.store import Store

class Slow(HashingEmbedder):
    def embed_documents(self, texts):
        print("embedding", flush=True)
        time.sleep(0.05)
        return super().embed_documents(texts)

config = FeatureConfig(batch_documents=2, embed_batch=1)
ingest([sys.argv[2]], store=Store(Path(sys.argv[1])), embedder=Slow(64), config=config)
print("done", flush=True)
"""


def test_a_process_killed_at_any_moment_loses_and_doubles_nothing(
    store: Store, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    for number in range(12):
        write(docs / f"{number:02}.md", f"# Number {number}\n\n" + PARAGRAPHS[number % 4])
    process = start_python(SLOW, store.layout.root, docs)
    for _ in range(7):
        assert wait_for_line(process) == "embedding"
    with pytest.raises(StoreLocked), store.layout.writing("test", timeout_s=0.1):
        pass
    kill(process)
    # By the ledger: where the kill came between a batch's two commits, its chunks are made anew.
    before = len(store.features.records())
    assert 0 < before < 12
    config = FeatureConfig()
    embedder = CountingEmbedder()
    report = run(store, docs, config=config, embedder=embedder)
    assert report.unchanged == before
    assert report.added == 12 - before
    consistent(store)
    undisturbed = Store(tmp_path / "undisturbed")
    run(undisturbed, docs, config=config)
    assert content(store) == content(undisturbed)


def test_a_full_disk_stops_the_run_and_a_rerun_goes_on(
    store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"batch_documents": 1})
    run(store, docs / "sub", config=config)

    def full(rows: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.features, "_upsert_documents", full)
        with pytest.raises(StoreFull):
            run(store, docs, config=config)
    assert store.features.search_text("opens", 1)
    assert run(store, docs, config=config).added == 2
    consistent(store)


def test_two_writers_do_not_meet(store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.layout.writing
    monkeypatch.setattr(store.layout, "writing", lambda what: real(what, timeout_s=0.1))
    with real("another writer"), pytest.raises(StoreLocked, match="another writer"):
        run(store, docs)
    assert run(store, docs).added == 3


# Embedders


def test_another_embedder_is_refused_and_changes_nothing(store: Store, docs: Path) -> None:
    run(store, docs)
    version = store.features.version()
    with pytest.raises(EmbedderMismatch, match="--re-embed"):
        run(store, docs, embedder=CountingEmbedder(32))
    assert store.features.version() == version


def test_re_embedding_replaces_all_vectors_also_of_lost_files(store: Store, docs: Path) -> None:
    run(store, docs)
    (docs / "sub" / "hours.txt").unlink()
    write(docs / "prices.csv", b"")
    embedder = CountingEmbedder(32)
    report = run(store, docs / "tools.md", embedder=embedder, re_embed=True)
    assert report.updated == 1
    assert [Path(f.source).name for f in report.failed] == ["prices.csv"]
    assert store.features.identity() == embedder.identity
    assert len(embedder.embedded) == report.chunks == len(store.features.chunks())
    for query in ("bellows", "opens", "kiln"):
        found = store.features.search_hybrid(query, embedder.embed_query(query), 1)
        assert query in found[0].text
    consistent(store)
    assert run(store, docs / "tools.md", embedder=embedder).unchanged == 1


def test_re_embedding_that_is_killed_leaves_the_old_and_goes_on_where_it_stopped(
    store: Store, docs: Path
) -> None:
    old = CountingEmbedder()
    run(store, docs)
    before = content(store)
    config = CONFIG.model_copy(update={"batch_documents": 1, "embed_batch": 1})
    with pytest.raises(KeyboardInterrupt):
        run(store, docs, embedder=CountingEmbedder(32, budget=2), config=config, re_embed=True)
    assert store.features.identity() == old.identity
    assert content(store) == before
    assert store.features.search_vector(old.embed_query("bellows"), 1)

    fresh = CountingEmbedder(32)
    report = run(store, docs, embedder=fresh, config=config, re_embed=True)
    assert report.embedded_chunks == report.chunks - 2
    consistent(store)


def test_re_embedding_that_was_given_up_leaves_a_store_that_the_old_embedder_mends(
    store: Store, docs: Path
) -> None:
    run(store, docs)
    before = content(store)
    config = CONFIG.model_copy(update={"batch_documents": 1})
    with pytest.raises(KeyboardInterrupt):
        run(store, docs, embedder=CountingEmbedder(32, budget=5), config=config, re_embed=True)
    report = run(store, docs)
    assert report.embedded_chunks == 0
    consistent(store)
    assert content(store) == before


def test_re_embedding_by_the_same_embedder_embeds_everything(store: Store, docs: Path) -> None:
    run(store, docs)
    embedder = CountingEmbedder()
    report = run(store, docs, embedder=embedder, re_embed=True)
    assert len(embedder.embedded) == report.chunks
    consistent(store)


# Batches


def test_many_small_documents_make_few_commits(store: Store, tmp_path: Path) -> None:
    for number in range(130):
        write(tmp_path / "many" / f"{number}.txt", f"Note {number} about thing {number}.")
    report = run(store, tmp_path / "many")
    assert report.added == 130
    # Two to make the table, three for the documents, and those that maintenance makes.
    assert report.features_version <= 8


def test_vectors_are_those_of_the_texts_however_they_are_batched(store: Store, docs: Path) -> None:
    run(store, docs, config=CONFIG.model_copy(update={"embed_batch": 2}))
    embedder = HashingEmbedder(64)
    rows = store.features._lance.open("chunks").search().to_arrow().to_pylist()
    for row in rows:
        expected = embedder.embed_documents([row["search_text"]])[0]
        assert np.allclose(row["vector"], expected)


def test_progress_names_files_and_embedded_chunks(store: Store, docs: Path) -> None:
    events: list[ProgressEvent] = []
    report = run(store, docs, progress=events.append)
    read = [e for e in events if e.stage == "read"]
    assert [(e.done, e.total) for e in read] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert read[0].detail == str(docs / "prices.csv")
    embedded = [e for e in events if e.stage == "embed"]
    assert embedded[-1].done == report.embedded_chunks


def test_ids_name_the_place_not_the_content(store: Store, docs: Path) -> None:
    run(store, docs)
    assert store.features.document("tools.md").id == document_id(str(docs / "tools.md"))


# Archives


def test_a_bad_member_of_an_archive_has_a_line_of_its_own(store: Store, docs: Path) -> None:
    write(docs / "a.zip", zipped({"good.md": "# Good\n\nAbout the lathe.", "bad.pdf": b"%PDF-"}))

    report = run(store, docs)

    assert report.added == 4
    assert [f.source for f in report.failed] == [str(docs / "a.zip!/bad.pdf")]
    ledger = {Path(r.source).name: r for r in store.features.records()}
    assert (ledger["good.md"].state, ledger["bad.pdf"].state) == ("indexed", "failed")
    consistent(store)
    again = run(store, docs)
    assert counts(again)[2] == 4
    assert again.embedded_chunks == 0


def test_a_member_that_leaves_its_archive_leaves_the_store(store: Store, docs: Path) -> None:
    archive = docs / "a.zip"
    write(archive, zipped({"one.md": "About the lathe.", "two.md": "About pens.", "x.pdf": b"x"}))
    run(store, docs)
    write(archive, zipped({"one.md": "About the lathe."}))

    report = run(store, docs)

    assert report.failed == ()
    assert report.deleted == 1
    assert str(archive) + "!/two.md" not in {r.source for r in store.features.records()}
    archive.unlink()
    assert run(store, docs, delete_missing=True).deleted == 1
    assert not [r for r in store.features.records() if "a.zip" in r.source]
    consistent(store)


def test_a_member_that_turns_bad_keeps_its_last_good_version(store: Store, docs: Path) -> None:
    write(docs / "a.zip", zipped({"one.pdf": a_pdf(["About the lathe."])}))
    run(store, docs)
    write(docs / "a.zip", zipped({"one.pdf": b"%PDF-1.4 broken"}))

    report = run(store, docs)

    assert [f.source for f in report.failed] == [str(docs / "a.zip!/one.pdf")]
    assert store.features.search_text("lathe", 5)[0].source.endswith("a.zip!/one.pdf")
    record = store.features.record(str(docs / "a.zip!/one.pdf"))
    assert record is not None
    assert record.state == "failed"


class LazyEmbedder(CountingEmbedder):
    """Gives texts that speak of the forge a vector without length."""

    def embed_documents(self, texts: Sequence[str]) -> Any:
        vectors = super().embed_documents(texts)
        vectors[["forge" in text for text in texts]] = 0
        return vectors


def test_features_that_break_the_contract_go_to_the_ledger_and_not_into_the_table(
    store: Store, docs: Path
) -> None:
    run(store, docs)
    write(docs / "sub" / "hours.txt", "The forge opens at nine.")
    write(docs / "forge.txt", "The forge is hot.")
    report = run(store, docs, embedder=LazyEmbedder())
    reason = "its features are not stored: the vector of chunk 0 has length 0, not 1"
    assert {f.source.rsplit("/", 1)[-1]: f.reason for f in report.failed} == {
        "hours.txt": reason,
        "forge.txt": reason,
    }
    assert (report.added, report.updated, report.unchanged) == (0, 0, 2)
    assert report.statistics is None
    texts = " ".join(c.text for c in store.features.chunks())
    assert "closes at ten" in texts, "the last good version is still served"
    assert "forge" not in texts
    assert run(store, docs, embedder=LazyEmbedder()).waiting == 2
    consistent(store)
