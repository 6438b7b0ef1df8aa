"""The promotion gate: better on the same cases, and not by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti.store.errors import GateRefused, InputError
from fti.store.proof.gate import GateDecision, bootstrap_interval, decide

scores = st.floats(0, 1, allow_nan=False)


@settings(deadline=None, max_examples=25)
@given(st.lists(scores, min_size=1, max_size=40))
def test_the_interval_holds_the_mean_within_the_range_of_values(values: list[float]) -> None:
    interval = bootstrap_interval(values, resamples=500)
    assert interval.n == len(values)
    assert interval.mean == pytest.approx(sum(values) / len(values))
    assert min(values) - 1e-12 <= interval.low <= interval.high <= max(values) + 1e-12
    assert interval.low - 1e-9 <= interval.mean <= interval.high + 1e-9 or len(set(values)) > 1


def test_the_interval_is_the_same_every_time() -> None:
    values = [0.0, 1.0, 0.5, 0.25, 1.0, 0.0]
    assert bootstrap_interval(values) == bootstrap_interval(np.array(values))
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


def test_the_interval_agrees_with_theory_on_a_large_sample() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.2, size=2_000)
    interval = bootstrap_interval(values)
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=error * 0.1)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=error * 0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        interval = bootstrap_interval(rng.random(60), resamples=400)
        covered += interval.low <= 0.5 <= interval.high
    assert 176 <= covered <= 199  # 95 % of 200 is 190; the bootstrap runs a little short


def test_many_values_are_taken_in_blocks_with_the_same_coverage() -> None:
    values = np.zeros(30_000)
    values[:15_000] = 1.0
    interval = bootstrap_interval(values, resamples=300)
    error = 0.5 / math.sqrt(len(values))
    assert interval.low == pytest.approx(0.5 - 1.96 * error, abs=error * 0.5)
    assert interval.high == pytest.approx(0.5 + 1.96 * error, abs=error * 0.5)


def test_one_value_is_its_own_interval() -> None:
    interval = bootstrap_interval([0.25])
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.25, 0.25, 0.25, 1)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_what_has_no_interval_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        bootstrap_interval(values)


def _cases(values: list[float]) -> dict[str, float]:
    return {f"q{n}": value for n, value in enumerate(values)}


def test_a_clear_gain_is_promoted() -> None:
    decision = decide(
        champion=_cases([0.0] * 20 + [1.0] * 20),
        challenger=_cases([1.0] * 15 + [0.0] * 5 + [1.0] * 20),
    )
    assert decision.promote
    assert decision.difference.mean == pytest.approx(15 / 40)
    assert decision.difference.low > 0
    assert (decision.champion.mean, decision.challenger.mean) == (0.5, pytest.approx(0.875))
    assert decision.reason.startswith("The challenger is better: +0.3750")


def test_a_gain_that_may_be_chance_is_not() -> None:
    champion = _cases([0.0, 1.0] * 20)
    challenger = _cases([1.0, 0.0] * 9 + [0.0, 1.0] * 10 + [1.0, 1.0])
    decision = decide(champion=champion, challenger=challenger)
    assert decision.difference.mean > 0 > decision.difference.low
    assert not decision.promote
    assert "may be chance" in decision.reason


def test_a_margin_allows_for_chance_but_not_for_a_loss() -> None:
    champion = _cases([0.0, 1.0] * 20)
    challenger = _cases([1.0, 0.0] * 9 + [0.0, 1.0] * 10 + [1.0, 1.0])
    assert decide(champion=champion, challenger=challenger, margin=0.5).promote
    worse = decide(champion=challenger, challenger=champion, margin=0.5)
    assert not worse.promote
    assert "is not better" in worse.reason


def test_equal_scores_are_not_promoted() -> None:
    decision = decide(champion=_cases([0.5] * 9), challenger=_cases([0.5] * 9))
    assert not decision.promote
    assert (decision.difference.mean, decision.difference.low) == (0.0, 0.0)


def test_pairing_sees_what_unpaired_intervals_hide() -> None:
    champion = np.random.default_rng(2).random(60)
    challenger = champion + 0.02
    decision = decide(champion=_cases(list(champion)), challenger=_cases(list(challenger)))
    assert decision.promote
    assert decision.champion.high > decision.challenger.low  # the two intervals overlap


@settings(deadline=None, max_examples=10)
@given(
    st.lists(st.tuples(scores, scores), min_size=1, max_size=15), st.randoms(use_true_random=False)
)
def test_the_order_of_cases_does_not_matter(pairs: list[tuple[float, float]], random) -> None:
    champion = _cases([a for a, _ in pairs])
    challenger = _cases([b for _, b in pairs])
    shuffled = list(champion)
    random.shuffle(shuffled)
    assert decide(champion=champion, challenger=challenger) == decide(
        champion={case: champion[case] for case in shuffled}, challenger=challenger
    )


def test_other_cases_are_refused_and_named() -> None:
    with pytest.raises(
        GateRefused,
        match=r"only the champion's has 1 \('q2'\); only the challenger's has 4 \('x0', .*",
    ):
        decide(
            champion=_cases([1.0, 1.0, 1.0]),
            challenger=_cases([1.0, 1.0]) | {f"x{n}": 1.0 for n in range(4)},
        )


def test_no_cases_and_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(GateRefused, match="hold no case"):
        decide(champion={}, challenger={})
    with pytest.raises(GateRefused, match="challenger's score of case 'q1' is nan"):
        decide(champion=_cases([0, 0]), challenger=_cases([0, math.nan]))
    with pytest.raises(InputError, match=r"margin -0\.1"):
        decide(champion=_cases([0]), challenger=_cases([0]), margin=-0.1)


def test_a_decision_is_kept_as_json() -> None:
    decision = decide(champion=_cases([0.0, 0.5]), challenger=_cases([1.0, 0.5]))
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision
    assert decision.resamples == 10_000
