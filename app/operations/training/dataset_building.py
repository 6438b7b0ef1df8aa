"""Dataset versions made with the settings of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fti.app.build import Engines, token_counter
from fti.store.types import Case, DatasetVersion

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.embedders.embedding import Embedder
    from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
    from fti.pipelines.feature.dataset.round_trip import RoundTrip
    from fti.pipelines.feature.dataset.sources.question_writing import Writer
    from fti.pipelines.feature.dataset.sources.reviewed import Review
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.store.features.feature_store import FeatureStore
    from fti.store.features.filters import Condition
    from fti.store.progress import Progress
    from fti.store.store import Store


def make_dataset(
    settings: Settings,
    store: Store,
    *,
    name: str,
    embedder: Embedder,
    cases: Sequence[Case] | None,
    progress: Progress,
    reviews: Sequence[Review] = (),
    imports: Sequence[str] = (),
    writer: Writer | None = None,
    round_trip: RoundTrip | None = None,
    engines: Engines | None = None,
) -> DatasetVersion:
    """Build a dataset version whose rows show what the profile's own retriever finds.

    It is made of the documents that the profile's retrieval searches: of its collection, of its
    conditions, at its version of the features. ``writer`` is a language model that writes
    questions, and ``round_trip`` reads them again; None: those that ``dataset.questions`` asks for,
    if any.
    """
    from fti.pipelines.feature.dataset.instructions import build_dataset
    from fti.pipelines.inference.answering.retrieve import Retriever, searched

    engines, retrieval = engines or Engines(settings), settings.inference.retrieval

    def serving(features: FeatureStore) -> Retriever:
        return Retriever(features, embedder, engines.reranker, retrieval)

    if retrieval.collection:
        searched(store.features, retrieval).require_collection(retrieval.collection)
    counter, tokenizer = token_counter(settings, embedder)
    if writer is None and writes(settings, cases):
        writer, round_trip = writer_and_reader(settings, store, engines)
    return build_dataset(
        name,
        store=store,
        embedder=embedder,
        retriever=serving,
        config=dataset_config(settings),
        form=settings.prompt.form,
        cases=cases,
        reviews=reviews,
        imports=imports,
        writer=writer,
        round_trip=round_trip,
        counter=counter,
        tokenizer=tokenizer,
        at=store.features.history.resolve(retrieval.at) if retrieval.at else None,
        where=documents_of(retrieval.collection, retrieval.where),
        progress=progress,
    )


def writes(settings: Settings, cases: Sequence[Case] | None) -> bool:
    """Whether the profile's dataset is to have questions of the built-in question writer."""
    config = settings.dataset
    unwanted = config.synthetic == "never" or (config.synthetic == "without_cases" and cases)
    return config.questions != "rules" and not unwanted


def writer_and_reader(
    settings: Settings, store: Store, engines: Engines
) -> tuple[Writer, RoundTrip | None]:
    """The built-in question writer, and what reads its questions again, if they are to be."""
    from fti.app.build import build_round_trip, build_trained_writer

    writer = build_trained_writer(settings, store, engines.embedder)
    return writer, build_round_trip(settings, store, engines) if store.features.exists() else None


def documents_of(collection: str, where: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions that keep a retrieval within a collection and what is to hold besides."""
    from fti.store.features.filters import Condition, parse
    from fti.store.lance.shapes import COLLECTION

    inside = (Condition(COLLECTION, "=", (collection,)),) if collection else ()
    return (*parse(where), *inside)


def make_pairs(
    settings: Settings,
    store: Store,
    *,
    name: str,
    source: str,
    embedder: Embedder,
    reviews: Sequence[Review],
    progress: Progress,
) -> DatasetVersion:
    """Build a version of preference pairs from a dataset's rows."""
    from fti.pipelines.feature.dataset.pairs import build_pairs

    counter, tokenizer = token_counter(settings, embedder)
    return build_pairs(
        name,
        source=store.datasets.get(source),
        store=store,
        config=settings.pairs,
        form=settings.prompt.form,
        reviews=reviews,
        counter=counter,
        tokenizer=tokenizer,
        progress=progress,
    )


def dataset_config(settings: Settings) -> DatasetConfig:
    """The profile's dataset settings; a row shows as many passages as serving does."""
    return settings.dataset.model_copy(update={"max_passages": settings.prompt.max_passages})
