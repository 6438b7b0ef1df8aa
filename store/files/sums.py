"""Checksums of the files of LanceDB's tables, so that what a disk has lost or turned is seen.

LanceDB reads a vector with a turned bit as another vector. Its files never change once they are
there, so the checksum of each is noted once, by whoever writes and before he lets others write, in
a journal beside them. They guard against disks, not against people: CRC-32 costs next to nothing
while documents are ingested, and finds every turned bit.

Tables in an object store have none: such stores keep checksums of their own.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fti.store.files.atomic import dump_sealed, iter_lines, open_line, write_bytes

_JOURNAL = "sums.jsonl"
#: What LanceDB writes over: a hint that nothing rests on.
_PASSED_OVER = (_JOURNAL, "latest_version_hint.json")
_REPLACED = "_refs/"  # tags, which move
_ROWS = ("data/", "_deletions/")
_VERSIONS = "_versions"  # a manifest each, numbered downwards from 2**64 - 1
_BLOCK = 1 << 20
_GONE = 256  # lines about files that are gone, before the journal is written anew


@dataclass(frozen=True, slots=True)
class Sum:
    """What was noted of a file. ``changed_ns`` is when it was written."""

    size: int
    crc: str
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not as it was written.

    Args:
        path: relative to the tables' folder.
        what: what is wrong with it.
        holds_rows: whether rows of the table as it is now may lie in it, or be found by it.
    """

    path: str
    what: str
    holds_rows: bool

    @property
    def table(self) -> str:
        """Whose file it is."""
        return self.path.partition(".lance/")[0]


class FileSums:
    """The checksums of all tables in one folder. Opening reads nothing.

    Args:
        folder: where the tables lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int, int], dict[str, Sum]]] = {}

    def note(self) -> None:
        """Note what is new. Only for who holds the right to write.

        What cannot be noted now, on a full disk perhaps, is noted the next time.
        """
        for table in self._tables():
            with contextlib.suppress(OSError):
                self._note(table)

    def check(self) -> Iterator[Damage]:
        """The files that are not as they were noted. Reads all of them."""
        for table in self._tables():
            sums, unreadable = _read(table / _JOURNAL)
            if unreadable:
                what = f"{unreadable} lines of checksums cannot be read"
                yield Damage(f"{table.name}/{_JOURNAL}", what, holds_rows=False)
            for path, noted in sorted(sums.items()):
                try:
                    found = _sum(table / path)
                except FileNotFoundError:  # of a version that was removed since
                    continue
                if (found.size, found.crc) != (noted.size, noted.crc):
                    yield Damage(
                        f"{table.name}/{path}",
                        "differs from its checksum",
                        holds_rows=path.startswith(_ROWS) or path == _newest(table),
                    )

    def mend_journals(self) -> None:
        """Leave out what cannot be read of them, and note those files as they are now."""
        for table in self._tables():
            sums, unreadable = _read(table / _JOURNAL)
            if unreadable:
                write_bytes(table / _JOURNAL, b"".join(map(_line, sums.items())))
        self.note()

    def count(self) -> int:
        """How many files have a checksum."""
        return sum(
            sum((table / path).is_file() for path in _read(table / _JOURNAL)[0])
            for table in self._tables()
        )

    # Inside

    def _tables(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if path.suffix == ".lance")

    def _note(self, table: Path) -> None:
        journal = table / _JOURNAL
        sums = self._noted(table)
        there = set(_files(str(table), ""))
        new: dict[str, Sum] = {}
        for path in sorted(there):
            noted = sums.get(path)
            if noted is not None and not path.startswith(_REPLACED):
                continue
            with contextlib.suppress(FileNotFoundError):
                if noted is None or noted.changed_ns != (table / path).stat().st_mtime_ns:
                    new[path] = _sum(table / path)
        gone = sums.keys() - there
        if len(gone) > max(_GONE, len(there)):
            kept = {path: noted for path, noted in sums.items() if path in there} | new
            write_bytes(journal, b"".join(map(_line, kept.items())))
            sums.clear()
            sums.update(kept)
        elif new:
            # Not flushed: a line that a crash takes is noted again.
            with journal.open("ab") as handle:
                handle.write(b"".join(map(_line, new.items())))
            sums.update(new)
        else:
            return
        self._known[table.name] = (_seen(journal), sums)

    def _noted(self, table: Path) -> dict[str, Sum]:
        journal = table / _JOURNAL
        held = self._known.get(table.name)
        seen = _seen(journal)
        if held is None or held[0] != seen:
            self._known[table.name] = held = (seen, _read(journal)[0])
        return held[1]


def _files(folder: str, inside: str) -> Iterator[str]:
    """Paths of the files under a folder, relative to it, with ``/``."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, f"{inside}{entry.name}/")
            elif entry.name not in _PASSED_OVER and not _being_written(entry.name):
                yield inside + entry.name


def _newest(table: Path) -> str:
    """The manifest of the latest version, by the names that LanceDB gives them."""
    names = [path.name for path in (table / _VERSIONS).glob("*.manifest")]
    return f"{_VERSIONS}/{min(names, default='')}"  # all of one length


def _being_written(name: str) -> bool:
    return name.startswith(".") or "#" in name


def _sum(path: Path) -> Sum:
    crc = 0
    with path.open("rb") as handle:
        status = os.fstat(handle.fileno())
        while block := handle.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return Sum(status.st_size, f"{crc:08x}", status.st_mtime_ns)


def _seen(journal: Path) -> tuple[int, int, int]:
    try:
        status = journal.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _line(item: tuple[str, Sum]) -> bytes:
    path, noted = item
    value = {"path": path, "size": noted.size, "crc32": noted.crc, "changed_ns": noted.changed_ns}
    return f"{dump_sealed(value)}\n".encode()


def _read(journal: Path) -> tuple[dict[str, Sum], int]:
    """The sums of a journal, the last of a file's, and how many lines cannot be read."""
    found: dict[str, Sum] = {}
    unreadable = 0
    with contextlib.suppress(FileNotFoundError):
        for line in iter_lines(journal):
            try:
                value = open_line(line)
                noted = Sum(value["size"], value["crc32"], value["changed_ns"])
                found[value["path"]] = noted
            except (ValueError, KeyError, TypeError):
                unreadable += 1
    return found, unreadable
