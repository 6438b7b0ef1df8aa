from __future__ import annotations

import pytest

from fti.pipelines.feature.asking.quality import (
    Candidate,
    holds,
    located,
    readable,
    reads_as_english,
    rejection,
)
from fti.store.proof.squad import normalised

EVIDENCE = "The kiln in the yard is fired at 1,220 degrees on Thursdays."


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
    assert rejection(Candidate(question, answer, EVIDENCE)) == reason


@pytest.mark.parametrize(
    "line",
    [
        "Copyright 2024 by the authors of this site.",
        "Click here to log in to your page.",
        "= - = 3",
    ],
)
def test_page_furniture_is_no_evidence(line: str) -> None:
    assert rejection(Candidate("Who wrote the pages of this site?", "somebody else", line)) in (
        "boilerplate",
        "evidence_thin",
    )


def test_an_answer_must_stand_in_the_passage_where_one_is_given() -> None:
    question = "At what temperature is the kiln fired on Thursdays?"

    found = Candidate(question, "1,220 degrees", EVIDENCE, passage=f"# Kiln\n\n{EVIDENCE}")
    changed = Candidate(question, "1,240 degrees", EVIDENCE, passage=EVIDENCE)

    assert rejection(found) == ""
    assert rejection(changed) == "answer_not_in_passage"


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("On Thursdays, from 9:30 to 17:00 (£4.50 an hour).", True),
        ("Which words are missing here: The kiln is fired at ____ degrees.", True),
        ("Ofen Nr. 3 bei 1220 °C", True),
        ("水温は二十度です", True),
        ("gar\ufffdled te\ufffdt", False),
        ("aaaaaaa says who", False),
        ("see " + "x0" * 30, False),
        ("|| → ≡≡ {x} <y> ~", False),
    ],
)
def test_text_that_nobody_can_read_is_told_from_text(text: str, reads: bool) -> None:
    assert readable(text) is reads


def test_english_is_told_from_other_languages() -> None:
    assert reads_as_english("The hall is open to all of us and you may come in at any time.")
    assert not reads_as_english("Der Ofen wird donnerstags bei 1220 Grad gebrannt, sagt Frau Weiß.")
    assert not reads_as_english("")
