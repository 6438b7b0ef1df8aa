"""Is a difference between two systems, scored on the same cases, more than chance?

Pure functions over numbers. The test is Fisher's paired randomisation test: were the two systems
alike, each case's difference could as well have had the other sign. Smucker, Allan and Carterette
("A Comparison of Statistical Significance Tests for Information Retrieval Evaluation", CIKM 2007)
recommend it for mean scores over queries. Several tests at once are corrected by Holm's step-down
rule ("A Simple Sequentially Rejective Multiple Test Procedure", 1979).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from fti.store.errors import InputError
from fti.store.proof.gate import RESAMPLES, SEED, bootstrap_interval
from fti.store.types import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The error rate that "significant" means, after correction.
ALPHA = 0.05
_EXACT_UP_TO = 13  # differences that are not zero: 2 ** 13 sign patterns are fewer than RESAMPLES
_BLOCK = 2_000_000  # signs held at once
_EPSILON = 1e-12  # sums of the same numbers in another order differ by this much
_Key = TypeVar("_Key", bound=Hashable)


class Difference(Interval):
    """A mean paired difference with its bootstrap interval, and how likely chance alone is.

    ``p`` is the two-sided p-value of the paired randomisation test; ``p_holm`` the same after
    Holm's correction over all differences that were tested together.
    """

    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether chance is ruled out at the 5 % level, after correction."""
        return self.p_holm < ALPHA

    @property
    def better(self) -> bool:
        """Significantly above zero."""
        return self.significant and self.mean > 0

    @property
    def worse(self) -> bool:
        """Significantly below zero."""
        return self.significant and self.mean < 0


def randomisation_p(
    differences: Sequence[float] | NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> float:
    """Two-sided p-value of the paired randomisation test of a mean difference; repeatable.

    Exact, over all sign patterns, for up to 13 differences that are not zero. Otherwise random
    patterns are drawn, and the one observed counts among them, so that p is never 0 (Phipson and
    Smyth, "Permutation P-values Should Never Be Zero", 2010).

    Raises:
        InputError: there are no differences, or one is not a finite number.
    """
    import numpy as np

    data = np.asarray(differences, dtype=np.float64)
    if data.size == 0 or not np.isfinite(data).all():
        raise InputError("A randomisation test needs finite differences, and at least one.")
    data = data[data != 0]  # a sign changes nothing about a zero
    if data.size == 0:
        return 1.0
    observed = abs(float(data.sum())) - _EPSILON * float(np.abs(data).sum())
    if data.size <= _EXACT_UP_TO:
        patterns = np.arange(2**data.size)[:, None] >> np.arange(data.size) & 1
        return float((np.abs((1 - 2 * patterns) @ data) >= observed).mean())
    rng = np.random.default_rng(seed)
    extreme = 0
    step = max(1, _BLOCK // data.size)
    for start in range(0, resamples, step):
        size = (min(step, resamples - start), data.size)
        signs = rng.integers(0, 2, size=size, dtype=np.int8).astype(np.float32) * 2 - 1
        extreme += int((np.abs(signs @ data) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Mapping[_Key, float]) -> dict[_Key, float]:
    """p-values adjusted by Holm's rule: below a level, they are so with that familywise error."""
    found: dict[_Key, float] = {}
    adjusted = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for place, (key, p) in enumerate(ordered):
        adjusted = max(adjusted, min(1.0, p * (len(ordered) - place)))
        found[key] = adjusted
    return {key: found[key] for key in p_values}


def differences(pairs: Mapping[_Key, Sequence[float]]) -> dict[_Key, Difference]:
    """Each list of paired differences with interval and p-value, corrected over all of them.

    Raises:
        InputError: a list is empty or holds what is no finite number.
    """
    p_values = {key: randomisation_p(values) for key, values in pairs.items()}
    adjusted = holm(p_values)
    return {
        key: Difference(
            **bootstrap_interval(values).model_dump(), p=p_values[key], p_holm=adjusted[key]
        )
        for key, values in pairs.items()
    }
