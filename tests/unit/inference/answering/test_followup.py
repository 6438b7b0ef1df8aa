"""Follow-up questions bring along, or are rewritten with, what they lean on."""

from __future__ import annotations

import time

import pytest

from fti.pipelines.inference.answering.followup import retrieval_query, standalone
from fti.store.types import Message
from tests.unit.inference.conftest import World


def user(*questions: str) -> list[Message]:
    turns = []
    for question in questions:
        turns += [
            Message(role="user", content=question),
            Message(role="assistant", content="Some answer about it."),
        ]
    return turns


@pytest.mark.parametrize(
    ("question", "leans"),
    [
        ("Who founded Acme?", False),
        ("What is photosynthesis?", False),
        ("Opening hours?", False),
        ("How long does it last in the north?", True),
        ("Why?", True),
        ("What's photosynthesis?", False),
        ("What's in it?", True),
        ("And in winter?", True),
        ("What about Sundays?", True),
        ("in winter?", True),
        ("Was ist mit dem Brennofen?", False),
        ("Does the grant that they gave last spring cover travel and lodging costs?", False),
    ],
)
def test_a_follow_up_brings_the_question_it_leans_on(question: str, leans: bool) -> None:
    query = retrieval_query(question, user("When is the kiln fired?"))
    assert query == (f"When is the kiln fired? {question}" if leans else question)


def test_a_chain_of_follow_ups_reaches_back_to_its_beginning() -> None:
    history = user("Where are maps read?", "When is the kiln fired?", "And on Sundays?")
    assert retrieval_query("Why?", history) == "When is the kiln fired? And on Sundays? Why?"


def test_a_first_question_stands_alone() -> None:
    assert retrieval_query("Why?") == "Why?"


@pytest.mark.parametrize(
    ("before", "question", "told"),
    [
        ("When is it open on Saturdays?", "And on Mondays?", "When is it open on Mondays?"),
        ("When is it open on Saturdays?", "on Mondays", "When is it open on Mondays?"),
        ("What does a locker cost in winter?", "What about in the summer term?",
         "What does a locker cost in the summer term?"),
        ("Who works on Mondays in the kiln room?", "And on Fridays?",
         "Who works on Fridays in the kiln room?"),
        ("Is tea free for members, or coffee?", "And for guests?",
         "Is tea free for guests, or coffee?"),
        # Nothing of the kind stands there, or two do: the questions stay side by side.
        ("When is the kiln fired?", "And on Sundays?", "When is the kiln fired? And on Sundays?"),
        ("Is it on Mondays or on Tuesdays?", "And on Fridays?",
         "Is it on Mondays or on Tuesdays? And on Fridays?"),
        ("When is it open on Saturdays?", "And on which days not?",
         "When is it open on Saturdays? And on which days not?"),
        ("When is it open on Saturdays?", "Why?", "Why is it open on Saturdays?"),
        ("When is it open on Saturdays?", "Where is the kiln?", "Where is the kiln?"),
        ("", "Why?", "Why?"),
    ],
)  # fmt: skip
def test_a_follow_up_is_told_so_that_it_stands_alone(before: str, question: str, told: str) -> None:
    assert standalone(question, user(before) if before else ()) == told


def test_a_chain_is_told_link_by_link() -> None:
    history = user("When is it open on Saturdays?", "And on Mondays?")
    assert standalone("And on Fridays?", history) == "When is it open on Fridays?"


@pytest.mark.parametrize("piece", ["on x ", "x ", "x", "on ", "on x, ", " "])
def test_no_text_takes_long_to_look_at(piece: str) -> None:
    before = f"When is it on {piece * 2_000}"
    began = time.process_time()
    standalone("And on Fridays", user(before))
    standalone(f"And on {piece * 2_000}", user("When is it on Mondays?"))
    for question in ("Why?", "Why not?", "What does it cost?", "What are its hours?", "And Moth?"):
        standalone(question, user(before))
        standalone(question, user(f"What does the {piece * 2_000} cost?"))
        standalone(question, user(f"Is a {piece * 2_000} open?"))
    assert time.process_time() - began < 2


def test_the_answer_to_a_follow_up_is_to_the_whole_question(world: World) -> None:
    assistant = world.assistant(min_similarity=0.05)
    history = user("Is the workshop open on Thursdays?")
    answer = assistant.answer("And on Sundays?", history)
    assert answer.question == "And on Sundays?"
    assert answer.asked == "Is the workshop open on Sundays?"
    assert "On Sundays the workshop stays closed" in answer.text
    assert world.store.answers.get(answer.id).asked == answer.asked
    assert assistant.answer("When is the kiln fired?", history).asked == ""
