"""Folders of the cache that are made once on a machine, and waited for by whoever comes second."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from fti.store.errors import EngineError


def make_once(
    folder: Path,
    *,
    what: str,
    wait_s: float,
    is_whole: Callable[[], bool],
    write: Callable[[Path], None],
) -> None:
    """Make a folder aside and move it into place, under a lock of its own.

    Args:
        folder: what is made.
        what: what it holds, for people.
        wait_s: how long another process may be at it.
        is_whole: whether it is there, unharmed; asked again once the lock is held.
        write: fills the folder that it is given.

    Raises:
        EngineError: another process has been at it for longer than ``wait_s``.
        OSError: the folder cannot be written.
    """
    try:
        with FileLock(f"{folder}.lock", timeout=wait_s):
            if is_whole():
                return
            for left in folder.parent.glob(f".{folder.name}.*"):  # of a run that was cut off
                shutil.rmtree(left, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                write(aside)
                if folder.exists():
                    shutil.rmtree(folder)
                aside.chmod(0o755)
                aside.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except Timeout as error:
        raise EngineError(
            f"Another process has been making {what} in {str(folder)!r} for more than "
            f"{wait_s / 60:.0f} minutes.",
            hint=f"If there is none, remove {str(folder) + '.lock'!r}.",
        ) from error
