"""How the machine embeds quickest: measured once, where it is worth it, and then kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti.pipelines.engines.embedders.embedder_loading import load_embedder
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.embedders.sentence_embedder import SentenceTransformerEmbedder
from fti.pipelines.feature.ingesting import probing
from fti.pipelines.feature.ingesting.probing import TRIED, kept_probe, measure, settle
from fti.store.store import Store

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def loaded() -> SentenceTransformerEmbedder:
    embedder = load_embedder(EmbedderConfig(device="cpu"))
    assert isinstance(embedder, SentenceTransformerEmbedder)
    return embedder


@pytest.fixture
def embedder(
    loaded: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> SentenceTransformerEmbedder:
    """The real one, with texts that take no time."""
    monkeypatch.setattr(probing, "_texts", lambda: ["The kiln is hot.", "The lathe is oiled."])
    monkeypatch.setattr(loaded, "tokens_at_once", 768)
    return loaded


def ticking(seconds: dict[int, float], embedder: Any) -> Any:
    """A clock by which a batch of so many tokens takes so long."""

    def clock() -> Iterator[float]:
        at = 0.0
        while True:
            yield at
            at += seconds[embedder.tokens_at_once]
            yield at

    ticks = clock()
    return lambda: next(ticks)


def test_the_quickest_is_kept_for_this_machine_and_embedder(
    tmp_path: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    assert settle(embedder, store=store, worthwhile=False) is None
    assert embedder.tokens_at_once == 768
    clock = ticking({512: 2.0, 768: 1.0, 1024: 0.5, 2048: 4.0}, embedder)
    real = measure
    monkeypatch.setattr(probing, "measure", lambda e, progress: real(e, clock=clock))
    found = settle(embedder, store=store, worthwhile=True)
    assert found is not None
    assert (found.tokens_at_once, embedder.tokens_at_once) == (1024, 1024)
    assert found.texts_per_s == {512: 1.0, 768: 2.0, 1024: 4.0, 2048: 0.5}
    monkeypatch.setattr(probing, "measure", lambda *a, **k: pytest.fail("measured twice"))
    embedder.tokens_at_once = 768
    assert settle(embedder, store=Store(tmp_path / "store"), worthwhile=True) == found
    assert embedder.tokens_at_once == 1024
    monkeypatch.setattr(probing, "machine", lambda: "another one")
    assert kept_probe(store, embedder) is None


def test_what_was_not_asked_for_is_not_measured(tmp_path: Path, embedder: Any) -> None:
    store = Store(tmp_path / "store")
    assert settle(HashingEmbedder(), store=store, worthwhile=True) is None
    embedder.tokens_at_once = None  # the profile says how many texts, or an accelerator is there
    assert settle(embedder, store=store, worthwhile=True) is None
    assert not store.layout.machine.exists()


def test_a_note_that_cannot_be_read_is_no_obstacle(tmp_path: Path, embedder: Any) -> None:
    store = Store(tmp_path / "store")
    store.layout.machine.write_bytes(b'{"probes": [{"machi')
    assert kept_probe(store, embedder) is None
    found = settle(embedder, store=store, worthwhile=True)
    assert found is not None
    assert found.tokens_at_once in TRIED
    assert kept_probe(store, embedder) == found


def test_the_vectors_do_not_depend_on_it(embedder: Any) -> None:
    texts = [f"The kiln {n} is fired. " * (n + 1) for n in range(9)]
    embedder.tokens_at_once = 64
    few = embedder.embed_documents(texts)
    embedder.tokens_at_once = 4096
    np.testing.assert_allclose(few, embedder.embed_documents(texts), atol=1e-5)
