"""Who may change what lies in an object store: one writer among machines.

A lock file says nothing to another machine, so the writer holds a lease: an object
``<folder>/<number>.json`` that only its maker writes, with the time until which it holds. The
highest number counts. The next writer makes the next number by a conditional PUT, which succeeds
for one alone, once the present one was given back or has run out. While it works, a thread extends
it. A process that died stops doing so (on its own machine it is seen at once that it did), and one
that slept too long finds a higher number than its own and commits no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from pydantic import ValidationError

from fti.store.errors import StoreError, StoreLocked
from fti.store.files.atomic import dump_json
from fti.store.files.liveness import is_there, machine
from fti.store.files.places import Place
from fti.store.types import Value, now

#: How long a lease holds that nobody extends; clocks of machines may differ by less than that.
LEASE_S = 60.0
#: Of the lease on the features.
WRITER = "writer"
_POLL_S = 0.25


class Holder(Value):
    """What stands in a lease."""

    what: str
    host: str
    process: int
    until: datetime
    released: bool = False
    machine: str = ""

    @property
    def free(self) -> bool:
        """Whether another may take it over."""
        if self.released or self.until <= now():
            return True
        return bool(self.machine) and self.machine == machine() and not is_there(self.process)


class Lease:
    """The right to write at one place, as a process holds it.

    Args:
        place: where that lies.
        folder: of the leases, in it.
        number: which lease.
        holder: what stands in it.
        lasts_s: how long it holds unextended.
    """

    def __init__(
        self, place: Place, folder: str, number: int, holder: Holder, *, lasts_s: float
    ) -> None:
        self._place = place
        self._folder = folder
        self._number = number
        self._holder = holder
        self._lasts_s = lasts_s
        self._lost = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._extend, name="fti-lease", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Refuse to go on where the lease was lost.

        Raises:
            StoreLocked: it ran out, and another process may write.
        """
        ran_out = "it ran out unextended" if now() >= self._holder.until else ""
        if lost := self._lost or ran_out:
            raise StoreLocked(
                f"This process no longer holds the right to write to {self._place.url!r}: {lost}.",
                hint="What was committed stays; run the same command again.",
            )

    def release(self) -> None:
        """Let the next one write."""
        self._over.set()
        self._thread.join()
        if not self._lost:
            self._write(self._holder.model_copy(update={"released": True}))

    def _extend(self) -> None:
        while not self._over.wait(self._lasts_s / 4):
            try:
                highest = max(_numbers(self._place, self._folder), default=0)
                if highest > self._number:
                    self._lost = "another process took it over"
                    return
                until = now() + timedelta(seconds=self._lasts_s)
                self._write(self._holder.model_copy(update={"until": until}))
            except StoreError:
                continue  # tried again; until it succeeds, the time that is left runs down

    def _write(self, holder: Holder) -> None:
        self._place.write(
            _key(self._folder, self._number), dump_json(holder.model_dump(mode="json"))
        )
        self._holder = holder


@contextlib.contextmanager
def leased(
    place: Place,
    *,
    timeout_s: float,
    what: str,
    folder: str = WRITER,
    lasts_s: float = LEASE_S,
) -> Iterator[Lease]:
    """Hold the right to write while the block runs.

    Args:
        place: where that lies which is to be changed.
        timeout_s: how long to wait for another writer to finish.
        what: what is done, for those who wait.
        folder: which lease, by its folder in the place.
        lasts_s: how long it holds unextended.

    Raises:
        StoreLocked: another process holds it for longer.
        StoreError: the place cannot be reached.
    """
    lease = _acquire(place, folder, timeout_s=timeout_s, what=what, lasts_s=lasts_s)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(place: Place, folder: str, *, timeout_s: float, what: str, lasts_s: float) -> Lease:
    deadline = time.monotonic() + timeout_s
    while True:
        numbers = _numbers(place, folder)
        highest = max(numbers, default=0)
        held = _holder(place, _key(folder, highest)) if highest else None
        if held is None or held.free:
            mine = Holder(
                what=what,
                host=socket.gethostname(),
                process=os.getpid(),
                until=now() + timedelta(seconds=lasts_s),
                machine=machine(),
            )
            if _take(place, folder, highest + 1, mine):
                for number in numbers:
                    place.delete(_key(folder, number))
                return Lease(place, folder, highest + 1, mine, lasts_s=lasts_s)
        elif time.monotonic() >= deadline:
            raise StoreLocked(
                f"Another process is writing to {place.url!r} ({held.what}, process {held.process} "
                f"on {held.host}).",
                hint="Wait for it to finish, then run the command again. What a process left that "
                f"died is free {lasts_s:g} s later.",
            )
        time.sleep(_POLL_S)


def _take(place: Place, folder: str, number: int, holder: Holder) -> bool:
    key, body = _key(folder, number), dump_json(holder.model_dump(mode="json"))
    try:
        place.create(key, body)
    except FileExistsError:
        # Or it is ours: a client that got no answer asked again.
        if place.read_all([key]).get(key) != body:
            return False
    # Numbers below the highest are deleted: one that slept since it looked could make such a one.
    return max(_numbers(place, folder), default=0) == number


def _holder(place: Place, key: str) -> Holder | None:
    """What stands in a lease; None when it is gone, superseded by a higher one."""
    try:
        return Holder.model_validate(json.loads(place.read(key)))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError) as error:
        raise StoreError(
            f"The lease {key!r} at {place.url!r} cannot be read: {error}.",
            hint="Delete it when no process writes there.",
        ) from error


def _numbers(place: Place, folder: str) -> list[int]:
    stems = (PurePosixPath(key).stem for key in place.sizes(folder))
    return [int(stem) for stem in stems if stem.isdigit()]


def _key(folder: str, number: int) -> str:
    return f"{folder}/{number:012d}.json"
