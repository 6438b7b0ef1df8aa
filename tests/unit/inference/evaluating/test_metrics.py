"""Metrics against hand-computed values and against ir-measures."""

from __future__ import annotations

import random

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, R, Success, nDCG

from fti.pipelines.inference.evaluating import metrics
from fti.store.proof import squad


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Quick, brown  Fox!", "quick brown fox"),
        ("an   apple a day", "apple day"),
        ("U.S. $12", "us 12"),
        ("theatre", "theatre"),
        ("The", ""),
    ],
)
def test_squad_normalisation(text: str, normalised: str) -> None:
    assert squad.normalised(text) == normalised


def test_exact_match_takes_any_accepted_answer() -> None:
    assert metrics.exact_match("the October, 1973", ["1973", "October 1973"]) == 1.0
    assert metrics.exact_match("in October 1973", ["1973", "October 1973"]) == 0.0


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        # 2 of 3 words right, 2 of 2 found: 2 * (2/3) * 1 / (2/3 + 1)
        ("in October 1973", ["October 1973"], 0.8),
        ("October 1973", ["1973", "October 1973"], 1.0),
        ("blue blue", ["blue"], 2 / 3),  # a repeated word counts once
        ("green", ["blue"], 0.0),
        ("", ["blue"], 0.0),
        ("", [], 1.0),
        ("something", [], 0.0),
    ],
)
def test_f1_by_hand(text: str, answers: list[str], expected: float) -> None:
    assert metrics.f1(text, answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("in October 1973", ["October 1973"], 0.8),
        # The longest common subsequence of "x b c d" and "b d c" is two words long: 2 * 2 / 7.
        ("x b c d", ["b d c"], 4 / 7),
        ("1973 October", ["October 1973"], 0.5),
        ("green", ["blue", "green"], 1.0),
        ("", ["blue"], 0.0),
        ("", [], 1.0),
        ("something", [], 0.0),
    ],
)
def test_rouge_l_by_hand(text: str, answers: list[str], expected: float) -> None:
    assert metrics.rouge_l(text, answers) == pytest.approx(expected)


@given(st.lists(st.sampled_from("bcdxyz"), max_size=9), st.lists(st.sampled_from("bcdxyz")))
def test_rouge_l_is_at_most_f1_and_symmetric(said: list[str], wanted: list[str]) -> None:
    one, two = " ".join(said), " ".join(wanted)
    assert metrics.rouge_l(one, [two]) <= metrics.f1(one, [two]) + 1e-12
    assert metrics.rouge_l(one, [two]) == metrics.rouge_l(two, [one])


@pytest.mark.parametrize("score", [metrics.f1, metrics.exact_match])
def test_an_unanswerable_question_is_right_when_refused(score) -> None:  # type: ignore[no-untyped-def]
    assert score("", ()) == 1.0
    assert score("Paris", ()) == 0.0


def test_a_passage_contains_an_answer_after_normalisation() -> None:
    passage = "During the 1973–74 crisis, the price rose to nearly $12/barrel."
    assert metrics.contains_answer(passage, ["Nearly $12"])
    assert metrics.contains_answer(passage, ["1973"])
    assert not metrics.contains_answer(passage, ["1975", "13"])
    assert not metrics.contains_answer(passage, [])


def test_an_answer_that_normalises_to_nothing_is_compared_as_written() -> None:
    assert metrics.contains_answer("Vitamin A is fat-soluble.", ["A"])
    assert not metrics.contains_answer("vitamins", ["A"])


def test_one_need_is_met_once() -> None:
    assert metrics.first_relevant([False, True, False, True]) == [0.0, 1.0, 0.0, 0.0]
    scores = metrics.ranking_scores([0.0, 1.0, 0.0, 0.0], [1.0])
    assert scores == pytest.approx(
        {
            "recall@1": 0,
            "recall@5": 1,
            "recall@10": 1,
            "mrr": 0.5,
            "ndcg@10": 0.6309297535714575,
            "map@10": 0.5,
            "hit_rate@10": 1,
        }
    )
    assert tuple(scores) == metrics.RANKING


def test_a_relevant_passage_beyond_ten_does_not_count() -> None:
    scores = metrics.ranking_scores([0.0] * 10 + [1.0], [1.0])
    assert set(scores.values()) == {0.0}


def test_nothing_retrieved_scores_nothing() -> None:
    assert set(metrics.ranking_scores([], [1.0]).values()) == {0.0}


def test_documents_rank_by_their_best_passage() -> None:
    assert metrics.document_gains(["a", "b", "a", "c"], {"c": 2, "a": 1, "b": 0, "d": -1}) == [
        1.0, 0.0, 2.0,
    ]  # fmt: skip


THEIRS = (R @ 1, R @ 5, R @ 10, RR @ 10, nDCG @ 10, AP @ 10, Success @ 10)


@pytest.mark.parametrize("seed", range(25))
def test_rankings_score_as_ir_measures_scores_them(seed: int) -> None:
    rng = random.Random(seed)
    documents = [f"d{n}" for n in range(30)]
    grades = {d: rng.choice([0, 0, 1, 1, 2, 3]) for d in rng.sample(documents, 8)}
    grades[documents[seed]] = 1
    ranking = rng.sample(documents, rng.randint(1, 30))
    ours = metrics.ranking_scores(
        metrics.document_gains(ranking, grades), [float(g) for g in grades.values() if g > 0]
    )
    theirs = ir_measures.calc_aggregate(
        THEIRS,
        {"q": grades},
        {"q": {d: float(-rank) for rank, d in enumerate(ranking)}},
    )
    assert list(ours.values()) == pytest.approx([theirs[m] for m in THEIRS], abs=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_one_need_scores_as_ir_measures_scores_its_first_passage(relevant: list[bool]) -> None:
    ours = metrics.ranking_scores(metrics.first_relevant(relevant), [1.0])
    first = relevant.index(True) if any(relevant) else None
    run = {f"p{rank}": float(-rank) for rank in range(len(relevant))}
    theirs = ir_measures.calc_aggregate(
        THEIRS,
        {"q": {"gold" if first is None else f"p{first}": 1}},
        {"q": run},
    )
    assert list(ours.values()) == pytest.approx([theirs[m] for m in THEIRS], abs=1e-9)


def test_support_is_the_share_of_content_words_in_the_passages() -> None:
    passages = ["The kiln is fired on Thursdays.", "Pots cool for a day."]
    assert metrics.support("fired on Thursdays", passages) == 1.0
    assert metrics.support("fired on Mondays and Thursdays", passages) == pytest.approx(2 / 3)
    assert metrics.support("Mondays", passages) == 0.0


def test_words_of_the_question_do_not_support_an_answer() -> None:
    passages = ["The kiln is fired on Thursdays."]
    said = "The glaze oven burns on Thursdays"
    assert metrics.support(said, passages, question="When does the glaze oven burn?") == 0.5
    assert metrics.support("the kiln", passages, question="Is it the kiln?") == 1.0
    assert metrics.support("the oven", passages, question="Is it the oven?") == 0.0
