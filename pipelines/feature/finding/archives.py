"""ZIP archives of documents, opened within bounds: how many members, how large, how dense.

Nothing is written to disk. A member's name is only a name here, but one that leaves the archive
(``../``, ``/etc``) tells of an attack on whoever unpacks it, so the member is refused.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from fti.pipelines.feature.reading.readers.base import SourcesConfig
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean_line

#: Suffixes of the archives that are opened.
ARCHIVES = frozenset({".zip"})

_BLOCK = 1 << 20
_SMALL = 1 << 16  # below this a ratio says nothing: a page of blanks packs a thousand times
_ENTRY = b"PK\x01\x02"  # before each line of an archive's list of contents
_INNER_PARTS = 8  # Office files are archives too, whose lists of contents look the same
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, OverflowError,
    RuntimeError, UnicodeDecodeError, ValueError, struct.error,
)  # fmt: skip


class Budget:
    """What may still be unpacked of one file, archives inside archives included."""

    def __init__(self, config: SourcesConfig) -> None:
        self.config = config
        self.members = config.max_members
        self.bytes = config.max_unpacked_bytes


class Archive:
    """The files in an archive, in the order of its list of contents.

    Args:
        data: the archive.
        budget: what is left to unpack; each archive and member takes its part.

    Raises:
        ExtractionError: not a ZIP archive, truncated, or with more members than allowed.
    """

    def __init__(self, data: bytes, budget: Budget) -> None:
        self._budget = budget
        limit = budget.config.max_members
        # Before the list is read: a million lines of it would take a gigabyte.
        if data.count(_ENTRY) > _INNER_PARTS * limit:
            raise _too_many(limit)
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGE as error:
            raise ExtractionError(
                f"the file is not a whole ZIP archive: {_reason(error)}",
                hint="It may be truncated; copy it again.",
            ) from error
        files = [i for i in self._archive.infolist() if not i.is_dir()]
        budget.members -= len(files)
        if budget.members < 0:
            raise _too_many(limit)
        self._infos = {_name(info): info for info in files}
        self.members: Sequence[str] = list(self._infos)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._archive.close()

    def read(self, member: str) -> bytes:
        """The content of one of ``members``.

        Raises:
            ExtractionError: encrypted, damaged, too large, packed too densely, or with a name that
                leaves the archive.
        """
        info = self._infos[member]
        if member.startswith("/") or ".." in member.split("/") or member[1:2] == ":":
            raise ExtractionError("its name leads out of the archive")
        if info.flag_bits & 0x1:
            raise ExtractionError(
                "the member is encrypted", hint="Pack it again without a password."
            )
        config = self._budget.config
        if info.file_size > config.max_bytes:
            raise ExtractionError(f"the file is larger than {config.max_bytes} bytes")
        ratio = info.file_size / max(info.compress_size, 1)
        if info.file_size > _SMALL and ratio > config.max_ratio:
            raise ExtractionError(
                f"it unpacks to {ratio:.0f} times its size, more than {config.max_ratio} "
                "(max_ratio): it may be a decompression bomb"
            )
        if info.file_size > self._budget.bytes:
            raise ExtractionError(
                f"the archive unpacks to more than {config.max_unpacked_bytes} bytes "
                "(max_unpacked_bytes)"
            )
        try:
            with self._archive.open(info) as stream:
                # Never more than the archive says of it: zipfile stops there.
                blocks = list(iter(lambda: stream.read(_BLOCK), b""))
        except _DAMAGE as error:
            raise ExtractionError(f"the member is damaged: {_reason(error)}") from error
        data = b"".join(blocks)
        self._budget.bytes -= len(data)
        return data


def _name(info: zipfile.ZipInfo) -> str:
    """The member's name in the archive's own words; UTF-8 that is not marked as such is read so."""
    name = info.filename
    if not info.flag_bits & 0x800:  # zipfile took it for the character set of DOS
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            return name.replace("\\", "/")
    return name.replace("\\", "/")


def _too_many(limit: int) -> ExtractionError:
    return ExtractionError(
        f"the archive holds more than {limit} files (max_members)",
        hint="Unpack it and name the folder, or raise features.sources.max_members.",
    )


def _reason(error: Exception) -> str:
    return clean_line(str(error) or type(error).__name__, max_characters=150)
