"""What every reader is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from fti.store.plain_text import clean_line
from fti.store.types import Value

_MIB = 1 << 20
MAX_METADATA_KEYS = 32
MAX_METADATA_CHARACTERS = 500


#: Waiting for a file ends after so many times its limit of processor time: a busy machine slows
#: innocent files down, and only what sleeps or waits is not stopped by its processor time.
WALL_FACTOR = 10


class OcrConfig(Value):
    """How scanned pages and pictures are read, by Debian's ``tesseract``."""

    enabled: bool = Field(
        default=True,
        description="Whether scanned pages and pictures are read where tesseract is installed.",
    )
    languages: str = Field(
        default="eng",
        max_length=200,
        pattern=r"^\w+(/\w+)?(\+\w+(/\w+)?)*$",
        description="The languages to expect, as tesseract names them, such as `deu+eng`. "
        "`tesseract --list-langs` says which are installed.",
    )
    dpi: int = Field(
        default=300, ge=100, le=600, description="How finely pages are drawn before they are read."
    )
    page_timeout_s: float = Field(
        default=60,
        gt=0,
        description="A page that takes more seconds of processor time is given up, as is one that "
        "takes ten times as long by the clock.",
    )
    max_pages: int = Field(
        default=200,
        ge=1,
        description="Pages of one document that are read so, at most; the others are named in the "
        "report. A page takes about four seconds.",
    )
    max_pixels: int = Field(
        default=100_000_000,
        ge=1_000_000,
        description="A larger picture is refused: it may be a decompression bomb.",
    )


class SourcesConfig(Value):
    """What is read and how much of it."""

    max_bytes: int = Field(
        default=100 * _MIB,
        ge=1,
        description="A larger file is refused. Files are held in memory while they are read.",
    )
    max_unpacked_bytes: int = Field(
        default=400 * _MIB,
        ge=1,
        description="An archive or Office file that unpacks to more, or a file whose text is "
        "longer in characters, is refused: it may be a decompression bomb.",
    )
    max_members: int = Field(
        default=10_000,
        ge=1,
        description="An archive with more members is refused; members of archives inside count.",
    )
    max_ratio: int = Field(
        default=200,
        ge=2,
        description="A member of an archive that unpacks to more than this many times its packed "
        "size is refused. Text packs 3 to 20 times, a bomb a thousand times.",
    )
    max_nesting: int = Field(
        default=3,
        ge=1,
        le=16,
        description="How deep archives and messages may lie in one another.",
    )
    isolate: bool = Field(
        default=True,
        description="Whether formats with large parsers are read in a process of their own, so "
        "that a file which hangs or kills it is a line in the report.",
    )
    timeout_s: float = Field(
        default=120,
        gt=0,
        description="A file whose reading takes more seconds of processor time is given up, as is "
        "one that takes ten times as long by the clock. Only with `isolate`.",
    )
    max_memory_bytes: int = Field(
        default=3072 * _MIB,
        ge=512 * _MIB,
        description="Address space of the reading process; a file that needs more is given up. "
        "Only with `isolate`, and where the system knows such limits (not macOS).",
    )
    ocr: OcrConfig = OcrConfig()
    json_text: str = Field(
        default="",
        max_length=200,
        description="Field of JSON records that holds their text, such as `body` or `post.text`. "
        "Each record is then a document, with its other plain fields as metadata. Empty: a file is "
        "one document of all its records.",
    )
    max_pages: int = Field(
        default=1000,
        ge=1,
        description="Pages of a sitemap, or objects under an s3:// or gs:// address, at most.",
    )
    fetch_timeout_s: float = Field(
        default=30, gt=0, description="A page that takes longer to come is given up."
    )
    allow_private_addresses: bool = Field(
        default=False,
        description="Whether http(s) addresses that lead into a private network, or to this "
        "machine, are fetched.",
    )
    include_hidden: bool = Field(
        default=False,
        description="Whether files and folders whose name begins with a dot are read when a "
        "folder is given. A hidden file that is named itself is always read.",
    )


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came inside another one, to be read by what its name says."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of one document, not cleaned yet.

    Args:
        text: empty when there is none to find.
        title: what the document itself says; empty when it says nothing.
        metadata: facts found in the document.
        key: which record of the file this is; empty for the whole file.
        record: the record's own bytes, for its content hash.
        empty_reason: why there is no text, where the reader knows more than that.
        attached: files inside this one that become documents of their own.
    """

    text: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    record: bytes = b""
    empty_reason: str = ""
    attached: tuple[Attachment, ...] = ()


def facts(**values: object) -> dict[str, str]:
    """Metadata from values: those that are empty left out, the others one bounded line each."""
    return {
        key: clean_line(str(value), max_characters=MAX_METADATA_CHARACTERS)
        for key, value in values.items()
        if value is not None and str(value).strip()
    }
