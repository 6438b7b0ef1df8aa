"""The records and logs of a store that lies in a bucket; see ``storage.py`` for what they are.

A record is the highest number under its key: a new one is the next number, made by a conditional
PUT (``If-None-Match: *``), which succeeds for one of those who try at once. So each of several
machines that change a record changes what the one before left, whatever became of its lock. That
condition is all that is asked of an object store: S3, Google's and MinIO know it.

A log is what was added to it, each time as an object of its own, in the order of their times.
Records of runs, and logs, are packed into larger objects now and then (``entries.py``).
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from fti.store.errors import StoreError, StoreFormatError
from fti.store.files.entries import LOCK_S, PACKS, Entries
from fti.store.files.holds import Holds
from fti.store.files.lease import leased
from fti.store.files.places import Place
from fti.store.files.storage import Mark
from fti.store.types import now

#: Says that a whole store lies in a bucket: it is written last.
MARKER = "format.json"
#: Of stores in a bucket.
FORMAT = 2
#: Homes whose records are packed together; other records are few, and have a home of their own.
_PACKED = ("runs",)
_KEY = re.compile(r".+?\.jsonl?(?=/)")
#: Numbers of a record that stay, at least. Whoever made the next of one that is gone came too late.
_STAY = 8
_TRIES = 20
_CHUNK = 1 << 20  # bytes of a log that is put here, in one entry


class BucketStorage:
    """Records and logs in one bucket; see ``Storage``.

    Args:
        place: where the store lies.
        max_age_s: how old, in seconds, what is read may be. What this process wrote it sees.
        guard: called before each change; what it raises keeps all as it is.
    """

    def __init__(
        self, place: Place, *, max_age_s: float = 0.0, guard: Callable[[], None] = lambda: None
    ) -> None:
        self.place = place
        self._guard = guard
        self._entries_of_place = Entries(place, max_age_s=max_age_s)
        self._holds = Holds(place)
        self._opened = False
        self._lock = threading.Lock()

    @property
    def _entries(self) -> Entries:
        """The entries, once it is known that a store of a format that we read lies there."""
        if not self._opened:
            with self._lock:
                require_store(self.place)
                self._opened = True
        return self._entries_of_place

    def at(self, key: str) -> str:
        """Its address."""
        return f"{self.place.url}/{key}"

    def still(self) -> contextlib.AbstractContextManager[None]:
        """Read as of one moment."""
        return self._entries.still()

    def find(self, pattern: str) -> list[str]:
        """Keys that a pattern fits."""
        home, _, _ = pattern.partition("/")
        if home in _PACKED:
            names = [f"{home}/{name}" for name in self._entries.names(home)]
        else:
            names = self._entries.listed(home)
        found = {match[0] for name in names if (match := _KEY.match(name))}
        return sorted(key for key in found if _fits(key, pattern))

    def read(self, key: str) -> bytes:
        """The bytes of the highest number."""
        number, data = self._newest(key)
        if not number:
            raise FileNotFoundError(self.at(key))
        return data

    def stamp(self, key: str) -> Hashable | None:
        """The highest number."""
        home, within = _home(key)
        return max(_numbers(self._entries.names(home), within), default=None)

    def write(self, key: str, data: bytes) -> None:
        """Make the next number, whatever the present one says."""
        home, within = _home(key)
        if home == key:
            self.change(key, lambda _: data)
            return
        self._guard()
        for _ in range(_TRIES):
            self._entries.forget(home)
            number = max(_numbers(self._entries.names(home), within), default=0) + 1
            try:
                self._entries.create(home, f"{within}{number:012d}", data)
            except FileExistsError:
                continue
            self._let_go(key)
            return
        raise self._contended(key)

    def change(self, key: str, edit: Callable[[bytes | None], bytes]) -> None:
        """Make the next number of what the present one says."""
        self._guard()
        home, within = _home(key)
        assert home == key, "records that are packed are written by one process"
        for _ in range(_TRIES):
            number, data = self._newest(key, fresh=True)
            edited = edit(data if number else None)
            name = f"{number + 1:012d}"
            try:
                self._entries.create(home, name, edited)
            except FileExistsError:
                continue
            # The one before ours is there, unless so many came since we read it that ours was made
            # and removed by others before.
            there = _numbers(self._entries.names(home), within)
            if (number and number not in there) or (not number and max(there) > _STAY):
                self._entries.discard(home, [name])
                continue
            self._let_go(key)
            return
        raise self._contended(key)

    def delete(self, key: str) -> None:
        """Remove a record or a log."""
        self._guard()
        _, within = _home(key)
        assert not within, "records that are packed stay"
        self._entries.clear(key)

    def append(self, key: str, lines: Sequence[str]) -> None:
        """Add lines to a log, all or none."""
        if not lines:
            return
        self._guard()
        assert not any("\n" in line for line in lines), "a line has no line end inside"
        data = "".join(line + "\n" for line in lines).encode("utf-8")
        self._entries.add(key, f"{now():%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}", data)
        self._entries.added(key)

    def lines(self, key: str) -> Iterator[bytes]:
        """The lines of a log."""
        for _, data in sorted(self._entries.all(key).items()):
            yield from _lines(data)

    def since(self, key: str, mark: Mark | None) -> tuple[list[bytes], Mark]:
        """What was added; the mark is which entries were read."""
        seen = mark if isinstance(mark, frozenset) else frozenset()
        there = set(self._entries.names(key))
        new = self._entries.get(key, there - seen) if there - seen else {}
        found = [line for _, data in sorted(new.items()) for line in _lines(data)]
        return found, frozenset(there)

    def drop_lines(
        self, key: str, unwanted: Callable[[bytes], bool], *, alone: bool = False
    ) -> int:
        """Write the entries anew without these lines."""
        found = sum(unwanted(line) for line in self.lines(key))
        if found:
            self._guard()
            self._entries.edit(
                key,
                lambda _, data: b"".join(
                    line + b"\n" for line in _lines(data) if not unwanted(line)
                ),
            )
        return found

    @contextlib.contextmanager
    def locked(self, key: str, *, timeout_s: float, what: str) -> Iterator[None]:
        """Hold a lease."""
        _ = self._entries
        with leased(
            self.place, folder=f"locks/{key}", timeout_s=timeout_s, what=what, lasts_s=LOCK_S
        ):
            self._guard()
            yield

    def hold(self, key: str) -> Callable[[], None]:
        """Extend an object until it is let go of."""
        self._guard()
        return self._holds.hold(key)

    def is_held(self, key: str) -> bool:
        """Whether a process extends it."""
        return self._holds.is_held(key)

    def held(self, keys: Iterable[str]) -> set[str]:
        """Those that processes extend."""
        return {key for key in self._holds.all() & set(keys) if self.is_held(key)}

    def listed(self, prefix: str) -> list[str]:
        """The objects under a prefix."""
        return self._entries.listed(prefix)

    def forget(self, prefix: str) -> None:
        """List a prefix anew the next time: something was put there or removed."""
        self._entries.forget(prefix)

    # Moving in and out

    def unopened(self) -> BucketStorage:
        """Itself, asking for no store: where one is being made."""
        self._opened = True
        return self

    def load(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Put records and logs in place of all that are there.

        Unlike all else here, it asks for no store: it is how one is made.
        """
        entries = self._entries_of_place
        packed: dict[str, dict[str, bytes]] = {home: {} for home in _PACKED}
        before = _homes(self.place.sizes(""))
        for key, data in files:
            home, within = _home(key)
            before.discard(home)
            if home in packed:
                packed[home][f"{within}{1:012d}"] = data
                continue
            entries.clear(home)
            if key.endswith(".jsonl"):
                parts = enumerate(_cut(data))
                entries.load(home, {f"00000000-{n:06d}": part for n, part in parts})
            else:
                entries.create(home, f"{1:012d}", data)
        for home, found in packed.items():
            entries.clear(home)
            entries.load(home, found)
        for home in before - packed.keys():
            entries.clear(home)

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Every record and log, as the files that they are in a folder."""
        with self.still():
            for home in sorted(_homes(self._entries.listed(""))):
                entries = self._entries.all(home)
                if home in _PACKED:
                    newest: dict[str, bytes] = {}
                    for name, data in sorted(entries.items()):
                        newest[name.rpartition("/")[0]] = data
                    yield from ((f"{home}/{name}", data) for name, data in newest.items())
                elif home.endswith(".jsonl"):
                    yield home, b"".join(data for _, data in sorted(entries.items()))
                elif entries:
                    yield home, entries[max(entries)]

    # Inside

    def _newest(self, key: str, *, fresh: bool = False) -> tuple[int, bytes]:
        """The highest number of a record and what it says; 0 where there is none."""
        home, within = _home(key)
        for attempt in range(_TRIES):
            if fresh or attempt:
                self._entries.forget(home)
            names = _numbers(self._entries.names(home), within)
            if not names:
                return 0, b""
            name = f"{within}{max(names):012d}"
            found = self._entries.get(home, [name])
            if name in found:  # else it was removed since, for there are higher ones
                return max(names), found[name]
        raise self._contended(key)

    def _let_go(self, key: str) -> None:
        """Remove numbers that are no longer needed; a crash before leaves them for the next."""
        home, within = _home(key)
        loose = sorted(_numbers(self._entries.loose(home), within))
        stay, most = (1, 1) if home in _PACKED else (_STAY, 2 * _STAY)
        old = loose[:-stay] if len(loose) > most else []
        if old:
            self._entries.discard(home, [f"{within}{number:012d}" for number in old])
        if home in _PACKED:
            self._entries.added(home)

    def _contended(self, key: str) -> StoreError:
        return StoreError(
            f"{self.at(key)!r} was changed by others whenever it was to be changed.",
            hint="Run it again.",
        )


def require_store(place: Place) -> Mapping[str, object]:
    """The marker of the store at a place.

    Raises:
        StoreError: no store lies there.
        StoreFormatError: it is of a newer fti.
    """
    found = marker(place)
    if found is None:
        raise StoreError(
            f"No store lies at {place.url!r}.",
            hint="Is the address right? A store is put there with: fti store place URL",
        )
    if not isinstance(found["format"], int) or found["format"] > FORMAT:
        raise StoreFormatError(
            f"The store at {place.url!r} has format {found['format']}; this fti reads up to "
            f"{FORMAT}.",
            hint="Upgrade with: pip install --upgrade fti-llm",
        )
    return found


def marker(place: Place) -> Mapping[str, object] | None:
    """What says that a whole store lies at a place; None where none does.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        found = json.loads(place.read(MARKER))
        return {"format": found["format"], "id": found["id"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"The marker {MARKER!r} at {place.url!r} cannot be read: {error}.",
            hint="Is the address right?",
        ) from error


def _home(key: str) -> tuple[str, str]:
    """Under which prefix a record or log lies, and how its entries begin there."""
    home, _, rest = key.partition("/")
    return (home, f"{rest}/") if home in _PACKED else (key, "")


def _homes(keys: Iterable[str]) -> set[str]:
    """The homes that keys of a bucket lie in."""
    found = set()
    for key in keys:
        first = key.partition("/")[0]
        if first in _PACKED:
            found.add(first)
        elif first not in ("locks", "holds", "writer", "files") and ".lance/" not in key:
            match = _KEY.match(key)
            # What ends behind the key is a version's file: one that never changes.
            if match and (PACKS in key or re.fullmatch(r"/[0-9T-]+[0-9a-f-]*", key[match.end() :])):
                found.add(match[0])
    return found


def _numbers(names: Iterable[str], within: str) -> set[int]:
    begin = len(within)
    return {int(n[begin:]) for n in names if n.startswith(within) and n[begin:].isdigit()}


def _fits(key: str, pattern: str) -> bool:
    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _lines(data: bytes) -> Iterator[bytes]:
    for line in data.split(b"\n"):
        if stripped := line.strip():
            yield stripped


def _cut(data: bytes) -> Iterator[bytes]:
    """Pieces of whole lines."""
    while data:
        end = data.find(b"\n", _CHUNK) + 1 or len(data)
        yield data[:end]
        data = data[end:]
