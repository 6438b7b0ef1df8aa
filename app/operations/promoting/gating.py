"""What every gate before an alias shares: its case set, its rule in words, and what it decided.

A promotion of a language model reads two evaluations, one of an embedder searches twice; what is
then weighed, and how it is said, is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fti.store.errors import GateRefused, InputError
from fti.store.proof.gate import bootstrap_interval, decide
from fti.store.store import Store
from fti.store.types import Interval, Value

if TYPE_CHECKING:
    from fti.store.proof.gate import GateConfig
    from fti.store.proof.significance import Difference
    from fti.store.versioned.casesets import CaseSetVersion
    from fti.store.versioned.model_version import ModelVersion

_Rows = Mapping[str, Mapping[str, Any]]


class Promotion(Value):
    """What a promotion did and why. ``difference`` is of the gate's score; ``evidence`` has all."""

    model: str
    version: int
    alias: str
    reason: str
    against: str = ""
    difference: Interval | None = None
    evidence: Mapping[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(
        cls, version: ModelVersion, alias: str, reason: str, evidence: Mapping[str, Any], score: str
    ) -> Promotion:
        """A promotion with its evidence; ``score`` is the one that decided."""
        difference = evidence.get("differences", {}).get(score)
        return cls(
            model=version.name,
            version=version.version,
            alias=alias,
            reason=reason,
            against=evidence.get("against", ""),
            difference=None
            if difference is None
            else Interval(**{k: difference[k] for k in Interval.model_fields}),
            evidence=evidence,
        )


def require_reason(reason: str) -> None:
    """Refuse to leave the gate out without saying why.

    Raises:
        InputError: the reason is empty.
    """
    if not reason.strip():
        raise InputError(
            "Promoting without the gate needs a reason.", hint='Add --reason "why it is right"'
        )


def frozen_set(store: Store, wanted: str) -> CaseSetVersion:
    """The case set to decide on: the one that is named, or the only one there is.

    Raises:
        GateRefused: none is named, and there are none or several.
    """
    if wanted:
        return store.cases.get(wanted)
    names = store.cases.names()
    if not names:
        raise GateRefused(
            "No case set is frozen to decide on.",
            hint="Freeze one with: fti cases freeze NAME CASES.jsonl",
        )
    if len(names) > 1:
        raise GateRefused(
            f"There are {len(names)} frozen case sets to decide on: {', '.join(names)}.",
            hint=f"Say which, with --cases {names[0]}, or once for all in the profile: "
            f"gate: {{cases: {names[0]}}}",
        )
    return store.cases.get(names[0])


def evidence_or_force(prove: Callable[[], dict[str, Any]], *, force: bool) -> dict[str, Any]:
    """What speaks for a version; with ``force`` what spoke against it, where nothing else does.

    Raises:
        GateRefused, InputError: as ``prove``, without ``force``.
    """
    try:
        return prove()
    except (GateRefused, InputError) as refusal:
        if not force:
            raise
        return {"forced": True, "refusal": refusal.message}


def reason_from(evidence: Mapping[str, Any], score: str) -> str:
    """The figures of the score that decided, for the alias history; empty where none did."""
    difference = evidence.get("differences", {}).get(score)
    if difference is None:
        return ""
    return (
        f"{score} {difference['mean']:+.3f} against {evidence['against']}, 95 % interval "
        f"[{difference['low']:+.3f}, {difference['high']:+.3f}] on {difference['n']} cases of "
        f"{evidence['cases']}"
    )


def weigh(
    gate: GateConfig,
    score: str,
    *,
    frozen: CaseSetVersion,
    against: str,
    ours: _Rows,
    theirs: _Rows,
    shared: Sequence[str],
    only_measured: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """Compare two sides case by case.

    Args:
        gate: the rules.
        score: the one that decides.
        frozen: the cases.
        against: what is compared with.
        ours: scores by case of what may be promoted.
        theirs: those of ``against``.
        shared: the cases that both have the score of.
        only_measured: leave out floors of scores that are not measured here; else they speak
            against it.

    Returns:
        The evidence, and a sentence for everything that speaks against it.
    """
    from fti.pipelines.inference.evaluating.evaluation import compare

    rows = [ours[case] for case in shared]
    found = compare(rows, [theirs[case] for case in shared])
    held = {n: floor for n, floor in gate.floors.items() if n in found or not only_measured}
    faults = [
        *_below(held, rows),
        *_not_better(gate, score, ours, theirs, shared, against),
        *(
            f"{name} is significantly worse than {against}'s: {_figures(difference)}."
            for name, difference in found.items()
            if difference.worse and name != score
        ),
    ]
    return {
        "cases": frozen.ref,
        "cases_digest": frozen.digest,
        "against": against,
        "floors": held,
        "rule": gate.rule,
        "differences": {name: difference.model_dump() for name, difference in found.items()},
    }, faults


def _below(floors: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence per floor that a score's interval does not reach."""
    sentences = []
    for name, floor in floors.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        if not values:
            sentences.append(f"{name} was not measured; at least {floor:g} is asked for.")
            continue
        value = bootstrap_interval(values)
        if value.low < floor:
            sentences.append(
                f"{name} is {value.mean:.3f}, 95 % interval [{value.low:.3f}, {value.high:.3f}] "
                f"over {value.n} cases; its lower end must reach {floor:g}."
            )
    return sentences


def _not_better(
    gate: GateConfig, score: str, ours: _Rows, theirs: _Rows, shared: Sequence[str], against: str
) -> list[str]:
    """Why the gate's rule does not hold for a score, over the cases of both; empty when it does."""
    decision = decide(
        champion={case: float(theirs[case][score]) for case in shared},
        challenger={case: float(ours[case][score]) for case in shared},
        margin=gate.margin,
    )
    if gate.rule == "not_worse":
        if decision.difference.low >= -gate.margin:
            return []
        return [
            f"{score} may be worse than {against}'s by more than {gate.margin:g}: {decision.reason}"
        ]
    return [] if decision.promote else [f"{score}: {decision.reason}"]


def _figures(difference: Difference) -> str:
    return (
        f"{difference.mean:+.3f}, 95 % interval [{difference.low:+.3f}, {difference.high:+.3f}], "
        f"p {difference.p_holm:.2g}, over {difference.n} cases"
    )
