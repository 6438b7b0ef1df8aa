"""The right to write to an object store: one at a time, given back, taken over, noticed when lost.

fsspec's memory is the place here; ``tests/e2e/test_object_storage.py`` has a real server.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fti.store.errors import StoreError, StoreLocked
from fti.store.files import lease as leases
from fti.store.files.lease import Holder, leased
from fti.store.files.places import Place
from fti.store.types import now


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(f"memory://{tmp_path.name}/features")
    yield found
    found._files.rm("/", recursive=True)


def left_behind(place: Place, *, until_s: float) -> None:
    """What a process leaves that died while it wrote."""
    holder = Holder(
        what="ingest", host="other", process=7, until=now() + timedelta(seconds=until_s)
    )
    place.write(leases._key(leases.WRITER, 4), holder.model_dump_json().encode())


def test_a_second_writer_waits_and_learns_who_writes(place: Place) -> None:
    with (
        leased(place, timeout_s=0, what="ingest"),
        pytest.raises(StoreLocked, match="ingest, process") as refused,
        leased(place, timeout_s=0, what="delete"),
    ):
        pass
    assert "60 s" in str(refused.value.hint)
    with leased(place, timeout_s=0, what="delete"):
        assert len(leases._numbers(place, leases.WRITER)) == 1, (
            "those that were given back are removed"
        )


def test_of_many_at_once_one_has_it(place: Place) -> None:
    inside, most = [], []

    def write() -> None:
        with leased(place, timeout_s=60, what="ingest"):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_what_a_dead_writer_left_is_taken_over_when_it_runs_out(place: Place) -> None:
    left_behind(place, until_s=60)
    with (
        pytest.raises(StoreLocked, match="process 7 on other"),
        leased(place, timeout_s=0, what="ingest"),
    ):
        pass
    left_behind(place, until_s=-1)
    with leased(place, timeout_s=0, what="ingest") as lease:
        lease.require()
        assert leases._numbers(place, leases.WRITER) == [5]


def test_who_slept_past_the_end_of_its_lease_writes_no_more(place: Place) -> None:
    with leased(place, timeout_s=0, what="ingest", lasts_s=0.2) as slow:
        slow._over.set()  # it does not come to extending it
        slow._thread.join()
        while now() < slow._holder.until:
            pass
        with pytest.raises(StoreLocked, match=r"no longer holds the right .* ran out"):
            slow.require()
        with leased(place, timeout_s=10, what="delete") as other:
            other.require()
            with pytest.raises(StoreLocked, match="ran out"):
                slow.require()


def test_who_finds_another_in_its_place_writes_no_more(place: Place) -> None:
    with leased(place, timeout_s=0, what="ingest", lasts_s=0.2) as slow:
        place.write(leases._key(leases.WRITER, 2), b"{}")
        while slow._thread.is_alive():
            pass
        with pytest.raises(StoreLocked, match="another process took it over"):
            slow.require()
    assert leases._numbers(place, leases.WRITER) == [1, 2], "and gives nothing back"


def test_a_working_writer_keeps_its_lease(place: Place) -> None:
    with leased(place, timeout_s=0, what="ingest", lasts_s=0.4):
        first = leases._holder(place, leases._key(leases.WRITER, 1))
        assert first is not None
        while (
            later := leases._holder(place, leases._key(leases.WRITER, 1))
        ) is None or later.until == first.until:
            pass


def test_a_number_that_came_late_gives_no_right(place: Place) -> None:
    left_behind(place, until_s=60)
    late = Holder(what="ingest", host="here", process=1, until=now() + timedelta(seconds=60))
    assert not leases._take(place, leases.WRITER, 3, late)


def test_an_unreadable_lease_is_named(place: Place) -> None:
    place.write(leases._key(leases.WRITER, 1), b"{}")
    with (
        pytest.raises(StoreError, match=r"writer/0+1\.json.* cannot be read"),
        leased(place, timeout_s=0, what="ingest"),
    ):
        pass
