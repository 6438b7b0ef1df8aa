"""Moments from elsewhere: those that the calendar does not hold are none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fti.store.moments import from_epoch_ms, in_utc, read_moment

BEYOND = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-04-01", datetime(2026, 4, 1, tzinfo=UTC)),
        ("2026-04-01T12:00+02:00", datetime(2026, 4, 1, 10, tzinfo=UTC)),
        ("0001-01-01", datetime.min.replace(tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
        ("9999-12-31T23:00:00+01:00", datetime(9999, 12, 31, 22, tzinfo=UTC)),
        ("", None),
        ("yesterday", None),
        ("2026-13-01", None),
        ("\ud800", None),
        *((text, None) for text in BEYOND),
    ],
)
def test_a_text_is_a_moment_in_utc_or_none(text: str, moment: datetime | None) -> None:
    assert read_moment(text) == moment


@pytest.mark.parametrize("text", BEYOND)
def test_a_moment_beyond_the_calendar_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="before the year 1 or after the year 9999 in UTC"):
        in_utc(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("milliseconds", "moment"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_772_366_400_000, datetime(2026, 3, 1, 12, tzinfo=UTC)),
        (2**64 - 1, None),
        (10**400, None),
    ],
)
def test_milliseconds_are_a_moment_or_none(milliseconds: int, moment: datetime | None) -> None:
    assert from_epoch_ms(milliseconds) == moment
