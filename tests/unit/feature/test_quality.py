from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.feature.quality import (
    holds,
    located,
    near_duplicate_groups,
    normalised,
    reads_as_english,
    rejection,
)

WORDS = [f"word{n}" for n in range(400)]
EVIDENCE = "The kiln in the yard is fired at 1,220 degrees on Thursdays."


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


def test_normalisation_is_squads() -> None:
    assert normalised("The  Table-Saw, at 9:30 a.m.!") == "tablesaw at 930 am"


def test_an_answer_is_held_only_as_whole_words() -> None:
    assert holds("It holds the 24 trays.", "24 Trays")
    assert not holds("It holds 240 trays.", "24")
    assert not holds("An answer.", "The")


@pytest.mark.parametrize(
    ("text", "answers", "found"),
    [
        ("Opens at\n  nine o'clock.", ["nine o'clock"], "nine o'clock"),
        ("Rust never sleeps.", ["rust"], "Rust"),
        ("It opened in 1912, in May.", ["May 1912", "1912"], "1912"),
        (
            "Led by the Bank of Mauritania (BM).",
            ["Bank of Mauritania BM"],
            "Bank of Mauritania (BM",
        ),
        ("The firm earned $ 3,500.", ["3500"], "3,500"),
        ("A cartwheel.", ["art"], ""),
        ("Anything.", [""], ""),
    ],
)
def test_an_answer_is_located_as_the_text_spells_it(
    text: str, answers: list[str], found: str
) -> None:
    assert located(text, answers) == found


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("At what temperature is the kiln fired on Thursdays?", "1,220 degrees", ""),
        ("What is fired in the yard on Thursdays?", "it", "answer_pronoun"),
        ("What is fired at 1,220 degrees in the yard?", "the", "answer_empty"),
        ("Is the kiln in the yard fired on Thursdays?", "on Thursdays", "answer_in_question"),
        ("What is it then?", "1,220 degrees", "question_vague"),
        ("Kiln degrees when?", "Thursdays", "question_length"),
        ("At what temperature is the kiln fired?", "1,220 (degrees", "unbalanced"),
        ("At what temperature is the kiln fired?", "very " * 16 + "hot", "answer_long"),
    ],
)
def test_questions_are_rejected_for_a_reason(question: str, answer: str, reason: str) -> None:
    assert rejection(question, answer, EVIDENCE) == reason


@pytest.mark.parametrize(
    "line",
    [
        "Copyright 2024 by the authors of this site.",
        "Click here to log in to your page.",
        "= - = 3",
    ],
)
def test_page_furniture_is_no_evidence(line: str) -> None:
    assert rejection("Who wrote the pages of this site?", "somebody else", line) in (
        "boilerplate",
        "evidence_thin",
    )


def test_english_is_told_from_other_languages() -> None:
    assert reads_as_english("The hall is open to all of us and you may come in at any time.")
    assert not reads_as_english("Der Ofen wird donnerstags bei 1220 Grad gebrannt, sagt Frau Weiß.")
    assert not reads_as_english("")
