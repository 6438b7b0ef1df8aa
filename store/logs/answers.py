"""The answer log: every answer with its lineage, and what people said of it.

A file per day (UTC), an answer per line; an answer's id holds its day. A line that a crash or a
person broke is skipped and counted, so that one bad line never hides the rest.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar

from fti.store.answer_types import Answer, Correction, Feedback, Review
from fti.store.errors import AnswerNotFound
from fti.store.files.atomic import dump_line, dump_sealed, open_line
from fti.store.files.combining import Combining
from fti.store.files.layout import Layout
from fti.store.tabular.value_tables import also_pandas, table_of_values
from fti.store.tabular.where import Where
from fti.store.types import Message, Value, now

if TYPE_CHECKING:
    import pyarrow as pa

_ID = re.compile(r"a-([0-9]{8})-[0-9a-f]{12}")
_Line = TypeVar("_Line", bound=Value)
_FEEDBACK = "answers/feedback.jsonl"
_REVIEWS = "answers/reviews.jsonl"
_LOOKED_THROUGH = 200  # newest answers, for the hint that names some

#: Whether an answer is there for somebody.
Visible = Callable[[Answer], bool]


class JudgedAnswer(Answer):
    """An answer with what people said of it last, None where nobody did.

    ``correction`` is the answer as they wanted it, ``review`` what was decided on that.
    """

    rating: Literal["up", "down"] | None = None
    comment: str | None = None
    correction: str | None = None
    review: Literal["pending", "accepted", "rejected"] | None = None


def everybodys(answer: Answer) -> bool:
    """Every answer is there, as for whoever owns the store."""
    return True


def new_answer_id(at: datetime | None = None) -> str:
    """An id for an answer made at ``at`` (now): ``a-YYYYMMDD-`` and 12 random hex digits."""
    return f"a-{(at or now()).astimezone(UTC):%Y%m%d}-{secrets.token_hex(6)}"


class AnswerLog:
    """Answers under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._storage = layout.storage
        self._require_format = layout.require_format
        self._commit = Combining(self._append)

    def append(self, answer: Answer) -> None:
        """Log an answer whose id came from ``new_answer_id``.

        Answers of several threads that come meanwhile are flushed to the disk together.
        """
        self._commit(_line(answer))

    def append_all(self, answers: Sequence[Answer]) -> None:
        """Log answers, those of a day together; after a crash a beginning of them may be there."""
        if answers:
            self._append([_line(answer) for answer in answers])

    def _append(self, dated: Sequence[tuple[str, str]]) -> Sequence[None]:
        self._require_format()
        days: dict[str, list[str]] = {}
        for day, line in dated:
            days.setdefault(day, []).append(line)
        for day, lines in days.items():
            self._storage.append(_day(day), lines)
        return [None] * len(dated)

    def get(self, answer_id: str, *, visible: Visible = everybodys) -> Answer:
        """One answer.

        Args:
            answer_id: its id.
            visible: which answers there are for whoever looks; others are neither found nor named.

        Raises:
            AnswerNotFound: none with this id was logged; names recent ones.
        """
        match = _ID.fullmatch(answer_id)
        if match:
            for answer in self._answers(_day(match.group(1)), answer_id):
                if answer.id == answer_id and visible(answer):
                    return answer
        newest = filter(visible, self.list(limit=_LOOKED_THROUGH))
        recent = ", ".join(answer.id for answer in islice(newest, 5))
        raise AnswerNotFound(
            f"There is no answer {answer_id!r}.",
            hint=f"The newest are: {recent}." if recent else "No answer was logged yet.",
        )

    def conversation(
        self, answer_id: str, *, visible: Visible = everybodys, limit: int = 256
    ) -> tuple[Message, ...]:
        """What was said up to an answer and with it, oldest first.

        Args:
            answer_id: the last answer.
            visible: as for ``get``.
            limit: of so many turns; older ones are left out.

        Raises:
            AnswerNotFound: it was not logged, or not to be gone on from; or one before it is gone.
        """
        turns: list[Message] = []
        following = answer_id
        while following and len(turns) < limit:
            answer = self.get(following, visible=visible)
            if answer.history is None:
                raise AnswerNotFound(
                    f"The answer {following!r} was not kept to be gone on from.",
                    hint="Send the earlier turns themselves, or ask with store.",
                )
            turns[:0] = [
                *answer.history,
                Message(role="user", content=answer.question),
                Message(role="assistant", content=answer.text),
            ]
            following = answer.previous
        return tuple(turns[-limit:])

    def many(self, answer_ids: Iterable[str]) -> Mapping[str, Answer]:
        """Those of the answers that the log holds, by id; reads each day's file once."""
        wanted: dict[str, set[str]] = {}
        for answer_id in answer_ids:
            if match := _ID.fullmatch(answer_id):
                wanted.setdefault(match.group(1), set()).add(answer_id)
        return {
            answer.id: answer
            for day, ids in wanted.items()
            for answer in self._answers(_day(day))
            if answer.id in ids
        }

    def list(self, limit: int | None = None, since: datetime | None = None) -> Sequence[Answer]:
        """Answers, newest first; ``since`` (with a time zone) is included."""
        found: list[Answer] = []
        for key in self._days():
            if since is not None and _date(key) < f"{since.astimezone(UTC):%Y-%m-%d}":
                break
            day = [a for a in self._answers(key) if since is None or a.created_at >= since]
            found += sorted(day, key=lambda answer: answer.created_at, reverse=True)
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    def by_document(self, document_id: str) -> Sequence[Answer]:
        """Answers that were shown a passage of this document, newest first."""
        return self._where(
            document_id, lambda a: any(p.document_id == document_id for p in a.passages)
        )

    def by_model(self, ref: str) -> Sequence[Answer]:
        """Answers by one model version (``name/number``, or ``base``), newest first."""
        return self._where(ref, lambda a: a.model == ref)

    # Data frames

    def to_arrow(
        self,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
        *,
        since: datetime | None = None,
    ) -> pa.Table:
        """The answers as an Arrow table, newest first, with what people said of each.

        Args:
            columns: some of the fields of ``JudgedAnswer``; all without.
            where: only answers for which these conditions hold, as ``model=reader/1`` or
                ``usage.prompt_tokens>1000``; see ``tabular.value_tables``.
            since: only those of that moment and after, so that older days are not read.

        Raises:
            InputError, InvalidFilter: a column or a condition does not exist.
        """
        return table_of_values(self._judged(since), JudgedAnswer, columns=columns, where=where)

    to_pandas = also_pandas(to_arrow)

    def _judged(self, since: datetime | None) -> Iterator[JudgedAnswer]:
        said = {one.answer_id: one for one in self.all_feedback()}
        corrected = {one.answer.id: one for one in self.corrections()}
        for key in self._days():
            if since is not None and _date(key) < f"{since.astimezone(UTC):%Y-%m-%d}":
                return
            day = [a for a in self._answers(key) if since is None or a.created_at >= since]
            for answer in sorted(day, key=lambda one: one.created_at, reverse=True):
                verdict, correction = said.get(answer.id), corrected.get(answer.id)
                yield JudgedAnswer.model_construct(
                    **dict(answer),
                    rating=verdict.rating if verdict else None,
                    comment=verdict.comment if verdict else None,
                    correction=correction.text if correction else None,
                    review=correction.state if correction else None,
                )

    def feedback(self, feedback: Feedback, *, visible: Visible = everybodys) -> None:
        """Keep a verdict; several on one answer are all kept.

        Raises:
            AnswerNotFound: the answer was not logged, or is not ``visible`` (as for ``get``).
        """
        self.get(feedback.answer_id, visible=visible)
        self._storage.append(_FEEDBACK, [dump_sealed(feedback.model_dump(mode="json"))])

    def feedback_of(self, answer_id: str) -> Sequence[Feedback]:
        """Verdicts on one answer, oldest first."""
        return [f for f in self.all_feedback() if f.answer_id == answer_id]

    def all_feedback(self, since: datetime | None = None) -> Sequence[Feedback]:
        """Every verdict, oldest first; ``since`` (with a time zone) is included."""
        return [
            line
            for line in self._values(_FEEDBACK, Feedback)
            if line is not None and (since is None or line.created_at >= since)
        ]

    def corrections(
        self, state: Literal["pending", "accepted", "rejected"] | None = None
    ) -> Sequence[Correction]:
        """Verdicts with a correction, oldest first: all of them, or those in one state.

        One whose answer can no longer be read is left out.
        """
        reviews = {
            (r.answer_id, r.given_at): r for r in self._values(_REVIEWS, Review) if r is not None
        }
        given = [f for f in self.all_feedback() if f.correction]
        answers = self.many(f.answer_id for f in given)
        found = [
            Correction(
                answer=answers[f.answer_id],
                feedback=f,
                review=reviews.get((f.answer_id, f.created_at)),
            )
            for f in given
            if f.answer_id in answers
        ]
        return [c for c in found if state is None or c.state == state]

    def review(
        self,
        answer_id: str,
        decision: Literal["accepted", "rejected"],
        *,
        number: int | None = None,
        answer: str | None = None,
        reason: str = "",
    ) -> Correction:
        """Decide on a correction; deciding again replaces the decision, and both are kept.

        Args:
            answer_id: the answer that was corrected.
            decision: whether it may teach a model.
            number: which of the answer's corrections, from 1; None: the newest.
            answer: the answer to teach, where it is not the correction word for word; empty
                where the documents hold none.
            reason: why, for people.

        Raises:
            AnswerNotFound: the answer was not logged, or has no such correction.
        """
        self.get(answer_id)
        mine = [c for c in self.corrections() if c.answer.id == answer_id]
        if not mine or not 1 <= (number or 1) <= len(mine):
            raise AnswerNotFound(
                f"The answer {answer_id!r} has no correction"
                + (f" number {number}; it has {len(mine)}." if mine else "."),
                hint="See: fti feedback list",
            )
        chosen = mine[(number or len(mine)) - 1]
        review = Review(
            answer_id=answer_id,
            given_at=chosen.feedback.created_at,
            decision=decision,
            answer=chosen.feedback.correction if answer is None else answer.strip(),
            reason=reason,
        )
        self._storage.append(_REVIEWS, [dump_sealed(review.model_dump(mode="json"))])
        return chosen.model_copy(update={"review": review})

    def broken_lines(self) -> int:
        """How many lines of the log cannot be read."""
        answers = sum(line is None for key in self._days() for line in self._values(key, Answer))
        verdicts = sum(line is None for line in self._values(_FEEDBACK, Feedback))
        return answers + verdicts + sum(line is None for line in self._values(_REVIEWS, Review))

    def erase(self, wanted: Callable[[Answer], bool]) -> Sequence[Answer]:
        """Remove answers, and what people said of them; what was removed.

        An answer that goes on from one of them goes too: what was said is part of it.
        """
        gone: dict[str, Answer] = {}
        # Oldest first: an answer comes after the one that it goes on from.
        for key in reversed(self._days()):
            for answer in self._answers(key):
                if wanted(answer) or answer.previous in gone:
                    gone[answer.id] = answer
            ids = {i for i in gone if _day(i[2:10]) == key}
            if ids:
                self._storage.drop_lines(key, partial(_names, key="id", ids=ids))
        self._unsay(lambda answer_id: answer_id in gone)
        return list(gone.values())

    def expire(self, before: datetime) -> int:
        """Remove the days (UTC) that ended before then, and what people said of their answers.

        How many answers that were.
        """
        first = f"{before.astimezone(UTC):%Y-%m-%d}"
        count = 0
        for key in self._days():
            if _date(key) < first:
                count += sum(1 for _ in self._storage.lines(key))
                self._storage.delete(key)
        old = first.replace("-", "")
        self._unsay(lambda answer_id: answer_id[2:10] < old)
        return count

    # Inside

    def _unsay(self, unwanted: Callable[[str], bool]) -> None:
        """Remove verdicts and reviews of answers whose ids are unwanted."""
        for key in (_FEEDBACK, _REVIEWS):
            self._storage.drop_lines(key, lambda line: unwanted(_named_in(line, "answer_id")))

    def _days(self) -> Sequence[str]:
        """Logs of answers, newest day first."""
        return self._storage.find("answers/????-??-??.jsonl")[::-1]

    def _answers(self, key: str, containing: str = "") -> Iterator[Answer]:
        return (line for line in self._values(key, Answer, containing) if line is not None)

    def _values(self, key: str, kind: type[_Line], containing: str = "") -> Iterator[_Line | None]:
        """The values on the lines of a log; None for a line that holds no such value.

        Lines without the text ``containing`` are passed over unread: parsing is what takes the
        time.
        """
        # As JSON writes it inside a string, so that quotes and backslashes are found too.
        needle = dump_line({"": containing})[6:-2].encode("utf-8")
        for line in self._storage.lines(key):
            if needle not in line:
                continue
            try:
                yield kind.model_validate(open_line(line))
            except ValueError:  # no JSON, no UTF-8, or not such a value
                yield None

    def _where(self, containing: str, wanted: Callable[[Answer], bool]) -> Sequence[Answer]:
        return [
            answer
            for key in self._days()
            for answer in sorted(
                filter(wanted, self._answers(key, containing)),
                key=lambda a: a.created_at,
                reverse=True,
            )
        ]


def _day(digits: str) -> str:
    """The log of a day, as ids of answers name it."""
    return f"answers/{digits[:4]}-{digits[4:6]}-{digits[6:]}.jsonl"


def _date(key: str) -> str:
    """The day of a log."""
    return PurePosixPath(key).stem


def _named_in(line: bytes, key: str) -> str:
    """What a line says under a key; a stand-in that sorts last where it cannot be read."""
    try:
        return str(open_line(line)[key])
    except (ValueError, KeyError, TypeError):
        return "?" * 11


def _names(line: bytes, key: str, ids: Collection[str]) -> bool:
    return _named_in(line, key) in ids


def _line(answer: Answer) -> tuple[str, str]:
    """The day of an answer, as its id has it, and its line of the log."""
    match = _ID.fullmatch(answer.id)
    assert match, "ids of answers come from new_answer_id"
    return match.group(1), dump_sealed(answer.model_dump(mode="json"))
