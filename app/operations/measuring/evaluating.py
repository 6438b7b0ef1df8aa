"""Evaluations as commands run them: one system, or several on the same cases, in pairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fti.app.build import (
    BASE,
    EXTRACTIVE,
    Engines,
    build_assistant,
    build_retriever,
    require_documents,
)
from fti.app.operations.measuring.systems import System, answering
from fti.store.errors import ConfigError, InputError, InvalidCases
from fti.store.proof.significance import Difference
from fti.store.types import Case, SearchMode
from fti.store.versioned.aliases import CHAMPION

if TYPE_CHECKING:
    from fti.app.settings import Settings
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport
    from fti.pipelines.inference.evaluating.judging import Preference
    from fti.store.contracts.prompt_contract import Contract
    from fti.store.progress import Progress
    from fti.store.store import Store

SAMPLE_SEED = 0
#: What a judge is asked for: a score of each answer, which of two is better, or both.
Judging = Literal["scores", "pairs", "both"]


@dataclass(frozen=True)
class Compared:
    """Systems measured on the same cases, by name, in the order they were asked for.

    ``differences`` are those of each other system to ``reference``, the first; p-values are
    corrected over the metrics of each. ``main`` names the system that the top figures are about.
    ``preferences`` are a judge's, of each other answering system over the first that answers.
    ``contracts`` are those of the systems that answer.
    """

    reports: dict[str, EvaluationReport]
    reference: str
    main: str
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    preferences: dict[str, Preference] = field(default_factory=dict)
    contracts: dict[str, Contract] = field(default_factory=dict)

    @property
    def report(self) -> EvaluationReport:
        """The main system's."""
        return self.reports[self.main]

    def as_json(self, *, several: bool) -> dict[str, Any]:
        """The main system's report, with the others beside it.

        Args:
            several: whether a list was asked for; otherwise the other one is ``baseline``.
        """
        body = self.reports[self.main].model_dump(mode="json")
        if several:
            body["reference"] = self.reference
            body["systems"] = {n: r.model_dump(mode="json") for n, r in self.reports.items()}
            body["differences"] = {
                name: {metric: d.model_dump() for metric, d in found.items()}
                for name, found in self.differences.items()
            }
        elif self.main != self.reference:
            body["baseline"] = self.reports[self.reference].model_dump(mode="json")
            body["difference"] = {
                metric: d.model_dump() for metric, d in self.differences[self.main].items()
            }
        if self.preferences:
            body["preferences"] = {
                n: p.model_dump(mode="json") for n, p in self.preferences.items()
            }
        return body


def parse_judging(text: str | None, *, compared: bool, answers: bool) -> Judging | None:
    """What a judge is asked for, as the command line says it.

    Args:
        text: one of ``Judging``; None asks no judge.
        compared: whether there is more than one system.
        answers: whether there are answers to judge.

    Raises:
        InputError: it is no such word, or there is nothing to judge.
    """
    if text is None:
        return None
    if text not in get_args(Judging):
        raise InputError(
            f"{text!r} is nothing that a judge can be asked for.",
            hint=f"Write --judge with one of: {', '.join(get_args(Judging))}.",
        )
    if not answers:
        raise InputError(
            "A search alone has no answers to judge.", hint="Leave out --retrieval-only or --judge."
        )
    if text != "scores" and not compared:
        raise InputError(
            "Pairs need two systems.", hint="Add --compare, or ask for --judge scores alone."
        )
    return text  # type: ignore[return-value]  # checked above


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
    from fti.pipelines.inference.evaluating.cases import load_cases

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
    resume: bool = True,
    judging: Judging | None = None,
) -> Compared:
    """Evaluate what would be served and, with ``compare``, what it would replace.

    The two are asked the same cases: those about documents that neither was trained on.
    """
    from fti.pipelines.inference.evaluating.evaluation import evaluate_retrieval

    if retrieval_only:
        retriever = build_retriever(settings, store)
        found = evaluate_retrieval(retriever, cases, store=store, progress=progress, resume=resume)
        return Compared({"retrieval": found}, reference="retrieval", main="retrieval")
    name = model or settings.model
    ref = name if name in (BASE, EXTRACTIVE) else store.models.get(name).ref
    asked = [ref]
    if compare and ref not in (BASE, EXTRACTIVE):
        asked.insert(0, rival_of(settings, store, ref))
    return evaluate_systems(
        settings,
        store,
        cases,
        [System(each, each, "rag" if use_retrieval else "none") for each in asked],
        progress=progress,
        include_trained=include_trained,
        engines=engines,
        resume=resume,
        judging=judging,
    )


def evaluate_systems(
    settings: Settings,
    store: Store,
    cases: Sequence[Case],
    systems: Sequence[System],
    *,
    progress: Progress,
    include_trained: bool = False,
    engines: Engines | None = None,
    resume: bool = True,
    judging: Judging | None = None,
) -> Compared:
    """Ask all systems the same cases: those about documents that no model was trained on.

    Args:
        settings: the profile; a system may insist on another search mode.
        store: what is asked.
        cases: see ``find_cases``.
        systems: at least one; the first is what the others are compared with.
        progress: told after every case, a stage per system.
        include_trained: also count cases about documents trained on.
        engines: models that are loaded already.
        resume: go on where an earlier evaluation, perhaps a killed one, stopped.
        judging: what the profile's judge is asked for; None asks no judge.

    Raises:
        ConfigError: ``rerank`` is asked for and the profile has no reranker, or a judge and it has
            none.
    """
    from fti.pipelines.inference.evaluating.evaluation import (
        case_rows,
        compare,
        evaluate,
        evaluate_retrieval,
    )
    from fti.pipelines.inference.evaluating.oracle import OracleRetriever

    engines = engines or Engines(settings)
    judge = engines.judge if judging is not None else None
    unseen_by = () if include_trained else sorted({s.model for s in systems if s.model})
    reports: dict[str, EvaluationReport] = {}
    contracts: dict[str, Contract] = {}
    for system in systems:
        told = _named(progress, system.name) if len(systems) > 1 else progress
        if system.model is None:
            reports[system.name] = evaluate_retrieval(
                _retriever(settings, store, system, engines),
                cases,
                store=store,
                progress=told,
                unseen_by=unseen_by,
                system=system.name,
                resume=resume,
            )
            continue
        assistant = build_assistant(
            _with_mode(settings, system.mode),
            store,
            model=system.model,
            use_retrieval=system.passages != "none",
            engines=engines,
        )
        if system.passages == "oracle":
            assistant.retriever = OracleRetriever(assistant.retriever)
        contracts[system.name] = assistant.contract
        reports[system.name] = evaluate(
            assistant,
            cases,
            store=store,
            progress=told,
            include_trained=include_trained,
            unseen_by=unseen_by,
            system=system.name,
            resume=resume,
            group=settings.evaluation.group,
            entailment=engines.entailment,
            judge=judge if judging in ("scores", "both") else None,
        )

    def rows(name: str) -> list[dict[str, Any]]:
        return case_rows(store, reports[name].run)

    reference, *others = reports
    answered = [system.name for system in systems if system.model is not None]
    preferences: dict[str, Preference] = {}
    if judge is not None and judging in ("pairs", "both"):
        for name in answered[1:]:
            preferences[name] = judge.prefer(
                rows(name),
                rows(answered[0]),
                against=answered[0],
                store=store,
                resume=resume,
                progress=_named(progress, f"judge {name}"),
            )
    return Compared(
        reports=reports,
        reference=reference,
        main=answering(systems).name,
        differences={name: compare(rows(name), rows(reference)) for name in others},
        preferences=preferences,
        contracts=contracts,
    )


def _retriever(settings: Settings, store: Store, system: System, engines: Engines) -> Retriever:
    from fti.pipelines.inference.answering.retrieve import Retriever, searched

    if system.rerank and engines.reranker is None:
        raise ConfigError(
            "The profile has no reranker to measure.",
            hint="Leave 'rerank' out, or set one: --set reranker.engine=lexical",
        )
    require_documents(store)
    return Retriever(
        searched(store.features, settings.inference.retrieval),
        engines.embedder,
        engines.reranker if system.rerank else None,
        _with_mode(settings, system.mode).inference.retrieval,
    )


def _with_mode(settings: Settings, mode: SearchMode | None) -> Settings:
    if mode is None:
        return settings
    inference = settings.inference
    retrieval = inference.retrieval.model_copy(update={"mode": mode})
    # Whoever asks for +vector wants another search than the model's contract may say.
    changed = inference.model_copy(update={"retrieval": retrieval, "other_retrieval": "warn"})
    return settings.model_copy(update={"inference": changed})


def _named(progress: Progress, system: str) -> Progress:
    return lambda event: progress(replace(event, stage=system))
