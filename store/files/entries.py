"""Small objects of a bucket that never change, and the larger ones that they are packed into.

An object store has neither appending nor renaming, and a request costs the same for a line as for a
megabyte. So what is added is an object of its own, an *entry*, and entries of one *home* (a prefix)
are packed now and then: a pack is one object with the entries in it, each under its name. The home
holds what its loose entries and its packs hold together, each name once. So it does not matter
whether a process dies between writing a pack and deleting what is in it, or whether two pack at
once: an entry that lies there twice is there once.

This is how log-structured stores compact (O'Neil et al., The log-structured merge-tree, 1996), with
one level.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from fti.store.errors import IntegrityError, StoreError, StoreLocked
from fti.store.files.atomic import dump_line
from fti.store.files.lease import leased
from fti.store.files.places import Place

PACKS = ".packs"
#: So many loose entries of a home, and they are packed.
PACK_AT = 64
_SMALL = 256 * 1024  # bytes of a loose entry that is packed, ...
_FULL = 4 * 1024 * 1024  # ... and of a pack that takes no more
_MEMORY = 64 * 1024 * 1024  # bytes of objects that are kept once they were read
_TRIES = 8  # an entry that was packed since it was listed is looked for again
#: The lease of packing one home; little is written under it.
LOCK_S = 20.0
_NUMBERED = re.compile(r"(.+)/([0-9]{12})")


class Entries:
    """Entries by home and name. Threads may use it at once.

    Args:
        place: the bucket.
        max_age_s: how old, in seconds, a listing may be. What this process adds it sees at once.
    """

    def __init__(self, place: Place, *, max_age_s: float = 0.0) -> None:
        self._place = place
        self._max_age_s = max_age_s
        self._listed: dict[str, tuple[float, dict[str, int]]] = {}
        self._changes: dict[str, int] = {}  # how often something was added, by home
        self._read: dict[str, dict[str, bytes]] = {}  # by object: the entries in it
        self._bytes = 0
        self._since_packed: dict[str, int] = {}
        self._lock = threading.RLock()
        self._pinned = threading.local()

    def names(self, home: str) -> list[str]:
        """Names of all entries of a home, sorted."""
        return sorted(self.all(home, wanted=lambda name: False, named=True))

    def get(self, home: str, names: Collection[str]) -> dict[str, bytes]:
        """Some entries of a home; those that are not there are left out."""
        asked = set(names)
        return self.all(home, wanted=asked.__contains__)

    def all(
        self, home: str, *, wanted: Callable[[str], bool] = lambda name: True, named: bool = False
    ) -> dict[str, bytes]:
        """Entries of a home by name, those that are wanted.

        Args:
            home: the prefix.
            wanted: which to read.
            named: the others too, with nothing in them.
        """
        fresh = False
        for _ in range(_TRIES):
            listed = self._list(home, fresh=fresh)
            loose = {key[len(home) + 1 :]: key for key in listed if not _is_pack(home, key)}
            packs = [key for key in listed if _is_pack(home, key)]
            ahead = _SMALL if self._still() is not None else -1
            reading = [
                *packs,
                *(key for name, key in loose.items() if wanted(name) or listed[key] < ahead),
            ]
            found = self._contents({key: listed[key] for key in reading}, home)
            if found is not None:
                # What was packed is what was loose; of an entry that lines were taken out of,
                # there may be two for a moment.
                every = {n: d for key in packs for n, d in found[key].items()}
                every |= {n: found[key][n] for n, key in loose.items() if key in found}
                kept = {n: d for n, d in every.items() if wanted(n)}
                if named:
                    kept = dict.fromkeys([*loose, *every], b"") | kept
                return kept
            fresh = True
        raise StoreError(
            f"What lies under {home!r} at {self._place.url!r} changed whenever it was read.",
            hint="Run it again.",
        )

    def add(self, home: str, name: str, data: bytes) -> None:
        """Add an entry whose name nobody else gives."""
        self._place.write(f"{home}/{name}", data)
        self.forget(home)

    def create(self, home: str, name: str, data: bytes) -> None:
        """Add an entry unless there is one of its name among the loose.

        Raises:
            FileExistsError: there is, and it holds something else.
        """
        key = f"{home}/{name}"
        try:
            self._place.create(key, data)
        except FileExistsError:
            # Or it is ours: a client that got no answer asked again.
            if self._place.read_all([key]).get(key) != data:
                self.forget(home)
                raise
        self.forget(home)

    def discard(self, home: str, names: Sequence[str]) -> None:
        """Remove loose entries that are no longer needed, in this order."""
        for name in names:
            self._place.delete(f"{home}/{name}")
        self.forget(home)

    def clear(self, home: str) -> None:
        """Remove a home with all in it."""
        for key in sorted(self._list(home, fresh=True)):
            self._place.delete(key)
        self.forget(home)

    def load(self, home: str, entries: Mapping[str, bytes]) -> None:
        """Add many entries at once, as packs."""
        self._pack_up(home, entries)
        self.forget(home)

    def pack(self, home: str, *, timeout_s: float = 0.0, at: int = PACK_AT) -> bool:
        """Pack the small loose entries and the packs that are not full, if there are many.

        Returns:
            Whether it was done: not where there are few, or another process does it.
        """
        if len(self._small(home)) < at:
            return False
        try:
            with self._alone(home, timeout_s=timeout_s, what="pack") as still:
                sources = self._small(home)
                if len(sources) < at:
                    return False
                found = self._contents(sources, home)
                if found is None:  # removed by one who lost his lease
                    return False
                entries = {name: data for key in sources for name, data in found[key].items()}
                self._replace(home, sorted(sources), _newest(entries), still)
        except StoreLocked:  # never had, or lost
            return False
        finally:
            self.forget(home)
        return True

    def edit(self, home: str, change: Callable[[str, bytes], bytes]) -> None:
        """Change what stands in entries, or remove those of which nothing is left."""
        with self._alone(home, timeout_s=60.0, what="erase") as still:
            for key, size in sorted(self._list(home, fresh=True).items()):
                found = self._contents({key: size}, home)
                if found is None:
                    continue
                edited = {name: change(name, data) for name, data in found[key].items()}
                if edited != found[key]:
                    left = {name: data for name, data in edited.items() if data}
                    self._replace(home, [key], left, still)
            self.forget(home)

    def added(self, home: str) -> None:
        """Pack a home where many are loose; to be called whenever one was added.

        It looks now and then, and first of all: many a process adds one entry and ends.
        """
        with self._lock:
            count = self._since_packed.get(home, 0)
            self._since_packed[home] = (count + 1) % PACK_AT
        if count == 0:
            # What was asked for is done, and would be done twice by who takes it for failed.
            with contextlib.suppress(StoreError):
                self.pack(home)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """For the block, in this thread, homes are listed once and read whole: for who reads much.

        What this thread changes in a home it sees all the same.
        """
        before = getattr(self._pinned, "listed", None)
        self._pinned.listed = {} if before is None else before
        try:
            yield
        finally:
            self._pinned.listed = before

    def forget(self, home: str) -> None:
        """List a home anew the next time."""
        with self._lock:
            self._listed.pop(home, None)
            self._changes[home] = self._changes.get(home, 0) + 1
        if (still := self._still()) is not None:
            still.pop(home, None)

    def listed(self, prefix: str) -> list[str]:
        """The objects under any prefix of the bucket, packed or not, as ``max_age_s`` allows."""
        return sorted(self._list(prefix, fresh=False))

    def loose(self, home: str) -> list[str]:
        """Names of the entries of a home that are objects of their own."""
        begin = len(home) + 1
        keys = self._list(home, fresh=False)
        return sorted(key[begin:] for key in keys if not _is_pack(home, key))

    # Inside

    def _alone(self, home: str, *, timeout_s: float, what: str) -> _Alone:
        return _Alone(self._place, home, timeout_s=timeout_s, what=what)

    def _small(self, home: str) -> dict[str, int]:
        return {
            key: size
            for key, size in self._list(home, fresh=True).items()
            if size < (_FULL if _is_pack(home, key) else _SMALL)
        }

    def _still(self) -> dict[str, dict[str, int]] | None:
        found: dict[str, dict[str, int]] | None = getattr(self._pinned, "listed", None)
        return found

    def _list(self, home: str, *, fresh: bool) -> dict[str, int]:
        still = self._still()
        if still is not None and home in still and not fresh:
            return still[home]
        with self._lock:
            held = self._listed.get(home)
            if held and not fresh and time.monotonic() - held[0] < self._max_age_s:
                return held[1]
        at, changes = time.monotonic(), self._changes.get(home, 0)
        found = self._place.sizes(home)
        with self._lock:
            if self._changes.get(home, 0) == changes:  # else another thread added something
                self._listed[home] = (at, found)
        if still is not None:
            still[home] = found
        return found

    def _contents(self, sizes: Mapping[str, int], home: str) -> dict[str, dict[str, bytes]] | None:
        """The entries in some objects; None where one of them is gone."""
        with self._lock:
            found = {key: self._read[key] for key in sizes if key in self._read}
        missing = [key for key in sizes if key not in found]
        if missing:
            read = self._place.read_all(missing)
            if len(read) < len(missing):
                return None
            for key, data in read.items():
                opened = self._open(home, key, data)
                found[key] = opened
                with self._lock:
                    self._read[key] = opened
                    self._bytes += len(data)
                    if self._bytes > _MEMORY:
                        self._read.clear()
                        self._bytes = 0
        return found

    def _open(self, home: str, key: str, data: bytes) -> dict[str, bytes]:
        if not _is_pack(home, key):
            return {key[len(home) + 1 :]: data}
        try:
            rows = [json.loads(line) for line in data.split(b"\n") if line]
            return {row["entry"]: row["text"].encode("utf-8", "surrogateescape") for row in rows}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{key!r} at {self._place.url!r} cannot be read: {error}.",
                hint="Restore a backup: fti store restore PLACE",
            ) from error

    def _replace(
        self,
        home: str,
        sources: Sequence[str],
        entries: Mapping[str, bytes],
        still: Callable[[], None],
    ) -> None:
        """Put packs with entries in the place of objects, which go in this order: of the numbers
        of a record the highest last.

        Raises:
            StoreLocked: the lease was lost. Whoever has it may have taken lines out of these
                objects, so nothing of them is left behind.
        """
        still()
        packs = self._pack_up(home, entries)
        try:
            still()
        except StoreLocked:
            for key in packs:
                self._place.delete(key)
            raise
        for key in sources:
            self._place.delete(key)

    def _pack_up(self, home: str, entries: Mapping[str, bytes]) -> list[str]:
        made = []
        for part in _parts(entries):
            made.append(f"{home}/{PACKS}/{uuid.uuid4().hex}")
            self._place.write(made[-1], part)
        return made


class _Alone:
    """The lease of one home, under which its objects are replaced by others."""

    def __init__(self, place: Place, home: str, *, timeout_s: float, what: str) -> None:
        self._leased = leased(
            place,
            folder=f"locks/{PACKS}/{home}",
            timeout_s=timeout_s,
            what=f"{what} {home}",
            lasts_s=LOCK_S,
        )

    def __enter__(self) -> Callable[[], None]:
        return self._leased.__enter__().require

    def __exit__(self, *error: object) -> None:
        self._leased.__exit__(None, None, None)


def _is_pack(home: str, key: str) -> bool:
    return key.startswith(f"{home}/{PACKS}/")


def _newest(entries: Mapping[str, bytes]) -> dict[str, bytes]:
    """Without the entries that a higher number of the same name took the place of."""
    highest: dict[str, str] = {}
    for name in sorted(entries):
        if found := _NUMBERED.fullmatch(name):
            highest[found[1]] = name
    return {
        name: data
        for name, data in entries.items()
        if (found := _NUMBERED.fullmatch(name)) is None or highest[found[1]] == name
    }


def _parts(entries: Mapping[str, bytes]) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for name, data in sorted(entries.items()):
        line = dump_line({"entry": name, "text": data.decode("utf-8", "surrogateescape")}).encode()
        if part and size + len(line) > _FULL:
            yield b"\n".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield b"\n".join(part)
