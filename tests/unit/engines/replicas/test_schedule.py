"""The simulation of replicas that the documentation's figures come from."""

from __future__ import annotations

import pytest

from tests.bench.ray_schedule import Batch, drawn, schedule

TEN = [Batch(4.0, answers=8)] * 10


def test_one_replica_does_one_batch_after_the_other() -> None:
    made = schedule(TEN, 1, start=5.0, driver=0.5)
    assert made.seconds == pytest.approx(5 + 10 * 4 + 0.5)
    assert made.replicas_busy == pytest.approx(40 / 45.5)
    assert made.holds_up == "the replicas"


def test_replicas_work_side_by_side_and_none_is_started_for_nothing() -> None:
    assert schedule(TEN, 5, start=0.0, driver=0.0).seconds == pytest.approx(8.0)
    few = schedule(TEN[:3], 64, start=0.0, driver=0.0)
    assert few.seconds == pytest.approx(4.0)
    assert few.replicas_busy == pytest.approx(1.0)


def test_what_is_full_is_named() -> None:
    driver = schedule(TEN, 10, start=0.0, driver=4.0)
    assert driver.seconds == pytest.approx(4 + 10 * 4)
    assert driver.holds_up == "the process that asks"
    server = schedule(TEN, 10, start=0.0, driver=0.0, server_per_s=2.0)
    assert server.seconds == pytest.approx(4 + 10 * 8 / 2)
    assert server.holds_up == "the server"
    start = schedule(TEN, 10, start=16.0, driver=0.0)
    assert start.holds_up == "starting replicas"
    tail = schedule([*TEN, Batch(40.0)], 10, start=0.0, driver=0.0)
    assert tail.holds_up == "the last batches"


def test_batches_are_drawn_from_what_was_measured_the_same_each_time() -> None:
    made = drawn([1.0, 2.0], 10, 4, seed=1)
    assert made == drawn([1.0, 2.0], 10, 4, seed=1)
    assert [4 <= s <= 8 for s in made] == [True, True, False]
    assert 2 <= made[2] <= 4
