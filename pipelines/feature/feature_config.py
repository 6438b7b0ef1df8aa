"""Settings of the feature pipeline; what of them shapes chunks is part of the ledger's digest."""

from __future__ import annotations

import json

from pydantic import Field, field_validator

from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.pipelines.feature.reading.readers.pages.ocr import is_installed
from fti.pipelines.feature.splitting.chunking import ChunkingConfig
from fti.store.errors import InvalidFilter
from fti.store.features.filters import parse
from fti.store.features.history import RetentionConfig
from fti.store.features.validation import ValidationConfig
from fti.store.lance.indexing import ANN_THRESHOLD
from fti.store.streams.stream_config import StreamConfig
from fti.store.types import EmbedderIdentity, Value, sha256_hex

#: Raised whenever reading, cleaning, chunking or ``embedding_text`` gives something else for the
#: same file: the next ingest then takes every document again.
READING_VERSION = 3


class FeatureConfig(Value):
    """How documents become features."""

    sources: SourcesConfig = SourcesConfig()
    chunking: ChunkingConfig = ChunkingConfig()
    stream: StreamConfig = StreamConfig()
    validation: ValidationConfig = ValidationConfig()
    retention: RetentionConfig = RetentionConfig()
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
    near_duplicate: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Documents that share such a part of their runs of five words (estimated "
        "Jaccard resemblance) are marked as nearly the same.",
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
            # Only where it is set: stores from before there was such a setting stay as they are.
            **({"json_text": self.sources.json_text} if self.sources.json_text else {}),
            # Where OCR comes to be installed, scans are there to be read.
            **({"ocr": self._ocr()} if self.sources.ocr.enabled and is_installed() else {}),
        }
        return sha256_hex(json.dumps(made_by, sort_keys=True))

    def _ocr(self) -> dict[str, str | int]:
        return {"languages": self.sources.ocr.languages, "dpi": self.sources.ocr.dpi}

    def taking_digest(self, embedder: EmbedderIdentity) -> str:
        """Sha256 of all that decides whether a file can be taken: with another, another try."""
        taken_by = {
            "features": self.digest(embedder),
            "sources": self.sources.model_dump(mode="json"),
            "validation": self.validation.model_dump(mode="json"),
        }
        return sha256_hex(json.dumps(taken_by, sort_keys=True))


class MonitoringConfig(Value):
    """When a change is worth an alert."""

    cases: str = Field(
        default="",
        description="Frozen case set that questions are compared with; empty: the only one.",
    )
    min_sample: int = Field(
        default=30, ge=2, description="Values on either side below which nothing is compared."
    )
    psi: float = Field(
        default=0.25,
        gt=0,
        description="Stability index of lengths, languages and similarities; above 0.25 is a major "
        "change (Siddiqi 2006).",
    )
    distance: float = Field(
        default=0.1,
        gt=0,
        le=2,
        description="Distance between the mean vectors; alerts when chance is ruled out as well.",
    )
    distance_p: float = Field(default=0.01, gt=0, lt=1, description="What rules chance out.")
    unanswered: float = Field(
        default=0.5, gt=0, le=1, description="Share of questions that were refused."
    )
    unanswered_rise: float = Field(
        default=0.15, gt=0, le=1, description="Rise of that share against the days before."
    )
    sample: int = Field(
        default=50,
        ge=0,
        le=10_000,
        description="Recent answers whose groundedness is judged, by the NLI model or else the "
        "judge that the section evaluation names; 0: none.",
    )
    groundedness: float = Field(
        default=0.6, ge=0, le=1, description="Mean groundedness of the sample that is too low."
    )
    thumbs_down: float = Field(
        default=0.3, gt=0, le=1, description="Share of users' verdicts that are bad."
    )
    min_verdicts: int = Field(default=10, ge=1, description="Verdicts below which none is said.")
    alert_when: tuple[str, ...] = Field(
        default=(),
        description="Further alerts: conditions on the figures that fti monitor --json shows, such "
        "as generate_p95_s>5 or answers<100.",
    )

    @field_validator("alert_when")
    @classmethod
    def _conditions(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        try:
            found = parse(texts)
        except InvalidFilter as error:  # pydantic collects ValueErrors
            raise ValueError(str(error)) from error
        for one in found:
            if one.operator not in ("<", "<=", ">", ">="):
                raise ValueError(f"{one} compares by {one.operator}; use <, <=, > or >=")
        return texts
