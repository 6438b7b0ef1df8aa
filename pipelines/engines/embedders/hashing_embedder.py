"""An embedder without weights, for tests and for a look at the machinery."""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.engines.embedders.embedding import Vectors
from fti.store.types import EmbedderIdentity, sha256_hex

_WORD = re.compile(r"\w+|[^\w\s]")


_FEATURES_VERSION = "hashing-1"


class HashingEmbedder:
    """Words and their letter trigrams, hashed into a vector: texts that share words lie close.

    Deterministic on every machine, needs no weights, knows nothing of meaning.

    Args:
        dimension: length of the vectors; words that share a place by chance make unrelated texts
            look alike, the more the fewer places there are.
    """

    def __init__(self, dimension: int = 256) -> None:
        self._identity = EmbedderIdentity(
            id="hashing",
            revision=_FEATURES_VERSION,
            weights_sha256=sha256_hex(f"{_FEATURES_VERSION}/{dimension}"),
            dimension=dimension,
            normalized=True,
            max_tokens=512,
        )

    @property
    def identity(self) -> EmbedderIdentity:
        """What the vectors' passport says."""
        return self._identity

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Spans of words and of single punctuation marks."""
        return [match.span() for match in _WORD.finditer(text)]

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of document texts."""
        vectors = np.zeros((len(texts), self._identity.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self.embed_query(text)
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of many questions; the same function as for documents."""
        return self.embed_documents(texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Unit vector of a question; the same function as for documents."""
        dimension = self._identity.dimension
        counts = Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
        weights: dict[str, float] = {}
        for word, times in counts.items():
            # Short words are mostly grammar; a number or another script may well be short.
            grammar = len(word) <= 3 and word.isascii() and word.isalpha()
            weight = (0.2 if grammar else 1.0) * math.sqrt(times)
            weights[word] = weight
            padded = f"<{word}>"
            for i in range(len(padded) - 2):
                trigram = f"3{padded[i : i + 3]}"
                weights[trigram] = weights.get(trigram, 0.0) + 0.3 * weight
        if not weights:
            weights[""] = 1.0  # a zero vector has no direction, and cosine would divide by it
        vector = np.zeros(dimension, dtype=np.float32)
        for feature, weight in weights.items():
            code = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
            # The lowest bit is the sign, so that collisions cancel rather than pile up.
            vector[(code >> 1) % dimension] += weight if code & 1 else -weight
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:  # all features cancelled
            vector[0] = norm = 1.0
        return np.asarray(vector / norm, dtype=np.float32)
