"""Who is at work, told to other machines: an object that its process extends while it lives."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta

from pydantic import ValidationError

from fti.store.errors import StoreError
from fti.store.files.atomic import dump_json
from fti.store.files.lease import LEASE_S, Holder
from fti.store.files.liveness import machine
from fti.store.files.places import Place
from fti.store.types import now

_FOLDER = "holds"
_LEFT_BEHIND = timedelta(days=1)  # what a process left that died; whoever sees it removes it


class Holds:
    """What processes are at, in one bucket. A thread extends what this one holds.

    Args:
        place: the bucket.
        lasts_s: how long after a process died another machine takes it for alive. On its own
            machine it is seen at once.
    """

    def __init__(self, place: Place, *, lasts_s: float = LEASE_S) -> None:
        self._place = place
        self._lasts_s = lasts_s
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._over: threading.Event | None = None  # of the thread that goes on

    def hold(self, key: str) -> Callable[[], None]:
        """Say that this process is at ``key``, until what is returned is called."""
        self._note(key)
        with self._lock:
            self._held.add(key)
            if self._over is None:
                self._over = threading.Event()
                extend = threading.Thread(
                    target=self._extend, args=[self._over], name="fti-holds", daemon=True
                )
                extend.start()
        return lambda: self._let_go(key)

    def is_held(self, key: str) -> bool:
        """Whether a process is at ``key``, or was ``lasts_s`` ago."""
        try:
            holder = Holder.model_validate(json.loads(self._place.read(_at(key))))
            if holder.until < now() - _LEFT_BEHIND:
                self._place.delete(_at(key))
            return not holder.free
        except FileNotFoundError:
            return False
        except (ValueError, ValidationError):  # nobody whom this fti knows
            return False

    def all(self) -> set[str]:
        """The keys that may be held; the others are not."""
        begin = len(_FOLDER) + 1
        return {key[begin:].removesuffix(".json") for key in self._place.sizes(_FOLDER)}

    def _note(self, key: str) -> None:
        holder = Holder(
            what=key,
            host=socket.gethostname(),
            process=os.getpid(),
            until=now() + timedelta(seconds=self._lasts_s),
            machine=machine(),
        )
        self._place.write(_at(key), dump_json(holder.model_dump(mode="json")))

    def _let_go(self, key: str) -> None:
        with self._lock:
            self._held.discard(key)
            if not self._held and self._over is not None:
                self._over.set()
                self._over = None
            with contextlib.suppress(StoreError):  # then it runs out
                self._place.delete(_at(key))

    def _extend(self, over: threading.Event) -> None:
        while not over.wait(self._lasts_s / 4):
            with self._lock:
                for key in sorted(self._held):
                    try:
                        self._note(key)
                    except StoreError:
                        continue  # tried again; until it succeeds, the time that is left runs down


def _at(key: str) -> str:
    return f"{_FOLDER}/{key}.json"
