"""Recipes of what replicas are made of on other machines, and what they turn out to be there.

A recipe is pickled and carried out where its replica is to be: a profile, the folder of the store
and a name. The process that asks loads no weights; a replica that is made once, to look at it, says
which they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.app.build import (
    BASE,
    EXTRACTIVE,
    Engines,
    build_assistant,
    model_counter,
    require_documents,
)
from fti.pipelines.engines.replicas.cluster import once
from fti.pipelines.engines.replicas.elsewhere import Elsewhere
from fti.store.store import Store
from fti.store.types import ModelIdentity

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.generator import Generator, GeneratorConfig
    from fti.pipelines.inference.answering.answer import Assistant


@dataclass(frozen=True)
class AssistantThere:
    """Makes the assistant of a profile.

    Args:
        settings: the profile, resolved.
        root: folder of the store, which must be there too.
        model: a version by number, or a name that needs none: an alias may be moved meanwhile.
    """

    settings: Settings
    root: Path
    model: str

    def __call__(self) -> Assistant:
        """Load it."""
        return build_assistant(self.settings, Store(self.root), model=self.model)


def assistant_there(settings: Settings, store: Store, model: str | None) -> AssistantThere:
    """The recipe of the assistant that a command names.

    Raises:
        ModelNotFound, AliasNotFound: there is no such version.
        StoreEmpty: there is nothing to answer from.
    """
    from fti.pipelines.inference.answering.plain_model import PLAIN

    name = model or settings.model
    named = name if name in (BASE, EXTRACTIVE, PLAIN) else store.models.get(name).ref
    if named != PLAIN:
        require_documents(store)
    return AssistantThere(settings, store.layout.root.absolute(), named)


def leave_weights(engines: Engines, recipe: AssistantThere) -> Engines:
    """Have engines build the recipe's assistant here without the weights of its generator.

    To be called inside ``cluster``, where one is made to ask what it is. Where a server has the
    weights, or there are none, nothing changes.
    """
    config = recipe.settings.generator
    if recipe.model != EXTRACTIVE and weighs(config):
        engines.elsewhere = look_at(_GeneratorOf(recipe), config)
    return engines


def weighs(config: GeneratorConfig) -> bool:
    """Whether a generator loads weights into the process that asks it."""
    return config.engine in ("transformers", "llamacpp")


def needs_gpu(config: GeneratorConfig) -> bool:
    """Whether each replica of a generator is to have a GPU, where there are any."""
    return weighs(config) and config.device in ("auto", "cuda")


@dataclass(frozen=True)
class _GeneratorOf:
    recipe: AssistantThere

    def __call__(self) -> Generator:
        return self.recipe().generator


def look_at(make: Callable[[], Generator], config: GeneratorConfig) -> Elsewhere:
    """What a generator is on a machine of the cluster, made there once for that."""
    there: _There = once(_Look(make, config), doing="load the model", gpu=needs_gpu(config))
    return Elsewhere(
        identity=there.identity,
        context_tokens=there.context_tokens,
        engine=there.engine,
        counter=model_counter(config),
    )


@dataclass(frozen=True)
class _There:
    identity: ModelIdentity
    context_tokens: int
    engine: dict[str, Any]


@dataclass(frozen=True)
class _Look:
    make: Callable[[], Generator]
    config: GeneratorConfig

    def __call__(self) -> _There:
        from fti.pipelines.engines.generation import engine_settings

        generator = self.make()
        return _There(generator.identity, generator.context_tokens, engine_settings(self.config))
