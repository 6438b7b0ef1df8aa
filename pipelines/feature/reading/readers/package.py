"""Files that are ZIP packages of parts (Office, OpenDocument, EPUB), looked at before a parser is.

An archive of documents is another thing: see ``fti.pipelines.feature.finding.archives``.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence

from fti.pipelines.feature.reading.cleaning import clean_line
from fti.pipelines.feature.reading.readers.base import SourcesConfig
from fti.store.errors import ExtractionError

OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MAX_PARTS = 20_000
_DECLARATION_BYTES = 4096
_DAMAGE = (
    zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error,
)  # fmt: skip


def inspect_package(data: bytes, config: SourcesConfig, *, kind: str, needs: str) -> None:
    """Refuse what must not reach a parser of Office files.

    Args:
        data: the file.
        config: how much it may unpack to.
        kind: such as ``DOCX``, for the messages.
        needs: a part that every file of the kind has.

    Raises:
        ExtractionError: encrypted, truncated, another format, a decompression bomb, or with
            entities in its XML.
    """
    if data.startswith(OLD_OFFICE):
        raise ExtractionError(
            f"the file is encrypted, or of an old Office format with the suffix of {kind}",
            hint=f"Save it again as {kind} without a password.",
        )
    package = Package(data, config, kind=kind, needs=needs)
    for name in package.names:
        if name.endswith((".xml", ".rels")):
            _refuse_entities(name, package.read(name, _DECLARATION_BYTES), kind)


def not_whole(kind: str, error: Exception) -> ExtractionError:
    """The error for a file that its parser could not take for one of its kind."""
    return ExtractionError(
        f"the file is not a whole {kind} file: {clean_line(str(error), max_characters=150)}",
        hint="It may be truncated; copy or save it again.",
    )


class Package:
    """The parts of a package, bounded.

    Raises:
        ExtractionError: as ``inspect_package``; entities are not looked for.
    """

    def __init__(self, data: bytes, config: SourcesConfig, *, kind: str, needs: str) -> None:
        self._kind = kind
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except _DAMAGE as error:
            raise not_whole(kind, error) from error
        parts = self._archive.infolist()
        unpacked = sum(part.file_size for part in parts)
        if len(parts) > _MAX_PARTS or unpacked > config.max_unpacked_bytes:
            raise ExtractionError(
                f"the file unpacks to {unpacked} bytes in {len(parts)} parts, "
                f"more than {config.max_unpacked_bytes} bytes or {_MAX_PARTS} parts"
            )
        self.names: Sequence[str] = [part.filename for part in parts]
        self._known = frozenset(self.names)
        if needs not in self._known:
            article = "an" if kind[0] in "AEIOU" else "a"
            raise ExtractionError(f"the file is a ZIP archive, not {article} {kind} file")

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def read(self, name: str, max_bytes: int = -1) -> bytes:
        """A part, or its first bytes.

        Raises:
            ExtractionError: there is no such part, or it is damaged or encrypted.
        """
        if name not in self:
            raise ExtractionError(f"the {self._kind} file lacks its part {name!r}")
        try:
            with self._archive.open(name) as stream:
                return stream.read(max_bytes)
        except _DAMAGE as error:
            raise not_whole(self._kind, error) from error


def _refuse_entities(name: str, head: bytes, kind: str) -> None:
    # Office writes no document type; with one come entities that read files or never stop growing.
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head or b"<\x00!\x00" in head:
        raise ExtractionError(f"the part {name!r} declares a document type, which no {kind} does")
