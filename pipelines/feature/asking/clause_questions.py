"""Questions for a part of a clause: its subject, complement, object, a list, its heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from fti.pipelines.feature.asking import verbs
from fti.pipelines.feature.asking.clause_ends import cut, cut_predicate, dangles, whole
from fti.pipelines.feature.asking.grammar import PREPOSITIONS, Clause, ask
from fti.pipelines.feature.asking.phrase_questions import SAYING
from fti.pipelines.feature.asking.phrases import is_person
from fti.pipelines.feature.asking.quality import STOP_WORDS, folded
from fti.pipelines.feature.asking.verbs import BE, word_set
from fti.pipelines.feature.asking.written_questions import Question, Style, made

_ROLE = re.compile(
    r"\b(?:officer|manager|lead|leader|member|volunteer|person|people|visitor|guest|chair|treasurer"
    r"|secretary|president|director|teacher|tutor|steward|trustee|warden|engineer|king|queen|pope|"
    r"emperor|minister|author|scientist|physicist|artist|architect|operator|buyer|user|owner|parent"
    r"|child|children|adult|man|woman|men|women|student|worker|pilot|carer|driver|customer|council"
    r"|committee|team|board)s?\b",
    re.IGNORECASE,
)


_WITHOUT_OBJECT = word_set(
    "come go rise fall lie sit stand live look listen happen arrive appear sound remain stay occur"
)


_HUMAN_VERBS = word_set(
    """
    run teach draw lead write found say assess argue propose invent discover publish decide
    chair marry design paint compose study repair check keep sign count read believe think
    """
)


_ITEM = r"[^\s,;:.()]+(?: [^\s,;:.()]+){0,4}?"


_LIST = re.compile(rf"(?P<items>{_ITEM}(?:, {_ITEM}){{1,6}},? (?:and|or) {_ITEM})[.;]?$")


def about_subject(clause: Clause, sentence: str) -> Iterator[Question]:
    """Who or what does it: the question keeps the statement's own order."""
    start, end = clause.subject_span
    subject = clause.text[start:end]
    if start == end or subject.casefold() in ("we", "you", "they", "it", "he", "she"):
        return
    tail = cut_predicate(clause.text[clause.finite :])
    verb, _, others = tail.partition(" ")
    if len([w for w in others.split() if w.casefold() not in STOP_WORDS]) < 2:
        return
    person = is_person(subject) or (
        _ROLE.search(subject) is not None
        or (subject[:1].isupper() and " " not in subject and clause.base in _HUMAN_VERBS)
    )
    definite = subject.split()[0].casefold() not in ("a", "an") and len(subject.split()) <= 8
    if not definite:
        return
    word = "who" if person else "what"
    opening = others.split()[0].casefold()
    if clause.verb in BE and opening in ("the", "our"):
        # "Minnow is the bandsaw": asks for a name.
        if subject[:1].isupper() and len(subject.split()) <= 3 and not person:
            named = cut(others)
            yield Question(ask(f"what is the name of {named}"), subject, sentence, "name")
        elif person:
            yield Question(
                ask(f"who {verbs.singular(verb)} {others}"), subject, sentence, "subject"
            )
        return
    if clause.verb in BE and not (verbs.is_participle(opening) or opening in PREPOSITIONS):
        return  # "The filters are paper cones": asked for by what they are
    if dangles(others):
        return
    heavy = [w for w in others.split() if w.casefold() not in STOP_WORDS]
    told = re.search(r"\d|[A-Z]", others) is not None or len(heavy) >= 4
    yield Question(
        ask(f"{word} {verbs.singular(verb) if clause.plural or verb in BE else verb} {others}"),
        subject,
        sentence,
        "subject",
        weak=not told,
    )


def about_complement(clause: Clause, sentence: str) -> Iterator[Question]:
    """What something is: "Hector is a sliding table saw"."""
    if clause.verb not in BE or clause.subject in ("you", "we"):
        return
    rest = clause.text[clause.rest :]
    answer = whole(rest)
    words = answer.split()
    if not words or len(words) > 15 or dangles(answer):
        return
    first = words[0].casefold()
    capital = words[0][:1].isupper()
    if (
        first in ("a", "an", "the", "one", "our", "its", "their")
        or words[0][0].isdigit()
        or capital
    ):
        if first == "one" and len(words) < 4:
            return
        if verbs.is_participle(words[-1]) and len(words) < 3:
            return
        if len(words) == 1 and not capital and not words[0][0].isdigit():
            return
        name = clause.subject.split()[0][:1].isupper()
        human = is_person(answer) or (
            is_person(clause.subject) and _ROLE.search(answer) is not None
        )
        word = "who" if human else "what"
        short = len(clause.subject.split()) < 3 and not name
        yield replace(made(clause, word, "", answer, sentence, "definition"), weak=short)


def about_object(clause: Clause, sentence: str) -> Iterator[Question]:
    """What something does something to: "The mill takes R8 tooling"."""
    rest = clause.text[clause.rest :]
    verb = clause.base
    if not verb:
        if clause.auxiliary in BE or clause.auxiliary in verbs.HAVE:
            return
        verb, _, rest = rest.partition(" ")
        if verb.casefold() in ("be", "have") or not verbs.is_verb(verb) or not verb.islower():
            return
        remainder = verb
    else:
        remainder = ""
    answer = whole(rest)
    words = answer.split()
    if not 1 <= len(words) <= 10:
        return
    first = words[0].casefold()
    if first in PREPOSITIONS | {
        "to",
        "that",
        "up",
        "out",
        "down",
        "off",
        "away",
        "back",
        "more",
        "it",
        "them",
        "him",
        "her",
        "us",
        "you",
        "me",
        "when",
        "how",
        "together",
        "itself",
        "themselves",
        "well",
        "so",
        "only",
    }:
        return
    if len(words) == 1 and (first.endswith("ly") or first in STOP_WORDS):
        return
    if verbs.is_participle(words[0]) or first.endswith(("ing", "wise", "ward", "wards")):
        return
    if dangles(answer) or re.search(r"\b(?:what|how|where|who|whether)\b", answer):
        return
    style: Style = "rule" if clause.auxiliary in verbs.MODALS else "object"
    if clause.subject in ("you", "we") and not remainder and verb in ("do", "have", "get", "make"):
        return
    if verb in SAYING or verb in _WITHOUT_OBJECT:
        return
    yield Question(
        clause.asked("what", remainder),
        answer,
        sentence,
        style,
        weak=len([w for w in clause.subject.split() if w.casefold() not in STOP_WORDS]) < 2
        and not clause.subject[:1].isupper(),
    )


def about_list(clause: Clause, sentence: str) -> Iterator[Question]:
    """What things: "The drawer holds pliers, files and two hammers"."""
    rest = clause.text[clause.rest :]
    match = _LIST.match(rest)
    if match is None or (clause.subject in ("you", "we") and clause.base in SAYING):
        return
    if clause.verb not in BE and not (clause.base and verbs.is_verb(clause.base)):
        return
    if clause.auxiliary in BE and verbs.is_participle(rest.split()[0].strip(",")):
        return
    items = [i.strip() for i in re.split(r",| and | or ", match["items"]) if i.strip()]
    if len(items) < 3 or any(len(item.split()) > 5 or _reads_as_clause(item) for item in items):
        return
    if items[0].split()[0].casefold() in PREPOSITIONS | {"to", "not", "that", "how", "what"}:
        return
    yield made(clause, "what", "", match["items"], sentence, "list")


def _reads_as_clause(item: str) -> bool:
    first = item.split()[0].casefold()
    return first in BE | verbs.MODALS | {"it", "they", "which", "who", "then"}


def which_section(clause: Clause, sentence: str, title: str, topic: str) -> Iterator[Question]:
    """Where a statement stands: the answer is the heading above it."""
    if not topic or topic == title or clause.subject in ("it", "they", "he", "she"):
        return
    said = clause.text
    if not 6 <= len(said.split()) <= 20 or clause.subject_span[0] == clause.subject_span[1]:
        return
    told = f"{clause.subject} {said[clause.finite :]}"
    if re.search(r"[;\"“”]", told):
        return
    yield Question(
        ask(f"which section of {folded(title) or 'the document'} says that {told}"),
        folded(topic),
        sentence,
        "section",
    )


def from_heading(clause: Clause, sentence: str, topic: str) -> Iterator[Question]:
    """What the section about something says of it."""
    subject = clause.subject
    if not topic or subject in ("you", "we", "they", "it") or not 2 <= len(subject.split()) <= 6:
        return
    answer = cut_predicate(clause.text[clause.finite :])
    if (
        not 4 <= len(answer.split()) <= 15
        or dangles(answer)
        or clause.text[clause.subject_span[0] :].find(answer) < 0
    ):
        return
    yield Question(
        f"What does “{topic}” say about {subject}?".replace("“", '"').replace("”", '"'),
        answer,
        sentence,
        "heading",
    )
