"""What people asked taken out of the store: by age, by the key or for the user who asked.

Gone are answers with their questions, and what people said of them; their lines of the log are
overwritten. What was published stays: a dataset version that was made of corrections holds their
questions, and so does a model trained on it. ``Erasure.remains`` names such datasets. Counts of
requests and tokens stay too. Backups are not looked at.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from fti.store.answer_types import Answer, user_digest
from fti.store.errors import InputError
from fti.store.store import Store
from fti.store.types import SPLITS, Value, now

_OF_FEEDBACK = frozenset({"feedback", "correction"})  # kinds of rows


class AnswersConfig(Value):
    """How long what people asked is kept."""

    retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Answers, with their questions and what people said of them, and rejected "
        "questions are removed after so many days (UTC): by the service once a day, and by "
        "fti forget --expired. None: they stay.",
    )


class Erasure(Value):
    """What was removed, and the dataset versions in which some of the questions still stand."""

    answers: int
    verdicts: int = 0
    remains: tuple[str, ...] = ()


class Expiry(Value):
    """What had become too old."""

    answers: int = 0
    rejected_questions: int = 0


def expire_asked(store: Store, config: AnswersConfig) -> Expiry:
    """Remove what is older than is to be kept; nothing where nothing says how long."""
    if config.retention_days is None:
        return Expiry()
    before = now() - timedelta(days=config.retention_days)
    return Expiry(
        answers=store.answers.expire(before),
        rejected_questions=store.rejected.expire_questions(before),
    )


def erase_asked(store: Store, *, key: str = "", user: str = "", dry: bool = False) -> Erasure:
    """Remove what one key, or one user whom clients named, asked.

    Args:
        store: the store.
        key: id of an API key.
        user: the name that clients gave, as ``user`` of a chat; of one key's user where both are
            named.
        dry: remove nothing; say what would go.

    Raises:
        InputError: neither is named.
    """
    if not (key or user):
        raise InputError(
            "Whose questions are to be forgotten is not said.",
            hint="Name a key (fti keys list) or a user.",
        )
    digest = user_digest(user)

    def asked(answer: Answer) -> bool:
        return (not key or answer.key == key) and (not user or answer.user == digest)

    found = [answer for answer in store.answers.list() if asked(answer)]
    ids = {answer.id for answer in found}
    said = sum(verdict.answer_id in ids for verdict in store.answers.all_feedback())
    remains = _datasets_with({answer.question for answer in found}, store)
    gone = len(found) if dry else len(store.answers.erase(asked))
    return Erasure(answers=gone, verdicts=said, remains=remains)


def _datasets_with(questions: set[str], store: Store) -> tuple[str, ...]:
    """The dataset versions with rows that were made of feedback on such questions."""
    return tuple(
        version.ref
        for version in store.datasets.survey()[0]
        if version.kinds.keys() & _OF_FEEDBACK
        and any(
            row.kind in _OF_FEEDBACK and row.question in questions
            for split in SPLITS
            for row in store.datasets.examples(version.ref, split)
        )
    )
