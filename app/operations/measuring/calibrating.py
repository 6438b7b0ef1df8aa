"""A calibration as the command runs it: from cases to a contract that says when to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fti.app.build import BASE, EXTRACTIVE, Engines, build_assistant
from fti.app.settings import Settings
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import memory, seconds
from fti.store.errors import InputError, InvalidCases, PostconditionFailed
from fti.store.progress import Progress
from fti.store.store import Store
from fti.store.types import Case

if TYPE_CHECKING:
    from fti.pipelines.inference.evaluating.calibration import Calibration
    from fti.store.versioned.model_version import ModelVersion


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was found, for which model, by which run; ``version`` is the new one, where there is."""

    found: Calibration
    model: str
    run: str
    version: ModelVersion | None = None


CALIBRATE = PipelineContract("calibrate")


@CALIBRATE.precondition("Promotions are decided on other cases", raises=InputError)
def not_the_gates(settings: Settings, store: Store, cases: Sequence[Case]) -> None:
    """A threshold chosen on the gate's cases would flatter itself there."""
    if not settings.gate.cases:
        return
    decided_on = {case.question for case in store.cases.cases(settings.gate.cases)}
    shared = sum(case.question in decided_on for case in cases)
    if shared:
        raise InputError(
            f"{shared} of the {len(cases)} cases are in {settings.gate.cases!r}, which promotions "
            "are decided on: a threshold chosen on them would flatter itself there.",
            hint="Calibrate on other cases, such as those about the training documents.",
        )


@CALIBRATE.precondition(
    "Some cases are answerable by the documents and others are not", raises=InvalidCases
)
def both_kinds(cases: Sequence[Case]) -> None:
    """One kind alone cannot tell when to refuse."""
    from fti.pipelines.inference.evaluating.calibration import require_both

    require_both(cases)


@CALIBRATE.postcondition("The new version differs from the one asked in its threshold alone")
def threshold_alone(store: Store, result: Calibrated) -> None:
    """Prompt, base and retrieval are those that it was trained under."""
    if result.version is None:
        return
    asked = store.models.get(result.model).prompt_contract
    made = result.version.prompt_contract
    wanted = asked.model_copy(update={"abstain_below": result.found.chosen.threshold})
    if made != wanted:
        ours, theirs = made.model_dump(), wanted.model_dump()
        differing = ", ".join(key for key in ours if ours[key] != theirs[key])
        raise PostconditionFailed(
            f"The contract of {result.version.ref} differs from that of {result.model} in "
            f"{differing}, or in its threshold from the chosen "
            f"{result.found.chosen.threshold:.4f}."
        )


CALIBRATE.requires("seconds_p95", "at most", "s", seconds("calibrate"))
CALIBRATE.requires("memory_mb", "at most", "MB", memory("calibrate"))


@CALIBRATE.enforced
def calibrate_model(
    settings: Settings,
    store: Store,
    cases: Sequence[Case],
    *,
    model: str | None = None,
    max_false_refusals: float | None = None,
    progress: Progress,
    engines: Engines | None = None,
) -> Calibrated:
    """Find when a model should refuse, and publish a model version whose contract says so.

    ``base`` and ``extractive`` are no versions: their threshold is a setting of the profile.

    Raises:
        InputError: the cases are those that promotions are decided on.
        InvalidCases: there are not both answerable and unanswerable cases.
    """
    from fti.pipelines.inference.answering.answer import Assistant
    from fti.pipelines.inference.evaluating.calibration import choose, observe

    served = build_assistant(settings, store, model=model, engines=engines)
    contract = served.contract
    before = contract.abstain_below
    if before is None:
        before = served.config.retrieval.min_similarity
    asking = Assistant(
        store,
        served.retriever.embedder,
        served.retriever.reranker,
        served.generator,
        contract.model_copy(update={"abstain_below": -1.0}),
        served.config,
        model=served.model,
        engine=served.engine,
    )
    inputs = {
        "model": served.model,
        "contract": contract.digest,
        "features_version": str(store.features.version()),
    }
    bound = {"max_false_refusals": max_false_refusals, "cases": len(cases)}
    with store.runs.running("calibrate", inputs=inputs, settings=bound) as run:
        observations = observe(asking, cases, run_id=run.id, progress=progress)
        found = choose(observations, before=before, max_false_refusals=max_false_refusals)
        run.metrics.update(found.model_dump(mode="json"))
        version = None
        if served.model not in (BASE, EXTRACTIVE):
            version = store.models.republish(
                served.model,
                contract=contract.model_copy(update={"abstain_below": found.chosen.threshold}),
                run_id=run.id,
                metrics={"calibration": found.model_dump(mode="json")},
            )
            run.outputs["model"] = version.ref
    return Calibrated(found=found, model=served.model, run=run.id, version=version)
