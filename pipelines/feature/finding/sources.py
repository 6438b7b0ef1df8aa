"""From what the user names to the documents in it: finding files, and reading one of them.

Nothing here ends a run because of one file: what cannot be taken is listed with its reason, and
``read`` raises ``ExtractionError`` for the caller to note. Names are data: a path with line breaks
or ``..`` in a file's name is kept as it is, and whoever prints it escapes it.

What lies in an archive or is attached to a mail is named ``archive.zip!/folder/member.md``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from fti.pipelines.feature.finding.archives import ARCHIVES, Archive, Budget
from fti.pipelines.feature.finding.unread import (
    HEAD_BYTES,
    is_systems_folder,
    kind_never_read,
    kind_of_content,
    left_behind,
    may_be_anything,
)
from fti.pipelines.feature.finding.web import NotFetched, fetch, is_address, is_object_store
from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.parsing import Parser, parse
from fti.pipelines.feature.reading.readers import READERS, Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.pages.pictures import PICTURES
from fti.store.errors import ExtractionError, SourceNotFound
from fti.store.types import sha256_hex

__all__ = [
    "Discovery",
    "FailedSource",
    "RawDocument",
    "SkippedSource",
    "SourceFile",
    "SourcesConfig",
    "discover",
    "fingerprint",
    "read",
]

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read: ``source`` names it in the store, ``path`` opens it."""

    source: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class FailedSource:
    """Something that was not read, and why; ``transient``: the same bytes may be read later."""

    source: str
    reason: str
    transient: bool = False


@dataclass(frozen=True, slots=True)
class SkippedSource:
    """Something that is not read on purpose; ``never``: since it is no document, wherever it is."""

    source: str
    reason: str
    never: bool = False


@dataclass(frozen=True, slots=True)
class Discovery:
    """What lies under the given sources.

    Args:
        files: regular files in path order, each once.
        roots: the given files and folders as absolute paths: what a deletion is judged by.
        failed: what should be read but cannot, such as a folder without permission.
        skipped: what is not read on purpose, such as hidden files, links out of the folder and
            formats that hold no text. What was named itself is never skipped.
        gone: addresses that do not exist any more.
        listed: addresses of object stores under which everything was seen.
    """

    files: list[SourceFile] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    failed: list[FailedSource] = field(default_factory=list)
    skipped: list[SkippedSource] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document as its reader found it; the text is not cleaned yet.

    Args:
        source: the file's, with ``#key`` behind it for a record inside the file.
        title: never empty.
        text: empty or white space when there is nothing to index.
        media_type: tells how the text writes its headings (``headings.find_headings``).
        metadata: facts about the document, all strings.
        content_hash: sha256 of the file's bytes, or of the record's.
        empty_reason: why there is no text; empty when there is some.
    """

    source: str
    title: str
    text: str
    media_type: str
    metadata: Mapping[str, str]
    content_hash: str
    empty_reason: str = ""


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
        found.roots.append(_name(path))
        if path.is_dir():
            _search(path, config, files, found)
        else:
            _add(path, files, found)
    found.files.extend(files[source] for source in sorted(files))
    return found


def read(
    file: SourceFile, *, config: SourcesConfig | None = None, parser: Parser | None = None
) -> list[RawDocument | FailedSource | SkippedSource]:
    """The documents in a file: one, or one for each record of a corpus or member of an archive.

    A member that cannot become text is a ``FailedSource`` among them, one of a kind that is never
    read a ``SkippedSource``.

    Args:
        file: where it lies.
        config: how much is read.
        parser: reads risky formats in a process of its own; without it all is read in this one.

    Raises:
        ExtractionError: the file cannot become text. The message is the reason alone; the caller
            knows the source.
    """
    config = config or SourcesConfig()
    suffix = file.path.suffix.lower()
    if suffix not in READERS and suffix not in ARCHIVES:
        raise _unknown(suffix)
    reading = _Reading(config, parser)
    reading.take(file.source, _name(Path(file.path.name)), _bytes(file, config), depth=0)
    return reading.found


class _Reading:
    """One file with everything inside it."""

    def __init__(self, config: SourcesConfig, parser: Parser | None) -> None:
        self._config = config
        self._parser = parser
        self._budget = Budget(config)
        self._characters = 0  # of all texts together: each member may unpack to much more
        self.found: list[RawDocument | FailedSource | SkippedSource] = []

    def take(self, source: str, name: str, data: bytes, *, depth: int) -> None:
        """Add what ``data``, a file of this name, holds.

        Raises:
            ExtractionError: it cannot become text.
        """
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in ARCHIVES:
            if depth >= self._config.max_nesting:
                raise ExtractionError(
                    f"archives lie deeper in one another than {self._config.max_nesting} "
                    "(max_nesting)"
                )
            self._take_archive(source, data, depth)
            return
        digest = sha256_hex(data)
        extracted = (
            self._parser.parse(suffix, data) if self._parser else parse(suffix, data, self._config)
        )
        for found in extracted:
            self._characters += len(found.text)
            if self._characters > self._config.max_unpacked_bytes:
                raise ExtractionError(
                    f"the text is longer than {self._config.max_unpacked_bytes} characters, "
                    "what the same archive held before it counted (max_unpacked_bytes)"
                )
            self.found.append(_document(source, name, suffix, digest, found))
        for found in extracted:
            for attached in found.attached:
                # Others are named in the mail, and no fault; pictures are mostly its signature.
                if _is_read(attached.name) and not _is_picture(attached.name):
                    self._take_member(source, attached.name, partial(bytes, attached.data), depth)

    def _take_archive(self, source: str, data: bytes, depth: int) -> None:
        with Archive(data, self._budget) as archive:
            shown = [m for m in archive.members if not self._is_hidden(m)]
            if not shown:
                raise ExtractionError("the archive holds no files")
            unread = {m: kind for m in shown if (kind := kind_never_read(m))}
            self.found += [SkippedSource(f"{source}!/{m}", k, True) for m, k in unread.items()]
            if len(unread) == len(shown):
                reason = "the archive holds only files of kinds that are never read"
                nothing = Extracted("", empty_reason=reason)
                self.found.append(_document(source, source, ".txt", sha256_hex(data), nothing))
            for member in shown:
                if member not in unread:
                    self._take_member(source, member, partial(archive.read, member), depth)

    def _is_hidden(self, member: str) -> bool:
        *folders, name = member.split("/")
        if left_behind(name) or any(map(is_systems_folder, folders)):
            return True
        return not self._config.include_hidden and _hidden(member)

    def _take_member(
        self, source: str, name: str, content: Callable[[], bytes], depth: int
    ) -> None:
        inner = f"{source}!/{name}"
        try:
            if not _is_read(name):
                raise _unknown(PurePosixPath(name).suffix.lower())
            if depth + 1 > self._config.max_nesting:
                raise ExtractionError(
                    f"it lies deeper than {self._config.max_nesting} files (max_nesting)"
                )
            data = content()
            if not data:
                raise ExtractionError("the file is empty")
            self.take(inner, name, data, depth=depth + 1)
        except ExtractionError as error:
            self.found.append(FailedSource(inner, error.message, error.transient))


def _document(source: str, name: str, suffix: str, digest: str, found: Extracted) -> RawDocument:
    blank = not found.text.strip()
    return RawDocument(
        source=f"{source}#{found.key}" if found.key else source,
        title=clean_line(found.title) or found.key or _title_from_name(name),
        text=found.text,
        media_type=READERS[suffix].media_type,
        metadata=found.metadata,
        content_hash=sha256_hex(found.record) if found.key else digest,
        empty_reason=(found.empty_reason or "nothing but white space") if blank else "",
    )


def _hidden(member: str) -> bool:
    return any(p.startswith(".") and p != ".." for p in member.split("/"))


def _is_read(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in READERS or suffix in ARCHIVES


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURES


def _unknown(suffix: str) -> ExtractionError:
    known = sorted({*filter(None, READERS), *ARCHIVES})
    return ExtractionError(
        f"files ending in {suffix!r} are not read", hint=f"Read are {', '.join(known)}."
    )


def fingerprint(file: SourceFile) -> str:
    """Sha256 of the file's bytes, without holding them: ``content_hash`` of its one document.

    Raises:
        ExtractionError: the file cannot be opened.
    """
    digest = hashlib.sha256()
    try:
        with file.path.open("rb") as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise _unreadable(error) from error
    return digest.hexdigest()


def _bytes(file: SourceFile, config: SourcesConfig) -> bytes:
    try:
        with file.path.open("rb") as stream:
            # What counts is what is there now, not what the search saw.
            data = stream.read(config.max_bytes + 1)
    except OSError as error:
        raise _unreadable(error) from error
    if not data:
        raise ExtractionError("the file is empty")
    if len(data) > config.max_bytes:
        raise ExtractionError(
            f"the file is larger than {config.max_bytes} bytes",
            hint="Split it, or raise max_bytes.",
        )
    return data


def _unreadable(error: OSError) -> ExtractionError:
    known = {
        errno.EACCES: "permission denied",
        errno.ENOENT: "the file is gone",
        errno.EISDIR: "it is a folder now",
    }
    reason = known.get(error.errno or 0) or (error.strerror or str(error)).lower()
    return ExtractionError(f"the file cannot be opened: {reason}", transient=True)


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


def _name(path: Path) -> str:
    """The path as stored: bytes that are no UTF-8 are written out, since the store holds text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _search(
    root: Path, config: SourcesConfig, files: dict[str, SourceFile], found: Discovery
) -> None:
    real_root = os.path.realpath(root)

    def unreadable(error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        found.failed.append(
            FailedSource(_name(Path(error.filename)), f"the folder cannot be opened: {reason}")
        )

    for folder, folders, names in os.walk(root, onerror=unreadable):
        if {"corpus.jsonl", "queries.jsonl"} <= set(names) and "qrels" in folders:
            # BEIR: a query that is a document would be the best passage for itself.
            folders.remove("qrels")
            names.remove("queries.jsonl")
            found.skipped.extend(
                SkippedSource(_name(Path(folder, name)), "a BEIR folder's, for fti evaluate")
                for name in ("qrels", "queries.jsonl")
            )
        folders[:] = sorted(_enter(Path(folder), folders, config, found))
        for name in sorted(names):
            path = Path(folder, name)
            if kind := left_behind(name):
                found.skipped.append(SkippedSource(_name(path), kind, never=True))
            elif name.startswith(".") and not config.include_hidden:
                found.skipped.append(SkippedSource(_name(path), "hidden"))
            elif os.path.islink(path) and not _inside(path, real_root):  # noqa: PTH114  # no errors
                found.skipped.append(
                    SkippedSource(_name(path), "a link that leaves the folder, or leads nowhere")
                )
            elif kind := kind_never_read(name) or _kind_inside(path, name):
                found.skipped.append(SkippedSource(_name(path), kind, never=True))
            else:
                _add(path, files, found)


def _enter(
    parent: Path, folders: Sequence[str], config: SourcesConfig, found: Discovery
) -> Iterator[str]:
    for name in folders:
        path = parent / name
        if is_systems_folder(name):
            found.skipped.append(SkippedSource(_name(path), "system's folder"))
        elif name.startswith(".") and not config.include_hidden:
            found.skipped.append(SkippedSource(_name(path), "hidden"))
        elif os.path.islink(path):  # noqa: PTH114  # a link is told without errors
            found.skipped.append(SkippedSource(_name(path), "a link to a folder"))
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
    source = _name(path)
    try:
        status = path.stat()
    except OSError as error:
        found.failed.append(FailedSource(source, _unreadable(error).message))
        return
    if stat.S_ISREG(status.st_mode):
        files[source] = SourceFile(source, path, status.st_size)
    else:  # a pipe would block, a device may never end
        found.skipped.append(SkippedSource(source, "neither a file nor a folder"))


def _title_from_name(name: str) -> str:
    """``query-params.md`` as ``Query params``."""
    words = clean_line(re.sub(r"[-_\s]+", " ", PurePosixPath(name).stem))
    if not words:
        return clean_line(PurePosixPath(name).name) or "Untitled"
    return words[0].upper() + words[1:]
