"""Has what comes in changed? Pure comparisons of two samples, the expected one and the recent one.

No single number says so: shares tell of the shape of one quantity (lengths, scores), means of
vectors tell of what texts are about. Each comes with how many values it rests on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fti.store.errors import InputError
from fti.store.types import Value

_BINS = 10
_PERMUTATIONS = 500
_LARGEST = 2_000  # vectors of a side that are compared; more tell no more
SEED = 20_121_301


class Shift(Value):
    """How far a sample of vectors lies from the expected one.

    ``distance`` is one minus the cosine of the two means, from 0 (about the same things) to 2.
    ``p`` says how likely chance alone puts the means so far apart. ``nearest`` is the mean cosine
    of a recent vector with the expected one nearest to it: low when new topics came up.
    """

    distance: float
    p: float
    nearest: float
    expected: int
    recent: int


def psi(expected: Sequence[float], recent: Sequence[float], *, bins: int = _BINS) -> float:
    """Population stability index of a quantity: 0 for equal shares, above 0.25 a major change.

    Sum over bins of (recent share - expected share) * ln(recent share / expected share), with the
    expected sample's quantiles as bins (Siddiqi, *Credit Risk Scorecards*, 2006, also for the rule
    of thumb: below 0.1 nothing, to 0.25 some). An empty bin counts as half a value.

    Raises:
        InputError: a sample is empty or holds what is no finite number.
    """
    before, after = np.asarray(expected, np.float64), np.asarray(recent, np.float64)
    if not before.size or not after.size or not np.isfinite([*before, *after]).all():
        raise InputError("A stability index needs two samples of finite numbers.")
    inner = np.unique(np.quantile(before, np.arange(1, bins) / bins))

    def counts(values: NDArray[np.float64]) -> NDArray[np.int64]:
        # A value on an edge belongs below it, so that whole numbers get bins of their own.
        return np.bincount(np.searchsorted(inner, values, side="left"), minlength=len(inner) + 1)

    return _index(counts(before), counts(after))


def psi_of_kinds(expected: Sequence[str], recent: Sequence[str]) -> float:
    """Population stability index of what comes in kinds, such as languages: a bin per kind.

    Raises:
        InputError: a sample is empty.
    """
    if not expected or not recent:
        raise InputError("A stability index needs two samples.")
    before, after = Counter(expected), Counter(recent)
    kinds = sorted(before.keys() | after.keys())
    return _index(np.array([before[k] for k in kinds]), np.array([after[k] for k in kinds]))


def _index(expected: NDArray[np.int64], recent: NDArray[np.int64]) -> float:
    def shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        filled = np.maximum(counts, 0.5)
        return np.asarray(filled / filled.sum(), dtype=np.float64)

    old, new = shares(expected), shares(recent)
    return float(((new - old) * np.log(new / old)).sum())


def shift(expected: NDArray[np.float32], recent: NDArray[np.float32], *, seed: int = SEED) -> Shift:
    """Compare two samples of unit vectors, a row each; the same every time.

    The p-value is that of a permutation test on the distance between the means, which is the
    maximum mean discrepancy under a linear kernel (Gretton et al., "A Kernel Two-Sample Test",
    JMLR 2012). Of more than 2,000 vectors on a side a seeded sample is taken.

    Raises:
        InputError: a sample is empty.
    """
    if not len(expected) or not len(recent):
        raise InputError("A shift needs vectors on both sides.")
    rng = np.random.default_rng(seed)
    before, after = (_sample(side, rng) for side in (expected, recent))
    pooled = np.concatenate([before, after]).astype(np.float64)
    first = np.zeros(len(pooled))
    first[: len(before)] = 1.0

    def apart(chosen: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = chosen @ pooled
        means = sums / len(before) - (pooled.sum(axis=0) - sums) / len(after)
        return np.asarray((means**2).sum(axis=1))

    observed = apart(first[None, :])[0]
    drawn = apart(np.stack([rng.permutation(first) for _ in range(_PERMUTATIONS)]))
    extreme = int((drawn >= observed - 1e-12).sum())
    mean_before, mean_after = before.mean(axis=0), after.mean(axis=0)
    length = float(np.linalg.norm(mean_before) * np.linalg.norm(mean_after))
    cosine = float(mean_before @ mean_after) / length if length else 0.0
    return Shift(
        distance=max(0.0, 1.0 - cosine),
        p=(extreme + 1) / (_PERMUTATIONS + 1),
        nearest=float((after @ before.T).max(axis=1).mean()),
        expected=len(expected),
        recent=len(recent),
    )


def _sample(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    if len(vectors) <= _LARGEST:
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), _LARGEST, replace=False))]
