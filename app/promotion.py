"""The way to an alias: ``champion`` asks for proof, other names are free.

The proof is the paired comparison of per-case F1 between the version's newest evaluation and the
current champion's (or, without one, of what the profile serves) on the same cases.
``store.gate`` decides; this collects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.evaluating import rival_of
from store.errors import GateRefused, InputError
from store.gate import GateDecision, decide
from store.registry import CHAMPION
from store.types import Interval, Run, Value

if TYPE_CHECKING:
    from app.settings import Settings
    from store.store import Store


class Promotion(Value):
    """What a promotion did and why."""

    model: str
    version: int
    alias: str
    reason: str
    against: str = ""
    difference: Interval | None = None


def promote(
    settings: Settings,
    store: Store,
    model: str,
    *,
    alias: str,
    reason: str = "",
    force: bool = False,
) -> Promotion:
    """Point ``alias`` at the version ``model`` names.

    Args:
        settings: say what answers when there is no champion.
        store: the store.
        model: ``NAME/N``.
        alias: ``champion`` passes the gate; any other alias is set as asked.
        reason: kept in the alias history.
        force: set the champion without the gate; a reason is then required.

    Raises:
        GateRefused: the gate found no proof that the version is better.
        InputError: force without a reason.
    """
    version = store.models.get(model)
    against, difference = "", None
    if alias == CHAMPION and force and not reason:
        raise InputError(
            "Promoting without the gate needs a reason.", hint='Add --reason "why it is right"'
        )
    if alias == CHAMPION and not force:
        if store.models.aliases(version.name).get(CHAMPION) == version.version:
            raise GateRefused(f"{version.ref} is the champion already.")
        against = rival_of(settings, store, version.ref)
        decision = _compare(store, version.ref, against)
        if not decision.promote:
            raise GateRefused(
                f"{version.ref} is not promoted over {against}. {decision.reason}",
                hint="Evaluate on more cases, train it further, or use --force with --reason.",
            )
        difference = decision.difference
        reason = reason or (
            f"F1 {difference.mean:+.3f} against {against}, 95 % interval "
            f"[{difference.low:+.3f}, {difference.high:+.3f}] on {difference.n} cases"
        )
    evidence = (
        {} if difference is None else {"against": against, "f1_difference": difference.model_dump()}
    )
    store.models.promote(
        version.name, version.version, alias, reason=reason or "set by hand", evidence=evidence
    )
    return Promotion(
        model=version.name,
        version=version.version,
        alias=alias,
        reason=reason or "set by hand",
        against=against,
        difference=difference,
    )


def _compare(store: Store, ref: str, against: str) -> GateDecision:
    """The gate's decision over the newest two evaluations on the same cases.

    Raises:
        GateRefused: there are none.
    """
    runs = store.runs.list("evaluate")
    rivals = [run for run in runs if _is_of(run, against)]
    for run in (run for run in runs if _is_of(run, ref)):
        scores = _scores(store, run)
        for rival in rivals:
            theirs = _scores(store, rival)
            if scores and theirs.keys() == scores.keys():
                return decide(champion=theirs, challenger=scores)
    raise GateRefused(
        f"There are no evaluations of {ref!r} and {against!r} on the same cases.",
        hint=f"Make them with: fti evaluate CASES.jsonl --model {ref} --compare",
    )


def _is_of(run: Run, model: str) -> bool:
    """Whether a run evaluated a model as it is served, with retrieval."""
    return (
        run.status == "done"
        and run.inputs.get("model") == model
        and run.settings.get("use_retrieval", False)
        and not run.settings.get("include_trained", False)
    )


def _scores(store: Store, run: Run) -> dict[str, float]:
    from pipelines.inference.evaluation import case_rows

    rows = case_rows(store, run.id)
    return {row["id"]: float(row["f1"]) for row in rows if row.get("f1") is not None}
