"""What was fetched and lies in a file now, or why nothing was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fti.store.files.atomic import write_bytes
from fti.store.types import sha256_hex


@dataclass(frozen=True, slots=True)
class Fetched:
    """What lies at an address now, kept in a file."""

    address: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class NotFetched:
    """What could not be had, and why; ``gone``: the server says that it does not exist.

    ``skipped``: it was not asked for, since nobody reads such objects.
    """

    address: str
    reason: str
    gone: bool = False
    skipped: bool = False


def kept(address: str, folder: Path, name: str, data: bytes) -> Fetched:
    """Write what came from an address to a file of its own below a folder."""
    plain = re.sub(r"[^\w.-]+", "-", name)[-80:].lstrip(".") or "index.html"
    path = folder / sha256_hex(address)[:24] / plain
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
    return Fetched(address, path, len(data))
