"""What is served, measured on questions with known answers.

Evaluation asks the same ``Assistant`` that serves, question by question, and reads the retrieved
passages from its events: there is no second path that could score better than the first. Every
evaluation is a run; the scores per case are attached to it under ``cases``, so that two
evaluations of the same cases can be compared pair by pair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fti.pipelines.engines.cross_encoders.entailment import Entailment
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.answering.retrieve import Retriever
from fti.pipelines.inference.evaluating.evaluation_figures import (
    ANSWERS,
    GRADED,
    RETRIEVAL,
    EvaluationReport,
    summary,
)
from fti.pipelines.inference.evaluating.grounding import ground_rows
from fti.pipelines.inference.evaluating.judging import Judge
from fti.pipelines.inference.evaluating.oracle import OracleRetriever
from fti.pipelines.inference.evaluating.scoring import (
    ScoredCase,
    answer_row,
    answer_rows,
    passages_needed,
    retrieval_row,
)
from fti.pipelines.inference.evaluating.selection import Selection, select
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import worst
from fti.store.errors import InputError, InvalidCases, PostconditionFailed
from fti.store.features.feature_store import FeatureStore
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.proof.significance import Difference, differences
from fti.store.store import Store
from fti.store.types import Case, sha256_hex
from fti.store.versioned.casesets import cases_digest

#: Name under which the scores per case are attached to the run.
ROWS = "cases"
#: And the cases themselves, as they were given, where no frozen set holds them.
ASKED = "asked"
_BATCH = 128  # questions embedded together


EVALUATE = PipelineContract("evaluate")
EVALUATE_RETRIEVAL = PipelineContract("evaluate-retrieval")


@EVALUATE.precondition("There are cases", raises=InvalidCases)
@EVALUATE_RETRIEVAL.precondition("There are cases", raises=InvalidCases)
def has_cases(cases: Sequence[Case]) -> None:
    """An evaluation of nothing would pass every floor."""
    if not cases:
        raise InvalidCases("There are no cases to evaluate.")


@EVALUATE.precondition(
    "A case is about one document of the store, and not one trained on", raises=InputError
)
def a_case_counts(
    assistant: Assistant,
    cases: Sequence[Case],
    store: Store,
    include_trained: bool,
    unseen_by: Sequence[str],
) -> None:
    """The others are counted, not scored."""
    models = () if include_trained else (assistant.model, *unseen_by)
    select(cases, store, models)


@EVALUATE_RETRIEVAL.precondition(
    "A case is about one document of the store, and not one trained on", raises=InputError
)
def a_case_can_be_found(cases: Sequence[Case], store: Store, unseen_by: Sequence[str]) -> None:
    """The others are counted, not scored."""
    select(cases, store, unseen_by)


@EVALUATE.postcondition("Each case that is scored has one row of scores")
@EVALUATE_RETRIEVAL.postcondition("Each case that is scored has one row of scores")
def a_row_per_case(store: Store, result: EvaluationReport) -> None:
    """The rows are what two evaluations are compared by."""
    ids = [row["id"] for row in case_rows(store, result.run)]
    if len(set(ids)) != len(ids) or len(ids) != result.cases:
        raise PostconditionFailed(
            f"The evaluation {result.run} scored {result.cases} cases and kept {len(ids)} rows of "
            f"{len(set(ids))} cases."
        )


EVALUATE.requires("latency_p95_s", "at most", "s", worst("evaluate", "latency", "p95"))
EVALUATE_RETRIEVAL.requires(
    "latency_p95_s", "at most", "s", worst("evaluate-retrieval", "latency", "p95")
)


@EVALUATE.enforced
def evaluate(
    assistant: Assistant,
    cases: Sequence[Case],
    *,
    store: Store,
    progress: Progress = quiet,
    retrieval_only: bool = False,
    include_trained: bool = False,
    unseen_by: Sequence[str] = (),
    system: str = "",
    resume: bool = False,
    group: int = 1,
    entailment: Entailment | None = None,
    judge: Judge | None = None,
) -> EvaluationReport:
    """Ask every case and score what comes back.

    Cases whose document is not in the store, or not unambiguously, are not scored but counted, and
    so are those about documents that the model was trained on. Cases from judged documents (BEIR)
    have no answers to compare with: they measure retrieval only, and the model is not asked.

    Args:
        assistant: what is served.
        cases: see ``cases.load_cases``.
        store: the assistant's.
        progress: told after every case.
        retrieval_only: measure the search alone.
        include_trained: also score cases about documents trained on.
        unseen_by: model versions whose training documents are left out too, so that a comparison
            with them covers the same cases.
        system: what a comparison calls this assistant; empty where there is none.
        resume: take over the scores of cases that were asked under the very same circumstances
            (contract, model, settings, features version, code), and keep those that are made now.
        group: cases asked together, which takes less time; a latency is then a case's share of it,
            and no first token is timed.
        entailment: model of inference that measures groundedness.
        judge: language model that scores answers by its rubric.

    Raises:
        InvalidCases: there are no cases, or none is about a document in the store.
        InputError: all of them are about documents trained on.
    """
    if retrieval_only:
        return evaluate_retrieval(
            assistant.retriever, cases, store=store, progress=progress, resume=resume
        )
    chosen = select(cases, store, () if include_trained else (assistant.model, *unseen_by))
    features = assistant.retriever.features
    version = features.version()
    oracle = isinstance(assistant.retriever, OracleRetriever)
    settings = assistant.shaped_by() | {"oracle": oracle}
    kept = None
    if resume:
        kept = store.results.under(
            settings
            | {
                "generator": assistant.generator.identity.model_dump(mode="json"),
                "model": assistant.model,
                **_circumstances(assistant.retriever, version),
            }
        )
    reused = 0

    def measured(some: Sequence[ScoredCase], run_id: str) -> list[dict[str, Any]]:
        if len(some) > 1 and not oracle and not any(scored.judged for scored in some):
            return answer_rows(assistant, some, run_id)
        return [one_by_one(scored, run_id) for scored in some]

    def one_by_one(scored: ScoredCase, run_id: str) -> dict[str, Any]:
        if scored.judged:
            return _search_row(assistant.retriever, scored, None)
        if isinstance(assistant.retriever, OracleRetriever):
            assistant.retriever.aim(scored)
        return answer_row(assistant, scored, run_id)

    def measure(run_id: str) -> Iterator[dict[str, Any]]:
        nonlocal reused
        for at in range(0, len(chosen.scored), group):
            some = chosen.scored[at : at + group]
            keys = [cases_digest([scored.case]) for scored in some]
            known = [kept.get(key) if kept is not None else None for key in keys]
            reused += sum(row is not None for row in known)
            asked = [s for s, row in zip(some, known, strict=True) if row is None]
            new = iter(measured(asked, run_id) if asked else ())
            for key, row in zip(keys, known, strict=True):
                if row is None:
                    row = next(new)
                    # 0: no passages took part, or the features moved on while the case was asked.
                    if kept is not None and row.get("features_version", version) in (0, version):
                        kept.keep(key, row)
                yield row

    def grade(rows: list[dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if entailment is not None:
            found["grounding"] = ground_rows(
                rows, entailment, store=store, resume=resume, progress=progress
            )
        if judge is not None:
            found["judge"] = judge.score_rows(rows, store=store, resume=resume, progress=progress)
        return found

    report = _run(
        cases,
        chosen,
        measure,
        store=store,
        features=features,
        progress=progress,
        base=EvaluationReport(
            cases=len(chosen.scored),
            case_set=cases_digest(cases),
            system=system,
            model=assistant.model,
            contract_digest=assistant.contract.digest,
            features_version=version,
            use_retrieval=assistant.use_retrieval,
            mode=assistant.config.retrieval.mode if assistant.use_retrieval else None,
            oracle=oracle,
            warnings=assistant.warnings,
        ),
        settings=settings
        | {
            "include_trained": include_trained,
            "unseen_by": list(unseen_by),
            "judge": judge.model if judge else "",
            "entailment": entailment.identity.id if entailment else "",
            "entailment_weights": entailment.identity.weights_sha256 if entailment else "",
        },
        grade=grade,
    )
    return report.model_copy(update={"reused": reused})


@EVALUATE_RETRIEVAL.enforced
def evaluate_retrieval(
    retriever: Retriever,
    cases: Sequence[Case],
    *,
    store: Store,
    progress: Progress = quiet,
    unseen_by: Sequence[str] = (),
    system: str = "",
    resume: bool = False,
) -> EvaluationReport:
    """Score the search alone; no language model takes part. See ``evaluate``.

    Questions are embedded in batches; a case's time is its search and its share of the embedding.
    """
    chosen = select(cases, store, unseen_by)
    features = retriever.features
    version = features.version()
    settings = {"retrieval": retriever.config.model_dump(mode="json"), "retrieval_only": True}
    kept = None
    if resume:
        kept = store.results.under(settings | _circumstances(retriever, version))
    reused = 0

    def measure(run_id: str) -> Iterator[dict[str, Any]]:
        nonlocal reused
        for at in range(0, len(chosen.scored), _BATCH):
            batch = chosen.scored[at : at + _BATCH]
            keys = [cases_digest([scored.case]) for scored in batch]
            rows = {key: kept.get(key) if kept is not None else None for key in keys}
            new = {
                key: scored for key, scored in zip(keys, batch, strict=True) if rows[key] is None
            }
            started = time.perf_counter()
            questions = [scored.case.question for scored in new.values()]
            asked = retriever.embed(questions) if questions else []
            vectors = dict(zip(new, asked, strict=True))
            embedding_s = (time.perf_counter() - started) / max(1, len(new))
            for key in keys:
                row = rows[key]
                if row is None:
                    row = _search_row(retriever, new[key], vectors[key], spent_s=embedding_s)
                    rows[key] = row
                else:
                    reused += 1
                yield row
            # Unless the features moved on while the batch was searched.
            if kept is not None and features.version() == version:
                kept.keep_all((key, row) for key in new if (row := rows[key]) is not None)

    report = _run(
        cases,
        chosen,
        measure,
        store=store,
        features=features,
        progress=progress,
        base=EvaluationReport(
            cases=len(chosen.scored),
            case_set=cases_digest(cases),
            system=system,
            features_version=version,
            mode=retriever.config.mode,
        ),
        settings=settings,
    )
    return report.model_copy(update={"reused": reused})


def compare(
    rows: Iterable[Mapping[str, Any]], other: Iterable[Mapping[str, Any]]
) -> dict[str, Difference]:
    """Mean differences, ``rows`` minus ``other``, over the cases that both scored.

    Args:
        rows: scores per case, as attached to a run; see ``case_rows``.
        other: those of the evaluation compared against.

    Returns:
        By metric, the paired difference with its interval and its p-value, corrected over the
        metrics; metrics that no case shares are absent.

    Raises:
        InvalidCases: the two have no case in common.
    """
    ours, theirs = {r["id"]: r for r in rows}, {r["id"]: r for r in other}
    shared = [case for case in ours if case in theirs]
    if not shared:
        raise InvalidCases("The two evaluations have no case in common.")
    pairs = {
        metric: [
            ours[case][metric] - theirs[case][metric]
            for case in shared
            if ours[case].get(metric) is not None and theirs[case].get(metric) is not None
        ]
        for metric in (*ANSWERS, *GRADED, "abstention", *RETRIEVAL)
    }
    return differences({metric: values for metric, values in pairs.items() if values})


def case_rows(store: Store, run_id: str) -> list[dict[str, Any]]:
    """The scores per case of an evaluation.

    Raises:
        RunNotFound: there is no such run, or it was no evaluation.
    """
    return list(store.runs.attached(run_id, ROWS))


def _circumstances(retriever: Retriever, version: int) -> dict[str, Any]:
    """What a search's result depends on besides question and settings."""
    reranker = retriever.reranker
    return {
        "embedder": retriever.embedder.identity.model_dump(mode="json"),
        "reranker": None if reranker is None else reranker.identity.model_dump(mode="json"),
        "features": [version, retriever.features.content_digest()],
        "code": _code_digest(),
    }


@cache
def _code_digest() -> str:
    """Of the code that answers and scores: a kept score is of this code or of none."""
    pipelines = Path(__file__).parents[2]
    folders = [pipelines / "engines", pipelines / "inference", pipelines.parent / "store"]
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return sha256_hex(b"\n".join(path.read_bytes() for path in files))


def _run(
    cases: Sequence[Case],
    chosen: Selection,
    measure: Callable[[str], Iterable[dict[str, Any]]],
    *,
    store: Store,
    features: FeatureStore,
    progress: Progress,
    base: EvaluationReport,
    settings: Mapping[str, Any],
    grade: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda rows: {},
) -> EvaluationReport:
    started = time.perf_counter()
    total = len(chosen.scored)
    frozen = store.cases.with_digest(base.case_set)
    inputs = {
        "model": base.model,
        "contract": base.contract_digest,
        "case_set": base.case_set,
        "frozen": frozen.ref if frozen else "",
        "features_version": str(base.features_version),
        "system": base.system,
        "use_retrieval": str(base.use_retrieval).lower(),
    }
    pipeline = "evaluate" if base.model else "evaluate-retrieval"
    with store.runs.running("evaluate", pipeline=pipeline, inputs=inputs, settings=settings) as run:
        if frozen is None:  # they lie nowhere else
            store.runs.attach(run.id, ASKED, [case.model_dump(mode="json") for case in cases])
        rows: list[dict[str, Any]] = []
        f1: list[float] = []
        for row in measure(run.id):
            rows.append(row)
            if "f1" in row:
                f1.append(row["f1"])
            values = {"f1": sum(f1) / len(f1)} if f1 else {}
            progress(ProgressEvent("evaluate", len(rows), total, row["question"], values))
        graded = grade(rows)
        store.runs.attach(run.id, ROWS, rows)
        report = base.model_copy(
            update={
                "frozen": frozen.ref if frozen else "",
                "not_in_store": chosen.not_in_store,
                "ambiguous": chosen.ambiguous,
                "trained_on": chosen.trained_on,
                "run": run.id,
                **summary(rows),
                **graded,
                "seconds": time.perf_counter() - started,
            }
        )
        run.outputs["cases"] = ROWS
        # A gate compares only what saw the same passages from its first case to its last.
        run.outputs["features_version"] = str(features.version())
        run.metrics.update(
            report.model_dump(mode="json", include={"cases", "retrieval", "answers", "latency"})
        )
    return report


def _search_row(
    retriever: Retriever,
    scored: ScoredCase,
    vector: NDArray[np.float32] | None,
    *,
    spent_s: float = 0.0,
) -> dict[str, Any]:
    k = passages_needed(scored, retriever.config.k)
    started = time.perf_counter()
    passages = retriever.search(scored.case.question, k, vector=vector)
    return retrieval_row(scored, passages, seconds=time.perf_counter() - started + spent_s)
