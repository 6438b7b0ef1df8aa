"""A store that was moved, and features that are put into an object store.

In a store, only the ledger names the store's own place, for documents that were uploaded: their
files lie in it. Their sources, and so their ids, stay what they were, since answers, datasets and
models name them.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from fti.store.errors import InputError
from fti.store.files.lease import leased
from fti.store.files.places import Place
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import Value
from fti.store.versioned.versions import file_sha256


class PlacedFeatures(Value):
    """Where features were put, and what was copied there. ``shared``: some were there already."""

    features: str
    files: int
    bytes: int
    shared: bool


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


def place_features(store: Store, url: str, *, progress: Progress = quiet) -> PlacedFeatures:
    """Keep a store's features in an object store from now on.

    Tables that are here are copied, then the format marker is changed, then they are removed here;
    a crash before leaves the store as it was. Tables that are there already are used as they are,
    by a store that has none: so several roots, on several machines, share features.

    Raises:
        InputError: both places hold features, or they lie in an object store already, or the URL
            names a folder.
        StoreError: the place cannot be reached.
        StoreLocked: another process writes to the store.
    """
    layout = store.layout
    url = url.rstrip("/")
    place = Place(url)
    if place.local:
        raise InputError(
            f"{url!r} is a folder; features lie in one without this.",
            hint="Name a URL, such as s3://bucket/prefix",
        )
    with layout.writing("store place"):
        if layout.features_url:
            raise InputError(
                f"The features lie at {layout.features_url!r} already.",
                hint="To move them, make a backup, restore it to a new folder, and place that.",
            )
        here = sorted(layout.features.glob("*.lance"))
        with leased(place, timeout_s=10.0, what="store place"):
            shared = any(key.split("/")[0].endswith(".lance") for key in place.sizes(""))
            if here and shared:
                raise InputError(
                    f"The store {str(layout.root)!r} and {url!r} both hold features.",
                    hint="Name an empty prefix, or use a store that nothing was ingested into.",
                )
            files = [file for table in here for file in sorted(table.rglob("*")) if file.is_file()]
            for number, file in enumerate(files, start=1):
                key = file.relative_to(layout.features).as_posix()
                place.put(key, file)
                progress(ProgressEvent("copy", number, len(files), key))
            size = sum(file.stat().st_size for file in files)
            layout.place_features(url)
        for table in here:
            shutil.rmtree(table)
    return PlacedFeatures(features=url, files=len(files), bytes=size, shared=shared)


def is_upload(store: Store, source: str) -> bool:
    """Whether a document was given to a service, here or where the store lay before."""
    roots = (str(store.layout.root), *store.layout.former_roots())
    return any(source.startswith(f"{Path(root) / store.layout.uploads.name}/") for root in roots)
