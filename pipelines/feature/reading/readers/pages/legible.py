"""Whether the text of a page is text at all.

A font without a usable mapping to Unicode gives the names of its glyphs, their numbers, private
characters, or letters that stand for others. On the screen such a page reads well; as text it is
noise, which would be embedded, found and cited.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

#: More of a page than this in glyph names or unmapped characters, and the page is not read.
_UNREADABLE = 0.2
#: From so many on, they are worth a remark although the page is read.
_REMARKABLE = 30
_MIN_LETTERS = 120  # fewer tell nothing about a language
_MIN_SIGNS = 80
_SAMPLE = 400  # characters of a page's beginning, middle and end; all would be slow
# Names such as /g135 or /G3A one after the other (a path has a word now and then), names of one to
# three letters in longer rows, and numbers of characters as pdfminer writes them.
_NAMES = re.compile(
    r"(?:/(?=[A-Za-z._]{0,11}\d)[\w.]{1,12}\s*){4,}"
    r"|(?:/[A-Za-z]{1,3}(?=[/\s]|$)\s*){6,}"
    r"|(?:\(cid:\d{1,7}\)\s*)+"
)
_UNMAPPED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff\ufffd\U000f0000-\U0010ffff]"
)
_REPEATED = re.compile(r"([^\w\s])(?:\s*\1)+")  # leaders of a table of contents, rules of dashes
_SIGN = re.compile(r"[^\w\s]|_")
_NOT_LATIN = re.compile("[^a-z]+")
_LATIN_END = "\u0250"
# How well a Latin letter follows another, or a word's edge, from 0 (hardly ever) to 9: nine plus
# the binary logarithm of the share, over the first article of the Declaration of Human Rights in
# all languages that are written in Latin letters, and English prose. Rows and columns are a space
# and a to z.
_FOLLOWS = (
    "065454434535455441456434142743341233434546132545323141572027002600300600520502040"
    "460216007603300600214500020760036013610202500430502023742344132423446121655222231"
    "760015401601301700614402020773026124513305500333623220670017000601212611313511020"
    "744444342324547331555122231670216002643123520013601010670006023613212520132604020"
    "661037211612521510043512030675006001600142640022523010760355161513213411145400132"
    "734332432334456432555523221570006003611500640524503020760124000502443423014801010"
    "761247021613333510254521020760406005603120531045413020661106106620201500453512032"
    "753334232424556232545312232571117004600203502310402121571007005601113600231401020"
    "753435020733303331335602332770126020502234610243520110570016014701110500023512032"
)
# Means measured over 1,500 characters each: documents, code, package lists and 337 languages are
# at 4.25 or more (English at 5.2), the same texts with their letters exchanged at 4.2 or less.
_LANGUAGE = 4.1
_ACCENTED = 0.5  # Cyrillic or Greek taken for Latin-1; Vietnamese has a third


@dataclass(frozen=True, slots=True)
class Legibility:
    """What is wrong with a page's text.

    Args:
        fault: why the page cannot be read; empty when it can.
        remark: what is amiss on a page that can be read; empty when nothing is.
    """

    fault: str = ""
    remark: str = ""


def judge(text: str) -> Legibility:
    """What is wrong with the text of a page as its extractor gave it, not cleaned."""
    visible = len("".join(text.split()))
    if not visible:
        return Legibility()
    # A regular expression is asked only where its first character is there at all.
    names = sum(len("".join(m[0].split())) for m in _NAMES.finditer(text)) if (
        "/" in text or "(cid:" in text
    ) else 0  # fmt: skip
    unmapped = 0 if text.isascii() and text.isprintable() else len(_UNMAPPED.findall(text))
    if names + unmapped > _UNREADABLE * visible:
        if names > unmapped:
            return Legibility("its text is names of glyphs")
        return Legibility("its text has no mapping to characters")
    if not _is_language(text):
        return Legibility("its letters are no language")
    if names + unmapped >= _REMARKABLE:
        return Legibility(remark=f"{names + unmapped} of its {visible} characters are no text")
    return Legibility()


def _is_language(text: str) -> bool:
    """Whether letters follow one another as in any language; true where too few tell it."""
    if len(text) > 3 * _SAMPLE:
        middle = len(text) // 2
        text = f"{text[:_SAMPLE]}\n{text[middle : middle + _SAMPLE]}\n{text[-_SAMPLE:]}"
    letters = sum(map(str.isalpha, text))
    short = _REPEATED.sub(r"\1", text)
    signs = len(_SIGN.findall(short))
    if signs >= _MIN_SIGNS and signs > letters + sum(map(str.isdigit, text)):
        return False
    if letters < _MIN_LETTERS:
        return True
    latin = sum(c.isalpha() and c < _LATIN_END for c in text)
    if latin < 0.8 * letters:
        return True  # another script: nothing is known here about its letters
    if sum("\u00c0" <= c < _LATIN_END for c in text) > _ACCENTED * letters:
        return False
    return _fluency(text) >= _LANGUAGE


def _fluency(text: str) -> float:
    """Mean of ``_FOLLOWS`` over the text's Latin letters, each word with its edges."""
    plain = unicodedata.normalize("NFD", text.lower()).encode("ascii", "ignore").decode("ascii")
    words = f" {_NOT_LATIN.sub(' ', plain).strip()} "
    places = [0 if c == " " else ord(c) - 96 for c in words]
    return sum(int(_FOLLOWS[27 * a + b]) for a, b in pairwise(places)) / (len(places) - 1)
