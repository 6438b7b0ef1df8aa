from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fti.pipelines.feature.ingesting.resemblance import (
    SimilarTexts,
    near_duplicate_groups,
    similar_groups,
    word_shingles,
)

WORDS = [f"word{n}" for n in range(400)]


def document(seed: int, length: int = 300) -> list[str]:
    return random.Random(seed).choices(WORDS, k=length)


def edited(words: list[str], changes: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    changed = list(words)
    for place in generator.sample(range(len(words)), changes):
        changed[place] = "changed"
    return changed


def test_copies_with_small_edits_form_a_group_and_others_do_not() -> None:
    first, second = document(1), document(2)
    texts = [first, second, edited(first, 4), document(3), edited(first, 5, seed=9)]

    groups = near_duplicate_groups([" ".join(t) for t in texts], threshold=0.7)

    assert groups == [[0, 2, 4], [1], [3]]


def test_resemblance_is_transitive() -> None:
    # Each resembles the next; the first and the last do not resemble each other.
    chain = [document(1, 600)]
    for step in range(1, 5):
        chain.append(chain[-1][60:] + document(100 + step, 60))
    texts = [" ".join(words) for words in chain]

    assert near_duplicate_groups(texts, threshold=0.7) == [[0, 1, 2, 3, 4]]
    assert near_duplicate_groups([texts[0], texts[4]], threshold=0.7) == [[0], [1]]


def test_the_threshold_says_what_counts_as_the_same() -> None:
    first = document(1)
    texts = [" ".join(first), " ".join(edited(first, 20))]

    assert near_duplicate_groups(texts, threshold=0.95) == [[0], [1]]
    assert near_duplicate_groups(texts, threshold=0.3) == [[0, 1]]


def test_case_and_punctuation_do_not_hide_a_copy() -> None:
    text = " ".join(document(1))

    assert near_duplicate_groups([text, text.upper().replace(" ", ", ")], threshold=0.9) == [[0, 1]]


def test_short_and_empty_texts_are_compared_whole() -> None:
    texts = ["Closed on Monday.", "closed on monday", "Open on Monday.", "", ""]

    assert near_duplicate_groups(texts, threshold=0.7) == [[0, 1], [2], [3, 4]]


@given(st.lists(st.text(max_size=40), max_size=12))
def test_every_text_is_in_exactly_one_group(texts: list[str]) -> None:
    groups = near_duplicate_groups(texts, threshold=0.7)

    assert sorted(index for group in groups for index in group) == list(range(len(texts)))


def test_a_reworded_question_is_found_and_another_one_is_not() -> None:
    index = SimilarTexts(threshold=0.8)
    kept = [
        "At what temperature is the kiln in the yard fired on Thursdays?",
        "Who looks after the table saw?",
    ]
    assert [index.add(text) for text in kept] == [0, 1]

    assert index.like("At what temperature is the kiln in the yard fired on Thursday") == [0]
    assert index.like("At what time does the office in the yard close on Sundays?") == []
    assert index.like(kept[1]) == [1]


def test_the_estimate_is_near_the_true_resemblance() -> None:
    one = " ".join(document(1, 400))
    other = " ".join(edited(document(1, 400), 12))
    first, second = word_shingles(one), word_shingles(other)
    true = len(first & second) / len(first | second)

    assert near_duplicate_groups([one, other], threshold=true - 0.12) == [[0, 1]]
    assert near_duplicate_groups([one, other], threshold=true + 0.12) == [[0], [1]]


def test_lone_surrogates_do_not_stop_it() -> None:
    assert near_duplicate_groups(["a \ud800 b", "a b"], threshold=0.5)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_groups_are_those_of_comparing_every_pair_that_shares_a_band(
    seed: int, copies: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 2**32, size=(30, 128), dtype=np.uint32)
    for _ in range(copies):  # copies that differ in a third at most, and so resemble one another
        origin, copy = rng.integers(0, 10), rng.integers(10, 30)
        matrix[copy] = matrix[origin]
        matrix[copy, rng.integers(0, 128, 20)] = rng.integers(0, 2**32, 20, dtype=np.uint32)

    group = list(range(30))
    for high in range(30):
        for low in range(high):
            same = matrix[low] == matrix[high]
            if same.reshape(32, 4).all(axis=1).any() and same.mean() >= 0.6:
                one, other = group[low], group[high]
                group = [one if g == other else g for g in group]
    expected = [[i for i in range(30) if group[i] == g] for g in dict.fromkeys(group)]

    assert similar_groups(list(matrix), threshold=0.6) == expected


def test_nothing_has_no_groups() -> None:
    assert similar_groups([], threshold=0.7) == []
