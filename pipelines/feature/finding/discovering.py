"""From what the user names to the files in it.

Nothing here ends a run because of one file: what cannot be taken is listed with its reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from fti.pipelines.feature.finding.fetched import NotFetched
from fti.pipelines.feature.finding.object_stores import is_object_store
from fti.pipelines.feature.finding.sources import (
    Discovery,
    FailedSource,
    SkippedSource,
    SourceFile,
    _unreadable,
)
from fti.pipelines.feature.finding.unread import (
    HEAD_BYTES,
    is_systems_folder,
    kind_never_read,
    kind_of_content,
    left_behind,
    may_be_anything,
)
from fti.pipelines.feature.finding.web import fetch, is_address
from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.store.errors import SourceNotFound


def discover(
    sources: Sequence[str],
    *,
    config: SourcesConfig | None = None,
    downloads: Path | None = None,
) -> Discovery:
    """The files that ``sources`` name, folders searched to any depth.

    Links are followed to files inside the same folder only; hidden files and folders are skipped,
    and so are the queries and judgements of a BEIR folder, files of kinds that are never read, and
    what editors and systems leave behind.
    What addresses name is fetched into ``downloads``; without it addresses are refused.

    Raises:
        SourceNotFound: a source does not exist.
    """
    config = config or SourcesConfig()
    found = Discovery()
    files: dict[str, SourceFile] = {}
    for given in sources:
        if downloads is not None and is_address(given):
            _fetch(given, downloads, config, files, found)
            continue
        path = existing(given)
        found.roots.append(shown_name(path))
        if path.is_dir():
            _search(path, config, files, found)
        else:
            _add(path, files, found)
    found.files.extend(files[source] for source in sorted(files))
    return found


def _fetch(
    address: str,
    downloads: Path,
    config: SourcesConfig,
    files: dict[str, SourceFile],
    found: Discovery,
) -> None:
    found.roots.append(address)
    whole = is_object_store(address)
    for one in fetch(address, folder=downloads, config=config):
        if isinstance(one, NotFetched):
            if one.skipped:
                found.skipped.append(SkippedSource(one.address, one.reason, never=True))
                continue
            found.failed.append(FailedSource(one.address, one.reason))
            if one.gone:
                found.gone.add(one.address)
            whole = whole and one.address != address  # the listing was cut
        else:
            files[one.address] = SourceFile(one.address, one.path, one.size)
    if whole:
        found.listed.add(address)


def existing(given: str) -> Path:
    """The file or folder of this name.

    Raises:
        SourceNotFound: there is none; names what is near.
    """
    if is_address(given):
        raise SourceNotFound(
            f"{given!r} is an address; here only files and folders are read.",
            hint="Take it with: fti ingest ADDRESS",
        )
    path = Path(os.path.abspath(Path(given).expanduser()))  # noqa: PTH100  # keeps links, drops ..
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFound(f"{given!r} does not exist.", hint=_nearest(path)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceNotFound(f"{given!r} cannot be reached: {reason}.") from error
    return path


def _nearest(path: Path) -> str:
    """What there is where the path stops existing."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    try:
        names = sorted(p.name for p in parent.iterdir() if not p.name.startswith("."))[:8]
    except OSError:
        return "Check the path."
    there = ", ".join(map(repr, names)) if names else "nothing"
    return f"In {str(parent)!r} there is {there}."


def shown_name(path: Path) -> str:
    """The path as stored: bytes that are no UTF-8 are written out, since the store holds text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _search(
    root: Path, config: SourcesConfig, files: dict[str, SourceFile], found: Discovery
) -> None:
    real_root = os.path.realpath(root)

    def unreadable(error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        found.failed.append(
            FailedSource(shown_name(Path(error.filename)), f"the folder cannot be opened: {reason}")
        )

    for folder, folders, names in os.walk(root, onerror=unreadable):
        if {"corpus.jsonl", "queries.jsonl"} <= set(names) and "qrels" in folders:
            # BEIR: a query that is a document would be the best passage for itself.
            folders.remove("qrels")
            names.remove("queries.jsonl")
            found.skipped.extend(
                SkippedSource(shown_name(Path(folder, name)), "a BEIR folder's, for fti evaluate")
                for name in ("qrels", "queries.jsonl")
            )
        folders[:] = sorted(_enter(Path(folder), folders, config, found))
        for name in sorted(names):
            path = Path(folder, name)
            if kind := left_behind(name):
                found.skipped.append(SkippedSource(shown_name(path), kind, never=True))
            elif name.startswith(".") and not config.include_hidden:
                found.skipped.append(SkippedSource(shown_name(path), "hidden"))
            elif os.path.islink(path) and not _inside(path, real_root):  # noqa: PTH114  # no errors
                found.skipped.append(
                    SkippedSource(
                        shown_name(path), "a link that leaves the folder, or leads nowhere"
                    )
                )
            elif kind := kind_never_read(name) or _kind_inside(path, name):
                found.skipped.append(SkippedSource(shown_name(path), kind, never=True))
            else:
                _add(path, files, found)


def _enter(
    parent: Path, folders: Sequence[str], config: SourcesConfig, found: Discovery
) -> Iterator[str]:
    for name in folders:
        path = parent / name
        if is_systems_folder(name):
            found.skipped.append(SkippedSource(shown_name(path), "system's folder"))
        elif name.startswith(".") and not config.include_hidden:
            found.skipped.append(SkippedSource(shown_name(path), "hidden"))
        elif os.path.islink(path):  # noqa: PTH114  # a link is told without errors
            found.skipped.append(SkippedSource(shown_name(path), "a link to a folder"))
        else:
            yield name


def _kind_inside(path: Path, name: str) -> str:
    """The kind that a file's first bytes show, where its name does not say what it is."""
    if not may_be_anything(name):
        return ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb") as stream:
            return kind_of_content(stream.read(HEAD_BYTES))
    except OSError:  # whoever reads it says why it cannot be
        return ""


def _inside(path: Path, real_root: str) -> bool:
    target = os.path.realpath(path)
    return target.startswith(real_root.rstrip(os.sep) + os.sep) and os.path.exists(target)  # noqa: PTH110


def _add(path: Path, files: dict[str, SourceFile], found: Discovery) -> None:
    source = shown_name(path)
    try:
        status = path.stat()
    except OSError as error:
        found.failed.append(FailedSource(source, _unreadable(error).message))
        return
    if stat.S_ISREG(status.st_mode):
        files[source] = SourceFile(source, path, status.st_size)
    else:  # a pipe would block, a device may never end
        found.skipped.append(SkippedSource(source, "neither a file nor a folder"))
