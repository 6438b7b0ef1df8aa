"""What a reader has been shown is always the beginning of the answer."""

from __future__ import annotations

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
    assert [text.feed(p) for p in ["At", " nine", " in the", " morning"]] == [
        "At", " nine", " in the", " morning",
    ]  # fmt: skip


def test_the_abstention_is_not_shown_before_it_is_sure() -> None:
    text = ShownText(PromptForm(), 1)
    assert text.feed("The passages do not ") == ""
    assert text.feed("answer") == ""
    assert text.feed(" to laymen") == "The passages do not answer to laymen"


def test_half_a_marker_is_dropped_when_generation_broke_off() -> None:
    text = ShownText(PromptForm(), 3)
    text.feed("At nine [1] and six [")
    assert text.parsed(broken_off=True).text == "At nine [1] and six"
    assert text.parsed(broken_off=False).text == "At nine [1] and six ["
