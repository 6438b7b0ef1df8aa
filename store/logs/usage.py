"""What callers used: requests and tokens by API key and day (UTC). No text, no questions.

Counts are held for a moment and appended together, a line per key; a crash loses that moment.
Several processes append to one file, and each reads what the others did when it looks.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from fti.store.answer_types import Usage
from fti.store.files.atomic import dump_sealed, open_line
from fti.store.files.layout import Layout
from fti.store.files.storage import Mark
from fti.store.types import Value, now

_HOLD_S = 1.0
_HOLD_FAR_S = 5.0  # in a bucket each time is an object


class Used(Value):
    """What a key used on a day. An empty ``key``: where none was asked for."""

    key: str
    day: date
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Used) -> Used:
        """Of the same key and day."""
        return self.model_copy(
            update={
                name: getattr(self, name) + getattr(other, name)
                for name in ("requests", "prompt_tokens", "completion_tokens")
            }
        )


class UsageLog:
    """Usage under the store's root. Threads may use it at once."""

    def __init__(self, layout: Layout) -> None:
        self._storage = layout.storage
        self._hold_s = _HOLD_FAR_S if layout.store_url else _HOLD_S
        self._held: dict[tuple[str, date], Used] = {}
        self._read: tuple[str, Mark, dict[str, Used]] | None = None  # today's, as far as read
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        # Writing waits for the disk, and nobody who counts waits for it: what is on its way stands
        # in ``_going``, and the file is not read until it has arrived.
        self._writing = threading.Lock()
        self._going: dict[tuple[str, date], Used] = {}

    def add(self, key: str, usage: Usage | None = None, *, requests: int = 0) -> None:
        """Count for a key; kept within a second, in a bucket within five."""
        tokens = usage or Usage()
        more = Used(
            key=key,
            day=now().date(),
            requests=requests,
            prompt_tokens=tokens.prompt_tokens,
            completion_tokens=tokens.completion_tokens,
        )
        with self._lock:
            before = self._held.get((key, more.day))
            self._held[key, more.day] = before + more if before else more
            if self._timer is None:
                self._timer = threading.Timer(self._hold_s, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Keep what was counted."""
        with self._writing:
            with self._lock:
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                going, self._held = self._held, {}
                self._going = going
            by_day: dict[date, list[str]] = defaultdict(list)
            for used in going.values():
                by_day[used.day].append(dump_sealed(used.model_dump(mode="json")))
            try:
                for day, lines in by_day.items():
                    self._storage.append(_log(day), lines)
            finally:
                with self._lock:
                    self._going = {}

    def today(self, key: str) -> Used:
        """What a key used today, by all processes; reads only what came since the last look."""
        day = now().date()
        with self._lock:
            nothing = Used(key=key, day=day)
            found = self._todays(day).get(key, nothing)
            for counted in (self._going, self._held):
                found += counted.get((key, day), nothing)
            return found

    def list(self, *, days: int = 30, keys: Iterable[str] | None = None) -> Sequence[Used]:
        """Usage of the last so many days (today is one), by day, then key.

        Args:
            days: how far back.
            keys: of these alone; of all without.
        """
        self.flush()
        first = now().date() - timedelta(days=days - 1)
        wanted = None if keys is None else set(keys)
        found: dict[tuple[date, str], Used] = {}
        for key in self._storage.find("usage/????-??-??.jsonl"):
            if key < _log(first):
                continue
            for line in self._storage.lines(key):
                used = _opened(line)
                if used is not None and (wanted is None or used.key in wanted):
                    before = found.get((used.day, used.key))
                    found[used.day, used.key] = before + used if before else used
        return [found[where] for where in sorted(found)]

    def _todays(self, day: date) -> dict[str, Used]:
        key = _log(day)
        mark, known = None, dict[str, Used]()
        if self._read is not None and self._read[0] == key:
            _, mark, known = self._read
        if not self._going:
            new, mark = self._storage.since(key, mark)
            for line in new:
                if (used := _opened(line)) is not None:
                    known[used.key] = known[used.key] + used if used.key in known else used
        self._read = (key, mark, known)
        return known


def _log(day: date) -> str:
    return f"usage/{day.isoformat()}.jsonl"


def _opened(line: bytes) -> Used | None:
    """The counts on a line; None for one that a crash cut."""
    try:
        return Used.model_validate(open_line(line))
    except ValueError:
        return None
