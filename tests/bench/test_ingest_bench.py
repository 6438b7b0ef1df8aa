"""What ingesting costs, against the obvious way of doing it.

``make bench`` runs these; pytest-benchmark prints each group with ratios to its fastest member.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.store import Store

DOCUMENTS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred pages of a few chunks each."""
    root = tmp_path_factory.mktemp("pages")
    for n in range(DOCUMENTS):
        body = "\n\n".join(
            f"## Part {p}\n\n" + " ".join(f"item{n}x{p}x{i} costs {i} cents." for i in range(60))
            for p in range(4)
        )
        (root / f"page-{n:03}.md").write_text(f"# Page {n}\n\n{body}\n", "utf-8")
    return root


def _ingest(root: Path, folder: Path, **settings: Any) -> None:
    store = Store(root)
    report = ingest(
        [str(folder)], store=store, embedder=HashingEmbedder(), config=FeatureConfig(**settings)
    )
    assert not report.failed


@pytest.mark.benchmark(group="commits: batches of documents against one commit per document")
@pytest.mark.parametrize("batch_documents", [1, 64])
def test_commits(benchmark: Any, tmp_path: Path, folder: Path, batch_documents: int) -> None:
    roots = iter(range(100))
    benchmark.pedantic(
        lambda: _ingest(tmp_path / str(next(roots)), folder, batch_documents=batch_documents),
        rounds=2,
    )


@pytest.mark.benchmark(group="second run: nothing changed against everything new")
@pytest.mark.parametrize("state", ["new", "unchanged"])
def test_second_run(benchmark: Any, tmp_path: Path, folder: Path, state: str) -> None:
    roots = iter(range(100))
    if state == "unchanged":
        _ingest(tmp_path / "store", folder)
        benchmark.pedantic(lambda: _ingest(tmp_path / "store", folder), rounds=3)
    else:
        benchmark.pedantic(lambda: _ingest(tmp_path / str(next(roots)), folder), rounds=2)


@pytest.mark.benchmark(group="token lengths: spans once and bisect against the splitter's own way")
@pytest.mark.parametrize("way", ["ours", "splitter with a tokenizer"])
def test_chunking(benchmark: Any, way: str) -> None:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from fti.pipelines.engines.embedders.embedder_loading import load_embedder
    from fti.pipelines.engines.embedders.embedding import EmbedderConfig
    from fti.pipelines.feature.splitting.chunking import ChunkingConfig, chunk
    from fti.store.types import Document, document_id, sha256_hex

    embedder = load_embedder(EmbedderConfig())
    text = "\n\n".join(
        " ".join(f"Sentence {p}-{i} says what the part does." for i in range(30))
        for p in range(120)
    )
    config = ChunkingConfig()
    if way == "ours":
        document = Document(
            id=document_id("x"), source="x", title="x", text=text,
            content_hash=sha256_hex(text), media_type="text/plain",
        )  # fmt: skip
        chunks = benchmark.pedantic(
            lambda: chunk(
                document,
                token_spans=embedder.token_spans,
                config=config,
                embedder_max_tokens=embedder.identity.max_tokens,
            ),
            rounds=3,
        )
    else:
        splitter = RecursiveCharacterTextSplitter(
            chunk_size=config.max_tokens,
            chunk_overlap=config.overlap_tokens,
            length_function=lambda piece: len(embedder.token_spans(piece)),
        )
        chunks = benchmark.pedantic(lambda: splitter.split_text(text), rounds=3)
    assert len(chunks) > 10
