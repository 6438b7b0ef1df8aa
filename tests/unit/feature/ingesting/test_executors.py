"""Where the work of an ingest is done: one store for all executors, and when one of them dies."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.pipelines.engines.embedders.embedder_loading import load_embedder
from fti.pipelines.engines.embedders.embedding import EmbedderConfig, Vectors
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.finding.discovering import discover
from fti.pipelines.feature.ingesting.executors import InProcess, Processes
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.feature.ingesting.ingest_run import Ingest
from fti.pipelines.feature.reading.parsing import Parser
from fti.store.errors import ConfigError, EngineError
from fti.store.progress import quiet
from fti.store.store import Store
from tests.support.mixed_documents import CONFIG, Broken, content, mixed_documents
from tests.support.processes import run_python, start_python


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return mixed_documents(tmp_path / "docs")


def test_processes_leave_the_store_that_one_process_leaves(tmp_path: Path, docs: Path) -> None:
    stores = {}
    for name in ("local", "process"):
        stores[name] = Store(tmp_path / name)
        report = ingest(
            [str(docs)], store=stores[name], embedder=HashingEmbedder(64), config=CONFIG,
            executor=name, workers=2,  # type: ignore[arg-type]
        )  # fmt: skip
        assert (report.added, len(report.failed), len(report.empty)) == (16, 2, 1)
        assert report.skipped == {"program (.exe)": 1}
        assert report.embedded_chunks > 20
    assert content(stores["local"]) == content(stores["process"])


def test_processes_are_not_started_for_nothing(tmp_path: Path, docs: Path) -> None:
    store = Store(tmp_path / "store")
    ingest([str(docs)], store=store, embedder=HashingEmbedder(64), config=CONFIG)
    with Processes(HashingEmbedder(64), CONFIG, workers=2) as executor:
        assert list(executor.prepare([])) == []
        assert list(executor.embed([])) == []
        assert executor._pool is None


class Dying(HashingEmbedder):
    """Dies of the last page, as a process does that the system takes the memory from."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        if any("kiln 13" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed_documents(texts)


def test_a_process_that_dies_is_an_error_and_a_rerun_goes_on(tmp_path: Path, docs: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(EngineError, match="ended before its time") as caught:
        ingest(
            [str(docs)], store=store, embedder=Dying(64), config=CONFIG, executor="process",
            workers=2,
        )  # fmt: skip
    assert "--workers" in caught.value.hint
    assert store.runs.list()[0].status == "failed"
    held = len([r for r in store.features.records() if r.chunks])
    report = ingest([str(docs)], store=store, embedder=HashingEmbedder(64), config=CONFIG)
    assert report.unchanged == held
    assert report.added == 16 - held
    assert store.features.heal().broken == frozenset()


@pytest.mark.parametrize("name", ["local", "process"])
def test_what_an_embedder_says_arrives(tmp_path: Path, docs: Path, name: Any) -> None:
    with pytest.raises(EngineError, match="no memory left on the card") as caught:
        ingest(
            [str(docs)], store=Store(tmp_path / "store"), embedder=Broken(64), config=CONFIG,
            executor=name, workers=1,
        )  # fmt: skip
    assert caught.value.hint == "Set a smaller batch."


ORPHANED = """
import os, sys, time
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.executors import Processes
with Processes(HashingEmbedder(64), FeatureConfig(), workers=2) as executor:
    list(executor.embed([["a"], ["b"]]))
    print(*executor._pool._processes, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_processes_end_with_one_that_is_killed() -> None:
    process = start_python(ORPHANED)
    out, _ = process.communicate(timeout=120)
    children = [int(pid) for pid in out.split()]
    assert len(children) == 2
    until = time.monotonic() + 30
    while time.monotonic() < until and any(map(_runs, children)):
        time.sleep(0.1)
    assert not any(map(_runs, children))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Overlapping:
    """An executor that tells when files are prepared and texts embedded."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.embedding = threading.Event()
        self.read_on = threading.Event()
        self.met = False

    @property
    def embedded(self) -> int:
        return int(self.inner.embedded)

    def prepare(self, jobs: Any) -> Iterator[Any]:
        for number, prepared in enumerate(self.inner.prepare(jobs)):
            if number > CONFIG.batch_documents and self.embedding.wait(20):
                self.read_on.set()
            yield prepared

    def embed(self, slices: Any) -> Iterator[Vectors]:
        self.embedding.set()
        self.met = self.met or self.read_on.wait(20)
        yield from self.inner.embed(slices)


def test_files_are_read_while_texts_are_embedded(tmp_path: Path, docs: Path) -> None:
    store = Store(tmp_path / "store")
    embedder = HashingEmbedder(64)
    with store.layout.writing("test"), Parser(CONFIG.sources) as parser:
        executor = Overlapping(InProcess(embedder, CONFIG, parser))
        with Ingest(store, embedder, CONFIG, quiet, executor) as work:
            report = work.run(discover([str(docs)]), delete_missing=False, re_embed=False)
    assert executor.met
    assert report.added == 16


def test_an_interrupt_ends_the_threads_before_the_store_is_free(tmp_path: Path, docs: Path) -> None:
    def interrupt(event: Any) -> None:
        if event.stage == "read" and event.done == 9:
            raise KeyboardInterrupt

    store = Store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        ingest(
            [str(docs)], store=store, embedder=HashingEmbedder(64), config=CONFIG,
            progress=interrupt,
        )  # fmt: skip
    assert not [t.name for t in threading.enumerate() if t.name.startswith("fti-")]


@pytest.mark.heavy
def test_a_loaded_embedder_can_be_sent_to_another_process(tmp_path: Path) -> None:
    embedder = load_embedder(EmbedderConfig(document_prefix="passage: "))
    (tmp_path / "embedder").write_bytes(pickle.dumps(embedder))  # ours, and from this process
    assert (tmp_path / "embedder").stat().st_size < 10_000  # the weights stay where they are
    printed = run_python(
        "import pickle, sys; e = pickle.load(open(sys.argv[1], 'rb'));"
        "print(e.identity.digest, *e.embed_documents(['a kiln'])[0][:3])",
        tmp_path / "embedder",
    ).split()
    assert printed[0] == embedder.identity.digest
    here = embedder.embed_documents(["a kiln"])[0][:3]
    np.testing.assert_allclose([float(v) for v in printed[1:]], here, atol=1e-6)


def test_a_package_that_ray_needs_is_named(
    tmp_path: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="not installed: ray") as caught:
        ingest(
            [str(docs)], store=Store(tmp_path / "store"), embedder=HashingEmbedder(64),
            config=CONFIG, executor="ray",
        )  # fmt: skip
    assert "fti-llm[scale]" in caught.value.hint
