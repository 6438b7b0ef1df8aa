"""Where a part of a clause ends, so that an answer is whole and a question does not run on."""

from __future__ import annotations

import re

from fti.pipelines.feature.asking import verbs
from fti.pipelines.feature.asking.grammar import DETERMINERS, PREPOSITIONS
from fti.pipelines.feature.asking.quality import STOP_WORDS
from fti.pipelines.feature.asking.written_questions import joined

BOUNDARY = re.compile(
    r"\s*(?:[;()\[\]–—]|:(?!\d))|,\s|\s-+\s"
    r"|\s(?:which|who|whom|whose|where|when|whenever|because|unless|while|if|although|though|but|"
    r"until|whereas|since|so that|that|than|as|by whoever)\s"
    r"|\s(?:and|or)\s(?=(?:\S+\s){0,3}?(?:is|are|was|were|has|have|had|can|may|must|will|should|"
    r"goes|go|does|do)\b)|\s(?:and|so|or)\s(?=(?:it|they|he|she|we|you|then|also|not)\b)"
    r"|\s(?:is|are|was|were|has|had|can|may|must|will|should|would|could)\s"
)


_DEFINING = re.compile(
    r" that (?:[\w'’-]+ ){0,12}[\w'’-]+$"
)  # "the one offence that costs you laser access"


def cut(text: str) -> str:
    """A text up to the end of its clause."""
    match = BOUNDARY.search(text)
    text = text[: match.start()] if match else text
    verb = joined_verb(text)
    return (text[: verb.start()] if verb else text).rstrip(" ,.;:")


def joined_verb(text: str) -> re.Match[str] | None:
    """Where a second predicate is joined on: "lifts 2,000 kg and lives in the yard"."""
    for match in re.finditer(
        r"(?:^|\s)(?:and|or) (?:then |also )?([a-z]+)(?P<object> (?:an?|the|its)\b)?", text
    ):
        verb = match[1]
        # An unknown word in -s with an object of its own: "and etches a board".
        if verb.endswith("s") and match["object"] and not verb.endswith("ss"):
            return match
        if verbs.is_verb(verb) and not verb.endswith("ing"):
            return match
    return None


def cut_predicate(text: str) -> str:
    """A predicate up to the end of its clause; its own verb does not end it."""
    verb, _, others = text.partition(" ")
    return joined(verb, cut(others))


def whole(rest: str) -> str:
    """A complement up to the end of its clause; "" when the end cuts through a list."""
    verb = joined_verb(rest)
    match = BOUNDARY.search(rest)
    short = match is not None and match.group() == " that " and len(rest.split()) <= 15
    if match is not None and short and _DEFINING.fullmatch(rest, match.start()):
        return rest
    if verb is not None and (match is None or verb.start() <= match.start()):
        return rest[: verb.start()].rstrip(" ,.;:")
    if match is None:
        return rest.rstrip(" ,.;:")
    answer = rest[: match.start()].rstrip(" ,.;:")
    if match.group().startswith(",") or match.group().strip() in ("and", "or"):
        following = rest[match.end() :].split(" ")[0].casefold().strip(",")
        known = following in PREPOSITIONS | STOP_WORDS - DETERMINERS - {"and", "or"}
        if not known and not verbs.is_participle(following):
            return ""
    return answer


def dangles(answer: str) -> bool:
    """Whether an answer breaks off before its noun."""
    last = answer.split()[-1].casefold()
    return last in PREPOSITIONS | DETERMINERS | {"and", "or", "not", "to", "be"}
