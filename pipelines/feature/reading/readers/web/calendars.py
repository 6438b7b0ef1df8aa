"""Appointments in calendar files (iCalendar, RFC 5545), as lines that a person reads.

A reader of its own: of a calendar only who, what, when and where are wanted, and its files are
often not quite as the standard says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from fti.store.plain_text import clean, clean_line

_MAX_LINES = 200_000
_MAX_ENTRIES = 500
_MAX_PEOPLE = 200
_ENTRIES = frozenset({"VEVENT", "VTODO", "VJOURNAL"})
_METHODS = {"CANCEL": "Cancelled", "REPLY": "Reply", "COUNTER": "Proposed instead"}
_ANSWERS = {"ACCEPTED": "accepted", "DECLINED": "declined", "TENTATIVE": "tentative"}
_NAME = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER = re.compile(r';([A-Za-z0-9-]+)=("[^"]*"|[^";:,]*)(?:,("[^"]*"|[^";:,]*))*')
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?(Z?))?$")
_DURATION = re.compile(r"P(?:(\d{1,3})W)?(?:(\d{1,4})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,4})M)?)?")
_ESCAPED = re.compile(r"\\([\\;,nN])")


@dataclass(frozen=True, slots=True)
class _Property:
    """A line such as ``DTSTART;TZID=Europe/Prague:20260504T140000``."""

    name: str
    value: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The value as text."""
        return _ESCAPED.sub(lambda m: "\n" if m[1] in "nN" else m[1], self.value)


def read_calendar(text: str) -> str:
    """The appointments in a calendar, each as lines of ``What: …``; empty where there is none."""
    method = ""
    entries: list[str] = []
    open_entry: list[_Property] | None = None
    inside = ""
    parts: list[str] = []  # of the entry: an alarm has a description too
    for one in _properties(text):
        if one.name == "BEGIN":
            kind = one.value.strip().upper()
            if open_entry is None and kind in _ENTRIES:
                open_entry, inside, parts = [], kind, []
            elif open_entry is not None:
                parts.append(kind)
        elif one.name == "END":
            kind = one.value.strip().upper()
            if open_entry is not None and kind == inside and not parts:
                entries.append("\n".join(_lines(open_entry, method)))
                open_entry = None
                if len(entries) >= _MAX_ENTRIES:
                    break
            elif parts:
                parts.pop()
        elif open_entry is None:
            if one.name == "METHOD":
                method = one.value.strip().upper()
        elif not parts:
            open_entry.append(one)
    if open_entry:  # the file is cut off
        entries.append("\n".join(_lines(open_entry, method)))
    return "\n\n".join(dict.fromkeys(filter(None, entries)))


def _properties(text: str) -> Iterator[_Property]:
    """The lines, those that were folded joined."""
    folded: list[str] = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text)):
        if number > _MAX_LINES:
            break
        if line[:1] in (" ", "\t"):
            folded.append(line[1:])
            continue
        if one := _property("".join(folded)):
            yield one
        folded = [line]
    if one := _property("".join(folded)):
        yield one


def _property(line: str) -> _Property | None:
    name = _NAME.match(line)
    if name is None:
        return None
    position = name.end()
    parameters: dict[str, str] = {}
    while match := _PARAMETER.match(line, position):
        parameters[match[1].upper()] = match[2].strip('"')
        position = match.end()
    if line[position : position + 1] != ":":
        return None
    return _Property(name[0].upper(), line[position + 1 :], parameters)


def _lines(entry: list[_Property], method: str) -> Iterator[str]:
    def first(name: str) -> _Property | None:
        return next((one for one in entry if one.name == name), None)

    def line(name: str) -> str:
        one = first(name)
        return clean_line(one.text, max_characters=1000) if one else ""

    status = line("STATUS").upper()
    state = "Cancelled" if status == "CANCELLED" else _METHODS.get(method, "")
    if state:
        yield f"{state}:"
    if summary := line("SUMMARY"):
        yield f"What: {summary}"
    start = first("DTSTART") or first("DUE")
    if start:
        yield f"When: {_when(start, first('DTEND') or first('DUE'), first('DURATION'))}"
    if rule := first("RRULE"):
        yield f"Repeats: {_rule(rule.value)}"
    if place := line("LOCATION"):
        yield f"Where: {place}"
    if organizer := first("ORGANIZER"):
        yield f"Organizer: {_person(organizer)}"
    people = [_person(one) for one in entry if one.name == "ATTENDEE"][:_MAX_PEOPLE]
    if people:
        yield f"Who: {', '.join(filter(None, people))}"
    if description := first("DESCRIPTION"):
        yield clean(description.text).strip()


def _person(one: _Property) -> str:
    address = one.value.strip()
    if address.lower().startswith("mailto:"):
        address = address[7:]
    name = clean_line(one.parameters.get("CN", ""), max_characters=200)
    shown = f"{name} <{address}>" if name and name != address else address
    answer = _ANSWERS.get(one.parameters.get("PARTSTAT", "").upper(), "")
    return clean_line(f"{shown} ({answer})" if answer else shown, max_characters=400)


def _when(start: _Property, end: _Property | None, duration: _Property | None) -> str:
    day, time, zone = _moment(start)
    if not day:
        return clean_line(start.value, max_characters=100)
    shown = f"{day} {time}".strip()
    if end and end is not start:
        last, until, _ = _moment(end)
        if last and not time and not until:  # whole days: the end is the day after
            last = _day_before(last)
            shown += f" to {last}" if last != day else ""
        elif last == day and until:
            shown += f" to {until}"
        elif last:
            shown += f" to {last} {until}".rstrip()
    elif duration and (length := _length(duration.value)):
        shown += f", for {length}"
    return f"{shown} ({zone})" if zone else shown


def _moment(one: _Property) -> tuple[str, str, str]:
    """Day, time and time zone; all empty where the value is none."""
    match = _DATE.match(one.value.strip())
    if not match:
        return "", "", ""
    day = f"{match[1]}-{match[2]}-{match[3]}"
    if match[4] is None:
        return day, "", ""
    zone = "UTC" if match[7] else clean_line(one.parameters.get("TZID", ""), max_characters=100)
    return day, f"{match[4]}:{match[5]}", zone


def _day_before(day: str) -> str:
    try:
        return str(date.fromisoformat(day) - timedelta(days=1))
    except (ValueError, OverflowError):
        return day


def _length(value: str) -> str:
    match = _DURATION.match(value.strip().lstrip("+"))
    if not match:
        return ""
    units = ("week", "day", "hour", "minute")
    parts = [
        f"{int(n)} {unit}{'' if int(n) == 1 else 's'}"
        for n, unit in zip(match.groups(), units, strict=True)
        if n and int(n)
    ]
    return " ".join(parts)


def _rule(value: str) -> str:
    """``FREQ=WEEKLY;BYDAY=MO;UNTIL=20261231`` as ``weekly, on MO, until 2026-12-31``."""
    given = dict(part.partition("=")[::2] for part in value.upper().split(";")[:20])
    parts = [clean_line(given.get("FREQ", "").lower(), max_characters=50)]
    if (every := given.get("INTERVAL", "1")) != "1":
        parts.append(f"every {every[:10]}")
    for name, word in (("BYDAY", "on"), ("BYMONTHDAY", "on day"), ("BYMONTH", "in month")):
        if name in given:
            parts.append(f"{word} {given[name][:100]}")
    if "COUNT" in given:
        parts.append(f"{given['COUNT'][:10]} times")
    if "UNTIL" in given and (day := _moment(_Property("UNTIL", given["UNTIL"]))[0]):
        parts.append(f"until {day}")
    return ", ".join(filter(None, parts))
