"""The manifest of a version: which files it holds, with their digests, sealed by its own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fti.store.types import FileEntry, sha256_hex
from fti.store.versioned.shared import MANIFEST

#: The key of a manifest's digest in it.
SELF = "manifest_sha256"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class ManifestError(Exception):
    """Why a manifest cannot be trusted."""


def listed(manifest: bytes, allowed: Collection[str]) -> tuple[dict[str, FileEntry], str]:
    """Files by path as a manifest lists them, none of them outside the folder; its digest.

    Raises:
        ManifestError: it cannot be trusted, or lists a file that a version may not hold.
    """
    body = unseal(manifest)
    try:
        files = [FileEntry.model_validate(f) for f in body["files"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise ManifestError(f"{MANIFEST} lists no files ({error})") from error
    for entry in files:
        reason = refusal(entry.path, "file", allowed)
        if reason:
            raise ManifestError(f"{MANIFEST} lists {entry.path!r}: {reason}")
    return {entry.path: entry for entry in files}, digest(body)


def refusal(path: str, kind: str, allowed: Collection[str]) -> str:
    """Why a file has no place in a version; empty when it has one.

    ``kind`` is as ``walk`` gives it, ``allowed`` the endings that files may have.
    """
    if kind != "file":
        return f"it is a {kind}"
    # Absolute and parent paths fail here too: no part is empty or begins with a dot.
    if not all(_PART.fullmatch(part) for part in path.split("/")):
        return "its path is not plain"
    if Path(path).suffix not in allowed:
        return f"{Path(path).suffix!r} files are not allowed"
    return ""


def walk(folder: Path, inside: str = "") -> Iterator[tuple[str, str]]:
    """Relative path and kind of everything under ``folder`` that is not a plain folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{inside}{entry.name}"
            if entry.is_symlink():
                yield path, "symbolic link"
            elif entry.is_dir():
                yield from walk(Path(entry.path), f"{path}/")
            else:
                yield path, "file" if entry.is_file() else "special file"


def unseal(manifest: bytes) -> dict[str, Any]:
    """What a manifest says.

    Raises:
        ManifestError: it cannot be read, or was changed.
    """
    try:
        body = json.loads(manifest)
        claimed = body.pop(SELF)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ManifestError(f"{MANIFEST} cannot be read ({error})") from error
    if claimed != digest(body):
        raise ManifestError(f"{MANIFEST} was changed")
    return dict(body)


def digest(body: Mapping[str, Any]) -> str:
    """Of what a manifest says, whatever the order of its keys."""
    # NaN is no JSON: what is published must be readable by every tool.
    return sha256_hex(json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False))
