"""The circuit breaker by itself, on a clock that the test turns."""

from __future__ import annotations

from contextlib import suppress

import pytest

from fti.pipelines.engines.remote.circuit import Circuit
from fti.store.errors import ServerUnavailable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit("http://there", failures=3, open_s=10, clock=clock)


def ask(circuit: Circuit, works: bool | None) -> None:
    with circuit.attempt() as attempt:
        attempt.works = works


def test_it_opens_after_failures_in_a_row_and_not_before(circuit: Circuit, clock: Clock) -> None:
    for works in (False, False, True, False, False):
        ask(circuit, works)
    assert circuit.state == "closed"
    ask(circuit, False)
    assert circuit.state == "open"
    clock.now = 6.5
    with pytest.raises(ServerUnavailable, match="3 times in a row") as caught:
        ask(circuit, True)
    assert caught.value.retry_after_s == 4
    assert "in 4 s" in caught.value.hint


def test_one_probe_is_let_through_and_decides(circuit: Circuit, clock: Clock) -> None:
    for _ in range(3):
        ask(circuit, False)
    clock.now = 10
    with circuit.attempt() as probe:
        assert circuit.state == "probing"
        with pytest.raises(ServerUnavailable):
            ask(circuit, True)
        probe.works = False
    assert circuit.state == "open"
    clock.now = 19.9
    with pytest.raises(ServerUnavailable):
        ask(circuit, True)
    clock.now = 20
    ask(circuit, True)
    assert circuit.state == "closed"
    ask(circuit, False)
    assert circuit.state == "closed", "it counts from the beginning again"


def test_a_probe_that_says_nothing_leaves_room_for_the_next(circuit: Circuit, clock: Clock) -> None:
    for _ in range(3):
        ask(circuit, False)
    clock.now = 10
    ask(circuit, None)  # its client went away
    with suppress(ZeroDivisionError), circuit.attempt():
        raise ZeroDivisionError  # a defect of ours is no verdict either
    assert circuit.state == "open"
    ask(circuit, True)
    assert circuit.state == "closed"


def test_those_under_way_when_it_opened_do_not_keep_it_open(circuit: Circuit, clock: Clock) -> None:
    with circuit.attempt() as slow:
        for _ in range(3):
            ask(circuit, False)
        clock.now = 9
        slow.works = False
    clock.now = 10
    ask(circuit, True)
    assert circuit.state == "closed"
