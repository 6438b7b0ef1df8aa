from __future__ import annotations

from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.encoding import IGNORED, PromptEncoder, encode_text, end_ids
from fti.pipelines.training.examples import encode_rows
from fti.store.contracts.prompt_contract import Contract, PromptForm
from fti.store.errors import ContractError
from fti.store.types import InstructionExample
from tests.support.tiny_model import byte_level_tokenizer
from tests.support.values import a_contract, a_passage, a_row

FORM = PromptForm(system="", question_position="both")


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(byte_level_tokenizer())


def contract(**changes: Any) -> Contract:
    return a_contract(**({"form": FORM, "max_prompt_tokens": 400} | changes))


def row(**changes: Any) -> InstructionExample:
    return a_row(**changes)


def test_the_prompt_is_what_serving_sends_and_only_the_response_is_learned(
    encoder: PromptEncoder,
) -> None:
    encoded = encode_rows([row()], contract=contract(), encoder=encoder)

    (example,) = encoded.examples
    served = encoder.encode(
        contract().fit(row().question, row().passages, counter=encoder).messages
    )
    assert example.input_ids[: len(served)] == served
    assert example.labels[: len(served)] == [IGNORED] * len(served)
    response = encode_text(encoder.tokenizer, "at nine [1]") + end_ids(encoder.tokenizer)
    assert example.labels[len(served) :] == example.input_ids[len(served) :] == response
    assert encoded.ids == ["r1"]
    assert encoded.dropped == {}
    assert encoded.tokens == len(example.input_ids)


def test_the_response_is_composed_by_the_contract_not_taken_from_the_row(
    encoder: PromptEncoder,
) -> None:
    other = FORM.model_copy(update={"abstention": "No idea."})
    unanswerable = row(answer="", citations=(), response="The passages do not say.")

    encoded = encode_rows([unanswerable], contract=contract(form=other), encoder=encoder)

    learned = [label for label in encoded.examples[0].labels if label != IGNORED]
    assert encoder.tokenizer.decode(learned[:-1]) == "No idea."


def test_a_response_longer_than_serving_generates_is_dropped(encoder: PromptEncoder) -> None:
    length = len(encode_text(encoder.tokenizer, "at nine [1]"))

    fits = encode_rows([row()], contract=contract(max_new_tokens=length + 1), encoder=encoder)
    cut = encode_rows([row()], contract=contract(max_new_tokens=length), encoder=encoder)

    assert fits.dropped == {}
    assert cut.dropped == {"response_too_long": 1}
    assert cut.examples == []


def test_a_row_whose_answer_is_cut_away_is_dropped(encoder: PromptEncoder) -> None:
    late = "The hall is old and cold. " * 20 + "It opens at nine."
    early = "It opens at nine. " + "The hall is old and cold. " * 20
    rows = [row(passages=(a_passage(late),)), row(row_id="r2", passages=(a_passage(early),))]

    encoded = encode_rows(rows, contract=contract(), encoder=encoder)

    assert encoded.ids == ["r2"]
    assert encoded.dropped == {"answer_cut_away": 1}


def test_a_row_whose_cited_passage_is_not_shown_is_dropped(encoder: PromptEncoder) -> None:
    passages = tuple(a_passage(rank=n, chunk_id=f"c{n}") for n in (1, 2, 3))
    third = row(passages=passages, citations=(3,))

    encoded = encode_rows([third], contract=contract(max_passages=2), encoder=encoder)

    assert encoded.dropped == {"answer_cut_away": 1}


def test_an_answer_in_own_words_needs_its_passage_whole(encoder: PromptEncoder) -> None:
    own = row(answer="in the morning")
    cut = row(row_id="r2", answer="in the morning", passages=(a_passage("The hall. " * 90),))

    encoded = encode_rows([own, cut], contract=contract(), encoder=encoder)

    assert encoded.ids == ["r1"]


def test_white_space_between_the_words_of_an_answer_does_not_matter(
    encoder: PromptEncoder,
) -> None:
    wrapped = row(passages=(a_passage("The hall opens at\n  nine."),))

    assert encode_rows([wrapped], contract=contract(), encoder=encoder).dropped == {}


def test_a_question_that_fills_the_prompt_is_dropped(encoder: PromptEncoder) -> None:
    long = row(question="Why? " * 300)

    encoded = encode_rows([long], contract=contract(), encoder=encoder)

    assert encoded.dropped == {"question_too_long": 1}


def test_an_unanswerable_row_stays_whatever_is_cut(encoder: PromptEncoder) -> None:
    none = row(answer="", citations=(), passages=(a_passage("The hall is old. " * 60),))

    encoded = encode_rows([none], contract=contract(), encoder=encoder)

    assert len(encoded.examples) == 1
    assert len(encoded.examples[0].input_ids) <= 400 + 32


NEAREST = HashingEmbedder(256)
PAIR = (
    a_passage("Towels cost two euros. Dogs stay outside.").model_copy(update={"chunk_id": "c1"}),
    a_passage("The hall is old. The hall opens at nine.").model_copy(update={"chunk_id": "c2"}),
)


def test_selected_evidence_is_what_serving_shows_and_its_number_is_cited(
    encoder: PromptEncoder,
) -> None:
    asked = row(question="When is it that the hall opens?", passages=PAIR, citations=(2,))

    encoded = encode_rows(
        [asked], contract=contract(evidence_sentences=1), encoder=encoder, embedder=NEAREST
    )

    text = encoder.tokenizer.decode(encoded.examples[0].input_ids)
    assert "[1] " in text
    assert "The hall opens at nine." in text
    assert "Towels" not in text
    assert "The hall is old" not in text
    learned = [label for label in encoded.examples[0].labels if label != IGNORED]
    assert encoder.tokenizer.decode(learned[:-1]) == "at nine [1]"


def test_a_row_whose_evidence_is_not_selected_is_dropped(encoder: PromptEncoder) -> None:
    asked = row(question="Do dogs stay outside?", passages=PAIR, citations=(2,))

    encoded = encode_rows(
        [asked], contract=contract(evidence_sentences=1), encoder=encoder, embedder=NEAREST
    )

    assert encoded.dropped == {"answer_cut_away": 1}


def test_evidence_cannot_be_selected_without_an_embedder(encoder: PromptEncoder) -> None:
    with pytest.raises(ContractError, match="no embedder was given"):
        encode_rows([row()], contract=contract(evidence_sentences=2), encoder=encoder)


def test_refusals_keep_their_share_where_answers_are_cut_away(encoder: PromptEncoder) -> None:
    late = "The hall is old and cold. " * 20 + "It opens at nine."
    answered = [row(row_id=f"a{n}") for n in range(6)]
    cut = [row(row_id=f"c{n}", passages=(a_passage(late),)) for n in range(6)]
    refusals = [row(row_id=f"u{n}", answer="", citations=()) for n in range(4)]

    encoded = encode_rows([*refusals, *cut, *answered], contract=contract(), encoder=encoder)
    again = encode_rows([*answered, *refusals, *cut], contract=contract(), encoder=encoder)
    whole = encode_rows([*refusals, *answered], contract=contract(), encoder=encoder)

    assert encoded.dropped == {"answer_cut_away": 6, "refusal_above_share": 2}
    assert [i for i in encoded.ids if i.startswith("a")] == [a.id for a in answered]
    assert set(again.ids) == set(encoded.ids)  # whatever the order of rows
    assert whole.dropped == {}
