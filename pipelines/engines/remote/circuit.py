"""When to stop asking a server that keeps failing: a circuit breaker (Nygard, *Release It!*, 2007).

Closed, every request goes through. After so many failures in a row it opens: requests are refused
at once, so that nobody waits for what will fail, and the server is left alone to recover. After a
while one request probes it; its success closes the circuit, its failure opens it anew.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from fti.store.errors import ServerUnavailable

State = Literal["closed", "open", "probing"]


class Attempt:
    """One request's verdict on the server; none counts neither way (a cancel)."""

    def __init__(self) -> None:
        self.works: bool | None = None


class Circuit:
    """Shared by all who ask one server; may be used from several threads.

    Args:
        name: of the server, for messages.
        failures: so many in a row open it.
        open_s: seconds until a probe.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        open_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._failures = failures
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """``open`` refuses; ``probing`` waits for one request's verdict."""
        with self._lock:
            if self._opened is None:
                return "closed"
            return "probing" if self._probing else "open"

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Ask the server inside the block, and say there whether it works.

        Raises:
            ServerUnavailable: the circuit is open, or its one probe is under way.
        """
        probe = self._enter()
        attempt = Attempt()
        try:
            yield attempt
        finally:
            self._leave(attempt.works, probe=probe)

    def _enter(self) -> bool:
        with self._lock:
            if self._opened is None:
                return False
            left = self._opened + self._open_s - self._clock()
            if left <= 0 and not self._probing:
                self._probing = True
                return True
            wait = max(1, math.ceil(left))
        raise ServerUnavailable(
            f"The server at {self._name!r} failed {self._failures} times in a row and is left "
            "alone to recover.",
            hint=f"It is tried again in {wait} s. If it is gone for good, correct its base_url.",
            retry_after_s=wait,
        )

    def _leave(self, works: bool | None, *, probe: bool) -> None:
        with self._lock:
            if probe:
                self._probing = False
            if works:
                self._in_a_row = 0
                self._opened = None
            elif works is False:
                self._in_a_row += 1
                # Requests that were under way when it opened must not keep it open for longer.
                if probe or (self._opened is None and self._in_a_row >= self._failures):
                    self._opened = self._clock()
