"""Slices: which question is of which kind, and what each group scores."""

from __future__ import annotations

from typing import Any

import pytest

from fti.pipelines.inference.evaluating.slices import question_type, slices


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who may open the kiln?", "who"),
        ("Whose kiln is it?", "who"),
        ("In which year was it built?", "which"),
        ("When does it open?", "when"),
        ("What's the price?", "what"),
        ("How many pots fit?", "how many"),
        ("How is it fired?", "how"),
        ("Is it hot?", "yes/no"),
        ("May I open it when it is hot?", "yes/no"),
        ("Name the steward.", "other"),
        ("Wann öffnet die Halle?", "other"),
        ("", "other"),
    ],
)
def test_the_question_word_says_the_kind(question: str, kind: str) -> None:
    assert question_type(question) == kind


def row(question: str, f1: float, **fields: Any) -> dict[str, Any]:
    base = {"answerable": True, "tags": [], "document": "a.md", "f1": f1, "abstention": 1.0}
    return {"question": question, **base, **fields}


def test_groups_are_scored_by_themselves() -> None:
    rows = [
        row("Who?", 1.0, tags=["staff"]),
        row("Who else?", 0.0, tags=["staff"], document="b.md", answerable=False),
        row("When?", 1.0),
        row("When then?", 1.0, mrr=0.5),
        row("Why?", 0.0),
    ]
    found = {(s.dimension, s.value): s for s in slices(rows)}
    assert found["question type", "who"].scores["f1"].mean == 0.5
    assert found["question type", "when"].cases == 2
    assert found["question type", "when"].scores["mrr"].n == 1
    assert ("question type", "why") not in found, "one case says nothing about a kind"
    assert found["tag", "staff"].cases == 2
    assert found["document", "a.md"].cases == 4
    assert ("document", "b.md") not in found


def test_a_dimension_with_one_group_would_repeat_the_whole() -> None:
    found = slices([row("Who?", 1.0), row("Who else?", 0.0)])
    assert found == []


def test_only_the_largest_groups_are_shown() -> None:
    rows = [row("Who?", 1.0, document=f"{n}.md") for n in range(9) for _ in range(n + 1)]
    found = slices(rows, largest=3)
    assert [s.value for s in found if s.dimension == "document"] == ["8.md", "7.md", "6.md"]
