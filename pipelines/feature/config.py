"""Settings of the feature pipeline; what of them shapes chunks is part of the ledger's digest."""

from __future__ import annotations

import json

from pydantic import Field

from pipelines.feature.chunking import ChunkingConfig
from pipelines.feature.sources import SourcesConfig
from store.indexing import ANN_THRESHOLD
from store.types import EmbedderIdentity, Value, sha256_hex

#: Raised whenever reading, cleaning, chunking or ``embedding_text`` gives something else for the
#: same file: the next ingest then takes every document again.
READING_VERSION = 2


class FeatureConfig(Value):
    """How documents become features."""

    sources: SourcesConfig = SourcesConfig()
    chunking: ChunkingConfig = ChunkingConfig()
    batch_documents: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Documents committed together; a reader sees all of them or none.",
    )
    batch_chunks: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Chunks after which a batch is committed although it has fewer documents.",
    )
    embed_batch: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Texts given to the embedder at once, of like length.",
    )
    ann_threshold: int = Field(
        default=ANN_THRESHOLD,
        ge=1_000,
        description="Chunks from which on vectors are searched by an approximate index.",
    )

    def digest(self, embedder: EmbedderIdentity) -> str:
        """Sha256 of what decides how a file's content becomes chunks and vectors."""
        made_by = {
            "reading": READING_VERSION,
            "chunking": self.chunking.model_dump(mode="json"),
            "embedder": embedder.digest,
        }
        return sha256_hex(json.dumps(made_by, sort_keys=True))
