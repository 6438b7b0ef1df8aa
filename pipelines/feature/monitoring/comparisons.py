"""Whether questions, documents and answers have changed from what the system was made for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.feature.feature_config import MonitoringConfig
from fti.pipelines.feature.monitoring.drift import psi, psi_of_kinds, shift
from fti.pipelines.feature.monitoring.healthcheck import best_similarities, mean
from fti.pipelines.feature.monitoring.languages import language
from fti.pipelines.feature.monitoring.monitor_report import (
    AnswerDrift,
    DocumentDrift,
    Drift,
    LanguageDrift,
    QuestionDrift,
)
from fti.store.answer_types import Answer
from fti.store.store import Store

_SAMPLE = 2_000  # chunks of either side that documents are compared by


def compare_questions(
    store: Store,
    recent: Sequence[Answer],
    embedder: Callable[[], Embedder] | None,
    wanted: str,
    config: MonitoringConfig,
) -> QuestionDrift | None:
    """Recent questions against a frozen case set, the only one there is unless one is named.

    None where there is none; without figures where either side has too few.
    """
    if not wanted:
        names = store.cases.names()
        if len(names) != 1:
            return None
        wanted = names[0]
    frozen = store.cases.get(wanted)
    expected = [case.question for case in store.cases.cases(frozen.ref)]
    asked = [answer.question for answer in recent]
    found = QuestionDrift(cases=frozen.ref, questions=len(asked), expected=len(expected))
    if min(len(asked), len(expected)) < config.min_sample:
        return found
    update: dict[str, object] = {
        "length_psi": psi(_lengths(expected), _lengths(asked)),
        "language": _languages(expected, asked),
    }
    if embedder is not None:
        model = embedder()
        update["embedding"] = shift(model.embed_queries(expected), model.embed_queries(asked))
    return found.model_copy(update=update)


def _lengths(texts: Sequence[str]) -> list[float]:
    return [float(len(text.split())) for text in texts]


def _languages(expected: Sequence[str], recent: Sequence[str]) -> LanguageDrift:
    old, new = ([language(text) for text in texts] for texts in (expected, recent))

    def shares(found: Sequence[str]) -> dict[str, float]:
        return {name: count / len(found) for name, count in Counter(found).most_common()}

    return LanguageDrift(psi=psi_of_kinds(old, new), expected=shares(old), recent=shares(new))


def compare_documents(
    store: Store, reference: int | None, config: MonitoringConfig
) -> DocumentDrift | None:
    """Documents that are new or changed since a version of the features, against those of then.

    The version is by default that of the newest dataset. None where there is nothing to compare
    with; without figures where either side has too few.
    """
    if not store.features.exists():
        return None
    if reference is None:
        datasets, _ = store.datasets.survey()
        if not datasets:
            return None
        reference = max(datasets, key=lambda dataset: dataset.created_at).features_version
    before = store.features.checkout(reference)
    then = {r.id: r.content_hash for r in before.records() if r.chunks}
    fresh = [
        r.id for r in store.features.records() if r.chunks and then.get(r.id) != r.content_hash
    ]
    found = DocumentDrift(reference=reference, documents=len(fresh), chunks=0)
    if not fresh or not then:
        return found
    new, old = store.features.sample(_SAMPLE, documents=fresh), before.sample(_SAMPLE)
    found = found.model_copy(update={"chunks": len(new.lengths)})
    if min(len(new.lengths), len(old.lengths)) < config.min_sample:
        return found
    update: dict[str, object] = {
        "length_psi": psi(old.lengths.astype(float).tolist(), new.lengths.astype(float).tolist()),
        "language": _languages(old.texts, new.texts),
    }
    if old.vectors.shape[1] == new.vectors.shape[1]:  # else another embedder came in between
        update["embedding"] = shift(old.vectors, new.vectors)
    return found.model_copy(update=update)


def compare_answers(
    recent: Sequence[Answer], earlier: Sequence[Answer], config: MonitoringConfig
) -> AnswerDrift:
    """Recent answers against earlier ones: refusals, and how near the best passages were."""

    def refused(answers: Sequence[Answer]) -> float | None:
        if len(answers) < config.min_sample:
            return None
        return mean([float(a.abstained) for a in answers])

    new, old = best_similarities(recent), best_similarities(earlier)
    enough = min(len(new), len(old)) >= config.min_sample
    return AnswerDrift(
        recent=len(recent),
        earlier=len(earlier),
        unanswered=refused(recent),
        unanswered_before=refused(earlier),
        similarity_psi=psi(old, new) if enough else None,
        similarity=_spread(new) if len(new) >= config.min_sample else (),
        similarity_before=_spread(old) if len(old) >= config.min_sample else (),
    )


def _spread(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(np.percentile(np.asarray(values), [10, 50, 90]).tolist())


def compare_similarity(recent: Sequence[Answer], earlier: Sequence[Answer]) -> Drift:
    """The mean similarity of the best passages, recent against earlier."""
    new, old = best_similarities(recent), best_similarities(earlier)
    means = mean(new), mean(old)
    change = None if means[0] is None or means[1] is None else means[0] - means[1]
    return Drift(
        recent=means[0],
        earlier=means[1],
        change=change,
        recent_answers=len(new),
        earlier_answers=len(old),
    )
