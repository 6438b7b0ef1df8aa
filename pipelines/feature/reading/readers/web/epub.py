"""EPUB: the chapters of a book in reading order, each through the reader of HTML."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.package import Package
from fti.pipelines.feature.reading.readers.web.html import render_html
from fti.pipelines.feature.reading.readers.web.xml import parse_xml
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean, clean_line

_CONTAINER = "META-INF/container.xml"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_CHAPTERS = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
_MAX_WARNED = 5


def read_epub(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """All of a book's chapters in the order of its spine; its own table of contents is left out.

    A chapter that cannot be read is left out and named in the warnings.

    Raises:
        ExtractionError: not an EPUB, truncated, with copy protection, or a decompression bomb.
    """
    package = Package(data, config, kind="EPUB", needs=_CONTAINER)
    path, book = _open(package)
    locked = _encrypted(package)
    texts: list[str] = []
    broken: list[str] = []
    for name in _spine(path, book):
        if name in locked:
            raise ExtractionError(
                "the book is encrypted (copy protection)", hint="Only books without it are read."
            )
        try:
            text = clean(render_html(package.read(name), config, whole=True).text)
        except ExtractionError as error:
            broken.append(f"{name!r} was not read: {error.message}")
            continue
        if text.strip():
            texts.append(text)
    if broken and not texts:
        raise ExtractionError(broken[0])
    found = {key: clean_line(book.findtext(f".//{_DC}{key}") or "") for key in ("title", "creator")}
    metadata = facts(
        author=found["creator"],
        language=book.findtext(f".//{_DC}language"),
        chapters=len(texts),
        warnings="; ".join(broken[:_MAX_WARNED]),
    )
    return [
        Extracted(
            "\n\n".join(texts),
            title=found["title"],
            metadata=metadata,
            empty_reason="no text in its chapters",
        )
    ]


def _open(package: Package) -> tuple[str, Any]:
    """Where the book's own description lies, and its root element."""
    for rootfile in parse_xml(package.read(_CONTAINER)).iter("{*}rootfile"):
        path = rootfile.get("full-path") or ""
        if path in package:
            return path, parse_xml(package.read(path))
    raise ExtractionError("the EPUB does not say where its book begins")


def _spine(path: str, book: Any) -> Iterator[str]:
    folder = posixpath.dirname(path)
    chapters: dict[str, str] = {}
    for entry in book.iter(_OPF + "item"):
        is_contents = "nav" in (entry.get("properties") or "").split()
        if entry.get("media-type") in _CHAPTERS and not is_contents:
            href = unquote((entry.get("href") or "").partition("#")[0])
            chapters[entry.get("id") or ""] = posixpath.normpath(posixpath.join(folder, href))
    order = [ref.get("idref") or "" for ref in book.iter(_OPF + "itemref")]
    yield from (chapters[ref] for ref in dict.fromkeys(order) if ref in chapters)


def _encrypted(package: Package) -> frozenset[str]:
    """Parts that only a reader with a key opens. Fonts are often among them, and do not matter."""
    if "META-INF/encryption.xml" not in package:
        return frozenset()
    references = parse_xml(package.read("META-INF/encryption.xml")).iter("{*}CipherReference")
    return frozenset(unquote(r.get("URI") or "") for r in references)
