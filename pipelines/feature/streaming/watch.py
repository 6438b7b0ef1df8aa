"""Documents searchable moments after they change: files watched, changes ingested as they come."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import Field

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.finding.discovering import discover, existing
from fti.pipelines.feature.finding.sources import Discovery
from fti.pipelines.feature.ingesting.ingest import take
from fti.pipelines.feature.ingesting.ingest_report import IngestReport
from fti.pipelines.feature.reading.parsing import Parser
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import freshness
from fti.store.errors import EmbedderMismatch, InputError, SourceNotFound, StoreLocked
from fti.store.progress import Progress, quiet
from fti.store.store import Store
from fti.store.streams.freshness import Freshness, summary
from fti.store.streams.gathering import gather
from fti.store.types import now

_POLL_MS = 200
_DUE_EVERY_S = 30.0  # how often the ledger is asked what may be tried again
_Events = queue.Queue[set[str] | Exception]
_QUIET_S = 0.1  # changes closer together than this are one set


class ChangeSet(IngestReport):
    """What an ingest of changed files did; ``paths`` are those that the file system named.

    ``freshness``: how soon after a file changed what it says could be found; none of the first set,
    which takes what changed while nobody watched.
    """

    at: datetime = Field(default_factory=now)
    paths: tuple[str, ...] = ()
    freshness: Freshness | None = None


WATCH = PipelineContract("watch")


@WATCH.precondition("What is watched is there, as files or folders", raises=SourceNotFound)
def sources_are_there(sources: Sequence[str]) -> None:
    """At the beginning; a file may come and go afterwards."""
    for source in sources:
        existing(source)


@WATCH.precondition("The store's vectors are this embedder's", raises=EmbedderMismatch)
def same_embedder(store: Store, embedder: Embedder) -> None:
    """Vectors of two embedders do not compare; also each set of changes is held to this."""
    store.features.require_identity(embedder.identity)


@WATCH.precondition("A burst of changes is gathered for a time", raises=InputError)
def burst_ends(debounce_s: float) -> None:
    """Not for ever, and not for less than nothing."""
    if not 0 <= debounce_s < math.inf:
        raise InputError(
            f"Changes cannot be gathered for {debounce_s} s.", hint="Give seconds, such as 0.5."
        )


WATCH.requires("freshness_p99_s", "at most", "s", freshness("ingest"))


@WATCH.enforced
def watch(
    sources: Sequence[str],
    *,
    store: Store,
    embedder: Embedder,
    config: FeatureConfig,
    stop: threading.Event,
    debounce_s: float = 0.5,
    collection: str | None = None,
    progress: Progress = quiet,
) -> Iterator[ChangeSet]:
    """Ingest the sources now, then again what changes in them, until ``stop`` is set.

    Documents whose file is deleted are removed, also those deleted while nobody watched. Changes
    made during an ingest are in the next set. While another process writes to the store, changes
    wait.

    Args:
        sources: files and folders. A file may come and go; folders must exist.
        store: where to.
        embedder: makes the vectors.
        config: how.
        stop: ends the watching.
        debounce_s: the longest that a burst of changes is gathered before it is ingested.
        collection: as in ``ingest``.
        progress: as in ``ingest``.

    Raises:
        SourceNotFound: a source does not exist at the beginning.
        InputError: the burst has no bounds, or the sources cannot be watched.
        EmbedderMismatch, StoreFull: as ``ingest``.
    """
    roots = discover(sources, config=config.sources).roots
    events: _Events = queue.Queue()
    watchers = _start(roots, events, stop, debounce_s)
    own = str(store.layout.root)
    asked = time.monotonic()
    waiting: set[str] | None = None  # None: everything, as nothing was looked at yet
    parser = Parser(config.sources)  # for all sets: to start it takes longer than to read
    try:
        ready = 0
        while ready < len(watchers) and not stop.is_set():
            ready += sum(not paths for paths in _gather(events))
        while not stop.is_set():
            if waiting is None or waiting:
                try:
                    done = _ingest(
                        roots, waiting, store, embedder, config, progress, parser, collection
                    )
                except StoreLocked:
                    pass  # the changes stay in waiting
                else:
                    waiting = set()
                    if done is not None:
                        yield done
            if not waiting and time.monotonic() - asked > _DUE_EVERY_S:
                asked = time.monotonic()
                waiting = _due(store)
            for paths in _gather(events):
                if waiting is not None:
                    # What an ingest writes to a store among the sources is no change of a source.
                    waiting |= {p for p in paths if not _ancestry(p) & {own}}
    finally:
        stop.set()
        parser.close()
        for watcher in watchers:
            watcher.join()


def _due(store: Store) -> set[str]:
    """Files that failed for a reason that may have passed, and whose time has come."""
    at = now()
    failed = [(e.file, e.record.retry_at) for e in store.features.failed()]
    return {file for file, retry_at in failed if retry_at is not None and retry_at <= at}


def _ingest(
    roots: Sequence[str],
    paths: Collection[str] | None,
    store: Store,
    embedder: Embedder,
    config: FeatureConfig,
    progress: Progress,
    parser: Parser,
    collection: str | None,
) -> ChangeSet | None:
    """Take what lies at the paths, all when None; None when that is nothing of ours."""
    there = discover([r for r in roots if Path(r).exists()], config=config.sources)
    if paths is None:
        found = Discovery(there.files, list(roots), there.failed, there.skipped)
    else:
        touched = set(paths)
        known = (touched & _ancestry(e.file) for e in store.features.ledger())
        found = Discovery(
            files=[f for f in there.files if touched & _ancestry(f.source)],
            roots=sorted(set().union(*known)),
            failed=[f for f in there.failed if touched & _ancestry(f.source)],
        )
        if not (found.files or found.roots or found.failed):
            return None
    changed = [] if paths is None else [at for f in found.files if (at := _changed_at(f.path))]
    report = take(
        found,
        store=store,
        embedder=embedder,
        config=config,
        delete_missing=True,
        collection=collection,
        progress=progress,
        parser=parser,
    )
    served = time.time()
    fresh = summary([max(0.0, served - at) for at in changed])
    if fresh is not None:
        store.runs.amend(report.run, {"freshness": fresh.model_dump(mode="json")})
    return ChangeSet(**report.model_dump(), paths=tuple(sorted(paths or ())), freshness=fresh)


def _changed_at(path: Path) -> float | None:
    """When a file came to be as it is, in seconds since 1970; None where it is gone again.

    By the inode as well: a file that is moved or copied in keeps the time of what it says.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return max(found.st_mtime, found.st_ctime)


def _ancestry(file: str) -> set[str]:
    """The path itself and every folder above it."""
    found = {file}
    while (parent := os.path.dirname(file)) != file:  # noqa: PTH120  # text, of any file system
        found.add(parent)
        file = parent
    return found


def _start(
    roots: Sequence[str], events: _Events, stop: threading.Event, debounce_s: float
) -> list[threading.Thread]:
    folders = [r for r in roots if Path(r).is_dir()]
    # A file is watched through its folder: editors replace files, and a watch on the old one dies.
    files = {r for r in roots if r not in folders}
    parents = sorted({str(Path(r).parent) for r in files})
    threads = []
    for places, recursive in ((folders, True), (parents, False)):
        if places:
            thread = threading.Thread(
                target=_listen,
                args=(places, recursive, None if recursive else files, events, stop, debounce_s),
                name="fti-watch",
                daemon=True,
            )
            thread.start()
            threads.append(thread)
    return threads


def _listen(
    places: Sequence[str],
    recursive: bool,
    only: Collection[str] | None,
    events: _Events,
    stop: threading.Event,
    debounce_s: float,
) -> None:
    """Put what changes into ``events``; first an empty set, to say that nothing is missed now."""
    from watchfiles import watch as changes_in

    seen = False
    try:
        for changes in changes_in(
            *places,
            watch_filter=None,
            recursive=recursive,
            stop_event=stop,
            debounce=max(1, round(debounce_s * 1000)),
            step=max(1, round(min(_QUIET_S, debounce_s) * 1000)),
            rust_timeout=_POLL_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
            raise_interrupt=False,
        ):
            if not seen:
                seen = True
                events.put(set())
            named = {_name(path) for _, path in changes}
            if only is not None:
                named &= set(only)
            if named:
                events.put(named)
    except (OSError, RuntimeError) as error:
        events.put(error)  # raised where somebody listens


def _gather(events: _Events) -> list[set[str]]:
    """What came since: all there is after the first event, or nothing after a little while.

    Raises:
        InputError: the places cannot be watched.
    """
    found: list[set[str]] = []
    for item in gather(events, wait_s=_POLL_MS / 1000):
        if isinstance(item, Exception):
            raise InputError(
                f"The sources cannot be watched: {item}.",
                hint="Watch fewer folders, or raise the system's limit "
                "(Linux: sysctl fs.inotify.max_user_watches).",
            ) from item
        found.append(item)
    return found


def _name(path: str) -> str:
    """The path as the ledger writes it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
