"""Phrases that can be a short answer: dates, times, amounts, names; how to tell them in a text."""

from __future__ import annotations

import re

from fti.pipelines.feature.asking.quality import STOP_WORDS

MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"


DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)s?"


DATE = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)? {MONTH}(?: \d{{4}})?|{MONTH} \d{{1,2}}, \d{{4}}"
    rf"|{MONTH} \d{{4}}|(?:1\d|20)\d{{2}}s?|{MONTH}"
    rf"|(?:(?:alternate|the (?:first|second|third|last)) )?{DAY}(?: (?:of (?:the|each) month"
    rf"|(?:morning|afternoon|evening|night)s?))?)\b"
    rf"(?: (?:to|until|and|or) (?:{MONTH}|{DAY}|\d{{1,2}} {MONTH}|(?:1\d|20)\d{{2}})\b)?"
    rf"(?![-\w%]|[.,:]\d)"
)


_CLOCK = r"(?:\d{1,2}:\d{2}(?: ?[ap]\.?m\.?)?|\d{1,2} ?[ap]m|noon|midnight)"


TIME = re.compile(rf"\b{_CLOCK}(?: (?:to|until|and) {_CLOCK})?\b(?!:)")


WORD_NUMBER = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    "|a hundred|a thousand|half a"
)


NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?: (?:million|billion|thousand))?"


MONEY = re.compile(
    rf"(?:[£$€] ?{NUMBER}|(?<![\w.]){NUMBER} (?:pounds|euros|dollars|pence|cents)\b)"
    r"(?: (?:a|an|per|each) (?:head|person|year|month|week|day|night|hour|minute|metre|litre|gram"
    r"|kilogram|kilo|piece|page|item|sheet|bag|session|visit))?"
)


UNITS = {
    "mm": "millimetres", "cm": "centimetres", "m": "metres", "km": "kilometres", "g": "grams",
    "kg": "kilograms", "mg": "milligrams", "t": "tonnes", "ml": "millilitres", "l": "litres",
    "s": "seconds", "ms": "milliseconds", "min": "minutes", "h": "hours", "kW": "kilowatts",
    "W": "watts", "V": "volts", "A": "amperes", "kV": "kilovolts", "MW": "megawatts",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "dB": "decibels",
    "KB": "kilobytes", "MB": "megabytes", "GB": "gigabytes", "TB": "terabytes",
    "ft": "feet", "mi": "miles", "lb": "pounds", "rpm": "revolutions per minute", "bar": "bar",
    "km2": "square kilometres", "m2": "square metres", "kWh": "kilowatt-hours", "ha": "hectares",
    "mph": "miles per hour", "km/h": "kilometres per hour", "°C": "degrees Celsius",
    "°F": "degrees Fahrenheit", "ppm": "parts per million",
}  # fmt: skip


_UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))


QUANTITY = re.compile(
    rf"(?<![\w£$€.,/-])(?P<number>{NUMBER}|{WORD_NUMBER})"
    rf"(?:[ \u00a0]?(?P<unit>{_UNIT})(?![\w/-])|[ \u00a0](?P<noun>(?:[a-z][a-z-]+ )?[a-z][a-z-]+)"
    rf"(?![\w-])|(?P<percent> ?%| per ?cent\b))"
    rf"(?P<more> (?:to|or|and) (?:{NUMBER}|{WORD_NUMBER})"
    rf"(?:[ \u00a0]?(?:{_UNIT})(?![\w/-])"
    rf"|[ \u00a0](?:seconds|minutes|hours|days|weeks|months|years)"
    rf"|[ \u00a0](?P=noun)\b)| ?[x×] ?{NUMBER} ?(?:{_UNIT})?)?"
)


_NAME_WORD = r"[A-Z][\w'’&.-]*[\w’]"


NAME = re.compile(
    rf"(?<![\w'’.-]){_NAME_WORD}(?:(?: (?:of|the|and|for|de|van|von|la|du|&) | )"
    rf"(?:{_NAME_WORD}|\d+))*"
)


QUOTED = re.compile(r"[\"“]([^\"“”]{2,60})[\"”]")


_ORGANISATION = re.compile(
    r"\b(?:Bank|Street|Road|Row|Lane|Bakery|University|College|School|Company|Ltd|Inc|Fund|Works|"
    r"Workshop|House|Team|Society|Council|Institute|Association|Group|Party|Army|Empire|Kingdom|"
    r"Republic|City|County|State|States|River|Lake|Mount|Sea|Ocean|Bridge|Station|Church|Museum|"
    r"Library|Hospital|Act|Treaty|War|Union|League|Cup|Bowl|Club|Series|Age|Day|Office|Park|Room|"
    r"Services?|Centre|Center|North|South|East|West|New|Old|Great|Europe|America|Africa|Asia)\b"
)


def plural_noun(word: str) -> bool:
    """Whether a word looks like the plural of a noun."""
    if word in ("people", "children", "men", "women", "feet", "teeth"):
        return True
    return (
        word.endswith("s")
        and not word.endswith(("ss", "us", "is", "ous"))
        and word not in STOP_WORDS | {"times", "less", "others", "always", "perhaps"}
    )


def is_person(name: str) -> bool:
    """Whether a name looks like that of one person."""
    parts = name.split()
    return (
        2 <= len(parts) <= 3
        and all(p[:1].isupper() and p[1:2].islower() for p in parts)
        and _ORGANISATION.search(name) is None
        and not any(c.isdigit() or c == "&" for c in name)
    )
