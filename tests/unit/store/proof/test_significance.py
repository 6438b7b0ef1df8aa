"""Paired tests: against exact values, against scipy, and against their own promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fti.store.errors import InputError
from fti.store.proof.significance import Difference, differences, holm, randomisation_p


def test_a_few_differences_are_tested_exactly() -> None:
    # Of the 8 sign patterns of (1, 1, 1), two are as extreme as three of one sign.
    assert randomisation_p([1.0, 1.0, 1.0]) == 2 / 8
    assert randomisation_p([1.0, 1.0, 1.0, 0.0, 0.0]) == 2 / 8, "zeros carry no evidence"
    assert randomisation_p([0.5, -0.5]) == 1.0
    assert randomisation_p([0.0, 0.0]) == 1.0


def test_many_differences_agree_with_scipy() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.02, 0.05):
        values = rng.normal(shift, 0.3, size=200)
        theirs = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=9_999, rng=rng
        )
        ours = randomisation_p(values)
        assert ours == pytest.approx(theirs.pvalue, abs=0.02)
        assert ours == randomisation_p(values), "the same every time"
        assert ours == randomisation_p(-values)


def test_p_is_below_five_percent_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    called = sum(randomisation_p(rng.normal(0, 1, 40), resamples=500) < 0.05 for _ in range(300))
    assert 5 <= called <= 27  # 15 expected; three standard deviations either way


def test_p_is_never_zero() -> None:
    assert 0 < randomisation_p([1.0] * 500) < 0.001


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        randomisation_p(values)


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1, each at least the one before it.
    adjusted = holm({"a": 0.02, "b": 0.5, "c": 0.01, "d": 0.03})
    assert adjusted == pytest.approx({"a": 0.06, "b": 0.5, "c": 0.04, "d": 0.06})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert holm({}) == {}


def test_differences_are_corrected_together() -> None:
    rng = np.random.default_rng(5)
    better = list(rng.normal(0.3, 0.2, 60))
    found = differences({"better": better, "same": [0.1, -0.1] * 30, "worse": [-x for x in better]})
    assert found["better"].better
    assert found["worse"].worse
    assert not found["same"].significant
    assert found["better"].low > 0
    assert found["better"].p_holm == pytest.approx(3 * found["better"].p)
    assert isinstance(found["same"], Difference)
    assert found["same"].n == 60
