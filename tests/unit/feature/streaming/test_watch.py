"""Watching: changes are searchable moments later; bursts, bad files, deletions, a busy store."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.streaming.watch import ChangeSet, watch
from fti.store.errors import EmbedderMismatch, FtiError, SourceNotFound
from fti.store.store import Store

WAIT_S = 30.0  # far more than it takes; a busy machine is no failure
Changes = Callable[[], ChangeSet]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "hours.txt").write_text("The hall opens at nine.", "utf-8")
    return folder


class Watcher:
    """``watch`` in a thread, its change sets one by one."""

    def __init__(self, store: Store, *sources: Path) -> None:
        self.stop = threading.Event()
        self._seen: queue.Queue[ChangeSet | FtiError] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(store, sources))
        self._thread.start()

    def _run(self, store: Store, sources: tuple[Path, ...]) -> None:
        try:
            for change in watch(
                [str(s) for s in sources],
                store=store,
                embedder=HashingEmbedder(64),
                config=FeatureConfig(),
                stop=self.stop,
                debounce_s=0.1,
            ):
                self._seen.put(change)
        except FtiError as error:
            self._seen.put(error)

    def next(self) -> ChangeSet:
        item = self._seen.get(timeout=WAIT_S)
        if isinstance(item, FtiError):
            raise item
        return item

    def until(self, holds: Callable[[], bool]) -> None:
        """Change sets until something holds: a burst may come as one or as several."""
        while not holds():
            self.next()

    def nothing_more(self) -> bool:
        return self._seen.empty()

    def end(self) -> None:
        self.stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the watcher stops when asked"


@pytest.fixture
def watching(store: Store, docs: Path) -> Iterator[Watcher]:
    watcher = Watcher(store, docs)
    yield watcher
    watcher.end()


def sources(store: Store) -> set[str]:
    return {Path(d.source).name for d in store.features.documents()}


def test_it_begins_with_what_is_there(watching: Watcher, store: Store) -> None:
    first = watching.next()
    assert (first.added, first.paths) == (1, ())
    assert store.features.search_text("hall", 1)


def test_each_set_tells_how_soon_it_could_be_found_and_its_run_keeps_it(
    watching: Watcher, store: Store, docs: Path, tmp_path: Path
) -> None:
    assert watching.next().freshness is None  # what changed while nobody watched
    old = tmp_path / "old.txt"
    old.write_text("The bellows were mended.", "utf-8")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    old.rename(docs / "old.txt")  # what it says is old, that it is here is not
    seen = watching.next()
    assert seen.freshness is not None
    assert seen.freshness.n == 1
    assert 0 <= seen.freshness.max_s < WAIT_S
    kept = store.runs.get(seen.run)
    assert (kept.pipeline, kept.metrics["freshness"]["n"]) == ("ingest", 1)


def test_it_begins_by_removing_what_went_while_nobody_watched(store: Store, docs: Path) -> None:
    watcher = Watcher(store, docs)
    watcher.next()
    watcher.end()
    (docs / "hours.txt").unlink()
    again = Watcher(store, docs)
    assert again.next().deleted == 1
    again.end()


def test_a_new_a_changed_and_a_deleted_file_are_followed(
    watching: Watcher, store: Store, docs: Path
) -> None:
    watching.next()
    (docs / "kiln.md").write_text("# Kiln\n\nIt fires on Fridays.", "utf-8")
    watching.until(lambda: "kiln.md" in sources(store))
    (docs / "kiln.md").write_text("# Kiln\n\nIt fires on Mondays.", "utf-8")
    watching.until(lambda: bool(store.features.search_text("Mondays", 1)))
    assert store.features.search_text("Fridays", 1) == []
    (docs / "kiln.md").unlink()
    watching.until(lambda: "kiln.md" not in sources(store))
    assert sources(store) == {"hours.txt"}


def test_a_change_set_names_its_paths_and_run(watching: Watcher, store: Store, docs: Path) -> None:
    watching.next()
    (docs / "kiln.md").write_text("It fires on Fridays.", "utf-8")
    change = watching.next()
    assert str(docs / "kiln.md") in change.paths
    assert store.runs.get(change.run).kind == "ingest"
    assert change.model_dump(mode="json")["added"] == 1


def test_folders_may_come_and_go(
    watching: Watcher, store: Store, docs: Path, tmp_path: Path
) -> None:
    watching.next()
    aside = tmp_path / "aside"
    aside.mkdir()
    for number in range(5):
        (aside / f"{number}.txt").write_text(f"Note number {number}.", "utf-8")
    shutil.move(aside, docs / "notes")
    watching.until(lambda: len(sources(store)) == 6)
    shutil.move(docs / "notes", aside)
    watching.until(lambda: len(sources(store)) == 1)


def test_a_file_that_an_editor_replaces_is_followed(store: Store, docs: Path) -> None:
    file = docs / "hours.txt"
    watcher = Watcher(store, file)
    watcher.next()
    for day in ("Friday", "Monday"):
        (docs / ".swap").write_text(f"The hall is closed on {day}.", "utf-8")
        (docs / ".swap").replace(file)
        watcher.until(lambda day=day: bool(store.features.search_text(day, 1)))
    file.unlink()
    watcher.until(lambda: not sources(store))
    file.write_text("Open again.", "utf-8")
    watcher.until(lambda: bool(sources(store)))
    watcher.end()


def test_a_bad_file_does_not_end_it(watching: Watcher, store: Store, docs: Path) -> None:
    watching.next()
    (docs / "bad.pdf").write_bytes(b"no pdf")
    watching.until(lambda: store.features.stats().failed == 1)
    (docs / "good.txt").write_text("A good file after a bad one.", "utf-8")
    watching.until(lambda: "good.txt" in sources(store))


def test_hidden_files_and_the_store_itself_are_no_changes(docs: Path) -> None:
    store = Store(docs / "store")
    watcher = Watcher(store, docs)
    watcher.next()
    (docs / ".draft.txt").write_text("Not yet.", "utf-8")
    (docs / "seen.txt").write_text("Now it is.", "utf-8")
    watcher.until(lambda: "seen.txt" in sources(store))
    watcher.end()
    assert watcher.nothing_more()
    assert sources(store) == {"hours.txt", "seen.txt"}


def test_changes_wait_while_another_process_writes(
    watching: Watcher, store: Store, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.next()
    real = store.layout.writing
    tried = threading.Event()

    def hasty(what: str) -> object:
        tried.set()
        return real(what, timeout_s=0.05)

    monkeypatch.setattr(store.layout, "writing", hasty)
    with real("another writer"):
        (docs / "kiln.md").write_text("It fires on Fridays.", "utf-8")
        assert tried.wait(WAIT_S)
    watching.until(lambda: "kiln.md" in sources(store))


def test_a_missing_source_is_refused(store: Store, tmp_path: Path) -> None:
    watcher = Watcher(store, tmp_path / "nowhere")
    with pytest.raises(SourceNotFound):
        watcher.next()
    watcher.end()


def test_another_embedder_is_refused(store: Store, docs: Path) -> None:
    store.features.create(HashingEmbedder(32).identity)
    watcher = Watcher(store, docs)
    with pytest.raises(EmbedderMismatch):
        watcher.next()
    watcher.end()
