"""A dataset's rows as an embedder is trained and measured on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fti.pipelines.engines.embedders.trained_embedder import OpenEmbedder
from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
from fti.store.errors import TrainingError
from fti.store.types import (
    DatasetVersion,
    InstructionExample,
    Passage,
)

#: The text of a passage that is embedded, as the feature pipeline composes it.
Compose = Callable[[Passage], str]


@dataclass(frozen=True, slots=True)
class Tuples:
    """Questions, the passage that answers each, and as many hard negatives for each.

    ``negatives`` has a list per place, each as long as ``questions``.
    """

    ids: list[str]
    questions: list[str]
    positives: list[str]
    negatives: list[list[str]]


def tuples(
    rows: Sequence[InstructionExample],
    base: OpenEmbedder,
    compose: Compose,
    config: EmbedderTrainingConfig,
) -> Tuples:
    """Rows as texts to embed, prefixes before them; a row without what it takes is left out.

    A row with fewer negatives than asked for has its last one again.
    """
    found = Tuples([], [], [], [[] for _ in range(config.negatives)])
    for row in rows:
        if not row.answer or not row.citations:
            continue
        right = row.citations[0] - 1
        others = [p for n, p in enumerate(row.passages) if n + 1 not in row.citations]
        if len(others) < min(1, config.negatives):
            continue
        found.ids.append(row.id)
        found.questions.append(base.query_prefix + row.question)
        found.positives.append(base.document_prefix + compose(row.passages[right]))
        for place, column in enumerate(found.negatives):
            passage = others[min(place, len(others) - 1)]
            column.append(base.document_prefix + compose(passage))
    return found


def measure(model: Any, held_out: Tuples) -> dict[str, float]:
    """Recall@1 and MRR of each question's passage among all passages of these rows.

    Nothing where there are no rows.
    """
    if not held_out.questions:
        return {}
    pool = list(
        dict.fromkeys(
            text for column in (held_out.positives, *held_out.negatives) for text in column
        )
    )
    place = {text: n for n, text in enumerate(pool)}
    vectors = [
        model.encode(
            texts, prompt="", convert_to_numpy=True, normalize_embeddings=True,
            show_progress_bar=False,
        )
        for texts in (held_out.questions, pool)
    ]  # fmt: skip
    scores = vectors[0] @ vectors[1].T
    right = np.array([place[text] for text in held_out.positives])
    own = scores[np.arange(len(right)), right]
    ranks = (scores > own[:, None]).sum(axis=1) + 1
    return {"recall@1": float((ranks == 1).mean()), "mrr": float((1 / ranks).mean())}


def require_enough(train: Tuples, dataset: DatasetVersion, config: EmbedderTrainingConfig) -> None:
    """Refuse fewer questions than a batch.

    Raises:
        TrainingError: as it says.
    """
    if len(train.ids) < config.batch_size:
        raise TrainingError(
            f"The dataset {dataset.ref} has {len(train.ids)} questions with a passage and a hard "
            f"negative, fewer than the {config.batch_size} of a batch.",
            hint="Give more questions, or lower embedder_training.batch_size.",
        )
