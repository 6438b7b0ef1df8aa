"""Drift: nothing found where nothing changed, found where something did."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fti.pipelines.feature.monitoring.drift import psi, psi_of_kinds, shift
from fti.store.errors import InputError


def test_psi_by_hand() -> None:
    # Halves of the expected sample become a quarter and three quarters:
    # (0.25 - 0.5) * ln(0.25 / 0.5) + (0.75 - 0.5) * ln(0.75 / 0.5)
    expected = [1.0] * 4 + [2.0] * 4
    recent = [1.0, 2.0, 2.0, 2.0]
    wanted = -0.25 * math.log(0.5) + 0.25 * math.log(1.5)
    assert psi(expected, recent, bins=2) == pytest.approx(wanted)


def test_psi_is_small_for_the_same_and_large_for_another_distribution() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(10, 2, 500)
    assert psi(list(values), list(values)) == 0.0
    assert psi(list(values), list(rng.normal(10, 2, 500))) < 0.1
    assert psi(list(values), list(rng.normal(13, 2, 500))) > 0.25
    assert psi([5.0] * 20, [5.0] * 20) == 0.0, "a constant has one bin"
    assert psi([5.0] * 20, [9.0] * 20) > 0.25


@pytest.mark.parametrize(("one", "two"), [([], [1.0]), ([1.0], []), ([1.0], [float("nan")])])
def test_psi_needs_numbers(one: list[float], two: list[float]) -> None:
    with pytest.raises(InputError):
        psi(one, two)


def test_psi_of_kinds_by_hand() -> None:
    before, after = ["en"] * 3 + ["de"], ["en"] * 2 + ["de"] * 2
    assert psi_of_kinds(before, before) == 0.0
    wanted = -0.25 * math.log(0.5 / 0.75) + 0.25 * math.log(0.5 / 0.25)
    assert psi_of_kinds(before, after) == pytest.approx(wanted)
    assert psi_of_kinds(before, ["fr"] * 4) > 1, "a kind that is new, and two that are gone"
    with pytest.raises(InputError):
        psi_of_kinds([], ["en"])


def around(direction: int, count: int, seed: int, dimension: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(0, 0.3, (count, dimension)).astype(np.float32)
    vectors[:, direction] += 1.0
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_texts_about_the_same_do_not_shift() -> None:
    found = shift(around(0, 80, seed=1), around(0, 60, seed=2))
    assert found.p > 0.05
    assert found.distance < 0.05
    assert (found.expected, found.recent) == (80, 60)
    assert found == shift(around(0, 80, seed=1), around(0, 60, seed=2)), "the same every time"


def test_texts_about_something_else_shift() -> None:
    found = shift(around(0, 80, seed=1), around(1, 60, seed=2))
    assert found.p < 0.01
    assert found.distance > 0.5
    assert found.nearest < shift(around(0, 80, seed=1), around(0, 60, seed=2)).nearest


def test_a_shift_needs_both_sides() -> None:
    with pytest.raises(InputError):
        shift(around(0, 3, seed=1), around(0, 3, seed=1)[:0])


def test_more_vectors_than_are_compared_are_sampled() -> None:
    found = shift(around(0, 2_500, seed=1), around(0, 50, seed=2))
    assert found.expected == 2_500
    assert found.p > 0.01
