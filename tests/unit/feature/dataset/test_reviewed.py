"""Feedback becomes rows and pairs only after somebody has accepted it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.feature.dataset.asked import Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig, PairsConfig
from fti.pipelines.feature.dataset.pairs import build_pairs
from fti.pipelines.feature.dataset.sources.reviewed import (
    Accepted,
    Review,
    accepted,
    read_reviewed,
    to_review,
)
from fti.store.answer_types import Feedback
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.errors import AnswerNotFound, InputError, InvalidCases
from fti.store.logs.answers import new_answer_id
from fti.store.store import Store
from fti.store.types import (
    Case,
    DatasetVersion,
    InstructionExample,
    Passage,
    PreferenceExample,
    Split,
)
from tests.support.values import EMBEDDER, a_passage, a_row, an_answer

FORM = PromptForm(system="")
PASSAGES = (
    a_passage("The hall opens at nine on Saturdays.", chunk_id="c1", document_id="d1", rank=1),
    a_passage("The pool opens at noon on Saturdays.", chunk_id="c2", document_id="d2", rank=2),
    a_passage("The shop was built in 1987.", chunk_id="c3", document_id="d3", rank=3),
)
SPLITS_OF: dict[str, Split] = {"d1": "train", "d2": "train", "d3": "test"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def answered(store: Store, text: str = "At nine. [1]", **changes: Any) -> str:
    answer = an_answer(new_answer_id(), text=text, passages=PASSAGES, **changes)
    store.answers.append(answer)
    return answer.id


def said(store: Store, answer_id: str, rating: str = "up", correction: str = "") -> None:
    store.answers.feedback(
        Feedback.model_validate(
            {"answer_id": answer_id, "rating": rating, "correction": correction}
        )
    )


def taken(
    store: Store, *, tally: Tally | None = None, accept: bool | None = True
) -> list[Accepted]:
    reviews = [r.model_copy(update={"accept": accept}) for r in to_review(store)]
    return accepted(
        reviews, store=store, split_of=SPLITS_OF, config=DatasetConfig(), form=FORM,
        tally=tally or Tally(),
    )  # fmt: skip


def test_what_the_feedback_command_has_decided_need_not_be_decided_again(store: Store) -> None:
    edited, refused, open_ = (answered(store) for _ in range(3))
    for answer_id in (edited, refused, open_):
        said(store, answer_id, "down", "At ten, silly. [1]")
    store.answers.review(edited, "accepted", answer="At ten. [1]")
    store.answers.review(refused, "rejected")
    lines = {line.answer_id: line for line in to_review(store)}
    assert (lines[edited].accept, lines[edited].correction) == (True, "At ten. [1]")
    assert lines[refused].accept is False
    assert lines[open_].accept is None
    said(store, edited, "down", "At noon. [2]")  # a newer verdict is to be decided on anew
    assert {line.answer_id: line.accept for line in to_review(store)}[edited] is None


def test_the_newest_verdict_on_each_answer_is_to_be_reviewed(store: Store) -> None:
    first = answered(store, asked="When does the hall open on Saturdays?")
    second = answered(store)
    said(store, first, "up")
    said(store, second, "up")
    said(store, first, "down", "At ten. [1]")

    one, other = to_review(store)

    assert (one.answer_id, one.rating, one.correction, one.accept) == (
        first, "down", "At ten. [1]", None
    )  # fmt: skip
    assert one.question == "When does the hall open on Saturdays?"
    assert other.answer_id == second


def test_nothing_is_taken_before_it_is_accepted(store: Store) -> None:
    said(store, answered(store))
    tally = Tally()

    assert taken(store, tally=tally, accept=None) == taken(store, tally=tally, accept=False) == []
    assert tally.feedback == {"not_reviewed": 1, "not_accepted": 1}


def test_a_praised_answer_is_a_row_with_its_citation(store: Store) -> None:
    said(store, answered(store, "At noon. [2]"))

    (one,) = taken(store)

    assert (one.asked.answer, one.asked.cited, one.asked.chunks) == ("At noon.", (2,), ("c2",))
    assert (one.asked.document, one.asked.split, one.asked.kind) == ("d2", "train", "feedback")
    # What is held out from training is not shown.
    assert [p.chunk_id for p in one.asked.shown or ()] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("correction", "answer", "cited"),
    [
        ("at noon", "at noon", (2,)),  # word for word in the second
        ("The pool opens then, at noon on a Saturday", None, (2,)),  # most of its words are there
        ("At noon. [2]", "At noon.", (2,)),
        ("The passages do not answer this question.", "", ()),
    ],
)
def test_a_correction_cites_what_holds_it(
    store: Store, correction: str, answer: str | None, cited: tuple[int, ...]
) -> None:
    said(store, answered(store), "down", correction)

    (one,) = taken(store)

    assert one.asked.answer == (correction if answer is None else answer)
    assert one.asked.cited == cited
    assert (one.said, one.said_cited, one.corrected) == ("At nine.", (1,), True)


@pytest.mark.parametrize(
    ("rating", "correction", "reason"),
    [
        ("down", "", "no_correction"),
        ("down", "Only the mayor of Lisbon knows that", "no_passage_holds_it"),
    ],
)
def test_what_cannot_be_learned_from_is_counted(
    store: Store, rating: str, correction: str, reason: str
) -> None:
    said(store, answered(store), rating, correction)
    tally = Tally()

    assert taken(store, tally=tally) == []
    assert tally.feedback == {reason: 1}


def test_answers_about_documents_that_are_gone_are_counted(store: Store) -> None:
    gone = tuple(p.model_copy(update={"document_id": "gone"}) for p in PASSAGES)
    answer = an_answer(new_answer_id(), passages=gone)
    store.answers.append(answer)
    said(store, answer.id)
    tally = Tally()

    assert taken(store, tally=tally) == []
    assert tally.feedback == {"document_not_found": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Line 1 of .* is not JSON"),
        ('{"answer_id": "a"}', "Line 1 of .* question: Field required"),
        ('{"answer_id": "a", "question": "Q", "answer": "A", "rating": "fine"}', "rating"),
    ],
)
def test_a_review_that_cannot_be_read_names_its_line(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "review.jsonl"
    path.write_text(line + "\n", "utf-8")

    with pytest.raises(InvalidCases, match=message) as caught:
        read_reviewed(path)
    assert "fti dataset feedback" in caught.value.hint


def test_a_review_must_be_there_name_answers_once_and_answers_that_were_given(
    store: Store, tmp_path: Path
) -> None:
    review = Review(answer_id="a-20260301-0123456789ab", question="Q", answer="A", rating="up",
                    accept=True)  # fmt: skip
    path = tmp_path / "review.jsonl"
    with pytest.raises(InvalidCases, match="cannot be read: No such file"):
        read_reviewed(path)
    path.write_text(2 * (review.model_dump_json() + "\n"), "utf-8")
    with pytest.raises(InvalidCases, match=r"Line 2 .* stands there twice"):
        read_reviewed(path)
    with pytest.raises(AnswerNotFound, match="a-20260301-0123456789ab"):
        accepted([review], store=store, split_of=SPLITS_OF, config=DatasetConfig(), form=FORM,
                 tally=Tally())  # fmt: skip


# Pairs


def numbered(*texts: str) -> tuple[Passage, ...]:
    return tuple(
        a_passage(t, chunk_id=f"k{n}", document_id=f"d{n}", rank=n, title=f"Page {n}")
        for n, t in enumerate(texts, start=1)
    )


KILN = numbered(
    "The kiln is fired at 1220 degrees on Thursdays. The kiln holds 24 trays.",
    "The oven is heated to 300 degrees. The oven holds 12 trays. Rosa Bellini minds the oven.",
)


def instructed(store: Store, *rows: InstructionExample, **settings: Any) -> DatasetVersion:
    return store.datasets.publish(
        "machines",
        rows={"train": list(rows)},
        features_version=1,
        embedder=EMBEDDER,
        prompt_digest=FORM.digest,
        run_id="r-20260301-120000-0123ab",
        settings=settings,
        documents={"train": ["d1", "d2"], "test": ["d3"]},
    )


def a_trays_row(**changes: Any) -> InstructionExample:
    fields: dict[str, Any] = {
        "kind": "question", "style": "quantity", "question": "How many trays does the kiln hold?",
        "answer": "24 trays", "passages": KILN, "documents": ("d1",), "chunk_ids": ("k1",),
    }  # fmt: skip
    return a_row(**(fields | changes))


def paired(store: Store, source: DatasetVersion, *reviews: Review, **config: Any) -> list[Any]:
    version = build_pairs(
        "liked", source=source, store=store, config=PairsConfig(**config), form=FORM,
        reviews=reviews,
    )  # fmt: skip
    assert version.kind == "preference"
    return list(store.datasets.pairs(version.ref, "train"))


def test_the_worse_answer_is_of_the_same_kind_and_from_another_passage(store: Store) -> None:
    (pair,) = paired(store, instructed(store, a_trays_row()))

    assert isinstance(pair, PreferenceExample)
    assert (pair.kind, pair.chosen, pair.chosen_citations) == ("wrong_passage", "24 trays", (1,))
    # "300 degrees" is a quantity too; the sentence of "12 trays" has more of the question.
    assert (pair.rejected, pair.rejected_citations) == ("12 trays", (2,))
    assert (pair.chosen_response, pair.rejected_response) == ("24 trays [1]", "12 trays [2]")
    assert pair.messages == FORM.messages(pair.question, KILN)
    assert (pair.documents, pair.chunk_ids) == (("d1",), ("k1",))


def test_where_nothing_answers_the_abstention_is_better(store: Store) -> None:
    row = a_trays_row(kind="unanswerable", answer="", citations=(), passages=KILN[1:],
                      response=FORM.abstention)  # fmt: skip
    source = instructed(store, a_trays_row(id="r1"), a_trays_row(id="r2"), row.model_copy(
        update={"id": "r3", "question": "How many trays does the loom hold?"}))  # fmt: skip
    pairs = paired(store, source, unsupported=0.5)
    (other,) = [p for p in pairs if p.kind == "unsupported"]

    assert (other.chosen, other.chosen_response) == ("", FORM.abstention)
    assert (other.rejected, other.rejected_citations) == ("12 trays", (1,))
    assert not [p for p in paired(store, source, unsupported=0.0) if p.kind == "unsupported"]


def test_the_same_rows_and_seed_give_the_same_digest(store: Store) -> None:
    source = instructed(store, a_trays_row())
    first, second = (
        build_pairs("liked", source=source, store=store, config=PairsConfig(), form=FORM)
        for _ in range(2)
    )

    assert (first.digest, first.version, second.version) == (second.digest, 1, 2)
    assert store.runs.get(second.run_id).inputs["dataset"] == source.ref
    assert first.documents["test"] == ("d3",)


def test_accepted_corrections_are_pairs_and_come_first(store: Store) -> None:
    answer_id = answered(store, "At noon. [2]")
    said(store, answer_id, "down", "at nine")
    (review,) = to_review(store)
    source = instructed(store, a_trays_row())

    (pair,) = paired(store, source, review.model_copy(update={"accept": True}), max_pairs=1)

    assert pair.kind == "correction"
    assert (pair.chosen_response, pair.rejected_response) == ("at nine [1]", "At noon. [2]")
    assert [p.chunk_id for p in pair.passages] == ["c1", "c2"]


def test_a_correction_that_a_frozen_set_asks_for_is_not_learned(store: Store) -> None:
    said(store, answered(store, "At noon. [2]"), "down", "at nine")
    (review,) = to_review(store)
    store.cases.freeze("held", [Case(id="1", question=review.question, answers=("x",))])
    source = instructed(store, a_trays_row())

    pairs = paired(store, source, review.model_copy(update={"accept": True}))

    assert [p.kind for p in pairs] == ["wrong_passage"]


def test_pairs_of_a_masked_dataset_are_masked(store: Store) -> None:
    said(store, answered(store, "Ask ann@example.org. [2]"), "down", "at nine")
    (review,) = to_review(store)
    source = instructed(store, a_trays_row(), mask=["email"])

    pairs = paired(store, source, review.model_copy(update={"accept": True}))

    assert {p.rejected_response for p in pairs} == {"Ask [EMAIL]. [2]", "12 trays [2]"}


def test_a_dataset_that_gives_no_pair_is_refused(store: Store) -> None:
    source = instructed(store, a_trays_row(passages=KILN[:1]))

    with pytest.raises(InputError, match="No preference pair could be made from 1 rows of machi"):
        paired(store, source)
    pairs = instructed(store, a_trays_row())
    liked = build_pairs("liked", source=pairs, store=store, config=PairsConfig(), form=FORM)
    with pytest.raises(InputError, match="liked/1 holds preference pairs"):
        build_pairs("more", source=liked, store=store, config=PairsConfig(), form=FORM)
