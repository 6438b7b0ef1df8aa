"""What every peer is asked, and how it is timed. Runs inside each peer's own environment.

A peer is a subclass of ``Peer`` in a module of its own, which ends with ``run(ItsPeer)``. The
driver (``peer_run``) starts that module with two files: the job, which it has written, and the
result, which ``run`` writes. Only Python's own library is used here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: In the environment: when the process was started, in seconds since 1970.
STARTED = "PEERS_STARTED"

#: Name of the file that a chunk is of, and its text.
Hit = tuple[str, str]


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        phase: "sync": make the store hold what the files say; "remove": a file is gone; "ask":
            answer the questions with each of the settings.
        store: folder of this peer's own, kept from job to job.
        model: folder of the sentence-transformers model.
        files: the corpus as it is now.
        gone: name of the file that was removed, or whose chunks are to go.
        by_hand: remove it by its name even where a sync would.
        settings: which of the peer's settings to ask with; empty: all.
        questions: asked one after the other.
        warm: questions asked before, which are not timed.
        k: chunks wanted for each.
        max_tokens: no chunk is longer, in tokens of the model.
        overlap_tokens: about how much of a chunk the next one repeats.
    """

    phase: str
    store: str
    model: str
    files: Sequence[str] = ()
    gone: str = ""
    by_hand: bool = False
    settings: Sequence[str] = ()
    questions: Sequence[str] = ()
    warm: Sequence[str] = ()
    k: int = 10
    max_tokens: int = 200
    overlap_tokens: int = 24

    @property
    def corpus(self) -> dict[str, str]:
        """Texts of the files by their names."""
        return {Path(file).name: Path(file).read_text("utf-8") for file in self.files}


class Peer:
    """A system that is compared. Made once for each job: the model is loaded, the store opened."""

    #: Packages whose versions are told.
    packages: Sequence[str] = ()
    #: Whether ``sync`` finds out by itself which files are gone.
    sync_removes = False

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store = Path(job.store)

    def ready(self) -> None:
        """Embed something, so that what is loaded at first use is there before the clock starts."""
        raise NotImplementedError

    def sync(self, corpus: dict[str, str]) -> None:
        """Make the store hold what these files say, as the project's documentation has it done."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Take a file's chunks out of the store."""
        raise NotImplementedError

    def chunks(self) -> list[Hit]:
        """Everything that a search could find."""
        raise NotImplementedError

    def settings(self) -> dict[str, dict[str, Any]]:
        """Ways to search, by name: "vector", "text" and "hybrid" as shipped, then other hybrids."""
        raise NotImplementedError

    def searcher(self, **how: Any) -> Callable[[str], Sequence[Hit]]:
        """One of these ways: the best chunks for a question, best first."""
        raise NotImplementedError


def run(kind: type[Peer]) -> None:
    """Do the job that the first file says, and write what came of it into the second."""
    asked, answer = map(Path, sys.argv[1:3])
    job = Job(**json.loads(asked.read_text("utf-8")))
    peer = kind(job)
    peer.ready()
    result: dict[str, Any] = {"start_s": time.time() - float(os.environ[STARTED])}
    if job.phase == "ask":
        result |= _ask(peer, job)
    else:
        wall, cpu = time.perf_counter(), _cpu()
        try:
            if job.phase == "remove" and (job.by_hand or not kind.sync_removes):
                peer.remove(job.gone)
            else:
                peer.sync(job.corpus)
        except Exception as error:  # what a release cannot do is a finding; the driver decides
            result["failed"] = f"{type(error).__name__}: {error}"[:300]
        result |= {"wall_s": time.perf_counter() - wall, "cpu_s": _cpu() - cpu}
        result["stored"] = peer.chunks()
    result["peak_mb"] = _peak_mb()
    result["versions"] = {name: importlib.metadata.version(name) for name in kind.packages}
    answer.write_text(json.dumps(result), "utf-8")
    # Threads that a library left behind are not waited for.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _ask(peer: Peer, job: Job) -> dict[str, Any]:
    known = peer.settings()
    asked: dict[str, Any] = {}
    for name in job.settings or known:
        search = peer.searcher(**known[name])
        for question in job.warm:
            search(question)
        cpu, found, times = _cpu(), [], []
        for question in job.questions:
            began = time.perf_counter()
            hits = search(question)
            times.append(1000 * (time.perf_counter() - began))
            found.append(list(hits)[: job.k])
        spent = 1000 * (_cpu() - cpu) / max(1, len(job.questions))
        asked[name] = {"how": known[name], "found": found, "ms": times, "cpu_ms": spent}
    return {"asked": asked}


def _cpu() -> float:
    """Seconds of processor time of this process and of those that it has waited for."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def _peak_mb() -> float:
    """The most memory that this process held, or one that it has waited for."""
    scale = 1e6 if sys.platform == "darwin" else 1e3
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / scale
