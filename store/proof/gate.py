"""The promotion gate: is one set of per-case scores better than another, beyond chance?

Pure functions over numbers. The interval is the percentile bootstrap (Efron & Tibshirani, *An
Introduction to the Bootstrap*, 1993, chapter 13). Two systems are compared by resampling the
differences on the same cases, as Koehn did for translation ("Statistical Significance Tests for
Machine Translation Evaluation", EMNLP 2004): what a case adds to both cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fti.store.errors import GateRefused, InputError
from fti.store.types import Interval, Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 20_041_101
_BLOCK = 2_000_000  # resampled values held at once: 16 MB of indices


class GateConfig(Value):
    """What a version must show before it becomes a champion."""

    cases: str = Field(
        default="",
        description="Frozen case set that decides: NAME (its latest) or NAME/N. Empty: the only "
        "one there is.",
    )
    score: str = Field(default="f1", description="The score that must be better.")
    retrieval_score: str = Field(
        default="recall@1",
        description="The score that must be better where a store is to be switched to another "
        "embedder.",
    )
    rule: Literal["better", "not_worse"] = Field(
        default="better",
        description="better: the score's mean difference is above zero and its 95 % interval above "
        "-margin. not_worse: the interval alone; for a version that is cheaper, say. No other "
        "score may be significantly worse under either.",
    )
    margin: float = Field(
        default=0.0, ge=0, le=1, description="How much worse the interval's lower end may be."
    )
    floors: Mapping[str, float] = Field(
        default_factory=dict,
        description="Least values by score, such as {f1: 0.4}; the lower end of the score's 95 % "
        "interval must reach them.",
    )


class GateDecision(Value):
    """What the gate found. ``difference`` is challenger minus champion, over the cases of both.

    ``promote`` holds when the lower end of its interval is at least ``-margin`` and its mean is
    above zero.
    """

    promote: bool
    reason: str
    difference: Interval
    champion: Interval
    challenger: Interval
    margin: float = Field(ge=0)
    resamples: int = RESAMPLES
    seed: int = SEED


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Mean of ``values`` with its 95 % percentile bootstrap interval; the same every time.

    Raises:
        InputError: there are no values, or one is not a finite number.
    """
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise InputError("There is no value to take an interval of.")
    if not np.isfinite(data).all():
        raise InputError("A value to take an interval of is not a finite number.")
    n = data.size
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        means[start : start + size] = data[rng.integers(0, n, size=(size, n))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(mean=math.fsum(data) / n, low=float(low), high=float(high), n=n)


def decide(
    *,
    champion: Mapping[str, float],
    challenger: Mapping[str, float],
    margin: float = 0.0,
) -> GateDecision:
    """Compare a challenger with the champion by their scores per case id.

    Args:
        champion: the score of each case under what is served now.
        challenger: the score of each case under what would be served.
        margin: how much worse the lower end of the difference may be than no difference.

    Raises:
        GateRefused: the two were not scored on the same cases, or on none, or a score is not a
            finite number.
    """
    if margin < 0:
        raise InputError(f"The margin {margin!r} is below zero.")
    if champion.keys() != challenger.keys():
        raise GateRefused(
            "The two evaluations cover different cases: "
            + "; ".join(
                f"only the {side}'s has {len(only)} ({', '.join(map(repr, sorted(only)[:3]))}"
                f"{', ...' if len(only) > 3 else ''})"
                for side, only in (
                    ("champion", champion.keys() - challenger.keys()),
                    ("challenger", challenger.keys() - champion.keys()),
                )
                if only
            )
            + ".",
            hint="Evaluate both on the same case file.",
        )
    if not champion:
        raise GateRefused("The evaluations hold no case.", hint="Evaluate both on a case file.")
    ids = sorted(champion)
    for side, scores in (("champion", champion), ("challenger", challenger)):
        wrong = next((case for case in ids if not math.isfinite(scores[case])), None)
        if wrong is not None:
            raise GateRefused(
                f"The {side}'s score of case {wrong!r} is {scores[wrong]!r}.",
                hint="Evaluate it again.",
            )
    difference = bootstrap_interval([challenger[case] - champion[case] for case in ids])
    better = difference.mean > 0
    sure = difference.low >= -margin
    spread = (
        f"{difference.mean:+.4f}, 95 % interval [{difference.low:+.4f}, {difference.high:+.4f}] "
        f"over {difference.n} cases"
    )
    if better and sure:
        reason = f"The challenger is better: {spread}."
    elif better:
        # 0 - 0.0 is 0; -0.0 would be printed as -0.
        reason = f"The difference may be chance: {spread}; its lower end is below {0 - margin:g}."
    else:
        reason = f"The challenger is not better: {spread}."
    return GateDecision(
        promote=better and sure,
        reason=reason,
        difference=difference,
        champion=bootstrap_interval([champion[case] for case in ids]),
        challenger=bootstrap_interval([challenger[case] for case in ids]),
        margin=margin,
    )
