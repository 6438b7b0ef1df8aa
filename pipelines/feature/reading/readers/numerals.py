"""Numbers as lists write them: letters, Roman numerals, words."""

from __future__ import annotations

import re

# Beyond it letters and numerals grow without bound; nobody counts so far in them.
_MAX_SPELT = 5000
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
    (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_RUSSIAN = "абвгдежзиклмнопрстуфхцчшщэюя"
_GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
_CHINESE = "〇一二三四五六七八九"
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip


def numeral(number: int, form: str) -> str:
    """``number`` in a form of Office's names (``lowerRoman``); in digits where it has no other."""
    if form == "decimalZero":
        return f"{number:02d}"
    if form == "ordinal":
        return _ordinal(number)
    if not 0 < number <= _MAX_SPELT:
        return str(number)
    if form in ("lowerLetter", "upperLetter"):
        return _cased(_letters(number, _LATIN), form)
    if form in ("lowerRoman", "upperRoman"):
        return _cased(_roman(number), form)
    if form in ("russianLower", "russianUpper"):
        return _cased(_letters(number, _RUSSIAN), form)
    if form in ("lowerGreek", "upperGreek"):
        return _cased(_letters(number, _GREEK), form)
    if form in ("cardinalText", "ordinalText") and number < 100:
        return _words(number, ordinal=form == "ordinalText").capitalize()
    if form.startswith("decimalEnclosedCircle") and number <= 20:
        return chr(0x245F + number)
    if form.startswith(("chineseCounting", "japaneseCounting", "taiwaneseCounting")):
        return _chinese(number)
    if form == "hex":
        return f"{number:X}"
    return str(number)


def _cased(text: str, form: str) -> str:
    return text.upper() if form.startswith("upper") or form.endswith("Upper") else text


def _letters(number: int, alphabet: str) -> str:
    """a … z, then aa … zz: the letter is repeated, as word processors count."""
    turns, place = divmod(number - 1, len(alphabet))
    return alphabet[place] * (turns + 1)


def _roman(number: int) -> str:
    parts: list[str] = []
    for value, letters in _ROMAN:
        times, number = divmod(number, value)
        parts.append(letters * times)
    return "".join(parts)


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"


def _words(number: int, *, ordinal: bool) -> str:
    if number < 20:
        tens, ones = "", _ONES[number]
    else:
        tens, ones = _TENS[number // 10], _ONES[number % 10] if number % 10 else ""
    if ordinal:
        last = ones or tens
        if last in _ORDINALS:
            last = _ORDINALS[last]
        else:
            last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
        tens, ones = (tens, last) if ones else ("", last)
    return "-".join(filter(None, [tens, ones]))


def _chinese(number: int) -> str:
    if number >= 100:
        return "".join(_CHINESE[int(digit)] for digit in str(number))
    tens, ones = divmod(number, 10)
    head = "" if not tens else ("十" if tens == 1 else f"{_CHINESE[tens]}十")
    return head + (_CHINESE[ones] if ones else "")


def numbered(pattern: str, parts: dict[int, str]) -> str:
    """A pattern such as ``%1.%2)`` with the texts of its levels, counted from 1."""
    return re.sub(r"%([1-9])", lambda m: parts.get(int(m[1]), ""), pattern[:200])
