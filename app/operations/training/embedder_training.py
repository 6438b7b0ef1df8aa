"""A better embedder made of questions: mined hard negatives, trained on, registered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fti.app.build import build_retriever
from fti.app.operations.training.dataset_building import make_dataset

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.store.progress import Progress
    from fti.store.store import Store
    from fti.store.types import DatasetVersion, Passage
    from fti.store.versioned.model_version import ModelVersion


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
    from fti.pipelines.training.embedder.train_embedder import finetune_embedder

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
    from fti.store.features.indexed_text import embedding_text

    return embedding_text(passage.title, passage.section, passage.text)


def make_pairs(
    settings: Settings, store: Store, *, source: str, name: str, progress: Progress
) -> DatasetVersion:
    """The dataset ``NAME-pairs``: questions with the right passage and mined hard negatives."""
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
