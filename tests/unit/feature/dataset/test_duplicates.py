"""Rows that ask the same, and rows that ask what a frozen case asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.duplicates import FrozenQuestions, decontaminated, unique
from fti.store.files.layout import Layout
from fti.store.types import Case, Message
from fti.store.versioned.casesets import CaseSets

QUESTION = "At what temperature is the kiln in the yard fired on Thursdays?"
LONG = (
    "Which of the two members who look after the kiln in the yard may open its door before the "
    "temperature has come down to one hundred degrees?"
)


def one(question: str = QUESTION, answer: str = "1220 degrees", **changes: Any) -> Asked:
    fields: dict[str, Any] = {
        "kind": "question", "question": question, "answer": answer, "document": "d1",
        "chunks": ("c1",), "split": "train", "tag": "quantity",
    }  # fmt: skip
    return Asked(**(fields | changes))


def left(*asked: Asked, **settings: Any) -> list[str]:
    return [a.question for a in unique(asked, DatasetConfig(**settings), Tally())]


def test_a_question_is_asked_once_whatever_its_case_and_marks() -> None:
    tally = Tally()
    kept = unique([one(), one(QUESTION.upper(), "1,220")], DatasetConfig(), tally)

    assert kept == [one()]
    assert tally.filters[0] == {
        "filter": "exact_duplicate", "considered": 2, "kept": 1, "share": 0.5
    }  # fmt: skip


def test_questions_that_resemble_each_other_are_one_when_they_have_one_answer() -> None:
    reworded = QUESTION.replace("Thursdays", "Thursday")

    assert left(one(), one(reworded)) == [QUESTION]
    assert left(one(), one(reworded, "another answer")) == [QUESTION, reworded]
    assert left(one(), one(reworded), near_duplicate_questions=1.0) == [QUESTION, reworded]


def test_questions_that_differ_in_a_figure_are_two() -> None:
    first, second = (f"Who signed for the delivery of pallet number {n} in May?" for n in (4, 7))

    assert left(one(first, "Rosa"), one(second, "Rosa")) == [first, second]


def test_conversations_are_compared_with_their_turns_and_answers() -> None:
    def chat(before: str, answer: str) -> Asked:
        turns = (Message(role="user", content=before),)
        return one("And on Mondays?", answer, kind="chat", document="", history=turns)

    library, pool = chat("When is the library open?", "At nine."), chat("When is the pool?", "Ten.")

    assert unique([library, pool, library], DatasetConfig(), Tally()) == [library, pool]


@pytest.fixture
def sets(tmp_path: Path) -> CaseSets:
    sets = CaseSets(Layout(tmp_path / "store"))
    for number, question in enumerate((QUESTION, LONG)):
        sets.freeze("frozen", [Case(id="1", question=question, answers=("x",))])
        assert sets.get("frozen").version == number + 1
    sets.freeze("other", [Case(id="1", question="Who is the warden?", answers=("x",))])
    return sets


@pytest.mark.parametrize(
    ("asked", "home"),
    [
        (one(), "frozen/1"),
        (one(QUESTION.replace("Thursdays", "thursday")), "frozen/1"),
        (one("At what time does the library in the yard close on Sundays?"), ""),
        # Eight words in a row in the middle of another text.
        (one(f"Read this first: {LONG} Answer in one word."), "frozen/2"),
        (one("Tell me.", f"You ask: {LONG}", kind="chat"), "frozen/2"),
        (one("Tell me.", "x", history=(Message(role="user", content=LONG),)), "frozen/2"),
        (one(f"Which of the two members who look after the {'loom ' * 3}?"), ""),
        (one("Who is the warden?"), "other/1"),
        (one("And who is the warden that the council of the village chose in spring?"), ""),
    ],
)
def test_every_version_of_every_frozen_set_is_looked_through(
    sets: CaseSets, asked: Asked, home: str
) -> None:
    assert FrozenQuestions(sets, DatasetConfig()).asks(asked) == home


def test_rows_to_learn_from_are_decontaminated_and_test_rows_are_not(sets: CaseSets) -> None:
    frozen, tally = FrozenQuestions(sets, DatasetConfig()), Tally()
    asked = [one(split=split) for split in ("train", "validation", "test")]
    asked += [one("Who painted the wall of the hall?")]

    kept, found = decontaminated(asked, frozen, tally)

    assert (len(frozen), kept, found) == (3, asked[2:], {"frozen/1": 2})
    assert tally.filters == [
        {"filter": "in_frozen_cases", "considered": 3, "kept": 1, "share": 0.3333}
    ]


def test_the_settings_say_what_counts(sets: CaseSets) -> None:
    half = " ".join(LONG.split()[:16]) + " do something else with it on every other day of May?"

    assert FrozenQuestions(sets, DatasetConfig()).asks(one(half)) == ""
    assert FrozenQuestions(sets, DatasetConfig(contamination_ngrams=0.3)).asks(one(half))
