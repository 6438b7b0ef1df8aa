"""Which embedder a profile and a store mean.

A store that was switched to a fine-tuned version (``fti.app.operations.promoting.switching``) says
so in the passport of its vectors; every command then loads that version where its profile names the
embedder that the version was trained from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti.store.contracts.embedder_contract import REGISTRY
from fti.store.errors import ModelNotFound

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.embedders.embedding import Embedder
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion


def load_profile_embedder(settings: Settings) -> Embedder:
    """The embedder of a profile, or the fine-tuned version of it that the store stands on.

    Raises:
        ModelUnavailable: its weights are not on this machine.
        ModelNotFound: the version is not in the registry.
        ContractError: the version's files are not what its contract says.
        IntegrityError: its weights are not what they should be.
    """
    from fti.pipelines.engines.embedders.embedder_loading import load_embedder
    from fti.store.store import Store

    config = settings.embedder
    if config.id.startswith(REGISTRY):
        return load_version(settings, Store(settings.store), config.id.removeprefix(REGISTRY))
    if config.tuned and config.engine == "sentence-transformers" and settings.store.is_dir():
        store = Store(settings.store)
        version = standing_on(store)
        if version is not None and trained_from_profile(settings, version):
            return load_version(settings, store, version.ref)
    return load_embedder(config)


def standing_on(store: Store) -> ModelVersion | None:
    """The fine-tuned embedder that made the store's vectors, if one of this registry did."""
    held = store.features.identity()
    if held is None or not held.id.startswith(REGISTRY):
        return None
    try:
        return store.models.get(held.id.removeprefix(REGISTRY))
    except ModelNotFound:  # loading the profile's embedder then says that it is another
        return None


def trained_from_profile(settings: Settings, version: ModelVersion) -> bool:
    """Whether the profile's embedder is the one that a version was trained from."""
    from fti.pipelines.engines.embedders.trained_embedder import base_identity

    base = base_identity(settings.embedder)
    return base is not None and base.weights_sha256 == version.vector_contract.base.weights_sha256


def load_version(settings: Settings, store: Store, ref: str) -> Embedder:
    """A version's embedder, from its verified files.

    Raises:
        ModelNotFound: there is no such version.
        ContractError: it is no embedder, or its files are not what its contract says.
        IntegrityError: it is not as published.
    """
    from fti.pipelines.engines.embedders.trained_embedder import load_trained

    version = store.models.get(ref)
    contract = version.vector_contract
    return load_trained(store.models.open(version.ref), version.ref, contract, settings.embedder)
