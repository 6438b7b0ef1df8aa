"""Stores that are filled once for all tests of a process, and copied for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fti.store.store import Store


@cache
def _originals() -> Path:
    return Path(tempfile.mkdtemp(prefix="fti-test-stores-"))


def copied_store(name: str, root: Path, fill: Callable[[Store], object]) -> Store:
    """A store at ``root`` with the content that ``fill`` gives an empty one.

    Args:
        name: of the content; the same name must always come with the same ``fill``.
        root: where the store is to be. Where one is already, it is filled as it stands.
        fill: fills the store that the copies are made of, once.
    """
    if root.exists():
        store = Store(root)
        fill(store)
        return store
    original = _originals() / name
    if not original.exists():
        unfinished = original.with_suffix(".unfinished")
        fill(Store(unfinished))
        unfinished.rename(original)
    shutil.copytree(original, root)
    return Store(root)


def remove_originals() -> None:
    """Remove what the copies were made of, when the tests are done."""
    shutil.rmtree(_originals(), ignore_errors=True)
