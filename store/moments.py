"""Moments as others write them, in UTC.

Years end at 1 and 9999, and a time zone can lead beyond: ``0001-01-01T00:00+14:00`` is well written
and no moment that can be held, compared or shown. Whoever takes a moment from a document, a record
or a request takes it through here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

#: As far back or ahead as anything looks: an age or a wait beyond is a slip, and a sum with it
#: would leave the calendar.
LONGEST = timedelta(days=36_500)


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC; one without a time zone is taken as UTC.

    Raises:
        ValueError: it lies before the year 1 or after the year 9999 there.
    """
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is before the year 1 or after the year 9999 in UTC") from error


def read_moment(text: str) -> datetime | None:
    """The moment in UTC that a text in ISO 8601 writes (a day begins it); None for none."""
    try:
        return in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def from_epoch_ms(milliseconds: int) -> datetime | None:
    """The moment so long after 1970 in UTC; None where the calendar has none."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
