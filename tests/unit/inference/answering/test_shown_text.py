"""What a reader has been shown is always the beginning of the answer."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fti.pipelines.inference.answering.shown_text import ShownText
from fti.store.contracts.prompt_contract import DEFAULT_ABSTENTION, PromptForm

PIECES = st.one_of(
    st.sampled_from(
        ["[", "]", "[1]", "[2]", "[7]", " ", "\n", "1", "12", "a", ".", ". ", "x[0]", "\u00a0",
         DEFAULT_ABSTENTION, "The passages do", " not answer", " this question", "The kiln"]
    ),
    st.text(max_size=4),
)  # fmt: skip


@given(st.lists(PIECES, max_size=14), st.integers(0, 3))
@example(["The passages do not answer this question", "."], 1)
@example(["text [8 ", "[9]", "]"], 2)
@example(["[7]", " ", "[1]"], 1)
def test_the_pieces_shown_join_to_the_parsed_text(pieces: list[str], passages: int) -> None:
    form = PromptForm()
    text = ShownText(form, passages)
    shown = "".join(text.feed(piece) for piece in pieces)
    final = text.parsed(broken_off=False)
    assert final == form.parse("".join(pieces), passages)
    assert shown + text.finish(final.text) == final.text


def test_ordinary_words_are_shown_as_they_come() -> None:
    text = ShownText(PromptForm(), 1)
    assert [text.feed(p) for p in ["At", " ni", "ne", " in the", " morning"]] == [
        "", "At", "", " nine in", " the",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("The kiln opens on Satur", "The kiln opens on"),
        ("It costs 12,", "It costs"),
        ("It weighs 3.", "It weighs"),
        ("It opens at nine.", "It opens at nine."),
        ("It opens at nine. [1]", "It opens at nine. [1]"),
        ("It opens at nine [1] and at six [", "It opens at nine [1] and at six"),
        ("Satur", "Satur"),
        ("\u7a91\u4e5d\u70b9\u5f00", "\u7a91\u4e5d\u70b9\u5f00"),
    ],
)
def test_an_answer_that_is_broken_off_ends_at_a_word(raw: str, kept: str) -> None:
    text = ShownText(PromptForm(), 3)
    shown = "".join(text.feed(letter) for letter in raw)
    final = text.parsed(broken_off=True).text
    assert final == kept
    assert shown + text.finish(final) == kept


@given(st.lists(PIECES, max_size=14), st.integers(0, 3))
def test_whatever_breaks_off_goes_on_from_what_was_shown(pieces: list[str], passages: int) -> None:
    text = ShownText(PromptForm(), passages)
    shown = "".join(text.feed(piece) for piece in pieces)
    final = text.parsed(broken_off=True)
    assert shown + text.finish(final.text) == final.text


def test_the_abstention_is_not_shown_before_it_is_sure() -> None:
    text = ShownText(PromptForm(), 1)
    assert text.feed("The passages do not ") == ""
    assert text.feed("answer") == ""
    assert text.feed(" to laymen") == "The passages do not answer to"


def test_half_a_marker_is_dropped_when_generation_broke_off() -> None:
    text = ShownText(PromptForm(), 3)
    text.feed("At nine [1] and six [")
    assert text.parsed(broken_off=True).text == "At nine [1] and six"
    assert text.parsed(broken_off=False).text == "At nine [1] and six ["
