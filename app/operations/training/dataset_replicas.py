"""The models that write questions, and the one that reads them again, as replicas on a cluster.

All of it is to be asked inside ``engines.replicas.cluster.cluster``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.app.build import (
    BASE,
    Engines,
    build_assistant,
    build_embedder,
    build_round_trip,
    trained_writing_model,
    writing_model,
)
from fti.app.operations.replicating import AssistantThere, leave_weights, look_at, needs_gpu, weighs
from fti.pipelines.engines.replicas.actors import Replicas
from fti.pipelines.engines.replicas.cluster import places
from fti.pipelines.engines.replicas.elsewhere import require_same
from fti.pipelines.feature.dataset.asked import Tally
from fti.pipelines.feature.dataset.round_trip import (
    AskedOfReader,
    ReaderReplicas,
    RoundTrip,
    ShownThere,
    kept_answers,
)
from fti.pipelines.feature.dataset.rows import RowBuilder
from fti.pipelines.feature.dataset.sources.trained_writer import AskedOfWindows, TrainedWriter
from fti.pipelines.feature.dataset.sources.writer import AskedOfPassages, QuestionWriter
from fti.store.store import Store

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.generator import Generator, GeneratorConfig
    from fti.pipelines.feature.dataset.dataset_config import WriterConfig
    from fti.pipelines.inference.answering.answer import Assistant


def writer_of_replicas(
    settings: Settings, store: Store, engines: Engines, workers: int | None
) -> QuestionWriter:
    """As ``build.build_writer``, with replicas of the model. A server is one for all of them.

    Raises:
        ConfigError: the profile has no language model for it.
    """
    model, seed = writing_model(settings), settings.dataset.seed
    generator = _seen(settings, model, engines)
    config = settings.dataset.writer
    if config.requests_per_minute is not None:  # each keeps to its part of what they may send
        share = config.requests_per_minute / places(workers, gpu=needs_gpu(model))
        config = config.model_copy(update={"requests_per_minute": share})
    build = _PassagesThere(settings, model, config, seed, _identity(generator))
    return QuestionWriter(
        generator,
        settings.dataset.writer,
        store.results,
        seed=seed,
        executor=Replicas(build, doing="write questions", workers=workers, gpu=needs_gpu(model)),
    )


def trained_writer_of_replicas(
    settings: Settings, store: Store, engines: Engines, workers: int | None
) -> TrainedWriter:
    """As ``build.build_trained_writer``, with replicas of the built-in question writer."""
    model = trained_writing_model(settings)
    generator = _seen(settings, model, engines)
    build = _WindowsThere(settings, model, _identity(generator))
    return TrainedWriter(
        generator,
        settings.dataset.writer,
        store.results,
        seed=settings.dataset.seed,
        executor=Replicas(build, doing="write questions", workers=workers, gpu=needs_gpu(model)),
    )


def round_trip_of_replicas(
    settings: Settings, store: Store, engines: Engines, workers: int | None
) -> RoundTrip | None:
    """As ``build.build_round_trip``, with replicas of the reader and of the search before it."""
    root = store.layout.root.absolute()

    def replicas(assistant: Assistant) -> ReaderReplicas:
        shape = _shape(assistant)
        return lambda shown: Replicas(
            _ReaderThere(settings, root, shown, shape),
            doing="read questions again",
            workers=workers,
            gpu=needs_gpu(settings.generator),
        )

    if settings.generator.engine != "extractive" and settings.dataset.writer.round_trip:
        leave_weights(engines, AssistantThere(settings, root, BASE))
    return build_round_trip(settings, store, engines, replicas)


def writer_and_reader_of_replicas(
    settings: Settings, store: Store, engines: Engines, workers: int | None
) -> tuple[TrainedWriter, RoundTrip | None]:
    """As ``dataset_building.writer_and_reader``, with replicas of both."""
    writer = trained_writer_of_replicas(settings, store, engines, workers)
    if not store.features.exists():
        return writer, None
    return writer, round_trip_of_replicas(settings, store, engines, workers)


def _seen(settings: Settings, model: GeneratorConfig, engines: Engines) -> Generator:
    """A writing model as this process sees it: what it is, or a server itself."""
    from fti.pipelines.engines.generation import load_generator

    if weighs(model):
        return look_at(_Loaded(settings, model), model)
    return load_generator(model, embedder=engines.embedder)


@dataclass(frozen=True)
class _Loaded:
    settings: Settings
    model: GeneratorConfig

    def __call__(self) -> Generator:
        from fti.pipelines.engines.generation import load_generator

        return load_generator(self.model, embedder=build_embedder(self.settings))


@dataclass(frozen=True)
class _PassagesThere:
    settings: Settings
    model: GeneratorConfig
    config: WriterConfig
    seed: int
    identity: Mapping[str, Any]

    def __call__(self) -> AskedOfPassages:
        generator = _Loaded(self.settings, self.model)()
        require_same("writer", self.identity, _identity(generator))
        return AskedOfPassages(generator, self.config, seed=self.seed)


@dataclass(frozen=True)
class _WindowsThere:
    settings: Settings
    model: GeneratorConfig
    identity: Mapping[str, Any]

    def __call__(self) -> AskedOfWindows:
        generator = _Loaded(self.settings, self.model)()
        require_same("writer", self.identity, _identity(generator))
        return AskedOfWindows(generator, self.settings.dataset.writer.questions)


@dataclass(frozen=True)
class _ReaderThere:
    settings: Settings
    root: Path
    shown: ShownThere
    shape: Mapping[str, Any]

    def __call__(self) -> AskedOfReader:
        from fti.pipelines.inference.answering.retrieve import Retriever

        settings, store, engines = self.settings, Store(self.root), Engines(self.settings)
        assistant = build_assistant(settings, store, model=BASE, engines=engines)
        require_same("reader", self.shape, _shape(assistant))
        retriever = Retriever(
            store.features.checkout(self.shown.features_version),
            engines.embedder,
            engines.reranker,
            settings.inference.retrieval,
        )
        builder = RowBuilder(
            retriever, self.shown.config, settings.prompt.form, self.shown.split_of, {}, (), Tally()
        )
        generator, contract = assistant.generator, assistant.contract
        return AskedOfReader(
            generator,
            contract,
            engines.embedder,
            kept_answers(store.results, generator, contract).get,
            builder.shown,
        )


def _identity(generator: Generator) -> dict[str, Any]:
    return generator.identity.model_dump(mode="json")


def _shape(assistant: Assistant) -> dict[str, Any]:
    return {
        "generator": _identity(assistant.generator),
        "contract": assistant.contract.model_dump(mode="json"),
        "engine": dict(assistant.engine),
    }
