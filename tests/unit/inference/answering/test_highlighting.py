from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti.pipelines.inference.answering.citations import citations
from fti.pipelines.inference.answering.highlighting import evidence_of, nearest_to
from fti.store.answer_types import Answer
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.types import CONTEXT, ModelIdentity, Passage, now
from tests.support.values import a_passage

KILN = (
    "Clay is sold by the bag. The kiln is fired on Thursdays by Nora Pell. "
    "Nora Pell teaches glazing in the annexe."
)


def answered(question: str, text: str, *texts: str | Passage, **changes: Any) -> Answer:
    """An answer as it would be logged; markers in ``text`` are its citations."""
    passages = tuple(
        each if isinstance(each, Passage) else a_passage(each, chunk_id=f"c{number}")
        for number, each in enumerate(texts)
    )
    parsed = PromptForm().parse(text, len(passages))
    fields: dict[str, Any] = {
        "id": "a-20260101-000000000000",
        "created_at": now(),
        "question": question,
        "text": parsed.text,
        "citations": citations(parsed, passages),
        "passages": passages,
        "abstained": parsed.abstained,
        "model": "base",
        "base": ModelIdentity(id="tiny"),
        "contract_digest": "0" * 64,
        "features_version": 1,
    }
    return Answer(**(fields | changes))


def refused(question: str, *texts: str | Passage, **changes: Any) -> Answer:
    return answered(question, PromptForm().abstention, *texts, **changes)


def marked(answer: Answer) -> list[list[tuple[str, list[str]]]]:
    """Sentences and marked words of each passage."""
    return [
        [
            (passage.text[e.start : e.end], [passage.text[w.start : w.end] for w in e.words])
            for e in evidence
        ]
        for passage, evidence in zip(answer.passages, evidence_of(answer), strict=True)
    ]


@pytest.mark.parametrize(
    ("question", "answer", "sentence", "words"),
    [
        # A causal model says the answer alone …
        (
            "Who fires the kiln?",
            "Nora Pell [1]",
            "The kiln is fired on Thursdays by Nora Pell.",
            ["Nora Pell"],
        ),
        (
            "When is the kiln fired?",
            "on Thursdays [1]",
            "The kiln is fired on Thursdays by Nora Pell.",
            ["on Thursdays"],
        ),
        # … or a sentence of its own; the extractive engine a whole sentence of the passage. What
        # the question said already carries no answer.
        (
            "When do they fire the kiln?",
            "The kiln is always fired on Thursdays. [1]",
            "The kiln is fired on Thursdays by Nora Pell.",
            ["Thursdays"],
        ),
        (
            "Who teaches glazing?",
            "Nora Pell teaches glazing in the annexe. [1]",
            "Nora Pell teaches glazing in the annexe.",
            ["Nora Pell", "annexe"],
        ),
        # Where nothing is left, what they share is marked after all.
        (
            "Is glazing taught in the annexe?",
            "in the annexe [1]",
            "Nora Pell teaches glazing in the annexe.",
            ["in the annexe"],
        ),
        # Words that stand everywhere prove nothing: the question says which sentence is meant.
        ("Is glazing taught there?", "In the [1]", "Nora Pell teaches glazing in the annexe.", []),
        # In other words than the passage's: the likeliest sentence, nothing marked.
        ("How is clay sold?", "per sack [1]", "Clay is sold by the bag.", []),
    ],
)
def test_the_sentence_that_carries_the_answer_has_its_words_marked(
    question: str, answer: str, sentence: str, words: list[str]
) -> None:
    assert marked(answered(question, answer, KILN)) == [[(sentence, words)]]


def test_a_passage_that_is_not_cited_carries_nothing() -> None:
    found = marked(answered("Who fires the kiln?", "Nora Pell [2]", KILN, KILN))
    assert found[0] == []
    assert found[1] == [("The kiln is fired on Thursdays by Nora Pell.", ["Nora Pell"])]


def test_two_claims_on_one_passage_each_have_their_sentence_in_the_passages_order() -> None:
    answer = answered(
        "What does Nora Pell do?", "She teaches glazing [1]. Fires on Thursdays [1].", KILN
    )
    assert marked(answer) == [
        [
            ("The kiln is fired on Thursdays by Nora Pell.", ["Thursdays"]),
            ("Nora Pell teaches glazing in the annexe.", ["teaches glazing"]),
        ]
    ]


def test_an_answer_taken_from_several_lines_shows_each_of_them() -> None:
    rules = "The rules:\n- Ovens are cleaned daily.\n- Guests sign the book.\n- Dogs wait outside."
    answer = answered("What are the rules?", "clean ovens daily, guests sign the book [1]", rules)
    assert marked(answer) == [
        [
            ("Ovens are cleaned daily.", ["Ovens", "daily"]),
            ("Guests sign the book.", ["Guests sign the book"]),
        ]
    ]


def test_a_row_of_a_table_comes_with_the_names_of_its_columns() -> None:
    row = a_passage(
        "Thickest ply | 9 mm | 4 mm |", metadata={CONTEXT: "| Ruby | Moth"}, chunk_id="c9"
    )
    answer = answered("How thick is the ply that Ruby cuts?", "9 mm [1]", row)
    ((evidence,),) = evidence_of(answer)
    assert evidence.context == "| Ruby | Moth"
    assert marked(answer) == [[("Thickest ply | 9 mm | 4 mm |", ["9 mm"])]]


def test_a_sentence_is_whole_where_the_document_breaks_its_lines() -> None:
    text = (
        "Tea is free.\nThe steel sink in the finishing room drains to a tank that\n"
        "holds 400 litres and is pumped out on Fridays.\nBowls are washed."
    )
    answer = answered("How much does the tank hold?", "400 litres [1]", text)
    assert marked(answer) == [[(text[13:-18], ["400 litres"])]]
    # The fields of a record are no sentence.
    record = "name: " + "x" * 60 + "\nprice: 4 euros\nunit: month"
    answer = answered("What does it cost?", "4 euros [1]", record)
    assert marked(answer) == [[("price: 4 euros", ["4 euros"])]]


def test_scripts_without_spaces_are_marked_too() -> None:
    answer = answered("いつ開きますか。", "土曜日の九時 [1]", "工房は土曜日の九時に開きます。")
    assert marked(answer) == [[("工房は土曜日の九時に開きます。", ["土曜日の九時"])]]


def test_characters_beyond_the_basic_plane_count_as_one() -> None:
    text = "🙂 Clay is sold. 🙂 The kiln 🔥 is fired on Thursdays."
    answer = answered("When is the kiln fired?", "Thursdays [1]", text)
    assert marked(answer) == [[("🙂 The kiln 🔥 is fired on Thursdays.", ["Thursdays"])]]


def test_of_a_refusal_the_sentence_that_shares_most_with_the_question_is_nearest() -> None:
    answer = refused("Who cleans the glazing annexe?", "Lockers cost four euros.", KILN)
    nearest = nearest_to(answer)
    assert nearest is not None
    assert nearest.marker == 2
    assert marked(answer) == [[], []]
    text = answer.passages[1].text
    assert text[nearest.evidence.start : nearest.evidence.end] == (
        "Nora Pell teaches glazing in the annexe."
    )
    assert [text[w.start : w.end] for w in nearest.evidence.words] == ["glazing", "annexe"]


def test_where_no_word_is_shared_the_best_passage_is_nearest_by_its_first_sentence() -> None:
    nearest = nearest_to(refused("Wer?", "HOURS\nThe hall opens at nine.", KILN))
    assert nearest is not None
    assert (nearest.marker, nearest.evidence.start, nearest.evidence.words) == (1, 6, ())


def test_an_answer_has_no_nearest_and_neither_has_a_refusal_without_passages() -> None:
    assert nearest_to(answered("Who fires the kiln?", "Nora Pell [1]", KILN)) is None
    assert nearest_to(refused("Who fires the kiln?")) is None


TEXTS = st.text(st.sampled_from("ab 1.\n|-#日本🙂 the[]"), max_size=60)


@given(question=TEXTS, claim=TEXTS, text=TEXTS, other=TEXTS)
def test_whatever_the_texts_marks_lie_in_order_within_their_sentence(
    question: str, claim: str, text: str, other: str
) -> None:
    for answer in (
        answered(question, f"{claim} [1] {other} [2]", text, other),
        refused(question, text, other),
    ):
        near = nearest_to(answer)
        found = [*zip(answer.passages, evidence_of(answer), strict=True)]
        if near is not None:
            found.append((answer.passages[near.marker - 1], (near.evidence,)))
        for passage, evidence in found:
            at = 0
            for each in evidence:
                assert at <= each.start <= each.end <= len(passage.text)
                at = each.start
                for word in each.words:
                    assert at <= word.start < word.end <= each.end
                    at = word.end
