"""Follow-ups that a visitor asks about the demo's handbook, told so that they stand alone.

A chain is what was asked, what was answered, and what is asked then.
"""

from __future__ import annotations

import pytest

from fti.pipelines.inference.answering.followup import standalone
from fti.store.types import Message

CHAINS = [
    ("What material must never be cut in the laser cutters?", "PVC and vinyl [1]", "Why?",
     "Why must PVC and vinyl never be cut in the laser cutters?"),
    ("When are both laser cutters off?", "On the first Monday of each month [1]", "Why?",
     "Why are both laser cutters off on the first Monday of each month?"),
    ("Which leather is forbidden in the laser cutters?", "chrome-tanned leather [1]", "Why?",
     "Why is chrome-tanned leather forbidden in the laser cutters?"),
    ("Can I pause my membership for a year?", "for one to six months [1]", "Why not?",
     "Why can I not pause my membership for a year?"),
    ("Is there a concession on Studio?", "There is no concession on Studio. [1]",
     "And on Workshop?", "Is there a concession on Workshop?"),
    ("When is the workshop open on Saturdays?", "10:00 to 18:00 [1]", "And on Sundays?",
     "When is the workshop open on Sundays?"),
    ("What does a locker cost for members?", "\u00a34 a month [1]", "And for guests?",
     "What does a locker cost for guests?"),
    ("What does a day in the workshop cost?", "\u00a312 [1]", "How much is it for guests?",
     "How much is the day in the workshop for guests?"),
    ("How powerful is the tube in the laser cutter Ruby?", "90 W [1]", "And Moth?",
     "How powerful is the tube in the laser cutter Moth?"),
    ("What is the bed size of Ruby?", "900 x 600 mm [1]", "What about Moth?",
     "What is the bed size of Moth?"),
    ("Who is the volunteer in charge of the laser room?", "Callum Yeo [1]",
     "When does he realign the mirrors?", "When does Callum Yeo realign the mirrors?"),
    ("Who sits at the desk?", "Edie [1]", "What can she be paid in?",
     "What can Edie be paid in?"),
    ("How do I book a kiln firing?", "on the sheet by the kiln door [1]", "What does it cost?",
     "What does the kiln firing cost?"),
    ("When does direct debit go out?", "on the 3rd of the month [1]", "What happens if it fails?",
     "What happens if direct debit fails?"),
    ("Where are the lockers?", "in the corridor [1]", "How much are they?",
     "How much are the lockers?"),
    ("What does the tool library lend?", "hand tools [1]", "What are its opening hours?",
     "What are the tool library's opening hours?"),
    ("What is the booking allowance of the Studio tier?", "20 hours a week [1]",
     "What does it cost per month?",
     "What does the booking allowance of the Studio tier cost per month?"),
    ("How long may a membership be paused?", "one to six months [1]", "Who decides that?",
     "How long may a membership be paused? One to six months. Who decides that?"),
    ("What happens to unlabelled work on the bisque shelf?", "It is thrown away. [1]",
     "After how long?",
     "What happens to unlabelled work on the bisque shelf? It is thrown away. After how long?"),
    ("When does the laser room open?", "None of the passages answers this question.", "Why?",
     "Why does the laser room open?"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "answered", "then", "told"), CHAINS)
def test_a_visitors_follow_up_stands_alone(asked: str, answered: str, then: str, told: str) -> None:
    history = [Message(role="user", content=asked), Message(role="assistant", content=answered)]
    assert standalone(then, history) == told


@pytest.mark.parametrize("asked", [asked for asked, _, _, _ in CHAINS])
def test_a_question_that_leans_on_nothing_stays_as_it_is(asked: str) -> None:
    history = [
        Message(role="user", content="What is the thickest birch plywood that Moth can cut?"),
        Message(role="assistant", content="4 mm [1]"),
    ]
    assert standalone(asked, history) == asked


def test_a_chain_of_three_carries_the_answer_of_the_second() -> None:
    history = [
        Message(role="user", content="Who is the volunteer in charge of the laser room?"),
        Message(role="assistant", content="Callum Yeo [1]"),
        Message(role="user", content="When does he realign the mirrors?"),
        Message(role="assistant", content="on the first Monday of each month [2]"),
    ]
    assert standalone("Why?", history) == (
        "Why does Callum Yeo realign the mirrors on the first Monday of each month?"
    )
