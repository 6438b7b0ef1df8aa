from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from fti.store.plain_text import clean, clean_line

any_text = st.text(st.characters(exclude_categories=[]), max_size=300)


@given(any_text)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(any_text)
def test_cleaned_text_can_be_stored_and_holds_no_control_character(text: str) -> None:
    cleaned = clean(text)

    cleaned.encode("utf-8")
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not [c for c in cleaned if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]


@given(any_text)
def test_no_letter_or_digit_is_lost(text: str) -> None:
    def kept(value: str) -> list[str]:
        plain = unicodedata.normalize("NFC", value)
        fillers = "\u115f\u1160\u17b4\u17b5\u034f"  # letters by category, blank by design
        return [c for c in plain if c.isalnum() and c not in fillers]

    assert kept(clean(text)) == kept(text)


def test_every_kind_of_line_break_becomes_a_newline() -> None:
    assert clean("a\r\nb\rc\u2028d\u2029e\x85f\x0cg") == "a\nb\nc\nd\ne\nf\ng"


def test_nul_never_survives() -> None:
    assert clean("a\x00b\x00") == "ab"


def test_indentation_and_tabs_of_code_stay() -> None:
    code = "```python\ndef f():\n    if x:\n\treturn 1\n```"

    assert clean(code) == code


def test_trailing_spaces_and_long_gaps_go() -> None:
    assert clean("\n\na  \n\n\n\n\nb\t\n") == "a\n\n\nb"


def test_zero_width_space_and_soft_hyphen_go_but_joiners_stay() -> None:
    assert clean("in\u00advisi\u200bble") == "invisible"
    assert clean("می\u200cخواهم 👩\u200d🔬") == "می\u200cخواهم 👩\u200d🔬"


def test_direction_marks_that_could_hide_text_go() -> None:
    assert clean("abc\u202edef\u2066g\U000e0041") == "abcdefg"


def test_a_no_break_space_is_a_space() -> None:
    assert clean("100\u00a0degrees") == "100 degrees"


def test_decomposed_letters_are_composed() -> None:
    assert clean("e\u0301te\u0301") == "été"


def test_a_line_is_cut_at_a_word() -> None:
    line = clean_line("one two\n three\tfour", max_characters=14)

    assert line == "one two three…"
    assert clean_line("  one \n two ") == "one two"


def test_long_runs_of_spaces_take_no_quadratic_time() -> None:
    assert len(clean("x" + " " * 2_000_000 + "é")) == 2_000_002
