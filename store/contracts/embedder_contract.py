"""What whoever makes or searches vectors with a trained embedder must agree on.

The counterpart of ``store.contract`` for model versions of kind ``embedder``: written into the
version by training, read from there by everything that loads it. Nothing else sets a prefix, a
pooling or a limit for it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fti.store.types import EmbedderIdentity, ModelIdentity, Value, sha256_hex

#: Before the reference of a model version, where an embedder is named.
REGISTRY = "registry:"


class EmbedderContract(Value):
    """The form of a trained embedder's vectors, and what it was trained from.

    ``base`` is the embedder that training began with, to the byte. ``pooling`` is how the vectors
    of tokens become one (``mean``, ``cls``, ...); ``max_tokens`` how many of a text's own tokens a
    vector sees, prefix and special tokens taken off already.
    """

    format: Literal[1] = 1
    base: ModelIdentity
    weights_sha256: str
    tokenizer_sha256: str
    dimension: int = Field(ge=1)
    pooling: str
    normalized: bool = True
    max_tokens: int = Field(ge=1)
    query_prefix: str = ""
    document_prefix: str = ""

    @property
    def digest(self) -> str:
        """sha256 over all fields."""
        return sha256_hex(self.model_dump_json())

    def identity(self, ref: str) -> EmbedderIdentity:
        """The passport of the vectors that version ``ref`` makes."""
        return EmbedderIdentity(
            id=REGISTRY + ref,
            revision=self.digest[:16],
            weights_sha256=self.weights_sha256,
            dimension=self.dimension,
            normalized=self.normalized,
            query_prefix=self.query_prefix,
            document_prefix=self.document_prefix,
            max_tokens=self.max_tokens,
        )
