"""One file read to the documents in it: a document, an archive's, a mail's."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from fti.pipelines.feature.finding.archives import ARCHIVES, Archive, Budget
from fti.pipelines.feature.finding.discovering import shown_name
from fti.pipelines.feature.finding.sources import (
    FailedSource,
    RawDocument,
    SkippedSource,
    SourceFile,
    _unreadable,
)
from fti.pipelines.feature.finding.unread import is_systems_folder, kind_never_read, left_behind
from fti.pipelines.feature.reading.parsing import Parser, parse
from fti.pipelines.feature.reading.readers import READERS, Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.pages.pictures import PICTURES
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean_line
from fti.store.types import sha256_hex


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
    if not is_read(file.path.name):
        raise _unknown(file.path.suffix.lower())
    reading = _Reading(config, parser)
    reading.take(file.source, shown_name(Path(file.path.name)), _bytes(file, config), depth=0)
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
                if is_read(attached.name) and not _is_picture(attached.name):
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
            if not is_read(name):
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


def is_read(name: str) -> bool:
    """Whether files of this name are read, archives included."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in READERS or suffix in ARCHIVES


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURES


def _unknown(suffix: str) -> ExtractionError:
    known = sorted({*filter(None, READERS), *ARCHIVES})
    return ExtractionError(
        f"files ending in {suffix!r} are not read", hint=f"Read are {', '.join(known)}."
    )


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


def _title_from_name(name: str) -> str:
    """``query-params.md`` as ``Query params``."""
    words = clean_line(re.sub(r"[-_\s]+", " ", PurePosixPath(name).stem))
    if not words:
        return clean_line(PurePosixPath(name).name) or "Untitled"
    return words[0].upper() + words[1:]
