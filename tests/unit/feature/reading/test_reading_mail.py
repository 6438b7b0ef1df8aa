"""Mails with appointments, and with a plain form that only points at the other one."""

from __future__ import annotations

import time
from email.message import EmailMessage

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.web.calendars import read_calendar
from fti.pipelines.feature.reading.readers.web.mail import read_eml

CONFIG = SourcesConfig()
INVITATION = (
    "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VTIMEZONE\r\nBEGIN:STANDARD\r\n"
    "DTSTART:19701025T030000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\n"
    "SUMMARY:Kiln meet\r\n ing\\, part 2\r\nDTSTART;TZID=Europe/Prague:20260504T140000\r\n"
    "DTEND;TZID=Europe/Prague:20260504T153000\r\nLOCATION:Bay 7\r\n"
    'ORGANIZER;CN="Lee, Ann":mailto:ann@example.org\r\n'
    "ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=ACCEPTED;CN=Bo:MAILTO:bo@example.org\r\n"
    "DESCRIPTION:Bring gloves.\\nAsk Ann.\r\n"
    "RRULE:FREQ=WEEKLY;BYDAY=MO;UNTIL=20261231T000000Z\r\n"
    "BEGIN:VALARM\r\nDESCRIPTION:Reminder\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
SHOWN = (
    "What: Kiln meeting, part 2\nWhen: 2026-05-04 14:00 to 15:30 (Europe/Prague)\n"
    "Repeats: weekly, on MO, until 2026-12-31\nWhere: Bay 7\n"
    "Organizer: Lee, Ann <ann@example.org>\nWho: Bo <bo@example.org> (accepted)\n"
    "Bring gloves.\nAsk Ann."
)


def a_mail(plain: str = "", html: str = "") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Kiln"
    if plain:
        message.set_content(plain)
    if html:
        if plain:
            message.add_alternative(html, subtype="html")
        else:
            message.set_content(html, subtype="html")
    return message


def eml(message: EmailMessage) -> Extracted:
    (found,) = read_eml(message.as_bytes(), CONFIG)
    return found


def body(message: EmailMessage) -> str:
    return eml(message).text.removeprefix("# Kiln\n\n")


# Appointments


def test_an_invitation_is_read_beside_the_words() -> None:
    message = a_mail("Please come.", "<p>Please come.</p>")
    message.add_alternative(INVITATION, subtype="calendar")

    assert body(message) == f"Please come.\n\n{SHOWN}"


def test_an_appointment_that_is_also_attached_is_told_once_and_named() -> None:
    message = a_mail("Please come.")
    message.add_alternative(INVITATION, subtype="calendar")
    message.add_attachment(
        INVITATION.encode(), maintype="application", subtype="ics", filename="invite.ics"
    )

    found = eml(message)

    assert found.text.count("What: Kiln meeting") == 1
    assert "Attachments: invite.ics" in found.text


def test_an_appointment_alone_is_the_mail() -> None:
    message = a_mail()
    message.set_content(INVITATION, subtype="calendar")

    assert body(message) == SHOWN


def test_a_calendar_without_appointments_is_named() -> None:
    message = a_mail("See below.")
    message.add_alternative("BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", subtype="calendar")

    assert "Attachments: part 3.ics" in eml(message).text


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("DTSTART;VALUE=DATE:20260504\nDTEND;VALUE=DATE:20260505", "When: 2026-05-04"),
        (
            "DTSTART;VALUE=DATE:20260504\nDTEND;VALUE=DATE:20260507",
            "When: 2026-05-04 to 2026-05-06",
        ),
        (
            "DTSTART:20260504T120000Z\nDURATION:PT1H30M",
            "When: 2026-05-04 12:00, for 1 hour 30 minutes (UTC)",
        ),
        (
            "DTSTART:20260504T220000\nDTEND:20260505T010000",
            "When: 2026-05-04 22:00 to 2026-05-05 01:00",
        ),
        ("STATUS:CANCELLED\nSUMMARY:Kiln", "Cancelled:\nWhat: Kiln"),
        ("SUMMARY;LANGUAGE=de;X-A=\"b:c\":Ofen\\; heiß", "What: Ofen; heiß"),
        ("DTSTART:nonsense", "When: nonsense"),
    ],
)  # fmt: skip
def test_times_and_states_of_appointments(lines: str, shown: str) -> None:
    assert read_calendar(f"BEGIN:VEVENT\n{lines}\nEND:VEVENT") == shown


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN:VEVENT\n" * 50_000,
        "BEGIN:VEVENT\nSUMMARY:" + "\n x" * 300_000,
        "BEGIN:VEVENT\nATTENDEE" + ";CN=a" * 50_000 + ":x\nEND:VEVENT",
        "BEGIN:VEVENT\nSUMMARY;A=" + '","' * 50_000,
        "BEGIN:VEVENT\nDTSTART;VALUE=DATE:00000000\nDTEND;VALUE=DATE:00000000\nEND:VEVENT",
        "\0" * 1000,
    ],
)
def test_hostile_calendars_end_soon(text: str) -> None:
    began = time.monotonic()

    read_calendar(text)

    assert time.monotonic() - began < 10


# Which form is read

PAGE = "<p>The kiln is closed from 4 May to 9 May, as its bricks are laid anew by the makers.</p>"


@pytest.mark.parametrize(
    "hint",
    [
        "Your mail client does not support HTML.",
        "View this email in your browser: https://example.org/a/b?c=d",
        "Zeigt Ihr Programm kein HTML? Dann hier: https://example.org/x",
        "Si vous ne voyez pas ce message, ouvrez-le dans votre navigateur.",
        "https://example.org/only-an-address",
        "This is an HTML message. Please use a client that can show it. " * 6,
    ],
)
def test_a_plain_form_that_only_points_at_the_other_gives_way(hint: str) -> None:
    assert body(a_mail(hint, PAGE)).startswith("The kiln is closed from 4 May")


def test_a_plain_form_that_is_the_head_of_the_other_gives_way() -> None:
    hint = "Wird diese Nachricht falsch angezeigt, klicken Sie hier"

    assert "bricks" in body(a_mail(hint, f"<p>{hint}.</p>{PAGE}"))


def test_a_hint_at_a_page_with_pictures_gives_way_too() -> None:
    message = EmailMessage()
    message["Subject"] = "Kiln"
    message.set_content("Your client does not support HTML.")
    message.add_alternative(PAGE, subtype="html")
    page = list(message.iter_parts())[1]
    assert isinstance(page, EmailMessage)
    page.add_related(b"x", maintype="image", subtype="png", filename="a.png")

    assert "bricks" in eml(message).text


@pytest.mark.parametrize(
    "plain",
    [
        "The kiln is closed from 4 May to 9 May: its bricks are laid anew by the makers.",
        "Short, and its own words.",
        "We will see you on the other side of town, and bring the web of rope.",
    ],
)
def test_a_plain_form_with_words_of_its_own_is_read(plain: str) -> None:
    assert body(a_mail(plain, PAGE)) == plain


def test_files_attached_inside_the_form_that_is_not_read_are_handed_on() -> None:
    message = a_mail("The plan is attached, please read it before we meet.")
    message.add_alternative(
        "<p>The plan is attached, please read it before we meet.</p>", subtype="html"
    )
    page = list(message.iter_parts())[1]
    assert isinstance(page, EmailMessage)
    page.make_mixed()
    page.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="plan.pdf")

    found = eml(message)

    assert [a.name for a in found.attached] == ["plan.pdf"]
    assert found.text.count("The plan is attached") == 1
