"""Questions for one phrase of a clause: how much, how many, when, where, who."""

from __future__ import annotations

import re

from fti.pipelines.feature.asking import verbs
from fti.pipelines.feature.asking.clause_ends import BOUNDARY, cut, joined_verb
from fti.pipelines.feature.asking.grammar import DETERMINERS, PREPOSITIONS, Clause
from fti.pipelines.feature.asking.phrases import DAY, MONTH, NAME, UNITS, is_person, plural_noun
from fti.pipelines.feature.asking.quality import STOP_WORDS
from fti.pipelines.feature.asking.verbs import BE, word_set
from fti.pipelines.feature.asking.written_questions import Question, joined, made

SAYING = word_set("say think know believe argue suggest mean claim state ask tell")


_APPROXIMATE = re.compile(
    r"(?:\b(?:about|around|roughly|nearly|almost|over|some|approximately|at least|at most|up to|"
    r"no more than|no less than|more than|less than|fewer than|only|just|under|exactly|another|"
    r"the|its|their|our|a total of|as many as)\s+)+$",
    re.IGNORECASE,
)


_ANY_PREPOSITION = "|".join(sorted(PREPOSITIONS, key=len, reverse=True))


_LAST_PREPOSITION = re.compile(
    rf"(?:^|\s)((?:next to|out of|up to|{_ANY_PREPOSITION}))\s*$", re.IGNORECASE
)


_PREP = "|".join(sorted(PREPOSITIONS - {"of"}, key=len, reverse=True))


_PLACE = re.compile(
    r"(?:in|at|on|by|near|under|behind|beside|above|inside|outside|between|opposite|below|along|"
    r"next to|from|over|against|around|to|into|onto)\s",
    re.IGNORECASE,
)


_NOT_A_PLACE = re.compile(
    r"\b(?:minutes?|hours?|days?|weeks?|months?|years?|century|time|order|case|part|use|addition|"
    r"general|particular|advance|writing|person|turn|total|fact|force|question|accordance|favou?r|"
    r"response|terms|least|most|once|all|charge|behalf|account|condition|average|request|purpose|"
    r"means?|ways?|hand|alternate|season|summer|winter|spring|autumn|morning|evening|night|noon|"
    r"midnight|cost|price|rate|speed|degrees?|percent|pounds?|term|hire|age|weight|size|"
    r"pencil|paper|ink|english|french|latin|metres?|foot|feet|litres?|grams?|kilos?|kilograms?|"
    r"piece|sheets?|volume|weight|lot|whom|whoever|"
    rf"{MONTH}|{DAY}|\d+:\d\d|\d{{4}})\b",
    re.IGNORECASE,
)


_PLACING_VERBS = word_set(
    """
    be hang stand sit lie live keep store put find hold place leave locate mount meet park take
    stop begin start end collect return happen occur build make sell buy bring work serve arrive
    kept stored found held placed left located mounted parked hung fixed displayed posted made
    sold bought collected returned built born buried written shown settled signed stuck taken
    fitted clipped chained installed go move send weigh dry moved sent weighed dried poured
    thrown emptied handed shelved
    """
)


def _around(clause: Clause, start: int, end: int) -> tuple[str, str, str] | None:
    """What stands before a span (its preposition apart) and after it, within the clause.

    None when the span cannot be asked for alone: it sits in another clause, or qualifies a noun.
    """
    body = clause.text
    before = body[clause.rest : start]
    if joined_verb(before) or re.search(r"[\dx×]\s*$", before):
        return None
    if re.match(r",? (?:and |or )?\d", body[end:]):
        return None  # one of a list of figures
    if BOUNDARY.search(before + " ") or re.search(r",|\band$|\bor$", before.strip()):
        return None
    if body[end : end + 1] not in ("", " ", ",", ".", ";", ":", ")"):
        return None
    after = body[end:]
    following = after.strip().split(" ")[0].strip(",.;:").casefold()
    plain_after = (
        not after.strip()
        or after.lstrip()[0] in ",;:.()–—"
        or following
        in (
            PREPOSITIONS
            | {
                "and",
                "or",
                "but",
                "which",
                "who",
                "where",
                "when",
                "because",
                "so",
                "if",
                "unless",
                "while",
                "each",
                "every",
                "is",
                "are",
                "before",
                "after",
                "once",
                "ago",
                "later",
                "ahead",
                "away",
                "long",
                "wide",
                "high",
                "deep",
                "thick",
                "apart",
                "old",
                "than",
                "per",
            }
        )
    )
    if not plain_after:
        return None
    bounded = cut(after)
    if re.search(
        r"(?:anything|anyone|those|these|all|any|some|people|nothing)\s+\w+( than)?\s*$", before
    ):
        return None  # "anything over 25 kg": the figure belongs to the noun
    before = _APPROXIMATE.sub("", before)
    found = _LAST_PREPOSITION.search(before)
    preposition = ""
    if found is not None:
        preposition = found[1].casefold()
        before = before[: found.start()]
        before = _APPROXIMATE.sub("", before)
    words = before.split()
    if words and (words[-1].casefold() in DETERMINERS | {"and", "or", "of"}):
        return None
    if re.match(r"\s*(?:and|or|to)\b", bounded):
        bounded = ""
    return before.strip(), preposition, bounded.strip()


def ask_money(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
    """How much something costs; None where the sentence does not let itself be asked."""
    around = _around(clause, *match.span())
    if around is None:
        return None
    before, preposition, after = around
    word = "how much"
    if preposition in ("at", "for", "by", "of", "from", "to", "over", "up to"):
        word = {"at": "at what price", "over": "over how much"}.get(
            preposition, f"{preposition} how much"
        )
    elif preposition:
        return None
    if clause.verb in BE and not before:
        word = "how much"
    return made(clause, word, joined(before, after), match.group(), sentence, "quantity")


def ask_time(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
    """At what time; None likewise."""
    around = _around(clause, *match.span())
    if around is None:
        return None
    before, preposition, after = around
    if preposition not in ("at", "before", "after", "until", "by", "from", "since", "between"):
        return None
    if re.search(r" (?:to|until|and) ", match.group()):
        word = "when" if preposition in ("from", "between") else ""
    else:
        word = "at what time" if preposition == "at" else f"{preposition} what time"
    if not word or word.startswith("between"):
        return None
    return made(clause, word, joined(before, after), match.group(), sentence, "date")


def ask_date(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
    """When, or on which day; None likewise."""
    around = _around(clause, *match.span())
    if around is None:
        return None
    before, preposition, after = around
    answer = match.group()
    if before.casefold().split()[-1:] == ["every"]:
        return None
    year = re.fullmatch(r"(?:1\d|20)\d{2}", answer) is not None
    spread = re.search(r" (?:to|until|and|or) ", answer) is not None
    if spread:
        if preposition not in ("in", "on", "from", "between", "during"):
            return None
        word = "when"
    elif preposition in ("in", "on", "during"):
        if year and len(clause.subject) % 2:
            word = "in what year"
        elif "day" in answer and not after and len(clause.subject) % 2:
            word = "on what day"
        else:
            word = "when"
    elif preposition in ("since", "until", "by", "before", "after", "from"):
        word = f"{preposition} {'what year' if year else 'when'}"
    else:
        return None
    return made(clause, word, joined(before, after), answer, sentence, "date")


def ask_quantity(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
    """How many or how much of something; None likewise."""
    unit, noun = match["unit"], match["noun"]
    start, end = match.span()
    if noun:
        words = noun.split()
        if words[0] in STOP_WORDS or (verbs.is_participle(words[0]) and len(words) == 1):
            return None
        if not plural_noun(words[-1]):
            if not plural_noun(words[0]):
                return None
            noun = words[0]
            end = match.start("noun") + len(noun)
        elif plural_noun(words[0]) and len(words) > 1:
            noun = words[0]
            end = match.start("noun") + len(noun)
        counted = noun
    elif unit:
        counted = UNITS[unit]
    else:
        counted = ""
    around = _around(clause, start, match.end() if match["more"] else end)
    if around is None or clause.base in SAYING:
        return None
    before, preposition, after = around
    answer = clause.text[start:end]
    word = f"how many {counted}" if counted else "what percentage"
    if noun in ("degrees",):
        word = "what temperature" if preposition in ("at", "to", "above", "below") else word
    if match["more"]:
        answer = clause.text[start : match.end()]
    dimension = re.match(r"(long|wide|high|deep|thick|tall|away|apart|old|heavy)\b", after)
    if dimension is not None:
        if before or preposition or clause.verb not in BE or "day" in counted:
            return None
        word = {"away": "how far away", "apart": "how far apart"}.get(
            dimension[1], f"how {dimension[1]}"
        )
        after = after[dimension.end() :].strip()
    if before.casefold().split()[-1:] == ["every"]:
        before, word, preposition = before[:-5].strip(), "how often", ""
        answer = clause.text[match.start() - 6 : end]
    elif preposition == "for" and counted in _SPANS and len(clause.subject) % 2:
        word, preposition = "for how long", ""
    elif preposition == "after" and counted in _SPANS and len(clause.subject) % 2:
        word, preposition = "after how long", ""
    elif clause.base in ("last", "take") and counted in _SPANS and not before:
        word = "how long"
    if preposition in ("per", "like", "than", "of", "with", "as", "between", "near", "down", "up"):
        return None
    part = re.match(
        r"of (?:the |our |its )?[\w'’-]+(?: [\w'’-]+){0,2}?(?=$| (?:" + _PREP + r")\b)", after
    )
    if part is not None:
        word, after = f"{word} {part.group()}", after[part.end() :].strip()
    elif after.startswith("of "):
        return None
    return made(
        clause, joined(preposition, word), joined(before, after), answer, sentence, "quantity"
    )


_SPANS = word_set("seconds minutes hours days weeks months years")


def ask_name(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
    """Who, which or what is called so; None likewise."""
    around = _around(clause, *match.span())
    if around is None:
        return None
    before, preposition, after = around
    answer = match.group()
    if answer.split()[0] in ("I", "The", "A") or clause.auxiliary == "should":
        return None
    last = before.casefold().split()[-1:]
    if not preposition and last in (["called"], ["named"], ["titled"]):
        return made(clause, "what", joined(before, after), answer, sentence, "name")
    if preposition == "as" and last == ["known"]:
        return made(clause, "what", joined(before, "as", after), answer, sentence, "name")
    person = is_person(answer)
    if preposition == "by" and " " not in answer and not answer.isupper():
        person = True
    if (
        preposition == "by"
        and clause.auxiliary in BE
        and verbs.is_participle(before.split()[0] if before else "")
    ):
        word = "who" if person else "what"
        return made(clause, word, joined(before, "by", after), answer, sentence, "name")
    if person and preposition in ("to", "from", "with", "for"):
        return made(clause, "who", joined(before, preposition, after), answer, sentence, "name")
    places = ("in", "at", "near", "on", "from") if " " in answer else ("in", "at", "near")
    if (
        not person
        and preposition in places
        and not answer.isupper()
        and (clause.verb in BE or clause.verb in _PLACING_VERBS or before)
    ):
        stranded = "from" if preposition == "from" else ""
        return made(clause, "where", joined(before, stranded, after), answer, sentence, "place")
    return None


def ask_place(clause: Clause, sentence: str) -> Question | None:
    """Where; None likewise."""
    rest = clause.text[clause.rest :]
    before = ""
    if clause.auxiliary and not clause.base:
        first, _, others = rest.partition(" ")
        if verbs.is_participle(first) or (first.casefold() in _PLACING_VERBS):
            before, rest = first, others
    verb = before.casefold() or clause.verb
    if verb in BE:
        verb = "be"
    if verb not in _PLACING_VERBS:
        return None
    start = _PLACE.match(rest)
    if start is None:
        if clause.verb in BE or not clause.base:
            return None
        start = re.search(rf"\s(?={_PLACE.pattern})", rest[:60])
        if start is None or BOUNDARY.search(rest[: start.start()]):
            return None
        before, rest = joined(before, rest[: start.start()]), rest[start.end() :]
    answer = cut(rest)
    if clause.auxiliary in BE:  # "is kept at the desk by Edie": by whom is another question
        answer = re.split(r" by (?=[A-Z]|an? |the )", answer)[0]
    if re.match(r"by \d", answer):
        return None
    named = NAME.search(answer)
    if named is not None and answer.startswith("to ") and is_person(named.group()):
        return None
    if not 2 <= len(answer.split()) <= 9 or _NOT_A_PLACE.search(answer):
        return None
    if before.split()[-1:] in (["away"], ["apart"], ["on"], ["off"], ["up"], ["down"]):
        return None
    first, _, others = answer.partition(" ")
    following = others.split()[0]
    if first == "to" and (following == "be" or verbs.base_of_imperative(following)):
        return None
    if first == "by" and named is not None and is_person(named.group()):
        return None
    if answer.startswith("from ") and clause.base not in ("come", "buy", "take", "get", "collect"):
        return None
    if answer.split()[-1].casefold() in PREPOSITIONS | DETERMINERS:
        return None
    return made(clause, "where", before, answer, sentence, "place")
