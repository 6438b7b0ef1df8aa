"""What must hold of features before they are committed, and what they look like together.

A document that breaks the contract goes to the ledger with the reason and not into the tables; what
was served of it before stays.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from pydantic import Field

from fti.store.lance.shapes import DocumentUpdate
from fti.store.types import Chunk, EmbedderIdentity, Value

_NORM_TOLERANCE = 1e-3  # of fp32 and fp16 models alike; a vector that was not normalised is far off
_SCRIPT_SAMPLE = 200  # letters of a chunk


class ValidationConfig(Value):
    """Bounds that chunks must keep."""

    max_characters: int = Field(
        default=50_000, ge=1, description="A document with a longer chunk is refused."
    )
    max_unreadable: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="A document of which a larger share is replacement and control characters is "
        "refused: it was read in a wrong way.",
    )


class FeatureStatistics(Value):
    """Chunks together: their lengths in characters, and the scripts that their letters are in."""

    chunks: int
    characters_min: int
    characters_median: float
    characters_p95: float
    characters_max: int
    scripts: Mapping[str, float]


def violation(
    update: DocumentUpdate, identity: EmbedderIdentity, config: ValidationConfig
) -> str | None:
    """What is first found wrong with a document's features; None where all holds."""
    return next(_violations(update, identity, config), None)


def _violations(
    update: DocumentUpdate, identity: EmbedderIdentity, config: ValidationConfig
) -> Iterator[str]:
    count = len(update.chunks)
    shape = (count, identity.dimension)
    if count and update.vectors.shape != shape:
        yield f"its vectors have shape {update.vectors.shape}, not {shape}"
        return
    if len(update.search_texts) != count:
        yield f"{count} chunks came with {len(update.search_texts)} texts to search"
    if len({chunk.id for chunk in update.chunks}) != count:
        yield "two chunks have one id"
    for chunk in update.chunks:
        yield from _of_chunk(chunk, update, config)
    if count:
        yield from _of_vectors(update, identity)
    text = update.document.text
    share = sum(map(_unreadable, text)) / max(1, len(text))
    if share > config.max_unreadable:
        yield (
            f"{share:.0%} of its text are replacement and control characters, more than "
            f"{config.max_unreadable:.0%} (features.validation.max_unreadable)"
        )


def _of_chunk(chunk: Chunk, update: DocumentUpdate, config: ValidationConfig) -> Iterator[str]:
    if not chunk.text.strip():
        yield f"chunk {chunk.ordinal} has no text"
    if update.document.text[chunk.start : chunk.end] != chunk.text:
        yield f"chunk {chunk.ordinal} is not the text at {chunk.start}-{chunk.end}"
    if chunk.document_id != update.document.id:
        yield f"chunk {chunk.ordinal} is of another document, {chunk.document_id!r}"
    if len(chunk.text) > config.max_characters:
        yield (
            f"chunk {chunk.ordinal} has {len(chunk.text)} characters, more than "
            f"{config.max_characters} (features.validation.max_characters)"
        )


def _of_vectors(update: DocumentUpdate, identity: EmbedderIdentity) -> Iterator[str]:
    finite = np.isfinite(update.vectors).all(axis=1)
    if not finite.all():
        yield f"the vector of chunk {int(np.argmin(finite))} is not finite"
        return
    lengths = np.linalg.norm(update.vectors, axis=1)
    off = np.abs(lengths - 1) > _NORM_TOLERANCE if identity.normalized else lengths == 0
    if off.any():
        which = int(np.argmax(off))
        yield f"the vector of chunk {which} has length {lengths[which]:.4g}, not 1"


def _unreadable(character: str) -> bool:
    return character == "\ufffd" or (
        character not in "\n\t\r\f" and unicodedata.category(character) in ("Cc", "Co", "Cn")
    )


class StatisticsCounter:
    """Makes statistics of chunks as they come; holds no text."""

    def __init__(self) -> None:
        self._lengths = array("Q")
        self._scripts: Counter[str] = Counter()

    def add(self, texts: Iterable[str]) -> None:
        """Count these chunks."""
        for text in texts:
            self._lengths.append(len(text))
            letters = [c for c in text[: 2 * _SCRIPT_SAMPLE] if c.isalpha()][:_SCRIPT_SAMPLE]
            # A letter's name begins with its script, as in LATIN SMALL LETTER A.
            names = (unicodedata.name(c, "UNKNOWN").split(" ", 1)[0] for c in letters)
            self._scripts.update(name.lower() for name in names)

    def result(self) -> FeatureStatistics | None:
        """What was counted; None where there was nothing."""
        if not self._lengths:
            return None
        lengths, total = np.asarray(self._lengths), sum(self._scripts.values())
        return FeatureStatistics(
            chunks=len(lengths),
            characters_min=int(lengths.min()),
            characters_median=float(np.median(lengths)),
            characters_p95=float(np.percentile(lengths, 95)),
            characters_max=int(lengths.max()),
            scripts={name: round(n / total, 4) for name, n in self._scripts.most_common(8)},
        )
