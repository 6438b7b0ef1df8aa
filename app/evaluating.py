"""Evaluations as commands run them: one model, or a model and what it would replace, in pairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.build import BASE, EXTRACTIVE, Engines, build_assistant, build_retriever
from store.errors import InvalidCases
from store.registry import CHAMPION
from store.significance import Difference
from store.types import Case

if TYPE_CHECKING:
    from app.settings import Settings
    from pipelines.inference.evaluation import EvaluationReport
    from store.progress import Progress
    from store.store import Store

SAMPLE_SEED = 0


@dataclass(frozen=True)
class Evaluated:
    """A report; with a comparison also the other model's and the paired differences to it."""

    report: EvaluationReport
    baseline: EvaluationReport | None = None
    difference: dict[str, Difference] = field(default_factory=dict)


def rival_of(settings: Settings, store: Store, ref: str) -> str:
    """What a model version would replace: its name's champion, else what the profile serves."""
    name, _, number = ref.partition("/")
    champion = store.models.aliases(name).get(CHAMPION)
    if champion is None or str(champion) == number:
        return served_without(settings)
    return f"{name}/{champion}"


def served_without(settings: Settings) -> str:
    """What answers where no model version is named."""
    return settings.model if settings.model in (BASE, EXTRACTIVE) else BASE


def sample(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """All cases, or a seeded sample of ``limit`` in file order: the same one every time."""
    if limit is None or limit >= len(cases):
        return list(cases)
    chosen = set(random.Random(SAMPLE_SEED).sample(range(len(cases)), limit))
    return [case for index, case in enumerate(cases) if index in chosen]


def find_cases(store: Store, reference: str) -> list[Case]:
    """The cases of a file, a BEIR folder or, where there is no such path, a frozen set.

    Raises:
        InvalidCases: it is none of these; says which sets there are.
        IntegrityError: the frozen set is not as frozen.
    """
    from pipelines.inference.cases import load_cases

    path = Path(reference)
    if path.exists():
        return load_cases(path)
    if reference.partition("/")[0] in store.cases.names():
        return list(store.cases.cases(reference))
    sets = ", ".join(store.cases.names())
    raise InvalidCases(
        f"{reference!r} is neither a file nor a frozen case set.",
        hint="Name a CASES.jsonl file, a BEIR folder or a frozen set"
        + (f" ({sets})." if sets else ": fti cases freeze NAME CASES.jsonl"),
    )


def evaluate_model(
    settings: Settings,
    store: Store,
    cases: Sequence[Case],
    *,
    progress: Progress,
    model: str | None = None,
    retrieval_only: bool = False,
    compare: bool = False,
    use_retrieval: bool = True,
    include_trained: bool = False,
    engines: Engines | None = None,
) -> Evaluated:
    """Evaluate what would be served and, with ``compare``, what it would replace.

    The two are asked the same cases: those about documents that neither was trained on.
    """
    from pipelines.inference.evaluation import (
        case_rows,
        evaluate,
        evaluate_retrieval,
    )
    from pipelines.inference.evaluation import (
        compare as paired,
    )

    if retrieval_only:
        retriever = build_retriever(settings, store)
        return Evaluated(evaluate_retrieval(retriever, cases, store=store, progress=progress))
    engines = engines or Engines(settings)

    def run(
        name: str | None, asked: Sequence[Case], unseen_by: Sequence[str] = ()
    ) -> EvaluationReport:
        assistant = build_assistant(
            settings, store, model=name, use_retrieval=use_retrieval, engines=engines
        )
        return evaluate(
            assistant,
            asked,
            store=store,
            progress=progress,
            include_trained=include_trained,
            unseen_by=unseen_by,
        )

    name = model or settings.model
    rivals = (
        [rival_of(settings, store, store.models.get(name).ref)]
        if compare and name not in (BASE, EXTRACTIVE)
        else []
    )
    report = run(name, cases, rivals)
    if not rivals:
        return Evaluated(report)
    rows = case_rows(store, report.run)
    scored = {row["id"] for row in rows}
    baseline = run(rivals[0], [c for c in cases if c.id in scored])
    return Evaluated(report, baseline, difference=paired(rows, case_rows(store, baseline.run)))
