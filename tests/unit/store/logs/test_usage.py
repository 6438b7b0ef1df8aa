"""What keys used: counted in this process and in others, by day, through a crash."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fti.store.answer_types import Usage
from fti.store.files.layout import Layout
from fti.store.logs import usage
from fti.store.logs.usage import UsageLog
from fti.store.types import now

pytestmark = pytest.mark.usefixtures("anywhere")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "store")


def test_requests_and_tokens_add_up_by_key(layout: Layout) -> None:
    log = UsageLog(layout)
    for _ in range(3):
        log.add("k-1", requests=1)
    log.add("k-1", Usage(prompt_tokens=10, completion_tokens=2))
    log.add("k-2", Usage(prompt_tokens=5), requests=1)
    used = log.today("k-1")
    assert (used.requests, used.prompt_tokens, used.completion_tokens, used.tokens) == (
        3,
        10,
        2,
        12,
    )
    assert log.today("k-3").tokens == 0
    assert [(u.key, u.requests, u.tokens) for u in log.list()] == [("k-1", 3, 12), ("k-2", 1, 5)]
    assert [u.key for u in log.list(keys=["k-2"])] == ["k-2"]


def test_other_processes_count_too(layout: Layout) -> None:
    one, two = UsageLog(layout), UsageLog(layout)
    one.add("k", Usage(prompt_tokens=1))
    assert two.today("k").tokens == 0  # held by the other for a moment
    one.flush()
    assert two.today("k").tokens == 1
    two.add("k", Usage(prompt_tokens=2))
    two.flush()
    one.add("k", Usage(prompt_tokens=4))
    assert (one.today("k").tokens, two.today("k").tokens) == (7, 3)
    one.flush()
    assert (one.today("k").tokens, two.today("k").tokens) == (7, 7)
    assert UsageLog(layout).today("k").tokens == 7


def test_what_is_held_is_kept_soon(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_HOLD_S", 0.01)
    monkeypatch.setattr(usage, "_HOLD_FAR_S", 0.01)
    log = UsageLog(layout)
    log.add("k", requests=1)
    timer = log._timer
    assert timer is not None
    timer.join(30)
    assert UsageLog(layout).today("k").requests == 1


@pytest.mark.in_a_folder("its files")
def test_a_line_that_a_crash_cut_hides_no_other(layout: Layout) -> None:
    log = UsageLog(layout)
    log.add("k", requests=1)
    log.flush()
    path = next(layout.usage.iterdir())
    with path.open("ab") as handle:
        handle.write(b'{"key": "k", "day"')
    log.add("k", requests=1)
    log.flush()
    assert log.today("k").requests == 2
    assert UsageLog(layout).list()[0].requests == 2


def test_days_are_apart(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    log = UsageLog(layout)
    yesterday = now() - timedelta(days=1)
    monkeypatch.setattr(usage, "now", lambda: yesterday)
    log.add("k", requests=5)
    log.flush()
    monkeypatch.setattr(usage, "now", lambda: datetime.now(UTC))
    log.add("k", requests=1)
    assert log.today("k").requests == 1
    assert [u.requests for u in log.list(days=2)] == [5, 1]
    assert [u.requests for u in log.list(days=1)] == [1]
