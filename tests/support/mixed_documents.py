"""A folder of good, broken and empty documents, and what a store has of them, for executors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fti.pipelines.engines.embedders.embedding import Vectors
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.splitting.chunking import ChunkingConfig
from fti.store.errors import EngineError
from fti.store.store import Store
from tests.support.documents import a_pdf, zipped

CONFIG = FeatureConfig(
    chunking=ChunkingConfig(max_tokens=64, overlap_tokens=0, min_tokens=0),
    batch_documents=4,
    embed_batch=2,
)


def mixed_documents(folder: Path) -> Path:
    """``folder``, made: 16 documents that can be read, two that cannot, an empty one, a program."""
    folder.mkdir()
    for number in range(14):
        text = f"# Page {number}\n\n" + f"The kiln {number} is fired on day {number % 3}. " * 30
        (folder / f"{number:02}.md").write_text(text, "utf-8")
    (folder / "a.pdf").write_bytes(a_pdf(["The lathe is oiled in May."]))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    (folder / "b.zip").write_bytes(
        zipped({"in.md": "The plane is sharp.", "no.xyz": "x", "no.exe": "MZ"})
    )
    (folder / "empty.md").write_bytes(b"   \n")
    return folder


def content(store: Store) -> list[tuple[Any, ...]]:
    """All that is served, and what became of each source."""
    table = store.features._lance.open("chunks").search().to_arrow().to_pylist()
    chunks = [
        (r["source"], r["ordinal"], r["start"], r["end"], r["search_text"], tuple(r["vector"]))
        for r in table
    ]
    lines = [(r.source, r.state, r.cause, r.chunks) for r in store.features.records()]
    return sorted(chunks) + sorted(lines)


class Broken(HashingEmbedder):
    """Fails as an embedder fails."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        raise EngineError("no memory left on the card", hint="Set a smaller batch.")
