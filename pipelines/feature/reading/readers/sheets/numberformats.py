"""Numbers of spreadsheets as a person sees them: 1067 under the format ``00000`` is 01067.

What ECMA-376 part 1, 18.8.31 says of format codes, in English and without colours: sections for
positive, negative and zero values, conditions, literals, digits, grouping, scaling, percent,
exponents, fractions, dates, times and durations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Literal

GENERAL = "General"
_MAX_CODE = 500  # Excel takes 255
_MAX_PLAIN = 1e21  # from here on digits say nothing
_MAX_DECIMALS = 30
_LAST_DAY = 2_958_465  # 9999-12-31
_DAY_S = 86_400
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"?'
    r"|\\(?P<escaped>.)|_(?P<space>.)|\*(?P<fill>.)"
    r"|\[(?P<bracket>[^\]]*)\]"
    r"|(?P<general>General)"
    r"|(?P<ampm>AM/PM|A/P)"
    r"|(?P<exponent>E[+-])"
    r"|(?P<date>y+|m+|d+|h+|s+|e+|b+|g+)"
    r"|(?P<digit>[0#?])|(?P<point>\.)|(?P<comma>,)|(?P<percent>%)|(?P<slash>/)|(?P<text>@)"
    r"|(?P<other>.)",
    re.I | re.S,
)
_CONDITION = re.compile(r"(?P<sign><=|>=|<>|<|>|=)\s*(?P<number>-?\d+(?:\.\d+)?)")
_ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d[T ]+\Z")
_ELAPSED = re.compile(r"h+|m+|s+", re.I)
#: Dates that a system shows in its own way; here as ISO writes them.
_OWN_WAY = {
    14: "yyyy-mm-dd", 22: "yyyy-mm-dd hh:mm", 27: "yyyy-mm-dd", 28: "yyyy-mm-dd",
    29: "yyyy-mm-dd", 30: "yyyy-mm-dd", 31: "yyyy-mm-dd", 32: "hh:mm:ss", 33: "hh:mm:ss",
    34: "hh:mm", 35: "hh:mm", 36: "yyyy-mm-dd", 50: "yyyy-mm-dd", 51: "yyyy-mm-dd",
    52: "yyyy-mm-dd", 53: "yyyy-mm-dd", 54: "yyyy-mm-dd", 55: "hh:mm", 56: "hh:mm",
    57: "yyyy-mm-dd", 58: "yyyy-mm-dd",
}  # fmt: skip
_BUILT_IN = {
    0: GENERAL, 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 5: '"$"#,##0_);("$"#,##0)',
    6: '"$"#,##0_);[Red]("$"#,##0)', 7: '"$"#,##0.00_);("$"#,##0.00)',
    8: '"$"#,##0.00_);[Red]("$"#,##0.00)', 9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?",
    13: "# ??/??", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss", 37: "#,##0_);(#,##0)",
    38: "#,##0_);[Red](#,##0)", 39: "#,##0.00_);(#,##0.00)", 40: "#,##0.00_);[Red](#,##0.00)",
    41: '_(* #,##0_);_(* \\(#,##0\\);_(* "-"_);_(@_)',
    42: '_("$"* #,##0_);_("$"* \\(#,##0\\);_("$"* "-"_);_(@_)',
    43: '_(* #,##0.00_);_(* \\(#,##0.00\\);_(* "-"??_);_(@_)',
    44: '_("$"* #,##0.00_);_("$"* \\(#,##0.00\\);_("$"* "-"??_);_(@_)',
    45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0", 49: "@",
}  # fmt: skip

_Type = Literal["literal", "date", "elapsed", "ampm", "fraction", "digit", "point", "comma",
                "percent", "slash", "exponent", "general", "text"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Part:
    type: _Type
    text: str


@dataclass(frozen=True, slots=True)
class _Section:
    parts: tuple[_Part, ...]
    condition: tuple[str, float] | None = None

    @property
    def is_date(self) -> bool:
        return any(p.type in ("date", "elapsed", "ampm") for p in self.parts)


def code_of(number: int, written: str | None = None) -> str:
    """The format code of a number format, by its id and the code that the file has for it."""
    return _OWN_WAY.get(number) or written or _BUILT_IN.get(number, GENERAL)


def is_date(code: str) -> bool:
    """Whether numbers under the code are shown as dates, times or durations."""
    return _sections(code[:_MAX_CODE])[0].is_date


def shown(value: float, code: str = GENERAL, *, since_1904: bool = False) -> str:
    """A number as a spreadsheet shows it under a format code.

    A time of midnight beside a date is left out. A number that the code cannot show, such as a
    negative date, is shown without it.

    Args:
        value: the number as it is stored; dates as days.
        code: such as ``#,##0.00``.
        since_1904: whether dates count from 1904 and not from 1900.
    """
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    section, own_sign = _chosen(_sections(code[:_MAX_CODE]), value)
    if section is None:
        return _general(value)
    try:
        if section.is_date:
            return _as_date(value, section, since_1904=since_1904)
        return _as_number(value, section, own_sign=own_sign)
    except (ArithmeticError, InvalidOperation, ValueError):
        return _general(value)


def _general(value: float) -> str:
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    return f"{value:.15g}"


def _chosen(sections: tuple[_Section, ...], value: float) -> tuple[_Section | None, bool]:
    """The section for a value, and whether it shows the sign by itself."""
    numeric = sections[:3]
    if any(s.condition for s in numeric):
        for place, section in enumerate(numeric):
            if section.condition is None:
                # The one without a condition takes what is left; the second of two negative ones.
                return section, place == 1 and value < 0 and len(numeric) > 2
            if _holds(section.condition, value):
                sign, bound = section.condition
                return section, sign.startswith("<") and bound <= 0
        return None, False
    if len(numeric) > 2 and value == 0:
        return numeric[2], False
    if len(numeric) > 1 and value < 0:
        return numeric[1], True
    return numeric[0], False


def _holds(condition: tuple[str, float], value: float) -> bool:
    sign, bound = condition
    return {
        "<": value < bound, ">": value > bound, "<=": value <= bound, ">=": value >= bound,
        "=": value == bound, "<>": value != bound,
    }[sign]  # fmt: skip


@lru_cache(maxsize=1024)
def _sections(code: str) -> tuple[_Section, ...]:
    found: list[_Section] = []
    parts: list[_Part] = []
    condition: tuple[str, float] | None = None
    for match in _TOKEN.finditer(code):
        kind, text = match.lastgroup, match.group()
        if kind == "other" and text == ";":
            found.append(_section(parts, condition))
            parts, condition = [], None
        elif kind in ("quoted", "escaped"):
            parts.append(_Part("literal", match[kind]))
        elif kind == "space":
            parts.append(_Part("literal", " "))
        elif kind == "bracket":
            inner = match["bracket"]
            if _ELAPSED.fullmatch(inner):
                parts.append(_Part("elapsed", inner.lower()))
            elif inner.startswith("$"):
                if inner.startswith(("$-F800", "$-x-sysdate", "$-f800")):
                    parts.append(_Part("date", "system"))
                parts.append(_Part("literal", inner[1:].split("-", 1)[0]))
            elif said := _CONDITION.fullmatch(inner):
                condition = (said["sign"], float(said["number"]))
        elif kind == "date":
            if text[0] in "gGbB" or (text[0] in "eE" and text != text.lower()):
                parts.append(_Part("literal", text if text[0] not in "gGbB" else ""))
            else:
                parts.append(_Part("date", text.lower()))
        elif kind == "other":
            parts.append(_Part("literal", text))
        elif kind in ("general", "ampm", "exponent", "digit", "point", "comma", "percent", "slash",
                      "text"):  # fmt: skip
            parts.append(_Part(kind, text))  # type: ignore[arg-type]  # the groups are its values
    found.append(_section(parts, condition))
    return tuple(found[:4])


def _section(parts: list[_Part], condition: tuple[str, float] | None) -> _Section:
    if any(p.type == "date" and p.text == "system" for p in parts):
        # The system's own long date: what follows is only how some other system writes it.
        return _Section(tuple(_Part("date", t) if t.isalpha() else _Part("literal", t)
                              for t in ("yyyy", "-", "mm", "-", "dd")), condition)  # fmt: skip
    if any(p.type in ("date", "elapsed") for p in parts):
        parts = _with_minutes(parts)
    return _Section(tuple(parts), condition)


def _with_minutes(parts: list[_Part]) -> list[_Part]:
    """The m behind hours or before seconds are minutes; a point and zeros behind seconds their
    fraction; other signs of numbers are themselves.
    """
    clock = [i for i, p in enumerate(parts) if p.type in ("date", "elapsed")]
    found = list(parts)
    for place, i in enumerate(clock):
        text = parts[i].text
        if parts[i].type != "date" or not text.startswith("m") or len(text) > 2:
            continue
        before = parts[clock[place - 1]].text if place else ""
        after = parts[clock[place + 1]].text if place + 1 < len(clock) else ""
        if before.startswith("h") or after.startswith("s"):
            found[i] = _Part("date", "M" * len(text))
    done: list[_Part] = []
    i = 0
    while i < len(found):
        part = found[i]
        if part.type == "point" and done and done[-1].text.startswith("s"):
            zeros = 0
            while i + 1 + zeros < len(found) and found[i + 1 + zeros].text == "0":
                zeros += 1
            if zeros:
                done.append(_Part("fraction", "0" * zeros))
                i += 1 + zeros
                continue
        if part.type in ("point", "comma", "slash", "percent", "digit", "text"):
            part = _Part("literal", part.text)
        done.append(part)
        i += 1
    return done


# Dates


def _as_date(value: float, section: _Section, *, since_1904: bool) -> str:
    if value < 0 or value >= _LAST_DAY + 1:
        raise ValueError("no date")
    parts = list(section.parts)
    decimals = max((len(p.text) for p in parts if p.type == "fraction"), default=0)
    ticks = 10 ** min(decimals, 6)
    moment = round(Decimal(repr(float(value))) * _DAY_S * ticks)
    days, rest = divmod(moment, _DAY_S * ticks)
    seconds, fraction = divmod(rest, ticks)
    has_day = any(p.type == "date" and p.text[0] in "ymde" for p in parts)
    has_time = any(_is_time(p) for p in parts)
    if not has_time:
        days = int(value)  # a second before midnight is still that day
    if has_day and has_time and not rest:
        parts = _without_time(parts)
    elif has_day and has_time and days == 0 and not since_1904:
        parts = _only_time(parts)
        has_day = False
    day = _day(days, since_1904=since_1904) if has_day else date(1900, 1, 1)
    half = any(p.type == "ampm" for p in parts)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    clock = (hours % 12 or 12) if half else hours
    out = []
    for part in parts:
        text = part.text
        if part.type == "elapsed":
            total = days * _DAY_S + seconds
            amount = total // {"h": 3600, "m": 60, "s": 1}[text[0]]
            out.append(str(amount).zfill(len(text)))
        elif part.type == "ampm":
            out.append(("PM" if hours >= 12 else "AM")[: 2 if len(text) > 3 else 1])
        elif part.type == "fraction":
            out.append("." + str(fraction).zfill(min(decimals, 6)))
        elif part.type != "date":
            out.append(text if part.type == "literal" else "")
        elif text[0] == "h":
            # Behind a date as ISO writes it, the hour is written as ISO does too.
            width = 2 if _ISO_DAY.search("".join(out)) and not half else min(len(text), 2)
            out.append(str(clock).zfill(width))
        elif text[0] == "M":
            out.append(str(minutes).zfill(len(text)))
        elif text[0] == "s":
            out.append(str(seconds % 60).zfill(min(len(text), 2)))
        else:
            out.append(_of_day(day, text))
    return " ".join("".join(out).split())


def _is_time(part: _Part) -> bool:
    return part.type in ("elapsed", "ampm", "fraction") or (
        part.type == "date" and part.text[0] in "hMs"
    )


def _without_time(parts: list[_Part]) -> list[_Part]:
    at = [i for i, p in enumerate(parts) if _is_time(p)]
    return [*parts[: at[0]], *parts[at[-1] + 1 :]]


def _only_time(parts: list[_Part]) -> list[_Part]:
    at = [i for i, p in enumerate(parts) if _is_time(p)]
    return parts[at[0] : at[-1] + 1]


def _day(days: int, *, since_1904: bool) -> date:
    if since_1904:
        return date(1904, 1, 1) + timedelta(days=days)
    # Excel counts a 29 February 1900 that never was.
    return date(1899, 12, 31) + timedelta(days=days - (days > 59))


def _of_day(day: date, text: str) -> str:
    length = len(text)
    if text[0] in "ye":
        return f"{day.year:04d}" if length > 2 or text[0] == "e" else f"{day.year % 100:02d}"
    if text[0] == "m":
        name = _MONTHS[day.month - 1]
        if length == 5:
            return name[0]
        return name if length > 3 else name[:3] if length == 3 else str(day.month).zfill(length)
    name = _DAYS[day.weekday()]
    return name if length > 3 else name[:3] if length == 3 else str(day.day).zfill(length)


# Numbers


def _as_number(value: float, section: _Section, *, own_sign: bool) -> str:
    parts = section.parts
    if any(p.type == "general" for p in parts) or not parts:
        shown_ = _general(abs(value) if own_sign else value)
        return _tidy("".join(shown_ if p.type == "general" else p.text for p in parts) or shown_)
    if any(p.type == "text" for p in parts):  # a number under a format for text
        return _general(value)
    digits = [i for i, p in enumerate(parts) if p.type == "digit"]
    if not digits:
        text = "".join(p.text for p in parts if p.type in ("literal", "percent", "slash"))
        return _tidy(text if text.strip() or not value else _general(value))
    if abs(value) >= _MAX_PLAIN and not any(p.type == "exponent" for p in parts):
        return _general(value)
    sign = "-" if value < 0 and not own_sign else ""
    amount = abs(Decimal(f"{value:.15g}"))
    amount *= Decimal(100) ** sum(p.type == "percent" for p in parts)
    exponent = next((i for i, p in enumerate(parts) if p.type == "exponent"), None)
    slash = next(
        (i for i, p in enumerate(parts) if p.type == "slash" and digits[0] < i < digits[-1]), None
    )
    if exponent is not None and digits[0] < exponent:
        body = _scientific(amount, parts, exponent)
    elif slash is not None:
        body = _fraction(amount, parts, slash)
    else:
        body = _plain(amount, parts)
    if sign and not any(c in "123456789" for c in body):
        sign = ""  # rounded to nothing
    return _tidy(sign + body)


def _plain(amount: Decimal, parts: tuple[_Part, ...]) -> str:
    """Digits into their places, from the point to the left and to the right."""
    digits = [i for i, p in enumerate(parts) if p.type == "digit"]
    point = next((i for i, p in enumerate(parts) if p.type == "point"), None)
    whole = [i for i in digits if point is None or i < point]
    after = [i for i in digits if point is not None and i > point]
    last_whole = whole[-1] if whole else -1
    scaling = _commas_after(parts, last_whole) | _commas_after(parts, digits[-1])
    scale = len(scaling)
    grouped = any(
        parts[i].type == "comma" for i in range(whole[0], last_whole) if len(whole) > 1
    ) if whole else False  # fmt: skip
    amount = (amount / Decimal(1000) ** scale).quantize(
        Decimal(1).scaleb(-min(len(after), _MAX_DECIMALS)), rounding=ROUND_HALF_UP
    )
    number, _, decimals = f"{amount:f}".partition(".")
    number = number.lstrip("0")
    places: dict[int, str] = {}
    # To the left: the leftmost place takes all that is left.
    left = number
    for place, i in enumerate(reversed(whole)):
        if place == len(whole) - 1:
            taken, left = left, ""
        else:
            taken, left = left[-1:], left[:-1]
        if not taken and parts[i].text == "0":
            taken = "0"
        places[i] = taken
    if grouped:
        run = "".join(places[i] for i in whole)
        grouped_run = f"{int(run):,}" if run else ""
        width = sum(parts[i].text == "0" for i in whole)
        if len(run) > len(str(int(run or 0))) and width:  # zeros that the code asks for
            run = run[::-1]
            grouped_run = ",".join(run[k : k + 3] for k in range(0, len(run), 3))[::-1]
        places |= dict.fromkeys(whole, "")
        places[last_whole] = grouped_run
    kept = len(decimals)
    while kept and decimals[kept - 1] == "0" and parts[after[kept - 1]].text != "0":
        kept -= 1
    for place, i in enumerate(after):
        places[i] = decimals[place] if place < kept else ""
    out = []
    for i, part in enumerate(parts):
        if part.type == "digit":
            out.append(places[i])
        elif part.type == "point":
            out.append("." if i == point and (kept or not after) else "")
        elif part.type == "comma":
            out.append("" if i in scaling or (whole and whole[0] < i < last_whole) else ",")
        else:
            out.append(part.text)
    return "".join(out)


def _commas_after(parts: tuple[_Part, ...], at: int) -> set[int]:
    """The commas right behind a digit: each stands for thousands that are not shown."""
    found: set[int] = set()
    while at >= 0 and at + 1 < len(parts) and parts[at + 1].type == "comma":
        at += 1
        found.add(at)
    return found


def _scientific(amount: Decimal, parts: tuple[_Part, ...], at: int) -> str:
    whole = sum(p.type == "digit" for p in _before_point(parts[:at]))
    decimals = sum(p.type == "digit" for p in parts[:at]) - whole
    power = amount.adjusted() if amount else 0
    if whole > 1:  # engineering: powers of as many digits as stand before the point
        power -= power % whole
    else:
        power -= whole - 1
    mantissa = amount.scaleb(-power)
    rounded = mantissa.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    if rounded.adjusted() >= whole >= 1 and rounded:
        power += whole
        mantissa = amount.scaleb(-power)
    head = _plain(mantissa, parts[:at])
    width = sum(p.type == "digit" and p.text == "0" for p in parts[at + 1 :])
    sign = "-" if power < 0 else "+" if parts[at].text[1] == "+" else ""
    tail = "".join(p.text for p in parts[at + 1 :] if p.type in ("literal", "percent"))
    return f"{head}E{sign}{str(abs(power)).zfill(width)}{tail}"


def _before_point(parts: tuple[_Part, ...]) -> tuple[_Part, ...]:
    at = next((i for i, p in enumerate(parts) if p.type == "point"), len(parts))
    return parts[:at]


def _fraction(amount: Decimal, parts: tuple[_Part, ...], slash: int) -> str:
    upper = slash - 1
    while upper >= 0 and parts[upper].type == "digit":
        upper -= 1
    lower = slash + 1
    while lower < len(parts) and (parts[lower].type == "digit" or parts[lower].text.isdigit()):
        lower += 1
    below = "".join(p.text for p in parts[slash + 1 : lower])
    mixed = any(p.type == "digit" for p in parts[: upper + 1])
    number = Fraction(amount)
    whole = int(number) if mixed else 0
    rest = number - whole
    if below.isdigit() and int(below):
        denominator = int(below)
        numerator = round(rest * denominator)
    else:
        near = rest.limit_denominator(10 ** min(len(below), 5) - 1)
        numerator, denominator = near.numerator, near.denominator
    if mixed and numerator == denominator:
        whole, numerator = whole + 1, 0
    head = "".join(p.text for p in parts[: upper + 1] if p.type == "literal" and p.text.strip())
    tail = "".join(p.text for p in parts[lower:] if p.type == "literal")
    said = [str(whole)] if whole or (mixed and not numerator) else []
    if numerator or not mixed:
        said.append(f"{numerator}/{denominator}")
    return head + " ".join(said) + tail


def _tidy(text: str) -> str:
    return " ".join(text.split())
