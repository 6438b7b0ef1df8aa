"""Which embedder a profile and a store mean, and making better ones.

A store that was switched to a fine-tuned version (``fti.app.operations.promotion``) says so in the
passport of its vectors; every command then loads that version where its profile names the embedder
that the version was trained from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fti.store.contracts.embedder_contract import REGISTRY
from fti.store.errors import ModelNotFound

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.engines.embedders.embedding import Embedder
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.store.progress import Progress
    from fti.store.store import Store
    from fti.store.types import DatasetVersion, Passage
    from fti.store.versioned.registry import ModelVersion


def load_profile_embedder(settings: Settings) -> Embedder:
    """The embedder of a profile, or the fine-tuned version of it that the store stands on.

    Raises:
        ModelUnavailable: its weights are not on this machine.
        ModelNotFound: the version is not in the registry.
        ContractError: the version's files are not what its contract says.
        IntegrityError: its weights are not what they should be.
    """
    from fti.pipelines.engines.embedders.embedding import load_embedder
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


def train_embedder(
    settings: Settings, store: Store, *, source: str, name: str, progress: Progress
) -> ModelVersion:
    """Mine hard negatives for questions from the live search, train on them, register the result.

    Args:
        settings: the profile: its embedder is trained, its retrieval is searched.
        store: where from and where to.
        source: a dataset, or a case file (a file that exists), which becomes the dataset
            ``NAME-cases``.
        name: of the model; what it is trained on is published as the dataset ``NAME-pairs``.
        progress: told of every stage.
    """
    from fti.pipelines.engines.embedders.trained_embedder import open_embedder
    from fti.pipelines.training.train_embedder import finetune_embedder

    # What can be refused without an hour of searching is refused first.
    store.models.check_name(name)
    base = open_embedder(settings.embedder)
    pairs = make_pairs(settings, store, source=source, name=name, progress=progress)
    return finetune_embedder(
        pairs,
        name=name,
        store=store,
        base=base,
        compose=compose,
        config=settings.embedder_training,
        progress=progress,
    )


def compose(passage: Passage) -> str:
    """The text of a passage as ingesting embeds it."""
    from fti.pipelines.feature.splitting.chunking import embedding_text

    return embedding_text(passage.title, passage.section, passage.text)


def make_pairs(
    settings: Settings, store: Store, *, source: str, name: str, progress: Progress
) -> DatasetVersion:
    """The dataset ``NAME-pairs``: questions with the right passage and mined hard negatives."""
    from fti.app.build import build_retriever
    from fti.pipelines.feature.dataset.negatives import mine_negatives

    retriever = build_retriever(settings, store)

    def search(questions: Sequence[str], k: int) -> list[list[Passage]]:
        return _search(retriever, questions, k)

    dataset = (
        _of_cases(settings, store, retriever, Path(source), name=name, progress=progress)
        if Path(source).is_file()
        else store.datasets.get(source)
    )
    return mine_negatives(
        f"{name}-pairs",
        dataset,
        store=store,
        search=search,
        embedder=retriever.embedder.identity,
        retrieval=retriever.config.model_dump(mode="json"),
        form=settings.prompt.form,
        config=settings.negatives,
        progress=progress,
    )


def _search(retriever: Retriever, questions: Sequence[str], k: int) -> list[list[Passage]]:
    vectors = retriever.embed(questions)
    return [
        retriever.search(question, k, vector=vector)
        for question, vector in zip(questions, vectors, strict=True)
    ]


def _of_cases(
    settings: Settings,
    store: Store,
    retriever: Retriever,
    path: Path,
    *,
    name: str,
    progress: Progress,
) -> DatasetVersion:
    """Cases as a dataset: nine in ten documents to train on, the others to measure by."""
    from fti.app.build import make_dataset
    from fti.pipelines.inference.evaluating.cases import load_cases

    cases = load_cases(path)
    shares = {"train": 0.9, "validation": 0.1, "test": 0.0, "unanswerable": 0.0}
    changes = {**shares, "synthetic": "never", "max_rows": len(cases)}
    changed = settings.dataset.model_copy(update=changes)
    return make_dataset(
        settings.model_copy(update={"dataset": changed}),
        store,
        name=f"{name}-cases",
        embedder=retriever.embedder,
        cases=cases,
        progress=progress,
    )
