from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fti.pipelines.inference.answering.citations import (
    attribution,
    citations,
    folded_words,
    plain_text,
    shared_stretch,
    words,
)
from fti.store.contracts.prompt_contract import PromptForm
from tests.support.values import a_passage

KILN = "The kiln is fired on Thursdays, and reaches (about) 1,200 °C; then it cools."


def test_words_compare_without_case_and_punctuation() -> None:
    assert [w.folded for w in words('"Oil—the U.S. price", $12!')] == [
        "oil", "the", "us", "price", "12",
    ]  # fmt: skip


def test_scripts_without_spaces_compare_by_character() -> None:
    assert shared_stretch("水温は二十度", "今日の水温は二十度です。") == "水温は二十度"


@given(st.text())
def test_words_point_at_their_place(text: str) -> None:
    for word in words(text):
        assert 0 <= word.start < word.end <= len(text)
        assert text[word.start : word.end].strip() == text[word.start : word.end]
    assert folded_words(text) == [word.folded for word in words(text)]


def test_the_quote_is_the_longest_shared_stretch_as_the_passage_spells_it() -> None:
    claim = "It is said that the KILN is fired on thursdays and nothing else"
    assert shared_stretch(claim, KILN) == "The kiln is fired on Thursdays, and"


def test_a_short_claim_is_quoted_whole() -> None:
    assert shared_stretch("1,200 °C", KILN) == "1,200 °C"


def test_a_chance_overlap_is_no_quote() -> None:
    assert shared_stretch("Potters meet on Thursdays in winter", KILN) == ""


def test_stop_words_are_no_quote() -> None:
    assert shared_stretch("then it", "and then it was over") == ""


def test_an_answer_is_attributed_to_the_first_passage_that_holds_it() -> None:
    passages = [a_passage("Nothing here."), a_passage(KILN), a_passage(KILN)]
    assert attribution("fired on Thursdays", passages) == 2
    assert attribution("fired on Mondays", passages) is None
    assert attribution("ired on Thursday", passages) is None


def test_an_answer_of_stop_words_is_attributed_to_nothing() -> None:
    assert attribution("it is", [a_passage("it is so")]) is None
    assert attribution("?!", [a_passage("?!")]) is None


def test_citations_carry_their_marker_place_and_passage() -> None:
    passages = [a_passage(KILN, chunk_id="kiln"), a_passage("Pots cool for a day.", chunk_id="pot")]
    parsed = PromptForm().parse("Fired on Thursdays. [1] Pots cool for a day. [2][1]", 2)
    found = citations(parsed, passages)
    assert [(c.marker, c.chunk_id) for c in found] == [(1, "kiln"), (2, "pot"), (1, "kiln")]
    assert [parsed.text[c.start : c.end] for c in found] == ["[1]", "[2]", "[1]"]
    assert [c.quote for c in found] == ["fired on Thursdays", "Pots cool for a day", ""]


def test_plain_text_is_the_answer_without_markers() -> None:
    passages = [a_passage(KILN), a_passage("Pots.")]
    parsed = PromptForm().parse("On Thursdays [1][2], not Mondays [2].", 2)
    assert plain_text(parsed.text, citations(parsed, passages)) == "On Thursdays, not Mondays."
