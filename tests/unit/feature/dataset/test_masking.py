"""Personal data is told by its form and its checksum, and masked in every part of a row."""

from __future__ import annotations

from collections import Counter

import pytest

from fti.pipelines.feature.dataset.asked import Tally
from fti.pipelines.feature.dataset.dataset_config import PERSONAL
from fti.pipelines.feature.dataset.masking import masked, masked_pair, masked_rows
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.types import Message
from tests.support.values import a_pair, a_passage, a_row

FORM = PromptForm(system="")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ines.okafor+kiln@mail.example.org.", "Write to [EMAIL]."),
        ("Zürich: müller@example.ch, or a@b.", "Zürich: [EMAIL], or a@b."),
        ("Ring +44 20 7946 0958 or (0161) 496 0123.", "Ring [PHONE] or [PHONE]."),
        ("Ring 020 7946 0958, 0049 30 901820 or 555-867-5309", "Ring [PHONE], [PHONE] or [PHONE]"),
        ("Pay to GB82 WEST 1234 5698 7654 32 today.", "Pay to [IBAN] today."),
        ("DE89370400440532013000 BIC DEUTDEFF", "[IBAN] BIC DEUTDEFF"),
        ("Pay to GB82 WEST 1234 5698 7654 33 today.", "Pay to GB82 WEST 1234 5698 7654 33 today."),
        ("Card 4111 1111 1111 1111, exp. 12/28", "Card [CARD], exp. 12/28"),
        ("Card 4111-1111-1111-1112", "Card 4111-1111-1111-1112"),  # no such checksum
        ("From 192.168.2.10 and 2001:db8::8a2e:370:7334.", "From [IP] and [IP]."),
        ("Version 300.1.2.4 at 12:30:45", "Version 300.1.2.4 at 12:30:45"),
        # What is none of these.
        ("In 1998-2004, 1,250,000 people; 2026-11-24 at 19:30.",) * 2,
        ("ISBN 978-3-16-148410-0, DIN 4102, room 0.15, 0.25 mm, 24 x 36",) * 2,
        ("The key of 1234567890123456789012 words",) * 2,
        ("Std::vector and a::b",) * 2,
    ],
)
def test_what_has_the_form_of_personal_data_is_masked(text: str, expected: str) -> None:
    assert masked(text, PERSONAL) == expected


def test_only_the_kinds_asked_for_are_masked_and_they_are_counted() -> None:
    counts: Counter[str] = Counter()
    text = "a@example.org, b@example.org, 10.0.0.1"

    assert masked(text, ["email"], counts) == "[EMAIL], [EMAIL], 10.0.0.1"
    assert masked(text, ["ip"], counts) == "a@example.org, b@example.org, [IP]"
    assert counts == {"email": 2, "ip": 1}


def test_every_part_of_a_row_is_masked() -> None:
    passage = a_passage(
        "Ask ines@example.org; the hall opens at nine.", title="Mail of ines@example.org",
        source="/mail/ines@example.org.eml", metadata={"from": "ines@example.org"},
        section=("ines@example.org",),
    )  # fmt: skip
    row = a_row(
        passages=(passage,),
        question="When may ines@example.org come?",
        history=(Message(role="user", content="I am ines@example.org."),),
        evidence="Ask ines@example.org; the hall opens at nine.",
    )
    tally = Tally()

    (made,) = masked_rows({"train": [row]}, PERSONAL, FORM, tally)["train"]

    assert "ines@" not in made.model_dump_json()
    assert made.passages[0].text == "Ask [EMAIL]; the hall opens at nine."
    assert made.messages == FORM.messages(made.question, made.passages, made.history)
    assert (made.answer, made.response, made.id) == (row.answer, row.response, row.id)
    assert tally.masked["email"] >= 6


def test_a_row_whose_answer_is_personal_is_left_out() -> None:
    passage = a_passage("Ring 020 7946 0958 before you come.")
    whole = a_row("r1", passages=(passage,), answer="020 7946 0958")
    part = a_row("r2", passages=(passage,), answer="7946")
    clean = a_row("r3")
    tally = Tally()

    kept = masked_rows({"train": [whole, part, clean], "test": []}, PERSONAL, FORM, tally)

    assert kept == {"train": [clean], "test": []}
    assert tally.filters == [
        {"filter": "asks_nothing_personal", "considered": 3, "kept": 1, "share": 0.3333}
    ]


def test_pairs_are_masked_on_both_sides() -> None:
    pair = a_pair(chosen="Ask a@example.org", rejected="Ask b@example.org")

    made = masked_pair(pair, ["email"], FORM, Counter())

    assert (made.chosen_response, made.rejected_response) == ("Ask [EMAIL] [1]", "Ask [EMAIL] [2]")
