"""What a user names, as values: files that were found, what was not taken, documents in them.

Names are data: a path with line breaks or ``..`` in a file's name is kept as it is, and whoever
prints it escapes it. What lies in an archive or is attached to a mail is named
``archive.zip!/folder/member.md``.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fti.store.errors import ExtractionError

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


def _unreadable(error: OSError) -> ExtractionError:
    known = {
        errno.EACCES: "permission denied",
        errno.ENOENT: "the file is gone",
        errno.EISDIR: "it is a folder now",
    }
    reason = known.get(error.errno or 0) or (error.strerror or str(error)).lower()
    return ExtractionError(f"the file cannot be opened: {reason}", transient=True)
