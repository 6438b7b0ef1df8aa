"""What people said of answers, looked through by somebody, as rows.

Feedback comes from anybody who may ask; so nothing of it is learned from before a person has
accepted it. ``to_review`` gives the lines to decide on, ``read_reviewed`` the decisions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from fti.pipelines.feature.asking.quality import content_words, folded, holds
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.splits import SHOWN
from fti.store.answer_types import Answer
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.errors import InvalidCases
from fti.store.files.atomic import iter_lines
from fti.store.store import Store
from fti.store.types import Passage, Split, Value

_SUPPORT = 0.6  # share of a correction's content words that its passage must have


class Review(Value):
    """A verdict on an answer, and whether it is to be learned from.

    ``accept`` is null until somebody has decided. ``correction`` may be edited.
    """

    answer_id: str
    question: str
    answer: str
    rating: Literal["up", "down"]
    correction: str = ""
    comment: str = ""
    accept: bool | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted verdict as a question, with what the model had answered and cited."""

    asked: Asked
    said: str
    said_cited: tuple[int, ...]
    corrected: bool


def to_review(store: Store) -> list[Review]:
    """The newest verdict on each answer, oldest first.

    Undecided, but for corrections that ``fti feedback`` has decided on.
    """
    newest = {f.answer_id: f for f in store.answers.all_feedback()}
    decided = {
        (c.answer.id, c.feedback.created_at): c for c in store.answers.corrections() if c.review
    }
    found = []
    for feedback in newest.values():
        answer = store.answers.get(feedback.answer_id)
        known = decided.get((answer.id, feedback.created_at))
        found.append(
            Review(
                answer_id=answer.id,
                question=answer.asked or answer.question,
                answer=answer.text,
                rating=feedback.rating,
                correction=known.text if known else feedback.correction,
                comment=feedback.comment,
                accept=known.state == "accepted" if known else None,
            )
        )
    return found


def read_reviewed(path: Path) -> list[Review]:
    """Read a file that ``to_review`` gave and a person has decided on.

    Raises:
        InvalidCases: it cannot be read, or a line is no such verdict; names the line.
    """
    reviews: dict[str, Review] = {}
    try:
        for number, line in enumerate(iter_lines(path), start=1):
            try:
                review = Review.model_validate(json.loads(line))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise _fault(path, number, f"{where}: {first['msg']}") from error
            except ValueError as error:
                raise _fault(path, number, f"it is not JSON: {error}") from error
            if review.answer_id in reviews:
                raise _fault(path, number, f"the answer {review.answer_id!r} stands there twice")
            reviews[review.answer_id] = review
    except OSError as error:
        raise InvalidCases(
            f"{str(path)!r} cannot be read: {error.strerror}.",
            hint="Write it with: fti dataset feedback --out REVIEW.jsonl",
        ) from error
    return list(reviews.values())


def accepted(
    reviews: Iterable[Review],
    *,
    store: Store,
    split_of: Mapping[str, Split],
    config: DatasetConfig,
    form: PromptForm,
    tally: Tally,
) -> list[Accepted]:
    """The accepted verdicts as questions, over the passages that were shown then.

    A row follows the split of the document that it cites, and shows no passage that is held out
    from it. The correction is the answer where there is one, and what was praised otherwise.

    Raises:
        AnswerNotFound: an answer was not logged.
    """
    found: list[Accepted] = []
    for review in reviews:
        if not review.accept:
            tally.feedback["not_reviewed" if review.accept is None else "not_accepted"] += 1
            continue
        made = _accepted(review, store.answers.get(review.answer_id), split_of, config, form)
        if isinstance(made, str):
            tally.feedback[made] += 1
        else:
            tally.feedback["used"] += 1
            found.append(made)
    return found


def _accepted(
    review: Review,
    answer: Answer,
    split_of: Mapping[str, Split],
    config: DatasetConfig,
    form: PromptForm,
) -> Accepted | str:
    corrected = bool(review.correction.strip())
    if review.rating == "down" and not corrected:
        return "no_correction"
    said, said_markers = _bare(answer.text, len(answer.passages), form)
    text, markers = said, said_markers
    if corrected:
        text, markers = _bare(review.correction, len(answer.passages), form)
    known = [p for p in answer.passages if p.document_id in split_of]
    if not known:
        return "document_not_found"
    cited = [answer.passages[n - 1] for n in markers] if text else []
    if text and (corrected or not cited):
        cited = cited or _supporting(text, answer.passages)
        if not cited:
            return "no_passage_holds_it"
    if any(p.document_id not in split_of for p in cited):
        return "document_not_found"
    home = (cited or known)[0].document_id
    split = split_of[home]
    shown = [p for p in known if split_of[p.document_id] in SHOWN[split]]
    for passage in cited:  # cited passages come before the others are cut off
        if passage not in shown:
            return "passages_of_two_splits"
    shown = _first(shown, cited, config.max_passages)
    place = {p.chunk_id: n for n, p in enumerate(shown, start=1)}
    before = [answer.passages[n - 1].chunk_id for n in said_markers]
    asked = Asked(
        kind="feedback",
        question=review.question.strip(),
        answer=text,
        document=home,
        chunks=tuple(dict.fromkeys(p.chunk_id for p in cited)),
        split=split,
        tag=answer.id,
        shown=tuple(shown),
        cited=tuple(dict.fromkeys(place[p.chunk_id] for p in cited)),
    )
    return Accepted(
        asked, said, tuple(dict.fromkeys(place[i] for i in before if i in place)), corrected
    )


def _bare(text: str, passages: int, form: PromptForm) -> tuple[str, tuple[int, ...]]:
    """An answer without its markers, and their numbers; empty for an abstention."""
    parsed = form.parse(text, passages)
    if parsed.abstained:
        return "", ()
    pieces, last = [], 0
    for start, end in parsed.spans:
        pieces.append(parsed.text[last:start])
        last = end
    bare = folded("".join([*pieces, parsed.text[last:]]))
    return bare.replace(" .", ".").replace(" ,", ","), parsed.markers


def _supporting(text: str, passages: Sequence[Passage]) -> list[Passage]:
    """The passage that holds a text, or most of its words; none where no passage does."""
    for passage in passages:
        if holds(passage.text, text):
            return [passage]
    wanted = set(content_words(text))
    shares = [
        len(wanted & set(content_words(p.text))) / len(wanted) if wanted else 0.0 for p in passages
    ]
    best = max(range(len(passages)), key=lambda n: (shares[n], -n), default=None)
    return [passages[best]] if best is not None and shares[best] >= _SUPPORT else []


def _first(shown: Sequence[Passage], cited: Sequence[Passage], count: int) -> list[Passage]:
    """So many passages in their order, those that are cited among them."""
    room = count - sum(p in cited for p in shown)
    kept = []
    for passage in shown:
        if passage in cited:
            kept.append(passage)
        elif room > 0:
            kept.append(passage)
            room -= 1
    return kept


def _fault(path: Path, line: int, what: str) -> InvalidCases:
    return InvalidCases(
        f"Line {line} of {str(path)!r} is no reviewed verdict: {what}.",
        hint="Write the file anew with: fti dataset feedback --out REVIEW.jsonl",
    )
