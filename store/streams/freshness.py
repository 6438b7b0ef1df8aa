"""How soon after it happened a record could be found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fti.store.types import Value


class Freshness(Value):
    """Seconds from when a record happened until a search could find it, over ``n`` changes.

    They rest on two clocks: whoever dates the records, and this machine.
    """

    n: int
    p50_s: float
    p99_s: float
    max_s: float


class Lags:
    """Quantiles of lags without keeping them: counts in steps of 2 %, from 1 ms on."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, lag_s: float) -> None:
        """Count the seconds that one change took."""
        self._counts[max(0, math.ceil(math.log(max(lag_s, 1e-9) / 1e-3, 1.02)))] += 1
        self._max = max(self._max, lag_s)

    def summary(self) -> Freshness | None:
        """All that were added; None where none was."""
        total = sum(self._counts.values())
        if not total:
            return None
        return Freshness(
            n=total, p50_s=self._at(0.5, total), p99_s=self._at(0.99, total),
            max_s=round(self._max, 4),
        )  # fmt: skip

    def _at(self, share: float, total: int) -> float:
        seen = 0
        for step in sorted(self._counts):
            seen += self._counts[step]
            if seen >= share * total:
                return round(min(self._max, 1e-3 * 1.02**step), 4)
        return round(self._max, 4)


def summary(lags: Sequence[float]) -> Freshness | None:
    """The quantiles of a few; None where there are none."""
    if not lags:
        return None
    p50, p99 = np.quantile(lags, [0.5, 0.99])
    return Freshness(
        n=len(lags), p50_s=round(float(p50), 4), p99_s=round(float(p99), 4),
        max_s=round(max(lags), 4),
    )  # fmt: skip
