"""Writing so that a crash, a full disk or a second writer never leaves half a thing.

Files are written aside, flushed and renamed. A folder becomes visible by one rename, with its
manifest as the last file written. The writer lock is the kernel's, so a crash releases it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fti.store.errors import StoreFull, StoreLocked, StoreReadOnly

_SEAL = "fti.crc32"
_SEAL_FORM = re.compile(rb'"fti\.crc32": "([0-9a-f]{8})"\n?\}\n?')
_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
#: What to do about a store that cannot be written.
WRITABLE_HINT = "Give the right to write there, or name a writable folder: --store or FTI_STORE."


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn "no space left" under this block into ``StoreFull`` naming ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"No space left on the disk while writing {str(path)!r}; nothing was changed.",
                hint="Free some space and run the same command again: it goes on where it stopped.",
            ) from error
        raise


@contextlib.contextmanager
def write_errors_named(path: Path) -> Iterator[None]:
    """Turn what the system says against writing ``path`` into an error that names it.

    Raises:
        StoreFull: the disk is full.
        StoreReadOnly: there is no right to write.
    """
    try:
        with full_disk_named(path):
            yield
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise StoreReadOnly(
                f"{str(path)!r} cannot be written: {error.strerror}.", hint=WRITABLE_HINT
            ) from error
        raise


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step; readers see the old or the new, never a part."""
    with replacing(path) as aside, aside.open("wb") as handle:
        handle.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of ``path``, in one step, when the block ends well."""
    with write_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
        try:
            yield aside
            with aside.open("rb") as handle:
                os.fsync(handle.fileno())
            aside.replace(path)
            fsync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def dump_json(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """JSON as we write it to disk: UTF-8, indented, keys in given order, newline at the end."""
    return (_dump(value, indent=2) + "\n").encode("utf-8")


def dump_line(value: Mapping[str, Any]) -> str:
    """JSON on one line, for a JSONL file. Read such files by ``iter_lines``."""
    return _dump(value, indent=None)


def _dump(value: Mapping[str, Any] | Sequence[Any], *, indent: int | None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair is no UTF-8, but JSON can escape it
        return json.dumps(value, ensure_ascii=True, indent=indent, allow_nan=False)
    return text


def seal_line(line: str) -> str:
    """A JSON object on a line with a checksum of itself; ``open_line`` reads it."""
    body = line.removesuffix("}")
    assert body != line, "only objects are sealed"
    between = "" if body == "{" else ", "
    return f'{body}{between}"{_SEAL}": "{zlib.crc32(body.encode("utf-8")):08x}"}}'


def dump_sealed(value: Mapping[str, Any]) -> str:
    """``dump_line`` of an object with a checksum of itself."""
    return seal_line(dump_line(value))


def open_line(line: bytes) -> Any:
    """What a line says, sealed or not (those of earlier versions are not).

    Raises:
        ValueError: it is no JSON, or its checksum does not fit: it is not as it was written.
    """
    return _opened(line.strip(), between=(b", ",))


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """``dump_json`` of an object with a checksum of itself; ``open_sealed`` reads it."""
    body = dump_json(value).removesuffix(b"\n}\n") if value else b"{"
    between = b"," if value else b""
    crc = f'\n  "{_SEAL}": "{zlib.crc32(body):08x}"\n}}\n'.encode()
    return body + between + crc


def open_sealed(data: bytes) -> Any:
    """What JSON over several lines says, sealed or not.

    Raises:
        ValueError: it is no JSON, or its checksum does not fit.
    """
    return _opened(data, between=(b"\n  ", b","))


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file by ``sealed_json`` of an object; ``read_sealed`` reads it."""
    write_bytes(path, sealed_json(value))


def read_sealed(path: Path) -> Any:
    """What a JSON file says, sealed or not.

    Raises:
        ValueError: it is no JSON, or its checksum does not fit.
        OSError: it cannot be read.
    """
    return open_sealed(path.read_bytes())


def _opened(data: bytes, *, between: Sequence[bytes]) -> Any:
    at = data.rfind(b'"fti.crc32"')
    if seal := _SEAL_FORM.fullmatch(data, max(at, 0)):
        body = data[:at]
        for mark in between:
            body = body.removesuffix(mark)
        if int(seal[1], 16) != zlib.crc32(body):
            raise ValueError("its checksum does not fit: it is not as it was written")
    value = json.loads(data)
    if isinstance(value, dict):
        value.pop(_SEAL, None)
    return value


def iter_lines(path: Path) -> Iterator[bytes]:
    """The lines of a JSONL file, without their ends; blank ones left out.

    Only ``\\n`` ends a line: JSON may hold U+2028 and its kin, where ``str.splitlines`` would cut.
    """
    with path.open("rb") as handle:
        for line in handle:
            stripped = line.strip()
            if stripped:
                yield stripped


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """``write_bytes`` of ``dump_json``."""
    write_bytes(path, dump_json(value))


def append_line(path: Path, line: str) -> None:
    """Append one line durably; concurrent appenders do not mix their lines."""
    append_lines(path, [line])


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append lines durably, together; after a crash a beginning of them may be there."""
    assert not any("\n" in line for line in lines), "a line has no line end inside"
    with write_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _lock_append(handle)
            data = "".join(line + "\n" for line in lines).encode("utf-8")
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data  # a crash cut the last line: close it, readers skip it
            try:
                written = os.write(handle, data)
                if written != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def blank_lines(path: Path, unwanted: Callable[[bytes], bool]) -> int:
    """Write spaces over lines of a JSONL file, so that nothing of them stays; how many they were.

    The others stay where they are: appending goes on beside it, and a crash leaves each line whole.
    """
    with write_errors_named(path):
        handle = os.open(path, os.O_RDWR)
        try:
            _lock_append(handle)
            found, at = 0, 0
            for line in _whole_lines(handle):
                if line.strip() and unwanted(line.strip()):
                    os.pwrite(handle, b" " * len(line.rstrip(b"\n")), at)
                    found += 1
                at += len(line)
            if found:
                os.fsync(handle)
            return found
        finally:
            os.close(handle)


def _whole_lines(handle: int) -> Iterator[bytes]:
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        yield from file


def _lock_append(handle: int) -> None:
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_EX)


@contextlib.contextmanager
def staged_folder(parent: Path) -> Iterator[Path]:
    """An empty folder inside ``parent`` to fill; what is still there at the end is removed."""
    with write_errors_named(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / f".staged-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def fsync_tree(folder: Path) -> None:
    """Flush every file under ``folder``, then the folders."""
    for root, _, files in os.walk(folder):
        for name in files:
            with (Path(root) / name).open("rb") as handle:
                os.fsync(handle.fileno())
        fsync_folder(Path(root))


@contextlib.contextmanager
def writer_lock(path: Path, *, timeout_s: float, what: str) -> Iterator[None]:
    """Hold the lock file at ``path``; the kernel lets go when the process dies.

    Raises:
        StoreLocked: another process holds it for longer than ``timeout_s``.
    """
    owner = path.with_suffix(".owner")
    lock = FileLock(path)
    with write_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout as error:
            raise StoreLocked(
                f"Another process is writing to {str(path.parent)!r} (process {_holder(owner)}).",
                hint="Wait for it to finish, then run the command again.",
            ) from error
    try:
        with write_errors_named(owner):
            owner.write_text(f"{os.getpid()}: {what}\n", "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock file at ``path`` at this moment."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who look at once do not take each other for the holder.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _holder(owner: Path) -> str:
    try:
        return owner.read_text("utf-8").strip() or "unknown"
    except FileNotFoundError:  # it let go just now
        return "unknown"
