"""EML: a mail's subject, addresses, body and appointments; what is attached becomes documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import PurePosixPath

from fti.pipelines.feature.reading.readers.base import Attachment, Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.markdown import heading
from fti.pipelines.feature.reading.readers.web.calendars import read_calendar
from fti.pipelines.feature.reading.readers.web.html import render_html
from fti.store.errors import ExtractionError
from fti.store.plain_text import clean, clean_line

_HEADERS = ("From", "To", "Cc", "Date")
_MAX_PARTS = 1000
_MAX_DEPTH = 20
_CALENDARS = frozenset({"text/calendar", "application/ics"})
# A plain form with fewer words may only say that there is another form.
_FEW_WORDS = 120
_MAX_HINT_BYTES = 1 << 16
_MAX_HINT = 2000
_MOSTLY = 0.7
_HALF = 0.5
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+", re.IGNORECASE)
_WORD = re.compile(r"\w+")
# Every language says HTML; what is said without it stands at the top of the other form too.
_SAYS_ELSEWHERE = re.compile(
    r"\bx?html\b"
    r"|(?:view|read|see|open|display)\w*\W+(?:\w+\W+){0,6}(?:browser|online|web\b|website)"
    r"|(?:im|in ihrem|dans (?:votre|un)|en (?:tu|su|el)|nel) (?:browser|navigateur|navegador)",
    re.IGNORECASE,
)
# What a nameless part is called, so that its name says how to read it.
_SUFFIXES = {
    "text/plain": ".txt", "text/html": ".html", "text/csv": ".csv", "text/markdown": ".md",
    "application/pdf": ".pdf", "application/json": ".json", "message/rfc822": ".eml",
    "text/calendar": ".ics",
}  # fmt: skip


def read_eml(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """One mail: of its two forms the plain text, or else the HTML; with it the appointments.

    The HTML is taken too where the plain text says little but that there is another form.

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
    body = "\n\n".join(filter(None, [*parts.bodies, *dict.fromkeys(parts.appointments)]))
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
        self.appointments: list[str] = []
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
            if kind == "multipart/alternative":
                chosen = self._best(inner)
                for child in chosen:
                    self.gather(child, depth + 1)
                for child in inner:
                    if child not in chosen:
                        self._gather_beside(child, depth + 1)
            else:
                for child in inner:
                    self.gather(child, depth + 1)
        elif kind in _CALENDARS or _name(part).lower().endswith(".ics"):
            self._appoint(part, kind)
        elif (
            kind not in ("text/plain", "text/html")
            or part.is_attachment()
            or part.get_filename()  # a file, also where the mail shows it
        ):
            self._attach(part, kind)
        else:
            self.bodies.append(self._text(part, kind))

    def _best(self, alternatives: Sequence[EmailMessage]) -> list[EmailMessage]:
        """The plain text of several forms of one thing; without it the last, the richest."""
        forms = [p for p in alternatives if p.get_content_type() not in _CALENDARS]
        plain = next(
            (p for p in forms if p.get_content_type() == "text/plain" and _payload(p).strip()), None
        )
        if plain is None:
            return forms[-1:]
        richer = next((p for p in reversed(forms) if p is not plain and _html(p)), None)
        if richer is not None and self._says_little(plain, richer):
            return [richer]
        return [plain]

    def _says_little(self, plain: EmailMessage, richer: EmailMessage) -> bool:
        """Whether a plain form is only a hint at the other one, or a part of it."""
        if len(_payload(plain)) > _MAX_HINT_BYTES:
            return False
        text = self._text(plain, "text/plain")
        said = _words(text)
        if len(said) >= _FEW_WORDS:
            return False
        page = _html(richer)
        shown = set(_words(self._text(page, "text/html"))) if page is not None else set()
        if not shown or len(shown & set(said)) >= _HALF * len(shown):
            return False  # it says what the other form says
        repeated = sum(word in shown for word in said)
        return repeated >= _MOSTLY * len(said) or bool(_SAYS_ELSEWHERE.search(text[:_MAX_HINT]))

    def _gather_beside(self, part: EmailMessage, depth: int) -> None:
        """Of a form that is not taken, what only it has: appointments and attached files."""
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_PARTS:
            return
        kind = part.get_content_type()
        if kind in _CALENDARS:
            self._appoint(part, kind)
        elif part.is_multipart() and kind != "message/rfc822":
            for child in part.iter_parts():
                if isinstance(child, EmailMessage):
                    self._gather_beside(child, depth + 1)
        elif part.is_attachment() or kind == "message/rfc822":
            self.gather(part, depth)

    def _appoint(self, part: EmailMessage, kind: str) -> None:
        """Take the appointments of a calendar up; a calendar without any is named."""
        data = _payload(part)
        try:
            text = decode(data, declared=str(part.get_content_charset() or ""))[0] if data else ""
        except ExtractionError as error:
            self.warnings.append(f"a calendar was not read: {error}")
            text = ""
        found = read_calendar(text)
        self.appointments += filter(None, [found])
        if part.get_filename() or not found:
            self._attach(part, kind)

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
        given = PurePosixPath(_name(part).replace("\\", "/")).name
        name = clean_line(given, max_characters=150) or self._nameless(kind)
        self._seen[name] += 1
        if self._seen[name] > 1:
            path = PurePosixPath(name)
            name = f"{path.stem} ({self._seen[name]}){path.suffix}"
        self.names.append(name)
        self.attached.append(Attachment(name, data))

    def _nameless(self, kind: str) -> str:
        return f"part {self._count}{_SUFFIXES.get(kind, '.' + kind.rpartition('/')[2])}"


def _html(part: EmailMessage) -> EmailMessage | None:
    """The HTML in a form: itself, or what it holds beside its pictures."""
    for one in part.walk():
        if isinstance(one, EmailMessage) and one.get_content_type() == "text/html":
            return None if one.is_attachment() else one
    return None


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_ADDRESS.sub(" ", text))]


def _name(part: EmailMessage) -> str:
    return part.get_filename() or ""


def _payload(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        return first.as_bytes() if isinstance(first, EmailMessage) else b""
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""
