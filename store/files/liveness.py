"""Whether the process that does something is still there, by a lock that the kernel lets go of.

Whoever works holds a lock on a file that names its process. A record that says "running" while
nobody holds its file has lost its process.
"""

from __future__ import annotations

import fcntl
import os
from functools import cache
from pathlib import Path

from fti.store.files.atomic import dump_json, is_locked, read_sealed, write_sealed


def hold(path: Path) -> int:
    """Be the process that the file at ``path`` names; the handle holds the lock until closed."""
    write_sealed(path, _named(os.getpid()))
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def hand_over(handle: int, pid: int) -> None:
    """Let a held file name another process, which was given the handle."""
    # In place: another file under the name would not be locked.
    os.ftruncate(handle, 0)
    os.pwrite(handle, dump_json(_named(pid)), 0)


def is_held(path: Path) -> bool:
    """Whether the process that holds this lock is there."""
    return is_locked(path) and _holder_is_there(path)


def holder(path: Path) -> int | None:
    """The number of the process that holds the file, where it means something here."""
    if not is_held(path):
        return None
    try:
        found = read_sealed(path)
    except ValueError:  # handed over at this moment
        return None
    return int(found["pid"]) if found["namespace"] == namespace() else None


def namespace() -> str:
    """Within which process numbers mean something."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux: one namespace for all
        return ""


def _named(pid: int) -> dict[str, int | str]:
    return {"pid": pid, "namespace": namespace()}


def _holder_is_there(path: Path) -> bool:
    """Tell a holder from a child that it forked: the child holds the lock too, and may outlive
    it."""
    try:
        found = read_sealed(path)
    except ValueError:  # handed over at this moment
        return True
    if found["namespace"] != namespace():
        return True  # in another container, whose process numbers mean nothing here
    return is_there(found["pid"])


def is_there(pid: int) -> bool:
    """Whether a process of this number is there, in this namespace."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there, and somebody else's
        return True
    return True


@cache
def machine() -> str:
    """Names this machine since it was started, and the namespace; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # not Linux
        return ""
    return f"{boot} {namespace()}"
