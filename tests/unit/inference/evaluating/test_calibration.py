"""A threshold for refusing, found on cases, kept in the contract and used by the assistant."""

from __future__ import annotations

import math

import pytest

from fti.pipelines.inference.evaluating.calibration import Observation, choose, judge, observe
from fti.store.errors import InputError, InvalidCases
from fti.store.types import Case
from tests.unit.inference.conftest import World


def seen(answerable: bool, nearest: float, refused: bool = False) -> Observation:
    return Observation(answerable, nearest, refused)


#: Answerable ones lie nearer, with one exception each way.
OBSERVED = [
    *(seen(True, n) for n in (0.9, 0.8, 0.7, 0.6, 0.3)),
    *(seen(False, n) for n in (0.65, 0.4, 0.2, 0.1)),
]


def test_the_threshold_with_the_best_f1_is_chosen() -> None:
    found = choose(OBSERVED, before=0.0)
    every = [judge(OBSERVED, t / 1000) for t in range(-1000, 1001)]
    assert found.chosen.f1 == pytest.approx(max(d.f1 for d in every))
    assert found.chosen.threshold == pytest.approx(0.675)  # between 0.65 and 0.7
    assert (found.chosen.precision, found.chosen.recall) == (pytest.approx(4 / 6), 1.0)
    assert found.chosen.false_refusals == pytest.approx(0.4)
    assert (found.before.f1, found.before.recall) == (0, 0)
    assert (found.cases, found.answerable) == (9, 5)


@pytest.mark.parametrize(
    ("bound", "threshold", "recall"),
    [(0.0, 0.25, 0.5), (0.19, 0.25, 0.5), (0.2, 0.5, 0.75), (0.4, 0.675, 1.0), (1.0, 0.675, 1.0)],
)
def test_at_a_bound_on_false_refusals_as_much_as_it_allows_is_refused(
    bound: float, threshold: float, recall: float
) -> None:
    found = choose(OBSERVED, before=0.0, max_false_refusals=bound)
    assert found.chosen.threshold == pytest.approx(threshold)
    assert found.chosen.recall == recall
    assert found.chosen.false_refusals <= bound


def test_what_the_model_itself_refuses_counts_at_every_threshold() -> None:
    observed = [seen(False, 0.9, refused=True), seen(True, 0.5), seen(False, 0.8, refused=True)]
    found = choose(observed, before=0.7)
    assert found.chosen.threshold == -1, "there is nothing to add to a model that knows"
    assert found.chosen.f1 == 1
    assert found.before.false_refusals == 1


def test_a_model_that_refuses_more_than_the_bound_is_given_no_threshold_on_top() -> None:
    observed = [seen(True, 0.9, refused=True), seen(False, 0.1)]
    assert choose(observed, before=0, max_false_refusals=0.1).chosen.threshold == -1


def test_nothing_found_is_refused_whatever_the_threshold() -> None:
    observed = [seen(False, -math.inf, refused=True), seen(True, 0.4)]
    assert choose(observed, before=0).chosen == judge(observed, -1)


CASES = [
    Case(id="1", question="When is the kiln fired?", answers=("Thursdays",)),
    Case(id="2", question="For how long are books lent?", answers=("three weeks",)),
    Case(id="3", question="Who may open the kiln while it is hot?", answers=("a steward",)),
    Case(id="4", question="Which xylophone quartet toured Patagonia?"),
    Case(id="5", question="How many moons circle Neptune?"),
]


def test_observing_asks_the_assistant_every_case_whatever_was_configured(world: World) -> None:
    generator = world.scripted("At nine [1]")
    contract = world.contract(generator, abstain_below=-1.0)
    assistant = world.assistant(generator, contract=contract, min_similarity=0.99)
    observed = observe(assistant, CASES, run_id="r-1")
    assert len(generator.requests) == len(CASES)
    assert [o.answerable for o in observed] == [True, True, True, False, False]
    assert min(o.nearest for o in observed[:3]) > max(o.nearest for o in observed[3:])
    assert not any(o.refused for o in observed)
    assert {a.run_id for a in world.store.answers.list()} == {"r-1"}


def test_a_calibrated_contract_decides_over_what_is_configured(world: World) -> None:
    generator = world.scripted("At nine [1]")
    contract = world.contract(generator, abstain_below=-1.0)
    observed = observe(world.assistant(generator, contract=contract), CASES)
    found = choose(observed, before=0.1)
    assert found.chosen.f1 == 1
    calibrated = contract.model_copy(update={"abstain_below": found.chosen.threshold})
    assert calibrated.digest != contract.digest
    assistant = world.assistant(generator, contract=calibrated, min_similarity=0.99)
    for case in CASES:
        answer = assistant.answer(case.question)
        assert answer.abstained != case.answerable
        assert answer.abstention_reason == (None if case.answerable else "nothing_relevant")


def test_cases_of_one_kind_only_and_searches_without_similarity_are_refused(world: World) -> None:
    generator = world.scripted()
    contract = world.contract(generator, abstain_below=-1.0)
    assistant = world.assistant(generator, contract=contract)
    with pytest.raises(InvalidCases, match="None of the 3 cases is unanswerable"):
        observe(assistant, CASES[:3])
    with pytest.raises(InvalidCases, match="None of the 2 cases is answerable"):
        observe(assistant, CASES[3:])
    by_words = assistant.config.retrieval.model_copy(update={"mode": "text"})
    assistant.config = assistant.config.model_copy(update={"retrieval": by_words})
    with pytest.raises(InputError, match="measures no similarity"):
        observe(assistant, CASES)
