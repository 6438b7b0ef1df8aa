"""Files of other formats that a Word document shows as parts of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from fti.pipelines.feature.reading.readers.base import SourcesConfig
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.web.html import render_html
from fti.store.errors import ExtractionError


def inserted_text(name: str, data: bytes, config: SourcesConfig) -> str:
    """The text of a file, read as the ending of its name says.

    Raises:
        ExtractionError: it cannot be read, or files of its format are not.
    """
    read = _READERS.get(PurePosixPath(name).suffix.lower())
    if read is None:
        raise ExtractionError("files of its format are not read here")
    return read(data, config)


def _html(data: bytes, config: SourcesConfig) -> str:
    return render_html(data, config, whole=True).text


def _mail(data: bytes, config: SourcesConfig) -> str:
    """A web page in one file: a message whose first HTML part is the page."""
    import email
    from email.policy import default

    message = email.message_from_bytes(data, policy=default)
    for part in message.walk():
        if part.get_content_type() == "text/html":
            page = part.get_payload(decode=True)
            if isinstance(page, bytes) and page.strip():
                charset = str(part.get_content_charset() or "")
                return render_html(page, config, whole=True, declared=charset).text
    return ""


def _text(data: bytes, config: SourcesConfig) -> str:
    return decode(data)[0]


_READERS: dict[str, Callable[[bytes, SourcesConfig], str]] = {
    ".htm": _html, ".html": _html, ".xhtml": _html,
    ".mht": _mail, ".mhtml": _mail, ".txt": _text,
}  # fmt: skip
