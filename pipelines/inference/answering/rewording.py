"""An English follow-up question put into words of its own, out of the question before it.

Patterns only, each for one shape of question; where none fits, nothing is changed, and the caller
lets the earlier question and its answer stand before the new one.
"""

from __future__ import annotations

import re

from fti.pipelines.inference.answering.citations import word_set

_AUXILIARY = (
    "is|are|was|were|am|do|does|did|can|could|must|may|might|should|shall|will|would|has|have|had"
)
_YES_NO = re.compile(rf"(?P<aux>{_AUXILIARY})\s+(?P<rest>.+)", re.IGNORECASE)
_ASKED = re.compile(
    rf"(?P<word>what|which|who|whom|when|where|how)\b(?P<noun>(?:\s+(?!(?:{_AUXILIARY})\b)[\w'-]+)"
    rf"{{0,4}}?)\s+(?P<aux>{_AUXILIARY})\s+(?P<rest>.+)",
    re.IGNORECASE,
)
_WHY = re.compile(
    r"(?:and\s+|but\s+)?why(?:\s+(?:is|was)\s+(?:that|this|it)(?:\s+so)?)?[\s?.!]*", re.I
)
_WHY_NOT = re.compile(r"(?:and\s+|but\s+)?why\s+not[\s?.!]*", re.I)
_NOT_A_SUBJECT = word_set("never not always be been being have only also often ever usually you")
_THING = re.compile(
    r"\b(it|this|that|they|them|these|those)\b(?!\s+[a-z]+\s+(?:that|which)\b)", re.I
)
_PERSON = re.compile(r"\b(he|she|him)\b", re.I)
_OWNED = re.compile(r"\b(its|their|his)\b(?=\s+\w)", re.I)
_DETERMINER = r"(?:the|a|an|my|our|your|each|every|this|these|those)"
_PREPOSITIONS = (
    "about|after|against|at|before|behind|between|by|during|for|from|in|inside|into|near|of|on|"
    "over|since|through|to|under|until|up|with|within|without"
)
_VERBS = (
    f"{_AUXILIARY}|be|been|being|and|or|but|if|when|while|that|which|who|because|never|always|not|"
    "only|usually|often|cost|costs|open|opens|close|closes|last|lasts|take|takes|need|needs|work|"
    "works|start|starts|end|ends|run|runs|happen|happens|weigh|weighs|hold|holds|mean|means|get|"
    "gets|go|goes|come|comes|cut|pay|pays|book|hire|use|make|makes|keep|keeps|bring|store|fit|"
    "fits|allow|allows|look|looks|stand|begin|begins|stop|stops|change|changes"
)
# A noun phrase: an article and up to four words, ended by what cannot go on with it.
_PHRASE = re.compile(
    rf"\b{_DETERMINER}(?:\s+(?!(?:{_VERBS}|{_PREPOSITIONS}|{_DETERMINER})\b)"
    rf"(?!\w+ed\b(?!\s+\w))[\w'-]+){{1,4}}",
    re.IGNORECASE,
)
_BARE = re.compile(
    rf"(?!(?:I|we|you|one|there)\b)(?:(?!(?:{_VERBS}|{_PREPOSITIONS})\b)[\w'-]+(?:\s+|$)){{1,4}}",
    re.IGNORECASE,
)
_TAKING_A_VERB = re.compile("do|does|did|can|could|may|might|must|should|shall|will|would", re.I)
_BESIDE = re.compile(rf"\s+(?:of|in|for|at|on)\s+{_PHRASE.pattern}", re.IGNORECASE)
_NAME = re.compile(r"(?<![.?!]\s)(?<!^)\b[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)*")
_MOST_WORDS = 14  # a longer answer is no part of a question


def reworded(before: str, answer: str, question: str) -> str:
    """The follow-up as a question that stands alone; empty where no pattern fits.

    Args:
        before: the question that it leans on, standing alone.
        answer: what was answered to that, without markers; empty where nothing was.
        question: the follow-up.
    """
    if _WHY.fullmatch(question.strip()):
        return _why(before, answer)
    if _WHY_NOT.fullmatch(question.strip()):
        return _why_not(before)
    return _with_topic(before, answer, question)


def short_answer(answer: str) -> str:
    """An answer as it can stand inside a question: no full stop; empty where it is long."""
    bare = " ".join(answer.split()).rstrip(" .!;,")
    return bare if len(bare.split()) <= _MOST_WORDS and not re.search(r"[.!?]\s", bare) else ""


def _why(before: str, answer: str) -> str:
    clause = _last_question(before)
    said = short_answer(answer)
    if match := _YES_NO.fullmatch(clause):
        return f"Why {match['aux'].lower()} {match['rest']}?"
    match = _ASKED.fullmatch(clause)
    if match is None:
        return ""
    aux, rest = match["aux"].lower(), match["rest"]
    if _without_subject(match):
        return f"Why {aux} {_lowered(said)} {rest}?" if said else ""
    if match["word"].lower() == "how" and not match["noun"]:
        return f"Why {aux} {rest}?"  # a manner: the answer is a clause of its own
    return f"Why {aux} {rest} {_lowered(said)}?" if said else f"Why {aux} {rest}?"


def _why_not(before: str) -> str:
    match = _YES_NO.fullmatch(_last_question(before))
    if match is None:
        return ""
    subject = _PHRASE.match(match["rest"]) or re.match(
        r"(?:I|we|you|they|it)\b|[\w'-]+", match["rest"]
    )
    assert subject is not None  # the rest is not empty
    return f"Why {match['aux'].lower()} {subject[0]} not{match['rest'][subject.end() :]}?"


def _without_subject(match: re.Match[str]) -> bool:
    """Whether what was asked for is itself the subject: "What must never be cut"."""
    if match["word"].lower() not in ("what", "which", "who"):
        return False
    if match["aux"].lower() in ("do", "does", "did"):
        return False
    first = match["rest"].split()[0].lower()
    return first in _NOT_A_SUBJECT - {"you"} or bool(re.fullmatch(r"\w+(?:ed|ing|en)", first))


def _with_topic(before: str, answer: str, question: str) -> str:
    """The follow-up with what it refers to in the place of its pronoun."""
    text = re.sub(r"^(?:and|but|so|then)\s+(?=\w+\s)", "", question.strip(), flags=re.I)
    topic = ""
    pronoun = _THING.search(text)
    if person := _PERSON.search(text):
        pronoun, topic = person, _person(before, answer)
    elif owned := _OWNED.search(text):
        thing = _topic(before)
        return f"{text[: owned.start()]}{_possessive(thing)}{text[owned.end() :]}" if thing else ""
    elif pronoun is not None and _is_object_of_a_verb(text, pronoun):
        return ""  # "Who decides that?": what was said, not a thing
    elif pronoun is not None:
        topic = _topic(before)
    if pronoun is None or not topic:
        return ""
    told = f"{text[: pronoun.start()]}{topic}{text[pronoun.end() :]}"
    return told[0].upper() + told[1:]


def _is_object_of_a_verb(text: str, pronoun: re.Match[str]) -> bool:
    if pronoun[0].lower() not in ("that", "this"):
        return False
    ahead = text[: pronoun.start()].split()
    return bool(ahead) and not re.fullmatch(f"{_AUXILIARY}|{_PREPOSITIONS}", ahead[-1], re.I)


def _topic(before: str) -> str:
    """What a question is about: its first noun phrase, with what stands beside it; else a name."""
    clause = _last_question(before)
    match = _ASKED.fullmatch(clause) or _YES_NO.fullmatch(clause)
    rest = match["rest"] if match else clause.split(" ", 1)[-1]
    if match and _TAKING_A_VERB.fullmatch(match["aux"]):
        subject = _PHRASE.match(rest) or _BARE.match(rest)
        if subject and subject.end() == len(rest) and " " in rest:
            rest = rest.rsplit(" ", 1)[0]  # "the tool library lend": the last word is the verb
    if phrase := _PHRASE.search(rest):
        beside = _BESIDE.match(rest[phrase.end() :])
        return _definite(phrase[0]) + (beside[0] if beside else "")
    if name := _NAME.search(clause):
        return name[0]
    if match is None or (match.re is _ASKED and _without_subject(match)):
        return ""
    bare = _BARE.match(rest)
    return bare[0].strip() if bare else ""


def _person(before: str, answer: str) -> str:
    said = short_answer(answer)
    if re.fullmatch(r"[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*){0,3}", said):
        return said
    name = _NAME.search(_last_question(before))
    return name[0] if name else ""


def _definite(phrase: str) -> str:
    """The phrase as one speaks of it again: "a kiln firing" becomes "the kiln firing"."""
    return re.sub(r"^(?:a|an)\s", "the ", phrase, flags=re.I)


def _possessive(phrase: str) -> str:
    return f"{phrase}'" if phrase.endswith("s") else f"{phrase}'s"


def _lowered(said: str) -> str:
    """An answer in the middle of a question: a first word that is no name in small letters."""
    head, _, tail = said.partition(" ")
    common = head.lower() in ("the", "a", "an", "at", "on", "in", "from", "to", "by", "for", "no")
    return f"{head.lower()} {tail}".strip() if common else said


def _last_question(before: str) -> str:
    """The last sentence of an earlier question, without its mark."""
    return re.split(r"(?<=[.?!])\s+", before.strip())[-1].rstrip(" ?.!")
