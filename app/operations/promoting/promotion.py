"""The way to an alias: ``champion`` asks for proof, other names are free.

The proof is two evaluations of one frozen case set, by the version and by what it would replace,
under the same settings and over the same passages. ``store.gate`` and ``store.significance``
decide; this collects, and says in figures why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fti.app.operations.measuring.evaluating import rival_of
from fti.app.operations.promoting.gating import (
    Promotion,
    evidence_or_force,
    frozen_set,
    reason_from,
    require_reason,
    weigh,
)
from fti.app.operations.promoting.run_settings import other_contracts, other_settings
from fti.app.settings import Settings
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.retrieval_contract import passage_differences
from fti.store.errors import GateRefused, InputError, ModelNotFound, PostconditionFailed
from fti.store.progress import Progress, quiet
from fti.store.store import Store
from fti.store.types import RetrievalContract, Run
from fti.store.versioned.aliases import CHAMPION

if TYPE_CHECKING:
    from fti.store.versioned.casesets import CaseSetVersion
    from fti.store.versioned.model_version import ModelVersion

_Rows = Mapping[str, Mapping[str, Any]]


PROMOTE = PipelineContract("promote")


@PROMOTE.precondition("The version was published", raises=ModelNotFound)
def is_published(store: Store, model: str) -> None:
    """What an alias points at can be loaded."""
    store.models.get(model)


@PROMOTE.precondition("Who leaves the gate out says why", raises=InputError)
def force_has_a_reason(alias: str, force: bool, reason: str) -> None:
    """The reason stays in the alias history."""
    if alias == CHAMPION and force:
        require_reason(reason)


@PROMOTE.precondition("The version is not the champion already", raises=GateRefused)
def is_a_challenger(store: Store, model: str, alias: str) -> None:
    """Nothing is proved by comparing a version with itself. An embedder may have to be switched to
    again, which ``fti.app.operations.promoting.switching`` sees to."""
    version = store.models.get(model)
    held = store.models.aliases(version.name).get(CHAMPION)
    if alias == CHAMPION and version.kind != "embedder" and held == version.version:
        raise GateRefused(
            f"{version.ref} is the champion already.",
            hint=f"See its history with: fti models show {version.ref}",
        )


@PROMOTE.postcondition("A champion has the gate's proof, or the reason why it has none")
def champion_has_proof(alias: str, result: Promotion) -> None:
    """Figures that decided, or who went past them and why."""
    if alias != CHAMPION:
        return
    forced = bool(result.evidence.get("forced")) and bool(result.reason.strip())
    if not forced and not result.evidence.get("differences"):
        raise PostconditionFailed(
            f"{result.model}/{result.version} became the champion without the gate's proof."
        )


@PROMOTE.postcondition("The alias history says so")
def is_in_the_history(store: Store, result: Promotion) -> None:
    """Also when another has moved the alias on since."""
    moves = store.models.history(result.model, result.alias)
    if not any((m.to_version, m.reason) == (result.version, result.reason) for m in moves):
        raise PostconditionFailed(
            f"The history of {result.model}@{result.alias} does not say that it was moved to "
            f"version {result.version}."
        )


@PROMOTE.enforced
def promote(
    settings: Settings,
    store: Store,
    model: str,
    *,
    alias: str,
    reason: str = "",
    force: bool = False,
    cases: str = "",
    progress: Progress = quiet,
) -> Promotion:
    """Point ``alias`` at the version ``model`` names.

    Args:
        settings: the gate's rules, and what answers when there is no champion.
        store: the store.
        model: ``NAME/N``.
        alias: ``champion`` passes the gate; any other alias is set as asked.
        reason: kept in the alias history.
        force: set the champion whatever the gate says; needs a reason, and both are kept.
        cases: the frozen case set to decide on, over the one in the settings.
        progress: told where an embedder becomes the champion, which is measured here.

    Raises:
        ModelNotFound: there is no such version.
        GateRefused: the gate found no proof that the version is better, or it is the champion
            already; says what was found and what to do.
        InputError: force without a reason.
    """
    version = store.models.get(model)
    evidence: dict[str, Any] = {}
    if alias == CHAMPION and version.kind == "embedder":
        from fti.app.operations.promoting.switching import promote_embedder

        return promote_embedder(
            settings, store, version, reason=reason, force=force, cases=cases, progress=progress
        )
    if alias == CHAMPION:
        evidence = evidence_or_force(
            lambda: _proof(settings, store, version.ref, cases), force=force
        )
    reason = reason or reason_from(evidence, settings.gate.score) or "set by hand"
    store.models.promote(version.name, version.version, alias, reason=reason, evidence=evidence)
    return Promotion.of(version, alias, reason, evidence, settings.gate.score)


def _proof(settings: Settings, store: Store, ref: str, cases: str) -> dict[str, Any]:
    """What speaks for a version, for the alias history.

    Raises:
        GateRefused: something is missing, or speaks against it.
    """
    gate = settings.gate
    frozen = frozen_set(store, cases or gate.cases)
    against = rival_of(settings, store, ref)
    again = f"fti evaluate {frozen.ref} --model {ref} --compare"
    challenger = _evaluation(store, ref, frozen, again)
    champion = _evaluation(store, against, frozen, again)
    _require_own_retrieval(store.models.get(ref), challenger, again)
    _require_alike(challenger, champion, again)
    ours, theirs = _rows(store, challenger), _rows(store, champion)
    shared = [case for case in ours if case in theirs and ours[case].get(gate.score) is not None]
    if not shared:
        raise GateRefused(
            f"The evaluations of {ref!r} and {against!r} on {frozen.ref} share no case with the "
            f"score {gate.score!r}.",
            hint=f"Evaluate them together: {again}",
        )
    evidence, faults = weigh(
        gate, gate.score, frozen=frozen, against=against, ours=ours, theirs=theirs, shared=shared
    )
    if faults:
        raise GateRefused(
            f"{ref} is not promoted over {against} (on {frozen.ref}). {' '.join(faults)}",
            hint="Train it further or on more data, evaluate on more cases, or promote it all the "
            "same with --force --reason TEXT.",
        )
    return {
        **evidence,
        "runs": {ref: challenger.id, against: champion.id},
        "features_version": challenger.inputs.get("features_version", ""),
        "contracts": other_contracts(challenger, champion),
    }


def _evaluation(store: Store, ref: str, frozen: CaseSetVersion, again: str) -> Run:
    """The newest evaluation of a model as it is served, on the frozen set.

    Raises:
        GateRefused: there is none; says what there is instead.
    """
    of_model = [r for r in store.runs.list("evaluate") if r.inputs.get("model") == ref]
    on_set = [r for r in of_model if r.inputs.get("case_set") == frozen.digest]
    ended = [r for r in on_set if r.status == "done"]
    served = [
        r for r in ended if r.settings.get("use_retrieval") and not r.settings.get("oracle", False)
    ]
    honest = [r for r in served if not r.settings.get("include_trained", False)]
    if honest:
        return honest[0]
    if served:
        found = "the ones there are count documents that it was trained on (--include-trained)"
    elif ended:
        found = "the ones there are are not of what is served (without retrieval, or with gold "
        found += "passages)"
    elif on_set:
        found = f"{on_set[0].id}, the newest on it, {on_set[0].status}"
    elif of_model:
        names = sorted({r.inputs.get("frozen") or "cases that are not frozen" for r in of_model})
        found = f"it was evaluated on {', '.join(names)} only"
    else:
        found = "it was never evaluated"
    raise GateRefused(
        f"There is no evaluation of {ref!r} on {frozen.ref} ({frozen.cases} cases) to decide by: "
        f"{found}.",
        hint=f"Make it with: {again}",
    )


def _require_alike(challenger: Run, champion: Run, again: str) -> None:
    """Refuse two evaluations whose difference is not the models' alone."""
    seen = [
        (run.inputs.get("features_version"), run.outputs.get("features_version"))
        for run in (challenger, champion)
    ]
    if len({version for pair in seen for version in pair}) > 1:
        ours, theirs = (" to ".join(sorted(set(map(str, pair)))) for pair in seen)
        raise GateRefused(
            f"The two evaluations saw different passages: {challenger.id} features version {ours}, "
            f"{champion.id} version {theirs}.",
            hint=f"Evaluate both on the documents as they are now: {again}",
        )
    differing = other_settings(challenger, champion)
    if differing:
        raise GateRefused(
            f"The two evaluations ({challenger.id} of {challenger.inputs.get('model')}, "
            f"{champion.id} of {champion.inputs.get('model')}) ran with different settings, so "
            f"that their difference is not the models' alone: {'; '.join(differing)}.",
            hint=f"Evaluate both under one profile: {again}",
        )


def _require_own_retrieval(version: ModelVersion, run: Run, again: str) -> None:
    """Refuse what was measured with other passages than it was trained with, and is served with."""
    found = run.settings.get("retrieval")
    if found is None:
        return
    contract = version.prompt_contract
    faults = passage_differences(
        contract.retrieval,
        RetrievalContract.model_validate(found),
        shown=contract.max_passages,
        there=f"{run.id} had",
    )
    if faults:
        raise GateRefused(
            f"{version.ref} was measured with other passages than it was trained with: "
            f"{'; '.join(faults)}.",
            hint=f"Evaluate it with the profile that its dataset was built with: {again}",
        )


def _rows(store: Store, run: Run) -> dict[str, dict[str, Any]]:
    from fti.pipelines.inference.evaluating.evaluation import case_rows

    return {row["id"]: row for row in case_rows(store, run.id)}
