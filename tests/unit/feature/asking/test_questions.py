from __future__ import annotations

import pytest

from fti.pipelines.feature.asking.grammar import read_clause
from fti.pipelines.feature.asking.pieces import pieces
from fti.pipelines.feature.asking.quality import folded
from fti.pipelines.feature.asking.questions import questions
from fti.pipelines.feature.asking.written_questions import Casing, Question

HANDBOOK = """\
## Kiln room

The kiln holds 24 trays. The restocking is done on Thursdays at 19:00. The moisture meter hangs on a
string by the door. The workshop's manager is Ines Okafor. The driver program is called Beamline.
The building was opened by Maud Ellery in 2011. If the saw trips, check the dust drawer first.
Aprons are brown because the dye was cheap. Rosa Bellini runs the kitchen with five volunteers.
The top drawer holds pliers, three files and a mallet. The colours of the bins are red, green, blue
or grey. Members may cut, but never burn, and leave by nine.

- Build volume: 300 x 300 mm
- Vesta has nine elements

| Program | Use | Soak |
|---|---|---|
| P1 | Bisque | none at all |
| P2 | Glaze | 15 minutes |
"""


def asked(text: str, **options: object) -> list[Question]:
    return questions(
        text, title="Handbook", section=("Kiln room",), casing=Casing.of(text), **options
    )  # type: ignore[arg-type]


def pairs(text: str) -> set[tuple[str, str]]:
    return {(q.question, q.answer) for q in asked(text)}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many trays does the kiln hold?", "24 trays"),
        ("At what time is the restocking done on Thursdays?", "19:00"),
        ("Where does the moisture meter hang?", "on a string by the door"),
        ("Who is the workshop's manager?", "Ines Okafor"),
        ("What is the driver program called?", "Beamline"),
        ("Who was the building opened by in 2011?", "Maud Ellery"),
        ("What should you do if the saw trips?", "check the dust drawer first"),
        ("Why are aprons brown?", "the dye was cheap"),
        ("Who runs the kitchen with five volunteers?", "Rosa Bellini"),
        ("How many elements does Vesta have?", "nine elements"),
        ("What does the top drawer hold?", "pliers, three files and a mallet"),
        ("What are the colours of the bins?", "red, green, blue or grey"),
        (
            "Which section of Handbook says that the restocking is done on Thursdays at 19:00?",
            "Kiln room",
        ),
        ("What is the build volume?", "300 x 300 mm"),
        ("For P2, what is the soak?", "15 minutes"),
        (
            'What does "Kiln room" say about the moisture meter?',
            "hangs on a string by the door",
        ),
        (
            "Which words are missing here: The building was opened by Maud Ellery in ____.",
            "2011",
        ),
    ],
)
def test_statements_become_questions(question: str, answer: str) -> None:
    found = pairs(HANDBOOK)

    assert (question, answer) in found


def test_there_are_many_styles_and_every_answer_stands_in_the_text() -> None:
    found = asked(HANDBOOK)

    assert len({q.style for q in found}) >= 9
    assert all(q.answer in folded(HANDBOOK) for q in found)
    assert all(q.question.endswith("?") or q.style == "cloze" for q in found)


@pytest.mark.parametrize(
    "text",
    [
        "Donated packs aren't accepted after the fire in May.",  # what is not so
        "It holds 24 trays.",  # nobody knows what does
        "```\nThe kiln holds 24 trays.\n```",
        "# The kiln holds 24 trays",
        "| The kiln | holds 24 trays |",
        "https://example.org/kiln holds 24 trays.",
        "✨ Kiln holds 24 trays.",
        "",
    ],
)
def test_what_does_not_fit_the_rules_is_left_alone(text: str) -> None:
    assert not [q for q in asked(text) if q.style not in ("cloze",)]


def test_only_things_that_are_named_one_after_the_other_are_a_list() -> None:
    texts = (
        "Members may cut the felt, but never burn it, and must leave by nine.",
        "The hall, the yard and the gate are closed.",
        "The hall holds chairs and tables.",
        "The bins are emptied, washed and dried.",
    )

    assert not [q for text in texts for q in asked(text) if q.style == "list"]


def test_a_figure_that_belongs_to_a_noun_is_not_asked_for() -> None:
    assert not [q for q in asked("Use the lift for anything over 25 kg.") if q.style == "quantity"]


def test_a_pronoun_stands_for_the_subject_before_it() -> None:
    text = "The kiln is kept in the yard. It holds 24 trays."

    assert ("How many trays does the kiln hold?", "24 trays") in pairs(text)


def test_names_keep_their_capital_and_other_words_lose_it() -> None:
    text = (
        "Hector has 12 blades. Blunt blades are kept in the drawer. Ask for Hector and a blunt one."
    )
    found = {q for q, _ in pairs(text)}

    assert "How many blades does Hector have?" in found
    assert "Where are blunt blades kept?" in found


def test_another_language_is_only_asked_by_leaving_words_out() -> None:
    text = "Der Ofen im Hof wird donnerstags bei 1220 Grad gebrannt, sagt Ines Okafor."

    assert {q.style for q in asked(text, english=False)} == {"cloze"}


def test_lines_that_are_headings_elsewhere_are_no_part_of_a_sentence() -> None:
    text = "Limits\nThe building holds 140 people."

    with_heading = asked(text, headings=frozenset({"Limits"}))
    assert ("How many people does the building hold?", "140 people") in {
        (q.question, q.answer) for q in with_heading
    }
    assert not any("Limits" in q.question for q in with_heading)


def test_columns_set_apart_by_spaces_are_read_as_a_table() -> None:
    text = "  Task              Mask      Life\n  Sanding wood      P2 valve  one day\n"

    found = [(p.key, p.of, p.text) for p in pieces(text)]

    assert found == [("Mask", "Sanding wood", "P2 valve"), ("Life", "Sanding wood", "one day")]


def test_abbreviations_and_decimals_end_no_sentence() -> None:
    text = "Dr. Weld uses 1.75 mm wire, e.g. The blue one. Nothing else."

    assert [p.text for p in pieces(text)] == [
        "Dr. Weld uses 1.75 mm wire, e.g. The blue one.",
        "Nothing else.",
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("The kiln fires the pots", ("the kiln", "does", "fire")),
        ("The kiln fires at 1,220 degrees", None),  # "fires" may be a noun
        ("The mill takes R8 tooling", ("the mill", "does", "take")),
        ("Vacuum pods hold sheet goods", ("vacuum pods", "do", "hold")),
        ("The council let us the factory", ("the council", "did", "let")),
        ("Work left on the shelf is reclaimed", ("work left on the shelf", "is", "")),
        ("You can book a bench", ("you", "can", "")),
        ("Leave a gap of 3 mm", ("you", "should", "leave")),
        ("Build volume is 300 mm", ("build volume", "is", "")),
        ("Nobody may operate it", None),
        ("What saved us was a list", None),
        ("Hector has a blade", ("hector", "does", "have")),
        ("Hector has been repaired", ("hector", "has", "")),
    ],
)
def test_clauses_are_taken_apart_or_refused(text: str, parts: tuple[str, str, str] | None) -> None:
    clause = read_clause(text, common=frozenset({"vacuum", "hector", "work", "build"}))

    found = None if clause is None else (clause.subject, clause.auxiliary, clause.base)
    assert found == parts
