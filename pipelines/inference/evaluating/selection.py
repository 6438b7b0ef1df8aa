"""Which cases an evaluation scores: each about a document of the store that no model learned from.

What is left out is counted and named, never silently dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fti.pipelines.inference.evaluating.cases import GoldDocuments
from fti.pipelines.inference.evaluating.scoring import ScoredCase
from fti.store.errors import InputError, InvalidCases
from fti.store.types import Case, Value

if TYPE_CHECKING:
    from fti.store.store import Store

_SHOWN = 20  # how many excluded cases a report names


class Excluded(Value):
    """Cases that were not scored: how many, and the first of them with their documents."""

    count: int = 0
    cases: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The cases to score, and those that are not, by why."""

    scored: list[ScoredCase]
    not_in_store: Excluded
    ambiguous: Excluded
    trained_on: Excluded


def trained_documents(store: Store, model: str) -> frozenset[str]:
    """Ids of the documents that a model version, or one it goes back to, was trained on."""
    if "/" not in model:  # base and extractive: nothing of ours was trained
        return frozenset()
    datasets = [store.datasets.get(maker.dataset) for maker in store.models.ancestry(model)]
    return frozenset(d for dataset in datasets for d in dataset.documents.get("train", ()))


def select(cases: Sequence[Case], store: Store, models: Sequence[str]) -> Selection:
    """Sort cases into those to score and those to leave out.

    Args:
        cases: what was asked for.
        store: whose documents they must be about.
        models: versions whose training documents are left out.

    Raises:
        InvalidCases: there are no cases, or none is about one document of the store.
        InputError: all of them are about documents trained on.
    """
    if not cases:
        raise InvalidCases("There are no cases to evaluate.")
    trained = frozenset[str]().union(*(trained_documents(store, model) for model in models))
    gold = GoldDocuments(store.features.records())
    scored: list[ScoredCase] = []
    absent: list[Case] = []
    ambiguous: list[Case] = []
    seen: list[Case] = []
    for case in cases:
        grades = case.relevant or ({case.document: 1} if case.document else {})
        matches = {reference: gold.find(reference) for reference in grades}
        if any(len(ids) > 1 for ids in matches.values()):
            ambiguous.append(case)
        elif not all(ids for reference, ids in matches.items() if grades[reference] > 0):
            absent.append(case)
        else:
            documents = {ids[0]: grades[ref] for ref, ids in matches.items() if ids}
            if trained.intersection(documents):
                seen.append(case)
            else:
                scored.append(ScoredCase(case, documents))
    if not scored and seen:
        raise InputError(
            f"All {len(seen)} cases are about documents that the model was trained on.",
            hint="Evaluate on held-out documents, or see the figures with --include-trained.",
        )
    if not scored:
        example = (absent or ambiguous)[0]
        raise InvalidCases(
            f"None of the {len(cases)} cases is about one document in the store; the first names "
            f"{example.document or next(iter(example.relevant))!r}, which matches "
            f"{'no document' if absent else 'several documents'}.",
            hint="Ingest the documents that the cases are about, each from one place.",
        )
    return Selection(scored, _excluded(absent), _excluded(ambiguous), _excluded(seen))


def _excluded(cases: Sequence[Case]) -> Excluded:
    documents = dict.fromkeys(c.document or next(iter(c.relevant)) for c in cases)
    return Excluded(
        count=len(cases),
        cases=tuple(c.id for c in cases[:_SHOWN]),
        documents=tuple(documents)[:_SHOWN],
    )
