"""A store whose folder was moved.

In a store, only the ledger names the store's own place, for documents that were uploaded: their
files lie in it. Their sources, and so their ids, stay what they were, since answers, datasets and
models name them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fti.store.store import Store
from fti.store.versioned.versions import file_sha256


def settle(store: Store) -> list[str]:
    """Point the ledger at the uploaded files where they lie now.

    Returns:
        The sources that were brought along.

    Raises:
        StoreLocked: another process writes to the store.
    """
    layout = store.layout
    olds = tuple(f"{root}/{layout.uploads.name}/" for root in layout.former_roots())
    with layout.writing("store migrate"):
        moved = []
        for entry in store.features.ledger():
            old = next((o for o in olds if entry.file.startswith(o)), None)
            if old is None:
                continue
            here = layout.uploads / entry.file.removeprefix(old)
            if here.is_file() and file_sha256(here) == entry.file_hash:
                moved.append(replace(entry, file=str(here)))
        store.features.note(moved)
        layout.settle()
    return [entry.record.source for entry in moved]


def is_upload(store: Store, source: str) -> bool:
    """Whether a document was given to a service, here or where the store lay before."""
    roots = (str(store.layout.root), *store.layout.former_roots())
    return any(source.startswith(f"{Path(root) / store.layout.uploads.name}/") for root in roots)
