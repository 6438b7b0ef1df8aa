"""EML: a mail's subject, addresses and body; what is attached becomes documents of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import PurePosixPath

from fti.pipelines.feature.reading.cleaning import clean, clean_line
from fti.pipelines.feature.reading.readers.base import Attachment, Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.html import render_html
from fti.pipelines.feature.reading.readers.markdown import heading
from fti.store.errors import ExtractionError

_HEADERS = ("From", "To", "Cc", "Date")
_MAX_PARTS = 1000
_MAX_DEPTH = 20
# What a nameless part is called, so that its name says how to read it.
_SUFFIXES = {
    "text/plain": ".txt", "text/html": ".html", "text/csv": ".csv", "text/markdown": ".md",
    "application/pdf": ".pdf", "application/json": ".json", "message/rfc822": ".eml",
}  # fmt: skip


def read_eml(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """One mail: of its two forms the plain text, or else the HTML.

    Raises:
        ExtractionError: no mail at all.
    """
    import email
    from email.policy import default

    if not data.strip():
        return [Extracted("", empty_reason="nothing but white space")]
    message = email.message_from_bytes(_narrow(data), policy=default)
    headers = {name: _header(message, name) for name in ("Subject", *_HEADERS)}
    if not any(headers.values()) and (not message.keys() or message.defects):
        raise ExtractionError(
            "the file is no mail: it does not begin with headers",
            hint="Give it the suffix of what it is.",
        )
    parts = _Parts(config)
    parts.gather(message, 0)
    body = "\n\n".join(filter(None, parts.bodies))
    if not body.strip() and not headers["Subject"] and not parts.attached:
        return [Extracted("", empty_reason="no subject and no text")]
    lines = [f"{name}: {headers[name]}" for name in _HEADERS if headers[name]]
    if parts.names:
        lines.append(f"Attachments: {', '.join(parts.names)}")
    metadata = facts(
        **{"from": headers["From"], "to": headers["To"], "date": headers["Date"]},
        attachments=", ".join(parts.names),
        warnings="; ".join(parts.warnings),
    )
    blocks = [heading(1, headers["Subject"]), "\n".join(lines), body]
    return [
        Extracted(
            "\n\n".join(filter(None, blocks)),
            title=headers["Subject"],
            metadata=metadata,
            attached=tuple(parts.attached),
        )
    ]


def _narrow(data: bytes) -> bytes:
    """The mail in bytes of ASCII: some are saved as UTF-16, which no header can be."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")) or 0 in data[:4]:
        return decode(data)[0].encode("utf-8")
    return data


def _header(message: EmailMessage, name: str) -> str:
    try:
        return clean_line(str(message.get(name) or ""), max_characters=500)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError):
        # The standard library's own parser of addresses gives up on some.
        raw = next((v for k, v in message.raw_items() if k.lower() == name.lower()), "")
        return clean_line(str(raw), max_characters=500)


class _Parts:
    """What a message is made of."""

    def __init__(self, config: SourcesConfig) -> None:
        self._config = config
        self._seen: Counter[str] = Counter()
        self._count = 0
        self.bodies: list[str] = []
        self.names: list[str] = []
        self.attached: list[Attachment] = []
        self.warnings: list[str] = []

    def gather(self, part: EmailMessage, depth: int) -> None:
        """Take up a part and those inside it."""
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_PARTS:
            raise ExtractionError(
                f"the mail has more than {_MAX_PARTS} parts, or they lie deeper than {_MAX_DEPTH}"
            )
        kind = part.get_content_type()
        if kind == "message/rfc822":
            self._attach(part, kind)
        elif part.is_multipart():
            inner = [p for p in part.iter_parts() if isinstance(p, EmailMessage)]
            for child in _best(inner) if kind == "multipart/alternative" else inner:
                self.gather(child, depth + 1)
        elif (
            kind not in ("text/plain", "text/html")
            or part.is_attachment()
            or part.get_filename()  # a file, also where the mail shows it
        ):
            self._attach(part, kind)
        else:
            self.bodies.append(self._text(part, kind))

    def _text(self, part: EmailMessage, kind: str) -> str:
        data = _payload(part)
        if not data.strip():
            return ""
        charset = str(part.get_content_charset() or "")
        try:
            if kind == "text/html":
                return clean(render_html(data, self._config, whole=True, declared=charset).text)
            # A 7-bit charset such as ISO-2022-JP is valid UTF-8 too, and means something else.
            if charset.startswith("iso-2022"):
                return clean(data.decode(charset, "replace"))
            return clean(decode(data, declared=charset)[0])
        except (ExtractionError, LookupError) as error:
            self.warnings.append(f"a part of the text was not read: {error}")
            return ""

    def _attach(self, part: EmailMessage, kind: str) -> None:
        data = _payload(part)
        if not data:
            return
        given = PurePosixPath((part.get_filename() or "").replace("\\", "/")).name
        name = clean_line(given, max_characters=150) or self._nameless(kind)
        self._seen[name] += 1
        if self._seen[name] > 1:
            path = PurePosixPath(name)
            name = f"{path.stem} ({self._seen[name]}){path.suffix}"
        self.names.append(name)
        self.attached.append(Attachment(name, data))

    def _nameless(self, kind: str) -> str:
        return f"part {self._count}{_SUFFIXES.get(kind, '.' + kind.rpartition('/')[2])}"


def _best(alternatives: list[EmailMessage]) -> Iterator[EmailMessage]:
    """The plain text of several forms of one thing; without it the last, which is the richest."""
    for part in alternatives:
        if part.get_content_type() == "text/plain" and _payload(part).strip():
            yield part
            return
    yield from alternatives[-1:]


def _payload(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        return first.as_bytes() if isinstance(first, EmailMessage) else b""
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""
