"""What changes in a store, by its path in it: small records, and logs that lines are added to.

Runs, answers, aliases, keys and their like are read and written through a ``Storage``, so that they
lie in the store's folder or in a bucket (``bucket.py``) without knowing which. What lies in a
folder lies there as files of these paths.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from fti.store.files.atomic import append_lines, blank_lines, iter_lines, write_bytes, writer_lock
from fti.store.files.liveness import hold, is_held

#: How far a log was read: see ``Storage.since``.
Mark = object


class Storage(Protocol):
    """Records and logs by their keys: paths with slashes, relative to the store."""

    def at(self, key: str) -> str:
        """Where a key lies, for people."""

    def still(self) -> contextlib.AbstractContextManager[None]:
        """For the block, what is read in this thread may be as it was at its beginning.

        For whoever reads many records, where asking is slow.
        """

    def find(self, pattern: str) -> list[str]:
        """Keys of records and logs, sorted; ``*`` and ``?`` stand for what is in one name."""

    def read(self, key: str) -> bytes:
        """A record.

        Raises:
            FileNotFoundError: there is none.
        """

    def stamp(self, key: str) -> Hashable | None:
        """Another one whenever a record has changed, cheaper than reading it; None without one."""

    def write(self, key: str, data: bytes) -> None:
        """Replace a record in one step."""

    def change(self, key: str, edit: Callable[[bytes | None], bytes]) -> None:
        """Replace a record by what ``edit`` makes of it (None: there is none).

        The caller holds the lock that belongs to it. Where two changed it all the same, because a
        machine slept past its lock, ``edit`` is asked again with what the other one left.
        """

    def delete(self, key: str) -> None:
        """Remove a record or a log, if it is there."""

    def append(self, key: str, lines: Sequence[str]) -> None:
        """Add lines to a log, durably and together."""

    def lines(self, key: str) -> Iterator[bytes]:
        """The lines of a log, oldest first, without their ends; none of one that is not there."""

    def since(self, key: str, mark: Mark | None) -> tuple[list[bytes], Mark]:
        """Whole lines that came since ``mark`` (None: all), and the mark to ask with next."""

    def drop_lines(
        self, key: str, unwanted: Callable[[bytes], bool], *, alone: bool = False
    ) -> int:
        """Remove lines of a log, so that nothing of them stays; how many they were.

        Args:
            key: the log.
            unwanted: which.
            alone: nobody adds lines meanwhile.
        """

    def locked(
        self, key: str, *, timeout_s: float, what: str
    ) -> contextlib.AbstractContextManager[None]:
        """Be the only one in the block, among all that use the store.

        Raises:
            StoreLocked: another one is, for longer than ``timeout_s``.
        """

    def hold(self, key: str) -> Callable[[], None]:
        """Say that this process is at work; call what is returned when it is done."""

    def is_held(self, key: str) -> bool:
        """Whether the process that held ``key`` last is at work still."""

    def held(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are held."""


class FolderStorage:
    """Records and logs as files of one folder; see ``Storage``.

    Args:
        root: the folder.
        guard: called before each change; what it raises keeps all as it is.
    """

    def __init__(self, root: Path, *, guard: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._guard = guard

    def at(self, key: str) -> str:
        """Its path."""
        return str(self._root / key)

    def still(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to do: a file system answers at once."""
        return contextlib.nullcontext()

    def find(self, pattern: str) -> list[str]:
        """Keys that a pattern fits."""
        return sorted(p.relative_to(self._root).as_posix() for p in self._root.glob(pattern))

    def read(self, key: str) -> bytes:
        """The bytes of a file."""
        return (self._root / key).read_bytes()

    def stamp(self, key: str) -> Hashable | None:
        """Which file it is: it is replaced, never written over."""
        try:
            status = os.stat(self._root / key)  # noqa: PTH116  # one call, and a missing file is told
        except FileNotFoundError:
            return None
        return (status.st_ino, status.st_mtime_ns, status.st_size)

    def write(self, key: str, data: bytes) -> None:
        """Replace a file."""
        self._guard()
        write_bytes(self._root / key, data)

    def change(self, key: str, edit: Callable[[bytes | None], bytes]) -> None:
        """Replace a file by what is made of it."""
        try:
            before = self.read(key)
        except FileNotFoundError:
            before = None
        self.write(key, edit(before))

    def delete(self, key: str) -> None:
        """Remove a file."""
        self._guard()
        (self._root / key).unlink(missing_ok=True)

    def append(self, key: str, lines: Sequence[str]) -> None:
        """Add lines to a file; after a crash a beginning of them may be there."""
        self._guard()
        append_lines(self._root / key, lines)

    def lines(self, key: str) -> Iterator[bytes]:
        """The lines of a file."""
        with contextlib.suppress(FileNotFoundError):
            yield from iter_lines(self._root / key)

    def since(self, key: str, mark: Mark | None) -> tuple[list[bytes], Mark]:
        """What was appended; the mark is how much of the file was read."""
        start = mark if isinstance(mark, int) else 0
        try:
            with (self._root / key).open("rb") as handle:
                handle.seek(start)
                new = handle.read()
        except FileNotFoundError:
            return [], start
        whole = new[: new.rfind(b"\n") + 1]  # another may be in the middle of a line
        return [line for line in whole.split(b"\n") if line.strip()], start + len(whole)

    def drop_lines(
        self, key: str, unwanted: Callable[[bytes], bool], *, alone: bool = False
    ) -> int:
        """Write spaces over lines of a file, or the file anew."""
        if not (self._root / key).exists():
            return 0
        self._guard()
        if not alone:
            return blank_lines(self._root / key, unwanted)
        lines = list(self.lines(key))
        kept = [line for line in lines if not unwanted(line)]
        if len(kept) < len(lines):
            write_bytes(self._root / key, b"".join(line + b"\n" for line in kept))
        return len(lines) - len(kept)

    @contextlib.contextmanager
    def locked(self, key: str, *, timeout_s: float, what: str) -> Iterator[None]:
        """Hold a lock file, which a crash releases."""
        with writer_lock(self._root / key, timeout_s=timeout_s, what=what):
            self._guard()
            yield

    def hold(self, key: str) -> Callable[[], None]:
        """Hold a lock that the kernel lets go of when the process dies."""
        handle = hold(self._root / key)
        return lambda: os.close(handle)

    def is_held(self, key: str) -> bool:
        """Whether a living process holds it."""
        return is_held(self._root / key)

    def held(self, keys: Iterable[str]) -> set[str]:
        """Those that living processes hold."""
        return {key for key in keys if self.is_held(key)}
