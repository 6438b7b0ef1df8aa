"""Embedders that this project fine-tunes: opened for training, written to a folder, loaded again.

A version's folder is a whole sentence-transformers model. Its contract says what it was trained
from and what its vectors are like; loading compares the files with every line of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti.pipelines.engines.embedders.embedder_loading import embedder_folder
from fti.pipelines.engines.embedders.embedding import EmbedderConfig
from fti.pipelines.engines.embedders.sentence_embedder import (
    SentenceTransformerEmbedder,
    all_weights_sha256,
)
from fti.pipelines.engines.model_files import ModelFolder
from fti.pipelines.engines.weights import quiet_loading
from fti.store.contracts.embedder_contract import REGISTRY, EmbedderContract
from fti.store.errors import ConfigError, ContractError
from fti.store.types import ModelIdentity


@dataclass(frozen=True, slots=True)
class OpenEmbedder:
    """An embedder in memory, to be trained: ``model`` is changed by that, ``identity`` is not."""

    model: Any
    identity: ModelIdentity
    device: str
    query_prefix: str
    document_prefix: str


def base_identity(config: EmbedderConfig) -> ModelIdentity | None:
    """Which weights and tokenizer the configured embedder has, read without loading it.

    None for an engine without weights. The tokenizer's digest is left empty.
    """
    if config.engine != "sentence-transformers" or config.id.startswith(REGISTRY):
        return None
    folder = embedder_folder(config)
    return ModelIdentity(
        id=folder.id, revision=folder.revision, weights_sha256=all_weights_sha256(folder)
    )


def open_embedder(config: EmbedderConfig) -> OpenEmbedder:
    """Load the configured embedder for training, in fp32 on a CPU.

    Raises:
        ConfigError: the engine has no weights to train.
        ModelUnavailable: its weights are not on this machine.
        IntegrityError: its weights are not what they should be.
    """
    if config.engine != "sentence-transformers":
        raise ConfigError(
            f"The embedder engine {config.engine!r} has no weights to train.",
            hint="Train with a profile whose embedder is a sentence-transformers model, such as "
            "the default one.",
        )
    if config.id.startswith(REGISTRY):
        raise ConfigError(
            f"The embedder {config.id!r} is a trained version already.",
            hint="Train from the model it was trained from: leave embedder.id as the profile has "
            "it.",
        )
    folder = embedder_folder(config)
    embedder = SentenceTransformerEmbedder(
        folder,
        device=config.device,
        query_prefix=config.query_prefix,
        document_prefix=config.document_prefix,
    )
    return OpenEmbedder(
        model=embedder.model,
        identity=ModelIdentity(
            id=folder.id,
            revision=folder.revision,
            weights_sha256=embedder.identity.weights_sha256,
            tokenizer_sha256=embedder.tokenizer_sha256,
        ),
        device=str(embedder.model.device),
        query_prefix=embedder.identity.query_prefix,
        document_prefix=embedder.identity.document_prefix,
    )


def save_embedder(opened: OpenEmbedder, folder: Path) -> EmbedderContract:
    """Write a trained embedder as safetensors and text; the contract of what was written."""
    with quiet_loading():
        opened.model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    written = SentenceTransformerEmbedder(
        ModelFolder(id="trained", revision="", path=folder),
        device="cpu",
        query_prefix=opened.query_prefix,
        document_prefix=opened.document_prefix,
    )
    return _described(written, opened.identity)


def load_trained(
    folder: Path, ref: str, contract: EmbedderContract, config: EmbedderConfig
) -> SentenceTransformerEmbedder:
    """Load a version's embedder from its verified folder.

    Args:
        folder: of the version.
        ref: ``name/number``, for the passport of its vectors.
        contract: the version's; prefixes come from there.
        config: where and in what batches it runs.

    Raises:
        ContractError: the files are not what the contract says; names each difference.
        IntegrityError: they cannot be loaded.
    """
    identity = contract.identity(ref)
    embedder = SentenceTransformerEmbedder(
        ModelFolder(id=identity.id, revision=identity.revision, path=folder),
        device=config.device,
        batch_size=config.batch_size,
        query_prefix=contract.query_prefix,
        document_prefix=contract.document_prefix,
    )
    found = _described(embedder, contract.base).model_dump()
    agreed = contract.model_dump()
    faults = [
        f"{key}: the contract says {agreed[key]!r}, loaded is {found[key]!r}"
        for key in agreed
        if agreed[key] != found[key]
    ]
    if faults:
        raise ContractError(
            f"The embedder {ref!r} cannot be used: {'; '.join(faults)}.",
            hint="Restore the version from a backup, or fine-tune again.",
        )
    return embedder


def _described(embedder: SentenceTransformerEmbedder, base: ModelIdentity) -> EmbedderContract:
    identity = embedder.identity
    return EmbedderContract(
        base=base,
        weights_sha256=identity.weights_sha256,
        tokenizer_sha256=embedder.tokenizer_sha256,
        dimension=identity.dimension,
        pooling=embedder.pooling,
        normalized=identity.normalized,
        max_tokens=identity.max_tokens,
        query_prefix=identity.query_prefix,
        document_prefix=identity.document_prefix,
    )
