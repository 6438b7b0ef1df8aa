"""Made-up rows over invented documents: handbook rules, fact sheets and tables.

They teach reading on text unlike encyclopaedia prose: opening hours, limits, price lists. Values
are random, so nothing can be known by heart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fti.pipelines.training.builtin.gaps import strip_text
from fti.pipelines.training.builtin.rows import FORM, Row, Text, Turn, shown

SYLLABLES = [
    "ba",
    "ken",
    "lor",
    "mi",
    "ta",
    "ran",
    "vel",
    "so",
    "dri",
    "fen",
    "gal",
    "hu",
    "jor",
    "kis",
    "lan",
    "mon",
    "ne",
    "pol",
    "qua",
    "ri",
    "sten",
    "tor",
    "ul",
    "ver",
    "wex",
    "yor",
    "zan",
    "bright",
    "hill",
    "ford",
    "wood",
    "stone",
    "park",
    "gate",
    "well",
    "port",
]
FIRST = [
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Liam",
    "Mara",
    "Nils",
    "Olga",
    "Pablo",
    "Rosa",
    "Sven",
    "Tara",
    "Viktor",
    "Wei",
    "Yusuf",
    "Zoe",
    "Amara",
    "Priya",
    "Kenji",
]
TEAMS = [
    "Human Resources",
    "Finance",
    "Facilities",
    "the IT help desk",
    "Legal",
    "Operations",
    "Customer Support",
    "Security",
    "the Purchasing team",
    "the Data team",
    "Marketing",
    "Quality Assurance",
    "the front office",
    "your line manager",
    "the site manager",
    "Payroll",
]
ITEMS = [
    "laptop",
    "parking permit",
    "badge",
    "travel expense",
    "invoice",
    "holiday request",
    "sick note",
    "backup",
    "password",
    "visitor pass",
    "purchase order",
    "time sheet",
    "safety helmet",
    "rental car",
    "conference room",
    "support ticket",
    "warranty claim",
    "library card",
    "fire extinguisher",
    "printer",
    "projector",
    "delivery",
    "sample",
    "incident report",
    "work permit",
    "server",
    "API key",
    "access token",
    "data export",
    "audit log",
    "contract",
    "training course",
]
UNITS = ["days", "hours", "weeks", "minutes", "months", "working days", "calendar days"]
PLACES = [
    "reception",
    "the main entrance",
    "room B12",
    "the ground floor",
    "the north building",
    "the basement",
    "the intranet portal",
    "the second floor",
    "the warehouse",
    "the cafeteria",
    "building C",
    "the web console",
    "the mobile app",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def name(rng: random.Random) -> str:
    """An invented proper name."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def person(rng: random.Random) -> str:
    """An invented person."""
    return f"{rng.choice(FIRST)} {name(rng)}"


def hour(rng: random.Random) -> str:
    """A time of day in one of the usual spellings."""
    h, m = rng.randrange(6, 23), rng.choice(("00", "00", "30", "15", "45"))
    return rng.choice(
        (
            f"{h}:{m}",
            f"{h:02d}:{m}",
            f"{(h - 1) % 12 + 1}:{m} {'am' if h < 12 else 'pm'}",
            f"{(h - 1) % 12 + 1} {'am' if h < 12 else 'pm'}",
        )
    )


def money(rng: random.Random) -> str:
    """An amount with its currency."""
    amount = rng.choice(
        (rng.randrange(1, 100), rng.randrange(100, 3000), rng.randrange(1, 90) * 1000)
    )
    return rng.choice(
        (
            f"${amount:,}",
            f"€{amount:,}",
            f"{amount:,} euros",
            f"EUR {amount:,}",
            f"${amount}.{rng.randrange(10, 99)}",
            f"£{amount}",
        )
    )


def date(rng: random.Random) -> str:
    """A calendar date in one of the usual spellings."""
    d, m, y = rng.randrange(1, 29), rng.randrange(12), rng.randrange(1990, 2031)
    return rng.choice(
        (
            f"{d} {MONTHS[m]} {y}",
            f"{MONTHS[m]} {d}, {y}",
            f"{y}-{m + 1:02d}-{d:02d}",
            f"{MONTHS[m]} {y}",
            f"{d} {MONTHS[m]}",
        )
    )


def amount(rng: random.Random) -> str:
    """A number with a unit of time."""
    count = rng.choice((rng.randrange(2, 31), rng.randrange(2, 13), rng.choice((30, 45, 60, 90))))
    return f"{count} {rng.choice(UNITS)}"


def code(rng: random.Random) -> str:
    """An identifier: version, error code, file name, port or setting."""
    n, w = rng.randrange(10, 9999), name(rng).lower()
    return rng.choice(
        (
            f"{w.upper()[:3]}-{n}",
            f"v{n % 10}.{n % 7}.{n % 13}",
            f"{w}_{rng.choice(('limit', 'timeout', 'path', 'mode'))}",
            f"/etc/{w}/{w}.conf",
            f"--{w}",
            f"port {n}",
            f"{w}.{rng.choice(('yaml', 'json', 'md', 'csv'))}",
        )
    )


def contact(rng: random.Random) -> str:
    """An e-mail address, telephone number or extension."""
    w = name(rng).lower()
    return rng.choice(
        (
            f"{w}@{name(rng).lower()}.example",
            f"+{rng.randrange(1, 99)} {rng.randrange(100, 999)} {rng.randrange(1000, 9999)}",
            f"extension {rng.randrange(100, 9999)}",
        )
    )


Value = Callable[[random.Random], str]

FIELDS: tuple[tuple[str, Value, tuple[str, ...]], ...] = (
    (
        "Opening hours",
        lambda r: f"{hour(r)}{r.choice(('-', ' to ', ' – '))}{hour(r)}",
        ("What are the opening hours{of}?", "When is it open?", "When does{the} open?"),
    ),
    ("Closed on", lambda r: r.choice(DAYS), ("On which day is it closed?", "When is{the} closed?")),
    ("Price", money, ("How much does it cost?", "What is the price{of}?", "What does{the} cost?")),
    ("Deposit", money, ("How much is the deposit{of}?", "What deposit is required?")),
    (
        "Contact",
        contact,
        ("How can I contact someone?", "What is the contact{of}?", "Whom do I write to?"),
    ),
    ("Manager", person, ("Who is the manager{of}?", "Who manages{the}?", "Who is in charge?")),
    ("Author", person, ("Who wrote it?", "Who is the author{of}?")),
    (
        "Location",
        lambda r: r.choice(PLACES),
        ("Where is it?", "Where can I find{the}?", "What is the location{of}?"),
    ),
    (
        "Deadline",
        date,
        ("What is the deadline{of}?", "By when is it due?", "When is the deadline?"),
    ),
    (
        "Founded",
        lambda r: str(r.randrange(1850, 2025)),
        ("When was{the} founded?", "In what year was it founded?"),
    ),
    (
        "Version",
        lambda r: f"{r.randrange(1, 12)}.{r.randrange(0, 20)}.{r.randrange(0, 9)}",
        ("Which version is current?", "What is the version{of}?"),
    ),
    (
        "Maximum size",
        lambda r: f"{r.randrange(1, 900)} {r.choice(('MB', 'GB', 'KB', 'pages', 'people', 'kg'))}",
        ("What is the maximum size{of}?", "How large may it be?"),
    ),
    ("Timeout", amount, ("What is the timeout{of}?", "How long is the timeout?")),
    ("Retention period", amount, ("How long is the retention period?", "How long is data kept?")),
    ("Owner", lambda r: r.choice(TEAMS), ("Who owns{the}?", "Which team is the owner?")),
    ("Default value", code, ("What is the default value{of}?", "What is the default?")),
    (
        "Weight",
        lambda r: f"{r.randrange(1, 900)} {r.choice(('kg', 'g', 'tonnes'))}",
        ("How much does{the} weigh?", "What is the weight{of}?"),
    ),
    ("Capital", name, ("What is the capital{of}?",)),
    (
        "Population",
        lambda r: f"{r.randrange(1000, 9000000):,}",
        ("What is the population{of}?", "How many people live there?"),
    ),
    ("Warranty", amount, ("How long is the warranty{of}?", "What is the warranty period?")),
)

# A rule as a sentence, with slots; each question's answer is the slot named after it.
RULES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Every {item} must be submitted to {team} within {amount}.",
        (
            ("How soon must a {item} be submitted?", "amount"),
            ("Where do I submit a {item}?", "team"),
            ("What must be submitted within {amount}?", "item"),
        ),
    ),
    (
        "Employees may request a {item} from {team} by writing to {contact}.",
        (
            ("Who provides a {item}?", "team"),
            ("How do I request a {item}?", "contact"),
            ("Where should I write to get a {item}?", "contact"),
        ),
    ),
    (
        "The {item} policy was last changed on {date} by {person}.",
        (
            ("When was the {item} policy changed?", "date"),
            ("Who changed the {item} policy?", "person"),
        ),
    ),
    (
        "A lost {item} costs {money} and must be reported at {place}.",
        (
            ("How much does a lost {item} cost?", "money"),
            ("Where do I report a lost {item}?", "place"),
        ),
    ),
    (
        "New staff receive their {item} at {place} on {day}.",
        (
            ("Where do new employees get their {item}?", "place"),
            ("On which day do new staff receive a {item}?", "day"),
        ),
    ),
    (
        "Requests for a {item} above {money} need the approval of {person}.",
        (
            ("Who approves a {item} above {money}?", "person"),
            ("From which amount does a {item} need approval?", "money"),
        ),
    ),
    (
        "Each {item} is kept for {amount} and then deleted.",
        (
            ("How long is a {item} kept?", "amount"),
            ("For how long do you store a {item}?", "amount"),
        ),
    ),
    (
        "To reset the {item}, open {place} and enter {code}.",
        (
            ("How do I reset the {item}?", "open {place} and enter {code}"),
            ("What must be entered to reset the {item}?", "code"),
        ),
    ),
    (
        "The {name} office closes at {hour} on {day}.",
        (
            ("When does the {name} office close?", "{hour} on {day}"),
            ("At what time does the {name} office close on {day}?", "hour"),
        ),
    ),
    (
        "If the {item} fails, {team} must be told within {amount}.",
        (
            ("Who must be told if the {item} fails?", "team"),
            ("What happens if the {item} fails?", "{team} must be told within {amount}"),
        ),
    ),
    (
        "The setting {code} limits how long a {item} may take; it defaults to {amount}.",
        (
            ("What limits how long a {item} may take?", "code"),
            ("What is the default limit for a {item}?", "amount"),
        ),
    ),
    (
        "{name} was founded by {person} on {date} in {name2}.",
        (
            ("Who founded {name}?", "person"),
            ("When was {name} founded?", "date"),
            ("Where was {name} founded?", "name2"),
        ),
    ),
    (
        "Members of {name} pay {money} a year and may bring {number} guests.",
        (
            ("How much is the yearly fee of {name}?", "money"),
            ("How many guests may a member of {name} bring?", "number"),
        ),
    ),
    (
        "{person} leads the {name} project, which started in {year} with {number} people.",
        (
            ("Who leads the {name} project?", "person"),
            ("When did the {name} project start?", "year"),
            ("How many people did the {name} project start with?", "number"),
        ),
    ),
    (
        "Refunds for a {item} are paid within {amount} to the original account.",
        (
            ("How long does a refund for a {item} take?", "amount"),
            ("Where are refunds for a {item} paid?", "to the original account"),
        ),
    ),
    (
        "The {name} server listens on {code} and restarts every {day} at {hour}.",
        (
            ("When does the {name} server restart?", "every {day} at {hour}"),
            ("On what does the {name} server listen?", "code"),
        ),
    ),
    (
        "You are entitled to {number} days of leave in the first year; after that, {number2} days.",
        (
            ("How many days of leave do I get in the first year?", "number"),
            ("How much leave do I have after the first year?", "number2 days"),
        ),
    ),
    (
        "Remote work is allowed on up to {number} days a week, if {team} agrees.",
        (
            ("How many days a week may I work remotely?", "number"),
            ("Who must agree to remote work?", "team"),
        ),
    ),
)


def slots(rng: random.Random) -> dict[str, str]:
    """Random values for every slot of the rules."""
    number, number2 = rng.sample(range(2, 60), 2)
    return {
        "item": rng.choice(ITEMS), "team": rng.choice(TEAMS), "amount": amount(rng),
        "contact": contact(rng), "date": date(rng), "person": person(rng), "money": money(rng),
        "place": rng.choice(PLACES), "day": rng.choice(DAYS), "code": code(rng),
        "name": name(rng), "name2": name(rng), "hour": hour(rng), "number": str(number),
        "number2": str(number2), "year": str(rng.randrange(1900, 2026)),
    }  # fmt: skip


Asking = tuple[str, list[tuple[str, str]]]  # a passage's text, and (question, answer) about it


def rules(rng: random.Random) -> Asking:
    """A handbook section: a few rules in prose."""
    sentences, asked = [], []
    for sentence, questions in rng.sample(RULES, rng.randint(2, 5)):
        values = slots(rng)
        sentences.append(sentence.format_map(values))
        for question, answer in rng.sample(questions, min(2, len(questions))):
            # An answer is a template, or starts with the name of a slot, or is fixed text.
            first, _, rest = answer.partition(" ")
            filled = answer.format_map(values)
            if first in values:
                filled = f"{values[first]} {rest}".strip()
            asked.append((question.format_map(values), filled))
    joint = rng.choice((" ", " ", "\n", "\n- "))
    start = "- " if joint == "\n- " else ""
    return start + joint.join(sentences), asked


def facts(rng: random.Random) -> Asking:
    """A fact sheet: one ``key: value`` a line."""
    subject = name(rng)
    lines, asked = [], []
    style = rng.choice(
        ("{k}: {v}", "- {k}: {v}", "**{k}**: {v}", "{k} - {v}", "| {k} | {v} |", "{k}\n{v}")
    )
    for key, value, questions in rng.sample(FIELDS, rng.randint(3, 8)):
        v = value(rng)
        lines.append(style.format(k=key, v=v))
        of, the = rng.choice((("", " it"), (f" of {subject}", f" {subject}")))
        question = rng.choice(questions).replace("{of}", of).replace("{the}", the)
        if rng.random() < 0.1:
            question = key + "?"
        asked.append((question, v))
    return f"{subject}\n" * (rng.random() < 0.6) + "\n".join(lines), asked


def table(rng: random.Random) -> Asking:
    """A table, as Markdown, as comma-separated values or as one sentence-like line a row."""
    columns = rng.sample(FIELDS, rng.randint(2, 4))
    subjects = [
        rng.choice((name(rng), rng.choice(ITEMS).capitalize(), person(rng)))
        for _ in range(rng.randint(2, 6))
    ]
    subjects = list(dict.fromkeys(subjects))
    head = ["Name", *(key for key, _, _ in columns)]
    cells = [[s, *(value(rng) for _, value, _ in columns)] for s in subjects]
    style = rng.randrange(3)
    if style == 0:
        lines = [
            "| " + " | ".join(head) + " |",
            "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in cells),
        ]
    elif style == 1:
        lines = ["; ".join(head), *("; ".join(row) for row in cells)]
    else:
        lines = ["; ".join(f"{h}: {c}" for h, c in zip(head, row, strict=True)) for row in cells]
    asked = []
    for row in cells:
        column = rng.randrange(1, len(head))
        key = head[column].lower()
        question = rng.choice(
            (
                f"What is the {key} of {row[0]}?",
                f"{row[0]}: {key}?",
                f"Which {key} does {row[0]} have?",
            )
        )
        asked.append((question, row[column]))
    return "\n".join(lines), asked


def invented_row(neighbours: Sequence[Text], rng: random.Random, *, max_turns: int) -> Row:
    """One to three invented documents, sometimes beside a real one, with questions about them."""
    texts: list[Text] = []
    asked: list[tuple[str, str, int]] = []
    makers = rng.choices((rules, facts, table), (3, 3, 2), k=rng.choice((1, 1, 2, 2, 3)))
    if rng.random() < 0.3:
        texts.append(strip_text(rng.choice(list(neighbours)), rng, 300))
    for make in makers:
        body, questions = make(rng)
        title = rng.choice(
            (
                "Handbook",
                "Employee handbook",
                "FAQ",
                "Guide",
                "Price list",
                "Policy",
                "Manual",
                "Support",
                name(rng),
            )
        )
        section = rng.choice(
            ("", "", f" > {rng.choice(ITEMS).capitalize()}s", f" > {name(rng)}", " > Overview")
        )
        texts.append(Text(title + section, body))
        asked += [(q, a, len(texts)) for q, a in questions]
    _, foreign = rng.choice((rules, facts, table))(rng)
    order = list(range(len(texts)))
    rng.shuffle(order)
    rng.shuffle(asked)
    known = {q for q, _, _ in asked}
    turns = [Turn(q, FORM.response(a, [order.index(n - 1) + 1])) for q, a, n in asked[:max_turns]]
    turns += [
        Turn(q, FORM.response("")) for q, _ in foreign[: rng.choice((0, 1, 1))] if q not in known
    ]
    rng.shuffle(turns)
    return Row(shown([texts[i] for i in order], rng), tuple(turns[:max_turns]))
