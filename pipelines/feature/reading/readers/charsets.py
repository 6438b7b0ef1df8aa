"""Bytes to characters, whatever wrote them; bytes that are no text are told apart."""

from __future__ import annotations

import codecs
import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from fti.store.errors import ExtractionError

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"RIFF", "a RIFF media file"),
    (b"%PDF-", "a PDF file"),
    (b"PK\x03\x04", "a ZIP archive or an Office file"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or encrypted Office file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"OggS", "an Ogg media file"),
    (b"ID3", "an MP3 file"),
)
_SAMPLE_BYTES = 1 << 14
_MAX_CONTROL_SHARE = 0.01
# What texts that are no UTF-8 are written in, the likelier first.
_COMMON = (
    *("cp1252", "cp1250", "iso8859_2", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874"),
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr", "mac_roman"),
)
# Letters that texts are full of, so that their absence speaks against an encoding, and signs that
# stand where another encoding has such a letter.
_FREQUENT = frozenset(
    "оеаинтсрвлОЕАИНТСРВЛ" "αοιετσνηυρ" "יוהלאתרבשמ" "ايلمنوتربة" "านรอกเงมย"
    "的一是不了在人有我他这这中大来上国個说们為子和你地出道也時年得就那要下以生会自着去之過家學对可"
    "她里后小么心多天而能好都然没日于起还發成事只作当想看文無開手十用主行方又如前所本見經頭面"
)  # fmt: skip
_ACCENTED = frozenset("éèàçùêâîôûëïöäüßñóáíúãõåæøěščřžůýąćęłńśźżőű")
_RARE = frozenset("ðþÐÞµªº¸¹²³")
_EAST_ASIAN_SCRIPTS = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL"})
_ORDINARY_CONTROLS = frozenset(b"\t\n\r\x0b\x0c\x1b\x08")


def decode(data: bytes, *, declared: str = "") -> tuple[str, str]:
    """The text and the name of its encoding.

    A byte-order mark decides; then UTF-8 when the bytes are valid; then ``declared``; then what
    charset-normalizer finds; then Windows-1252.

    Raises:
        ExtractionError: the bytes are not text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _strictly(data, encoding), encoding.removesuffix("-sig")
    wide = _wide_encoding(data)
    if wide:
        return _strictly(data, wide), wide
    _refuse_binary(data)
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        broken_at = error.start
    for encoding in _candidates(data, declared, broken_at):
        try:
            text = data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" not in text:
            return text, encoding
    # Windows-1252 leaves five bytes undefined; a text with a stray one is still a text.
    return data.decode("cp1252", errors="replace"), "cp1252"


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ExtractionError(
            f"the text begins as {encoding} but byte {error.start} does not continue it",
            hint="Save it again as UTF-8.",
        ) from error


def _wide_encoding(data: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: ASCII characters leave NULs at every other place."""
    sample = data[:_SAMPLE_BYTES]
    sample = sample[: len(sample) // 4 * 4]
    if len(sample) < 4 or sample.count(0) < len(sample) // 4:
        return ""
    share = [sample[i::4].count(0) / (len(sample) // 4) for i in range(4)]
    full, none = 0.6, 0.1
    if min(share[1:]) > full and share[0] < none:
        return "utf-32-le"
    if min(share[:3]) > full and share[3] < none:
        return "utf-32-be"
    if min(share[1], share[3]) > full and max(share[0], share[2]) < none:
        return "utf-16-le"
    if min(share[0], share[2]) > full and max(share[1], share[3]) < none:
        return "utf-16-be"
    return ""


def _refuse_binary(data: bytes) -> None:
    for magic, what in _MAGIC:
        if data.startswith(magic):
            raise ExtractionError(
                f"the file is {what}, not text", hint="Give it the suffix of what it is."
            )
    sample = data[:_SAMPLE_BYTES]
    if b"\0" in data:
        raise ExtractionError(f"the file is binary: a NUL at byte {data.index(0)}")
    controls = sum(1 for byte in sample if byte < 0x20 and byte not in _ORDINARY_CONTROLS)
    if controls > _MAX_CONTROL_SHARE * len(sample):
        raise ExtractionError(
            f"the file is binary: {controls} control characters in its first {len(sample)} bytes"
        )


def _candidates(data: bytes, declared: str, broken_at: int) -> Iterator[str]:
    if declared:
        # Browsers read latin-1 as Windows-1252, and so does everyone who declares it.
        latin = declared.lower() in {"iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"}
        yield "cp1252" if latin else declared
    # A sample keeps detection quick. It begins where UTF-8 failed: all may be ASCII before that.
    start = max(0, broken_at - 64)
    yield from _by_plausibility(data[start : start + _SAMPLE_BYTES])
    yield "cp1252"


def _by_plausibility(sample: bytes) -> list[str]:
    """Encodings that can read ``sample``, the most plausible first.

    charset-normalizer knows many, but of those with one byte a character it often names a rare
    sibling; so the common ones compete with its choice by how the decoded words look.
    """
    from charset_normalizer import from_bytes

    with silenced("charset_normalizer"):
        best = from_bytes(sample).best()
    names = [*_COMMON, *([best.encoding] if best and best.encoding not in _COMMON else [])]
    scores: dict[str, float] = {}
    for rank, name in enumerate(names):
        try:
            # Not final: the sample may end inside a character.
            text = codecs.getincrementaldecoder(name)().decode(sample)
        except (UnicodeDecodeError, LookupError):
            continue
        scores[name] = _strangeness(text) + 0.05 * rank
    return sorted(scores, key=lambda name: scores[name])


def _strangeness(text: str) -> float:
    """How unlike words the characters outside ASCII stand, summed; words as usual go below 0."""
    return sum(
        _strange(before, c, after)
        for before, c, after in zip(f" {text}", text, f"{text[1:]} ", strict=False)
        if not c.isascii()
    )


def _strange(before: str, c: str, after: str) -> float:
    category = unicodedata.category(c)
    if category[0] == "C":
        return 5.0
    if category[0] not in "LM":
        if c in "\u00a0–—‘’“”„«»…•·€£°§、。，：；！？「」『』（）《》":
            return 0.1
        if c in "¿¡" and not before.isalpha():
            return 0.1
        return 0.2 + before.isalpha() + after.isalpha()
    script = _script(c)
    neighbours = [n for n in (before, after) if n.isalpha()]
    if script == "EAST ASIAN":
        # Latin words stand right beside, if seldom on both sides.
        cost = 0.5 * sum(_script(n) != script for n in neighbours)
        kana = "\u3040" <= c <= "\u30ff"
        syllable = "\uac00" <= c <= "\ud7a3"
        return cost + (-0.3 if kana or syllable or c in _FREQUENT else 0.3)
    cost = 2.0 * sum(_script(n) != script for n in neighbours) + (c in _RARE) * 0.3
    if script == "LATIN":
        if sum(not n.isascii() for n in neighbours) == 2:
            cost += 2  # accents do not come in rows
        cost -= (c in _ACCENTED) * 0.1
    elif script in {"HALFWIDTH", "FULLWIDTH"}:
        cost += 1
    elif not neighbours:
        cost += 0.5  # no word of one letter
    else:
        cost -= (c in _FREQUENT) * 0.3
    if c.isupper() and before.isalpha() and not before.isascii():
        cost += 0.5 if before.isupper() else 1.5
    if c.islower() and after.isupper():
        cost += 1
    return cost


@cache
def _script(character: str) -> str:
    name = unicodedata.name(character, "?")
    script = name.split(" ", 1)[0]
    if script == "HANGUL" and "LETTER" in name:
        return "HALFWIDTH"  # a lone part of a syllable, as strange as those
    return "EAST ASIAN" if script in _EAST_ASIAN_SCRIPTS else script


@contextmanager
def silenced(logger_name: str) -> Iterator[None]:
    """Keep a library's remarks on strange input out of our logs while the block runs."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
