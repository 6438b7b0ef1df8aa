"""Files that are ZIP packages of parts (Office, OpenDocument, EPUB), looked at before a parser is.

An archive of documents is another thing: see ``fti.pipelines.feature.finding.archives``.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from fti.pipelines.feature.reading.readers.base import SourcesConfig
from fti.pipelines.feature.reading.readers.web.xml import parse_xml
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean_line

OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MAX_PARTS = 20_000
_DECLARATION_BYTES = 4096
_RELATIONSHIP = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
# The names of ISO's strict variant, as parts of what everybody else writes.
_STRICT = (
    (
        b"http://purl.oclc.org/ooxml/wordprocessingml/",
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/",
    ),
    (
        b"http://purl.oclc.org/ooxml/drawingml/",
        b"http://schemas.openxmlformats.org/drawingml/2006/",
    ),
    (
        b"http://purl.oclc.org/ooxml/officeDocument/",
        b"http://schemas.openxmlformats.org/officeDocument/2006/",
    ),
)
_DAMAGE = (
    zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error,
)  # fmt: skip


def inspect_package(
    data: bytes,
    config: SourcesConfig,
    *,
    kind: str,
    needs: str,
    parsed: Collection[str] | None = None,
) -> Package:
    """Refuse what must not reach a parser of Office files.

    Args:
        data: the file.
        config: how much it may unpack to.
        kind: such as ``DOCX``, for the messages.
        needs: a part that every file of the kind has.
        parsed: the parts that a parser is given unseen; None: all of them.

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
        if name.endswith((".xml", ".rels")) and (parsed is None or name in parsed):
            package.refuse_entities(name)
    return package


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

    def refuse_entities(self, name: str) -> None:
        """Make sure that a part declares no document type.

        Raises:
            ExtractionError: it does; or as ``read``.
        """
        head = self.read(name, _DECLARATION_BYTES)
        # Office writes none; with one come entities that read files or never stop growing.
        if b"<!DOCTYPE" in head or b"<!ENTITY" in head or b"<\x00!\x00" in head:
            raise ExtractionError(
                f"the part {name!r} declares a document type, which no {self._kind} does"
            )

    def xml(self, name: str) -> Any:
        """The root element of a part, in the names of the common variant of Office's formats.

        Raises:
            ExtractionError: it declares a document type, is not well-formed, or as ``read``.
        """
        self.refuse_entities(name)
        data = self.read(name)
        if b"//purl.oclc.org/ooxml/" in data:
            for strict, common in _STRICT:
                data = data.replace(strict, common)
        return parse_xml(data)


@dataclass(frozen=True, slots=True)
class Relation:
    """What a part points at: the last word of the relation's type, and the part's name."""

    kind: str
    target: str


class OfficeParts:
    """The parts of an Office file, found through what points at them.

    Args:
        package: the file.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self._by_lower_case = {name.lower(): name for name in package.names}

    def main(self) -> str:
        """The name of the document's own part; empty where there is none."""
        for relation in self.relations("").values():
            if relation.kind == "officeDocument" and relation.target in self.package:
                return relation.target
        return ""

    def relations(self, part: str) -> Mapping[str, Relation]:
        """What a part points at inside the file, by id; the file itself is the part ``""``."""
        path = PurePosixPath(part)
        rels = self._known(
            str(path.parent / "_rels" / f"{path.name}.rels" if part else "_rels/.rels")
        )
        if not rels:
            return {}
        return {
            str(one.get("Id")): Relation(
                (one.get("Type") or "").rpartition("/")[2],
                self._known(_target(path.parent, one.get("Target") or "")),
            )
            for one in self.package.xml(rels).iter(_RELATIONSHIP)
            if one.get("TargetMode") != "External"
        }

    def related(self, part: str, kind: str) -> str:
        """The first part of a kind that ``part`` points at; empty where there is none."""
        return next((r.target for r in self.relations(part).values() if r.kind == kind), "")

    def _known(self, name: str) -> str:
        return self._by_lower_case.get(name.lower(), "")


def _target(folder: PurePosixPath, target: str) -> str:
    target = target.replace("\\", "/")
    return normpath(target if target.startswith("/") else f"/{folder}/{target}").lstrip("/")
