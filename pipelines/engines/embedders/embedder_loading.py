"""The embedder that a configuration names, from weights on this machine."""

from __future__ import annotations

from fti.pipelines.engines.embedders.embedding import Embedder, EmbedderConfig
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.embedders.sentence_embedder import SentenceTransformerEmbedder
from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.weights import find_model


def load_embedder(config: EmbedderConfig) -> Embedder:
    """Build the embedder that a configuration names.

    Raises:
        ModelUnavailable: its weights are not on this machine.
        IntegrityError: its weights are not what they should be.
        ConfigError: no such device, or a Hub model without a pinned revision.
    """
    if config.engine == "hashing":
        return HashingEmbedder(config.dimension)
    folder = embedder_folder(config)
    return SentenceTransformerEmbedder(
        folder,
        device=config.device,
        batch_size=config.batch_size,
        query_prefix=config.query_prefix,
        document_prefix=config.document_prefix,
    )


def embedder_folder(config: EmbedderConfig) -> ModelFolder:
    """Where the files of the configured embedder lie; see ``engines.weights.find_model``."""
    return find_model(config.id, revision=config.revision, allow_download=config.allow_download)
