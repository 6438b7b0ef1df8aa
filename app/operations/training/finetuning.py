"""A language model fine-tuned with the settings of a profile, or what that would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fti.app.build import base_contract, build_embedder
from fti.store.errors import ConfigError
from fti.store.types import DatasetVersion

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.generator import GeneratorConfig
    from fti.store.progress import Progress
    from fti.store.store import Store
    from fti.store.versioned.model_version import ModelVersion


def train(
    settings: Settings,
    store: Store,
    *,
    dataset: str,
    name: str,
    start: str | None = None,
    progress: Progress,
) -> ModelVersion:
    """Fine-tune the profile's base model on a dataset version and register the result.

    Args:
        settings: resolved settings.
        store: where from and where to.
        dataset: ``NAME`` or ``NAME/N``.
        name: of the model to register.
        start: a model version to go on from; None: from the base.
        progress: told how it goes.
    """
    from fti.pipelines.training.finetune import finetune

    begun = None if start is None else store.models.get(start)
    store.models.check_name(name)  # before the base model is loaded
    version, parts = _to_train(settings, store, dataset, begun)
    return finetune(version, name=name, store=store, progress=progress, **parts)


def foresee_training(
    settings: Settings, store: Store, *, dataset: str, progress: Progress
) -> dict[str, Any]:
    """What ``train`` would do and take; nothing is trained."""
    from fti.pipelines.training.finetune import foresee

    version, parts = _to_train(settings, store, dataset)
    return foresee(version, store=store, progress=progress, **parts)


def _to_train(
    settings: Settings, store: Store, dataset: str, start: ModelVersion | None = None
) -> tuple[DatasetVersion, dict[str, Any]]:
    """The dataset version, and what of the profile training it needs."""
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_whole
    from fti.pipelines.engines.weights import pick_device
    from fti.pipelines.training.steps.methods import require_device
    from fti.pipelines.training.steps.ranks import join
    from fti.pipelines.training.steps.tracking import require_trackers

    version = store.datasets.get(dataset)
    if settings.generator.quantization == "int8":
        raise ConfigError(
            "A model in int8 cannot be trained.", hint="Add: --set generator.quantization=none"
        )
    device = pick_device(settings.generator.device)
    require_device(settings.training, device)
    require_trackers(settings.training.log_to)
    held_out = _held_out(settings, store)
    join(device)
    config = _held_to_train(settings)
    if start is not None and start.whole:
        base = load_whole(store.models.open(start.ref), config, start.prompt_contract.base)
    else:
        base = load_causal_lm(config)
    contract = (
        base_contract(settings, base.identity, version.embedder, version.retrieval)
        if start is None
        else start.prompt_contract
    )
    return version, {
        "base": base,
        "contract": contract,
        "config": settings.training,
        "embedder": build_embedder(settings) if contract.evidence_sentences else None,
        "held_out": held_out,
        **({} if start is None else {"start": start}),
    }


def _held_out(settings: Settings, store: Store) -> dict[str, frozenset[str]]:
    """The documents that promotions are decided on, where the profile names their case set."""
    from fti.pipelines.inference.evaluating.cases import GoldDocuments

    if not settings.gate.cases:
        return {}
    frozen = store.cases.get(settings.gate.cases)
    gold = GoldDocuments(store.features.records() if store.features.exists() else ())
    named = {
        reference
        for case in store.cases.cases(frozen.ref)
        for reference in (*case.relevant, case.document)
        if reference
    }
    return {frozen.ref: frozenset(found for one in named for found in gold.find(one))}


def _held_to_train(settings: Settings) -> GeneratorConfig:
    """How the base model is held in memory for the method that it is trained by."""
    config, method = settings.generator, settings.training.method
    if method == "qlora":
        return config.model_copy(update={"quantization": "4bit"})
    if method == "full" and config.dtype == "auto":
        return config.model_copy(update={"dtype": "float32"})
    return config
