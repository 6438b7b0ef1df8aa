"""Files of object stores, fetched so that they can be read like any file."""

from __future__ import annotations

import fnmatch
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from fti.pipelines.feature.finding.fetched import Fetched, NotFetched, kept
from fti.pipelines.feature.finding.unread import kind_never_read, left_behind
from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.store.errors import SourceNotFound
from fti.store.files.places import client_errors, file_system

_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "memory")


def is_object_store(address: str) -> bool:
    """Whether everything under an address can be listed."""
    return urlsplit(address).scheme.lower() in _OBJECT_STORES


def objects(address: str, folder: Path, config: SourcesConfig) -> list[Fetched | NotFetched]:
    """Everything that lies under an address of an object store."""
    scheme = urlsplit(address).scheme
    try:
        system, root = file_system(address)
    except ImportError as error:
        raise SourceNotFound(
            f"What reads {scheme}:// is not installed: {error}.",
            hint="Install it with: pip install 'fti-llm[remote]'",
        ) from error
    unusable: tuple[type[Exception], ...] = (OSError, ValueError, *client_errors())
    try:
        system.invalidate_cache()  # of listings, in a process that looked before
        listed = system.find(root, detail=True)
    except unusable as error:
        raise SourceNotFound(f"{address!r} cannot be listed: {error}.") from error
    files = {n: i for n, i in sorted(listed.items()) if i.get("type") == "file"}
    if not files:
        raise SourceNotFound(f"There is nothing at {address!r}.")
    found: list[Fetched | NotFetched] = []
    for number, (name, facts) in enumerate(files.items()):
        source = system.unstrip_protocol(name)
        if not config.include_hidden and fnmatch.fnmatch(PurePosixPath(name).name, ".*"):
            continue
        if number >= config.max_pages:
            reason = f"there are more than {config.max_pages} objects (max_pages)"
            found.append(NotFetched(address, reason))
            break
        plain = PurePosixPath(name).name
        # By its name in the store: an address can be written in several ways.
        if name != root and (kind := left_behind(plain) or kind_never_read(plain)):
            found.append(NotFetched(source, kind, skipped=True))
            continue
        if (facts.get("size") or 0) > config.max_bytes:
            reason = f"the object is larger than {config.max_bytes} bytes (max_bytes)"
            found.append(NotFetched(source, reason))
            continue
        try:
            data = system.cat_file(name)
        except unusable as error:
            found.append(NotFetched(source, f"it cannot be read: {error}"))
            continue
        found.append(kept(source, folder, PurePosixPath(name).name, data))
    return found
