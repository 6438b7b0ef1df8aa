"""How far a question may be from every passage before it is refused, found on questions with and
without an answer.

The decision is the one that is served: an answer abstains when the nearest passage is too far, and
when the model itself says that the passages hold no answer. Only the first depends on a threshold.
So every case is asked once with none, and all thresholds are then judged on what came back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fti.pipelines.inference.answering.answer import Assistant
from fti.store.errors import InputError, InvalidCases
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.types import Case, Value

_NONE = -1.0  # the cosine that nothing is below


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of one case: its nearest passage, and whether the model itself refused.

    ``nearest`` is a cosine; minus infinity where nothing was found, which is always refused.
    """

    answerable: bool
    nearest: float
    refused: bool


class Decision(Value):
    """How well a threshold tells what cannot be answered; a refusal is the positive.

    ``precision``: how many refusals were right; ``recall``: how many unanswerable cases were
    refused; ``false_refusals``: how many answerable ones were.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    false_refusals: float


class Calibration(Value):
    """A threshold with what it does on the cases that it was found on.

    ``before`` is the same for the threshold that applied before. Figures of the cases that a
    threshold was chosen on flatter it: measure it on others.
    """

    chosen: Decision
    before: Decision
    cases: int
    answerable: int
    max_false_refusals: float | None = None


def observe(
    assistant: Assistant, cases: Sequence[Case], *, run_id: str = "", progress: Progress = quiet
) -> list[Observation]:
    """Ask the assistant every case; its contract must leave every question to the model.

    Raises:
        InvalidCases: there are not both answerable and unanswerable cases.
        InputError: the search measures no similarity.
    """
    assert assistant.contract.abstain_below == _NONE
    require_both(cases)
    if assistant.config.retrieval.mode == "text":
        raise InputError(
            "A search by words alone measures no similarity to put a threshold on.",
            hint="Set inference.retrieval.mode to hybrid or vector.",
        )
    observations = []
    for number, case in enumerate(cases, start=1):
        nearest, refused = -math.inf, True
        with assistant.stream(case.question, run_id=run_id) as events:
            for event in events:
                if event.kind == "passages":
                    shown = event.retrieved[: assistant.contract.max_passages]
                    # What words alone found has no cosine, and counts as relevant.
                    nearest = max(
                        (1.0 if p.similarity is None else p.similarity for p in shown),
                        default=-math.inf,
                    )
                if event.answer is not None:
                    refused = event.answer.abstained
        observations.append(Observation(case.answerable, nearest, refused))
        progress(ProgressEvent("calibrate", number, len(cases), case.question))
    return observations


def require_both(cases: Sequence[Case]) -> None:
    """Refuse cases that cannot tell when to answer from when to refuse.

    Raises:
        InvalidCases: there are not both answerable and unanswerable cases.
    """
    answerable = sum(case.answerable for case in cases)
    if not answerable or answerable == len(cases):
        missing = "unanswerable" if answerable else "answerable"
        raise InvalidCases(
            f"None of the {len(cases)} cases is {missing}, and a threshold needs both kinds.",
            hint='Add questions that the documents do not answer, with "answers": [].'
            if answerable
            else "Add questions that the documents answer.",
        )


def choose(
    observations: Sequence[Observation], *, before: float, max_false_refusals: float | None = None
) -> Calibration:
    """The threshold with the best F1 of refusing, or the one that refuses most within a bound.

    Thresholds lie halfway between the similarities that were seen, so that nothing seen sits on
    the edge; of equally good ones the lowest is taken, which refuses least.

    Args:
        observations: what ``observe`` gave.
        before: the threshold that applied before, to compare with.
        max_false_refusals: share of answerable cases that may be refused; None: best F1. Where the
            model alone refuses more than that, nothing is added to it.
    """
    seen = sorted({o.nearest for o in observations if math.isfinite(o.nearest)})
    between = [(low + high) / 2 for low, high in itertools.pairwise(seen)]
    beyond = [min(1.0, seen[-1] + 1e-6)] if seen else []
    judged = [judge(observations, t) for t in (_NONE, *between, *beyond)]
    if max_false_refusals is None:
        chosen = max(judged, key=lambda d: (d.f1, -d.threshold))
    else:
        within = [d for d in judged if d.false_refusals <= max_false_refusals] or judged[:1]
        chosen = max(within, key=lambda d: (d.recall, -d.threshold))
    return Calibration(
        chosen=chosen,
        before=judge(observations, before),
        cases=len(observations),
        answerable=sum(o.answerable for o in observations),
        max_false_refusals=max_false_refusals,
    )


def judge(observations: Sequence[Observation], threshold: float) -> Decision:
    """What a threshold does on what was observed."""
    refused = [o for o in observations if o.refused or o.nearest < threshold]
    unanswerable = sum(not o.answerable for o in observations)
    right = sum(not o.answerable for o in refused)
    answerable = len(observations) - unanswerable
    return Decision(
        threshold=threshold,
        precision=right / len(refused) if refused else 0.0,
        recall=right / unanswerable if unanswerable else 0.0,
        f1=2 * right / (len(refused) + unanswerable) if refused or unanswerable else 0.0,
        false_refusals=(len(refused) - right) / answerable if answerable else 0.0,
    )
