"""Records and logs: the same promises of a folder and of buckets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from fti.store.errors import StoreError, StoreFormatError, StoreLocked
from fti.store.files import bucket, entries
from fti.store.files.atomic import dump_json
from fti.store.files.bucket import BucketStorage
from fti.store.files.entries import Entries
from fti.store.files.holds import Holds
from fti.store.files.lease import Holder
from fti.store.files.places import Place
from fti.store.files.storage import FolderStorage, Storage
from fti.store.types import now
from tests.support.buckets import a_bucket
from tests.support.processes import kill, start_python, wait_for_line

RUN = "runs/r-1/run.json"

#: Opens one more view of the same storage, as another process has.
Opening = Callable[[], Storage]


@pytest.fixture(scope="module", params=["folder", "memory", "s3", "gs"])
def where(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A folder, or the address of a bucket."""
    folder = tmp_path_factory.mktemp("bucket")
    if request.param == "folder":
        yield str(folder)
        return
    with a_bucket(request.param, folder) as url:
        yield url


@pytest.fixture
def opening(where: str, request: pytest.FixtureRequest) -> Opening:
    """Of an empty storage of this test's own."""
    at = f"{where}/{request.node.originalname}"
    if "://" not in at:
        return lambda: FolderStorage(Path(at))
    Place(at).write(bucket.MARKER, dump_json({"format": bucket.FORMAT, "id": "1"}))
    return lambda: BucketStorage(Place(at))


@pytest.fixture
def storage(opening: Opening) -> Storage:
    return opening()


def in_bucket(storage: Storage) -> BucketStorage:
    if not isinstance(storage, BucketStorage):
        pytest.skip("of buckets")
    return storage


def test_a_record_is_read_as_it_was_written_last(opening: Opening) -> None:
    storage, other = opening(), opening()
    for key in ("keys.json", RUN):
        with pytest.raises(FileNotFoundError):
            storage.read(key)
        assert storage.stamp(key) is None
        storage.write(key, b"one")
        first = other.stamp(key)
        assert other.read(key) == b"one"
        other.write(key, b"two\n\xc3\xa9")
        assert storage.read(key) == b"two\n\xc3\xa9"
        assert storage.stamp(key) != first
    storage.delete("keys.json")
    with pytest.raises(FileNotFoundError):
        storage.read("keys.json")


def test_many_writes_of_a_record_leave_few_objects(storage: Storage) -> None:
    found = in_bucket(storage)
    for number in range(20):
        storage.write("keys.json", b"%d" % number)
        storage.write(RUN, b"%d" % number)
    assert storage.read("keys.json") == storage.read(RUN) == b"19"
    assert len(found.place.sizes("keys.json")) <= 2 * bucket._STAY
    assert len(found.place.sizes("runs")) == 1


def test_changes_by_many_at_once_are_all_kept(opening: Opening) -> None:
    opening().change("n.json", lambda found: b"" if found is None else found)

    def add(number: int) -> None:
        storage = opening()
        for _ in range(3):
            with storage.locked("n.lock", timeout_s=60, what="count"):
                storage.change("n.json", lambda found: (found or b"") + b"x")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, range(3)))
    assert opening().read("n.json") == b"x" * 9


def test_changes_without_the_lock_are_kept_in_a_bucket(opening: Opening) -> None:
    """As when a machine slept past its lease."""
    in_bucket(opening())

    def add(number: int) -> None:
        storage = opening()
        for _ in range(4):
            storage.change("n.json", lambda found: (found or b"") + b"%d" % number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert sorted(opening().read("n.json")) == sorted(b"0123" * 4)


@pytest.mark.parametrize("there", [False, True])
def test_who_slept_through_many_changes_changes_the_last(opening: Opening, there: bool) -> None:
    slow, key = in_bucket(opening()), f"{there}.json"
    if there:
        slow.write(key, b"0")
    asked: list[bytes | None] = []

    def edit(found: bytes | None) -> bytes:
        if not asked:  # meanwhile, so many that the number after ours is gone again
            for number in range(1, 2 * bucket._STAY + 5):
                opening().write(key, b"%d" % number)
        asked.append(found)
        return b"late"

    slow.change(key, edit)
    assert asked[0] == (b"0" if there else None)
    assert asked[-1] == b"%d" % (2 * bucket._STAY + 4)
    assert opening().read(key) == b"late"


def test_lines_of_several_come_in_order_and_whole(opening: Opening) -> None:
    storage, other = opening(), opening()
    assert list(storage.lines("answers/feedback.jsonl")) == []
    storage.append("answers/feedback.jsonl", ["1", "2"])
    other.append("answers/feedback.jsonl", ["3"])
    storage.append("answers/feedback.jsonl", [])
    assert list(storage.lines("answers/feedback.jsonl")) == [b"1", b"2", b"3"]


def test_since_gives_what_is_new(opening: Opening) -> None:
    storage, other = opening(), opening()
    found, mark = storage.since("usage/d.jsonl", None)
    assert found == []
    other.append("usage/d.jsonl", ["1", "2"])
    found, mark = storage.since("usage/d.jsonl", mark)
    assert found == [b"1", b"2"]
    other.append("usage/d.jsonl", ["3"])
    found, mark = storage.since("usage/d.jsonl", mark)
    assert found == [b"3"]
    assert storage.since("usage/d.jsonl", mark)[0] == []


def test_find_tells_records_and_logs_by_pattern(storage: Storage) -> None:
    storage.write(RUN, b"{}")
    storage.write("runs/r-1/cases.jsonl", b"{}\n")
    storage.write("runs/r-2/run.json", b"{}")
    storage.write("pipelines/nightly.json", b"{}")
    storage.append("answers/2026-03-01.jsonl", ["{}"])
    storage.append("answers/feedback.jsonl", ["{}"])
    assert storage.find("runs/*/run.json") == [RUN, "runs/r-2/run.json"]
    assert storage.find("runs/r-1/*.jsonl") == ["runs/r-1/cases.jsonl"]
    assert storage.find("answers/????-??-??.jsonl") == ["answers/2026-03-01.jsonl"]
    assert storage.find("pipelines/*.json") == ["pipelines/nightly.json"]
    assert storage.find("nothing/*.json") == []


@pytest.mark.parametrize("alone", [False, True])
def test_dropped_lines_leave_nothing_of_them(opening: Opening, alone: bool) -> None:
    storage, key = opening(), f"answers/{alone}.jsonl"
    storage.append(key, ["keep 1", "secret 1"])
    storage.append(key, ["secret 2"])
    storage.append(key, ["keep 2"])
    assert storage.drop_lines(key, lambda line: b"secret" in line, alone=alone) == 2
    assert list(opening().lines(key)) == [b"keep 1", b"keep 2"]
    assert storage.drop_lines("nothing.jsonl", lambda line: True) == 0
    if isinstance(storage, BucketStorage):
        held = [storage.place.read(key) for key in storage.place.sizes("answers")]
        assert not [data for data in held if b"secret" in data]


def test_a_lock_is_of_one_and_named(opening: Opening) -> None:
    with (
        opening().locked("locks/a.lock", timeout_s=5, what="pipeline a"),
        pytest.raises(StoreLocked, match="pipeline a"),
        opening().locked("locks/a.lock", timeout_s=0, what="other"),
    ):
        pytest.fail("two at once")
    with opening().locked("locks/a.lock", timeout_s=0, what="next"):
        pass


def test_held_until_let_go(opening: Opening) -> None:
    storage, other = opening(), opening()
    assert not other.is_held("runs/r-1/process")
    let_go = storage.hold("runs/r-1/process")
    assert other.is_held("runs/r-1/process")
    assert other.held(["runs/r-1/process", "runs/r-2/process"]) == {"runs/r-1/process"}
    let_go()
    assert not other.is_held("runs/r-1/process")


def test_the_guard_refuses_every_change(where: str, opening: Opening) -> None:
    storage = opening()
    storage.write("a.json", b"1")
    storage.append("a.jsonl", ["1"])

    def refuse() -> None:
        raise StoreFormatError("no")

    storage._guard = refuse  # type: ignore[attr-defined]
    changes: list[Callable[[], object]] = [
        lambda: storage.write("a.json", b"2"),
        lambda: storage.change("a.json", lambda _: b"2"),
        lambda: storage.delete("a.json"),
        lambda: storage.append("a.jsonl", ["2"]),
        lambda: storage.drop_lines("a.jsonl", lambda line: True),
        lambda: storage.locked("a.lock", timeout_s=1, what="x").__enter__(),
    ]
    for change in changes:
        with pytest.raises(StoreFormatError):
            change()
    assert storage.read("a.json") == b"1"
    assert list(storage.lines("a.jsonl")) == [b"1"]


# What only a bucket does


def test_many_small_objects_are_packed_and_read_as_before(opening: Opening) -> None:
    storage = in_bucket(opening())
    for number in range(entries.PACK_AT + 3):
        storage.append("answers/d.jsonl", [str(number)])
        storage.write(f"runs/r-{number}/run.json", str(number).encode())
    assert [*map(int, opening().lines("answers/d.jsonl"))] == list(range(entries.PACK_AT + 3))
    for home in ("answers/d.jsonl", "runs"):
        storage._entries.pack(home, at=2)
        assert len(storage.place.sizes(home)) == 1, home
    other = opening()
    assert [*map(int, other.lines("answers/d.jsonl"))] == list(range(entries.PACK_AT + 3))
    assert len(other.find("runs/*/run.json")) == entries.PACK_AT + 3
    assert other.read("runs/r-7/run.json") == b"7"
    other.write("runs/r-7/run.json", b"seven")  # what is packed is changed by the next number
    assert storage.read("runs/r-7/run.json") == b"seven"
    storage._entries.pack("runs", at=2)
    assert opening().read("runs/r-7/run.json") == b"seven"
    assert len(storage.place.sizes("runs")) == 1


class Killed(BaseException):
    """Instead of ``kill -9``."""


@pytest.mark.parametrize("after", [1, 2, 3, 5, 7])
def test_packing_that_is_killed_anywhere_loses_and_doubles_nothing(
    opening: Opening, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = in_bucket(opening())
    key = f"answers/{after}.jsonl"
    for number in range(3):
        storage.append(key, [str(number)])
        storage.write(f"runs/r-{after}{number}/run.json", b"0")
        storage.write(f"runs/r-{after}{number}/run.json", str(number).encode())
    done = []

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            done.append(1)
            if len(done) > after:
                raise Killed
            return real(*args, **named)

        return call

    for name in ("write", "create", "delete"):
        monkeypatch.setattr(storage.place, name, counted(getattr(storage.place, name)))
    for home in (key, "runs"):
        done.clear()
        with contextlib.suppress(Killed):
            storage._entries.pack(home, at=2)
    monkeypatch.undo()
    for _ in range(2):
        other = opening()
        assert [*map(int, other.lines(key))] == [0, 1, 2]
        for number in range(3):
            assert other.read(f"runs/r-{after}{number}/run.json") == str(number).encode()
        for home in (key, "runs"):
            other._entries.pack(home, at=2)  # type: ignore[attr-defined]


def test_readers_beside_one_who_packs_see_every_line_once(opening: Opening) -> None:
    in_bucket(opening())
    over = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        storage = opening()
        last = 0
        while not over.is_set():
            found = [*map(int, storage.lines("answers/d.jsonl"))]
            if found != list(range(len(found))) or len(found) < last:
                wrong.append(found)
            last = len(found)

    reader = threading.Thread(target=read)
    reader.start()
    storage = opening()
    try:
        for number in range(40):
            storage.append("answers/d.jsonl", [str(number)])
            if number % 5 == 4:
                storage._entries.pack("answers/d.jsonl", at=2)  # type: ignore[attr-defined]
    finally:
        over.set()
        reader.join()
    assert wrong == []
    assert len([*storage.lines("answers/d.jsonl")]) == 40


def test_a_listing_that_may_be_old_shows_what_this_one_wrote(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = in_bucket(opening())
    patient = BucketStorage(storage.place, max_age_s=3600)
    patient.append("answers/d.jsonl", ["1"])
    assert [*patient.lines("answers/d.jsonl")] == [b"1"]
    storage.append("answers/d.jsonl", ["2"])
    assert [*patient.lines("answers/d.jsonl")] == [b"1"]
    patient.append("answers/d.jsonl", ["3"])
    assert [*patient.lines("answers/d.jsonl")] == [b"1", b"2", b"3"]


def test_reading_many_asks_little(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = in_bucket(opening())
    for number in range(10):
        storage.write(f"runs/r-{number}/run.json", b"1")
    other = in_bucket(opening())
    asked: list[str] = []
    for name in ("sizes", "read", "read_all"):
        real = getattr(other.place, name)
        monkeypatch.setattr(
            other.place, name, lambda key, real=real, name=name: asked.append(name) or real(key)
        )
    with other.still():
        for key in other.find("runs/*/run.json"):
            other.read(key)
    assert sorted(asked) == ["read", "read_all", "sizes"], "the marker, the records, the listing"


def test_an_entry_is_kept_where_packing_fails(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = in_bucket(opening())

    def fails(home: str, **named: object) -> bool:
        raise StoreError("The place cannot be used.")

    monkeypatch.setattr(storage._entries, "pack", fails)
    storage.append("answers/d.jsonl", ["1"])
    assert [*opening().lines("answers/d.jsonl")] == [b"1"]


def test_who_lost_the_lease_while_packing_leaves_nothing(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one erases a line meanwhile: it does not come back."""
    slow, key = in_bucket(opening()), "answers/d.jsonl"
    slow.append(key, ["secret"])
    slow.append(key, ["kept"])
    real, slept = slow.place.write, []

    def sleep(at: str, data: bytes) -> None:
        if not slept:
            slept.append(at)
            assert opening().drop_lines(key, lambda line: line == b"secret") == 1
        real(at, data)

    def require() -> None:
        if slept:
            raise StoreLocked("It ran out.")

    def alone(home: str, **_: object) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return contextlib.nullcontext(require)

    monkeypatch.setattr(slow.place, "write", sleep)
    monkeypatch.setattr(slow._entries, "_alone", alone)
    assert not slow._entries.pack(key, at=2)
    assert slept
    assert [*opening().lines(key)] == [b"kept"]


def test_what_is_loaded_takes_the_place_of_all(opening: Opening) -> None:
    storage = in_bucket(opening())
    storage.append("answers/old.jsonl", ["1"])
    storage.write("keys.json", b"1")
    storage.write("runs/r-0/run.json", b"1")
    files = {RUN: b"{}", "answers/d.jsonl": b"1\n2\n", "pipelines/a.json": b"\xff"}
    storage.load(files.items())
    assert dict(opening().all()) == files  # type: ignore[attr-defined]
    assert [*opening().lines("answers/d.jsonl")] == [b"1", b"2"]


HOLDER = """
import sys
from fti.store.files.bucket import BucketStorage
from fti.store.files.places import Place

storage = BucketStorage(Place(sys.argv[1]))
storage.hold("runs/r-1/process")
with storage.locked("keys.lock", timeout_s=5, what="keys create"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.heavy
def test_what_a_killed_process_held_is_free_on_its_machine(opening: Opening) -> None:
    storage = in_bucket(opening())
    if storage.place.url.startswith("memory"):
        pytest.skip("of one process")
    process = start_python(HOLDER, storage.place.url, stdin=True)
    try:
        assert wait_for_line(process) == "held"
        assert storage.is_held("runs/r-1/process")
        with (
            pytest.raises(StoreLocked),
            storage.locked("keys.lock", timeout_s=0, what="other"),
        ):
            pass
    finally:
        kill(process)
    assert not storage.is_held("runs/r-1/process")
    with storage.locked("keys.lock", timeout_s=0, what="next"):
        pass


def test_what_another_machine_holds_is_held_until_it_runs_out(opening: Opening) -> None:
    storage = in_bucket(opening())

    def left_behind(until: timedelta) -> None:
        holder = Holder(
            what="x", host="other", process=7, until=now() + until, machine="another boot"
        )
        storage.place.write("holds/runs/r-1/process.json", holder.model_dump_json().encode())

    left_behind(timedelta(seconds=30))
    assert storage.is_held("runs/r-1/process")
    left_behind(-timedelta(seconds=1))
    assert not storage.is_held("runs/r-1/process")
    left_behind(-timedelta(days=2))
    assert not storage.is_held("runs/r-1/process")
    assert storage.place.sizes("holds") == {}, "nobody needs it any more"


def test_a_hold_is_extended_while_its_process_lives(where: str) -> None:
    if "://" not in where:
        pytest.skip("of buckets")
    place = Place(f"{where}/extended")
    holds = Holds(place, lasts_s=0.4)
    let_go = holds.hold("a")
    first = place.read("holds/a.json")
    deadline = now() + timedelta(seconds=30)
    while place.read("holds/a.json") == first:
        assert now() < deadline, "never extended"
    assert holds.is_held("a")
    let_go()
    assert place.sizes("holds") == {}


def test_no_store_and_a_newer_one_are_named(where: str) -> None:
    if "://" not in where:
        pytest.skip("of buckets")
    with pytest.raises(StoreError, match=r"No store lies at .*nowhere"):
        BucketStorage(Place(f"{where}/nowhere")).read("keys.json")
    Place(f"{where}/newer").write(bucket.MARKER, dump_json({"format": 99, "id": "1"}))
    with pytest.raises(StoreFormatError, match="format 99"):
        BucketStorage(Place(f"{where}/newer")).append("a.jsonl", ["1"])
    Place(f"{where}/odd").write(bucket.MARKER, b"{}")
    with pytest.raises(StoreError, match="cannot be read"):
        BucketStorage(Place(f"{where}/odd")).find("runs/*/run.json")


def test_entries_that_one_writes_while_another_looks_are_found(where: str) -> None:
    """An object that was listed, and packed before it was read, is looked for in the pack."""
    if "://" not in where:
        pytest.skip("of buckets")
    place = Place(f"{where}/looks")
    writer, reader = Entries(place), Entries(place)
    writer.add("a", "1", b"one")
    writer.add("a", "2", b"two")
    listed = reader._place.sizes("a")
    reader._listed["a"] = (float("inf"), listed)
    reader._max_age_s = 1.0
    writer.pack("a", at=2)
    assert reader.all("a") == {"1": b"one", "2": b"two"}
