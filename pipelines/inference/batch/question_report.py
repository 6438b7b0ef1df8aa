"""What following questions did: a group at a time, and in all."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fti.store.streams.freshness import Freshness
from fti.store.types import Value


class NoQuestion(Value):
    """A record that no question could be read from, and why; it is kept under ``rejected``."""

    position: str
    reason: str


class AnsweredGroup(Value):
    """One group. Every record is counted once.

    ``skipped`` had an answer already, to the same words; ``superseded`` came again in the same
    group with other words, which were answered. ``position`` is that of the last record: all up to
    it is answered. ``freshness`` is the seconds from when questions were asked until their answers
    were kept.
    """

    at: datetime
    position: str
    records: int
    answered: int = 0
    failed: int = 0
    skipped: int = 0
    superseded: int = 0
    rejected: tuple[NoQuestion, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    freshness: Freshness | None = None
    seconds: float = 0.0


class QuestionsReport(Value):
    """A whole session; ``rejected`` lists the first of ``rejected_records``."""

    records: int = 0
    groups: int = 0
    answered: int = 0
    failed: int = 0
    skipped: int = 0
    superseded: int = 0
    rejected_records: int = 0
    rejected: tuple[NoQuestion, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    currency: str = ""
    freshness: Freshness | None = None
    ended: Literal["stream", "stop"] = "stream"
    seconds: float = 0.0
    run: str = ""
