"""Questions with short answers written from one stretch of text, by rule and without a model.

Each question names its answer as the text spells it. Statements become wh-questions where
``grammar`` can take them apart; lines and tables become "what is the X of Y"; what is left can be
asked by leaving a word out. Which of the questions are kept is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fti.pipelines.feature.asking import grammar
from fti.pipelines.feature.asking.grammar import (
    BE,
    DETERMINERS,
    PREPOSITIONS,
    Clause,
    ask,
    word_set,
)
from fti.pipelines.feature.asking.pieces import Piece, pieces
from fti.pipelines.feature.asking.quality import STOP_WORDS, folded

Style = Literal[
    "subject", "object", "quantity", "date", "place", "name", "definition", "reason", "condition",
    "rule", "list", "field", "table", "heading", "section", "cloze",
]  # fmt: skip

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)s?"
_DATE = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?: \d{{4}})?|{_MONTH} \d{{1,2}}, \d{{4}}"
    rf"|{_MONTH} \d{{4}}|(?:1\d|20)\d{{2}}s?|{_MONTH}"
    rf"|(?:(?:alternate|the (?:first|second|third|last)) )?{_DAY}(?: (?:of (?:the|each) month"
    rf"|(?:morning|afternoon|evening|night)s?))?)\b"
    rf"(?: (?:to|until|and|or) (?:{_MONTH}|{_DAY}|\d{{1,2}} {_MONTH}|(?:1\d|20)\d{{2}})\b)?"
    rf"(?![-\w%]|[.,:]\d)"
)
_CLOCK = r"(?:\d{1,2}:\d{2}(?: ?[ap]\.?m\.?)?|\d{1,2} ?[ap]m|noon|midnight)"
_TIME = re.compile(rf"\b{_CLOCK}(?: (?:to|until|and) {_CLOCK})?\b(?!:)")
_WORD_NUMBER = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    "|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    "|a hundred|a thousand|half a"
)
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?: (?:million|billion|thousand))?"
_MONEY = re.compile(
    rf"(?:[£$€] ?{_NUMBER}|(?<![\w.]){_NUMBER} (?:pounds|euros|dollars|pence|cents)\b)"
    r"(?: (?:a|an|per|each) (?:head|person|year|month|week|day|night|hour|minute|metre|litre|gram"
    r"|kilogram|kilo|piece|page|item|sheet|bag|session|visit))?"
)
_UNITS = {
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
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_QUANTITY = re.compile(
    rf"(?<![\w£$€.,/-])(?P<number>{_NUMBER}|{_WORD_NUMBER})"
    rf"(?:[ \u00a0]?(?P<unit>{_UNIT})(?![\w/-])|[ \u00a0](?P<noun>(?:[a-z][a-z-]+ )?[a-z][a-z-]+)"
    rf"(?![\w-])|(?P<percent> ?%| per ?cent\b))"
    rf"(?P<more> (?:to|or|and) (?:{_NUMBER}|{_WORD_NUMBER})"
    rf"(?:[ \u00a0]?(?:{_UNIT})(?![\w/-])"
    rf"|[ \u00a0](?:seconds|minutes|hours|days|weeks|months|years)"
    rf"|[ \u00a0](?P=noun)\b)| ?[x×] ?{_NUMBER} ?(?:{_UNIT})?)?"
)
_NAME_WORD = r"[A-Z][\w'’&.-]*[\w’]"
_NAME = re.compile(
    rf"(?<![\w'’.-]){_NAME_WORD}(?:(?: (?:of|the|and|for|de|van|von|la|du|&) | )"
    rf"(?:{_NAME_WORD}|\d+))*"
)
_QUOTED = re.compile(r"[\"“]([^\"“”]{2,60})[\"”]")
_ORGANISATION = re.compile(
    r"\b(?:Bank|Street|Road|Row|Lane|Bakery|University|College|School|Company|Ltd|Inc|Fund|Works|"
    r"Workshop|House|Team|Society|Council|Institute|Association|Group|Party|Army|Empire|Kingdom|"
    r"Republic|City|County|State|States|River|Lake|Mount|Sea|Ocean|Bridge|Station|Church|Museum|"
    r"Library|Hospital|Act|Treaty|War|Union|League|Cup|Bowl|Club|Series|Age|Day|Office|Park|Room|"
    r"Services?|Centre|Center|North|South|East|West|New|Old|Great|Europe|America|Africa|Asia)\b"
)
_ROLE = re.compile(
    r"\b(?:officer|manager|lead|leader|member|volunteer|person|people|visitor|guest|chair|treasurer"
    r"|secretary|president|director|teacher|tutor|steward|trustee|warden|engineer|king|queen|pope|"
    r"emperor|minister|author|scientist|physicist|artist|architect|operator|buyer|user|owner|parent"
    r"|child|children|adult|man|woman|men|women|student|worker|pilot|carer|driver|customer|council"
    r"|committee|team|board)s?\b",
    re.IGNORECASE,
)
_SAYING = word_set("say think know believe argue suggest mean claim state ask tell")
_WITHOUT_OBJECT = word_set(
    "come go rise fall lie sit stand live look listen happen arrive appear sound remain stay occur"
)
_HUMAN_VERBS = word_set(
    """
    run teach draw lead write found say assess argue propose invent discover publish decide
    chair marry design paint compose study repair check keep sign count read believe think
    """
)
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
_BOUNDARY = re.compile(
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
    rf"{_MONTH}|{_DAY}|\d+:\d\d|\d{{4}})\b",
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
_CONDITION = re.compile(
    r"(?P<word>If|When|Whenever|Once|Before|After|While|Unless) (?P<given>[^,]{8,90}), "
    r"(?:then )?(?P<main>.+)"
)
_TRAILING_CONDITION = re.compile(r"(?P<main>.+?),? (?P<word>if) (?P<given>.{8,90})")
_REASON = re.compile(
    r"(?P<main>.+?),? (?P<word>because of|because|so that|in order to|due to|owing to|thanks to) "
    r"(?P<reason>.+)"
)

_NOT_PROSE = re.compile(
    r"[<>={}|\\@#~^•→]|://|\.\.\.|…|\bPR\b|[\U0001F000-\U0001FAFF\u2600-\u27BF\u2B00-\u2BFF]"
    r"|^[^\w\"“'(£$€]"
)
_BLANK = "____"
_ITEM = r"[^\s,;:.()]+(?: [^\s,;:.()]+){0,4}?"
_LIST = re.compile(rf"(?P<items>{_ITEM}(?:, {_ITEM}){{1,6}},? (?:and|or) {_ITEM})[.;]?$")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its answer as the text spells it, and the sentence or line it was made from.

    ``weak`` marks a question whose wording says little about what it is about, so that it needs
    the name of its document to be understood.
    """

    question: str
    answer: str
    evidence: str
    style: Style
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Casing:
    """How one document writes its words, to tell names from words that begin a sentence."""

    proper: frozenset[str]
    common: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Casing:
        """Read a whole document."""
        inside = re.findall(r"(?<=[a-z0-9,;] )[\"“*`]*([A-Z][\w’'-]*\w)", text)
        return cls(
            proper=frozenset(re.sub(r"['’]s$", "", word) for word in inside),
            common=frozenset(re.findall(r"(?<![\w.@/-])[a-z][a-z'’-]+", text)),
        )


def questions(
    text: str,
    *,
    title: str,
    section: Sequence[str],
    casing: Casing,
    headings: frozenset[str] = frozenset(),
    english: bool = True,
    context: str = "",
) -> list[Question]:
    """All questions that the rules can write about a chunk, in reading order.

    Args:
        text: the chunk.
        title: the document's title.
        section: headings above the chunk.
        casing: of the whole collection.
        headings: lines that are headings though nothing in the text marks them.
        english: whether English templates may be used; otherwise words are only left out.
        context: the chunk's.
    """
    found: list[Question] = []
    before: Clause | None = None
    topic = section[-1] if section else title
    known = {folded(h) for h in (*headings, *section, title)}
    for piece in pieces(text, headings=known, context=context):
        if piece.kind != "sentence":
            before = None
            if english:
                found += _about_field(piece, topic, casing)
            continue
        if piece.first:
            before = None
        sentence = piece.text.rstrip()
        body = sentence.rstrip(".!;: ")
        resolved, shift = _resolved(body, before)
        clause = None
        if english and not sentence.endswith("?") and not _NOT_PROSE.search(sentence):
            parts = [resolved, *_parts(resolved)] if not shift else [resolved]
            for number, part in enumerate(parts):
                read = grammar.read_clause(part, proper=casing.proper, common=casing.common)
                if number == 0:
                    clause = read
                if read is not None:
                    found += _about_clause(read, sentence, own=not shift)
                    found += _from_heading(read, sentence, topic)
            if section and not shift and clause is not None:
                found += _which_section(clause, sentence, title, topic)
            found += _about_amounts_there(resolved, sentence)
            found += _about_reasons(resolved, sentence, casing)
            found += _about_conditions(resolved, sentence, casing)
        if shift == 0:
            found += _left_out(sentence)
        if clause is not None and clause.subject not in ("you", "we", "they", "it"):
            before = clause
    return [q for q in found if q.answer]


def _parts(body: str) -> list[str]:
    """Clauses of a sentence that can stand alone."""
    cut = re.split(r"\s*[;–—]\s+|:\s+|,\s+(?:and|but|so)\s+|\s+but\s+", body)
    return [part.strip() for part in cut if len(part.split()) >= 4] if len(cut) > 1 else []


def _resolved(body: str, before: Clause | None) -> tuple[str, int]:
    """The sentence with a leading "It" or "They" named by the subject of the one before."""
    word, _, others = body.partition(" ")
    if word in ("It's", "It’s", "They're", "They’re"):
        word, others = (
            word[:-2] if word[-1] == "s" else word[:-3],
            (f"{'is' if word[-1] == 's' else 'are'} {others}"),
        )
    if before is None or word not in ("It", "They", "He", "She") or len(before.subject.split()) > 5:
        return body, 0
    if (word == "They") != before.plural:
        return body, 0
    start, end = before.subject_span
    named = before.text[start:end]
    return f"{named} {others}", len(named) - len(word)


# Statements to questions


def _about_clause(clause: Clause, sentence: str, *, own: bool) -> Iterator[Question]:
    body = clause.text
    if re.search(r"\b(?:not|never|n't|no)\b|n['’]t\b", body[clause.finite : clause.finite + 24]):
        return
    if own:
        yield from _about_subject(clause, sentence)
    yield from _about_complement(clause, sentence)
    yield from _about_object(clause, sentence)
    yield from _about_list(clause, sentence)
    taken: list[tuple[int, int]] = []
    for pattern, write in (
        (_MONEY, _ask_money),
        (_TIME, _ask_time),
        (_DATE, _ask_date),
        (_QUANTITY, _ask_quantity),
        (_NAME, _ask_name),
    ):
        for match in pattern.finditer(body, clause.rest):
            span = match.span()
            if any(span[0] < end and start < span[1] for start, end in taken):
                continue
            question = write(clause, match, sentence)
            if question is not None:
                taken.append(span)
                yield question
    place = _ask_place(clause, sentence)
    if place is not None:
        yield place


def _around(clause: Clause, start: int, end: int) -> tuple[str, str, str] | None:
    """What stands before a span (its preposition apart) and after it, within the clause.

    None when the span cannot be asked for alone: it sits in another clause, or qualifies a noun.
    """
    body = clause.text
    before = body[clause.rest : start]
    if _joined_verb(before) or re.search(r"[\dx×]\s*$", before):
        return None
    if re.match(r",? (?:and |or )?\d", body[end:]):
        return None  # one of a list of figures
    if _BOUNDARY.search(before + " ") or re.search(r",|\band$|\bor$", before.strip()):
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
    bounded = _cut(after)
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


def _cut(text: str) -> str:
    """A text up to the end of its clause."""
    match = _BOUNDARY.search(text)
    text = text[: match.start()] if match else text
    verb = _joined_verb(text)
    return (text[: verb.start()] if verb else text).rstrip(" ,.;:")


def _joined_verb(text: str) -> re.Match[str] | None:
    """Where a second predicate is joined on: "lifts 2,000 kg and lives in the yard"."""
    for match in re.finditer(
        r"(?:^|\s)(?:and|or) (?:then |also )?([a-z]+)(?P<object> (?:an?|the|its)\b)?", text
    ):
        verb = match[1]
        # An unknown word in -s with an object of its own: "and etches a board".
        if verb.endswith("s") and match["object"] and not verb.endswith("ss"):
            return match
        if grammar.is_verb(verb) and not verb.endswith("ing"):
            return match
    return None


def _made(
    clause: Clause, word: str, remainder: str, answer: str, sentence: str, style: Style
) -> Question:
    return Question(clause.asked(word, remainder), answer, sentence, style)


def _join(*parts: str) -> str:
    return " ".join(p for p in parts if p)


def _ask_money(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
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
    return _made(clause, word, _join(before, after), match.group(), sentence, "quantity")


def _ask_time(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
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
    return _made(clause, word, _join(before, after), match.group(), sentence, "date")


def _ask_date(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
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
    return _made(clause, word, _join(before, after), answer, sentence, "date")


def _ask_quantity(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
    unit, noun = match["unit"], match["noun"]
    start, end = match.span()
    if noun:
        words = noun.split()
        if words[0] in STOP_WORDS or (grammar.is_participle(words[0]) and len(words) == 1):
            return None
        if not _plural_noun(words[-1]):
            if not _plural_noun(words[0]):
                return None
            noun = words[0]
            end = match.start("noun") + len(noun)
        elif _plural_noun(words[0]) and len(words) > 1:
            noun = words[0]
            end = match.start("noun") + len(noun)
        counted = noun
    elif unit:
        counted = _UNITS[unit]
    else:
        counted = ""
    around = _around(clause, start, match.end() if match["more"] else end)
    if around is None or clause.base in _SAYING:
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
    return _made(
        clause, _join(preposition, word), _join(before, after), answer, sentence, "quantity"
    )


_SPANS = word_set("seconds minutes hours days weeks months years")


def _plural_noun(word: str) -> bool:
    if word in ("people", "children", "men", "women", "feet", "teeth"):
        return True
    return (
        word.endswith("s")
        and not word.endswith(("ss", "us", "is", "ous"))
        and word not in STOP_WORDS | {"times", "less", "others", "always", "perhaps"}
    )


def _ask_name(clause: Clause, match: re.Match[str], sentence: str) -> Question | None:
    around = _around(clause, *match.span())
    if around is None:
        return None
    before, preposition, after = around
    answer = match.group()
    if answer.split()[0] in ("I", "The", "A") or clause.auxiliary == "should":
        return None
    last = before.casefold().split()[-1:]
    if not preposition and last in (["called"], ["named"], ["titled"]):
        return _made(clause, "what", _join(before, after), answer, sentence, "name")
    if preposition == "as" and last == ["known"]:
        return _made(clause, "what", _join(before, "as", after), answer, sentence, "name")
    person = _is_person(answer)
    if preposition == "by" and " " not in answer and not answer.isupper():
        person = True
    if (
        preposition == "by"
        and clause.auxiliary in BE
        and grammar.is_participle(before.split()[0] if before else "")
    ):
        word = "who" if person else "what"
        return _made(clause, word, _join(before, "by", after), answer, sentence, "name")
    if person and preposition in ("to", "from", "with", "for"):
        return _made(clause, "who", _join(before, preposition, after), answer, sentence, "name")
    places = ("in", "at", "near", "on", "from") if " " in answer else ("in", "at", "near")
    if (
        not person
        and preposition in places
        and not answer.isupper()
        and (clause.verb in BE or clause.verb in _PLACING_VERBS or before)
    ):
        stranded = "from" if preposition == "from" else ""
        return _made(clause, "where", _join(before, stranded, after), answer, sentence, "place")
    return None


def _is_person(name: str) -> bool:
    parts = name.split()
    return (
        2 <= len(parts) <= 3
        and all(p[:1].isupper() and p[1:2].islower() for p in parts)
        and _ORGANISATION.search(name) is None
        and not any(c.isdigit() or c == "&" for c in name)
    )


def _ask_place(clause: Clause, sentence: str) -> Question | None:
    rest = clause.text[clause.rest :]
    before = ""
    if clause.auxiliary and not clause.base:
        first, _, others = rest.partition(" ")
        if grammar.is_participle(first) or (first.casefold() in _PLACING_VERBS):
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
        if start is None or _BOUNDARY.search(rest[: start.start()]):
            return None
        before, rest = _join(before, rest[: start.start()]), rest[start.end() :]
    answer = _cut(rest)
    if clause.auxiliary in BE:  # "is kept at the desk by Edie": by whom is another question
        answer = re.split(r" by (?=[A-Z]|an? |the )", answer)[0]
    if re.match(r"by \d", answer):
        return None
    named = _NAME.search(answer)
    if named is not None and answer.startswith("to ") and _is_person(named.group()):
        return None
    if not 2 <= len(answer.split()) <= 9 or _NOT_A_PLACE.search(answer):
        return None
    if before.split()[-1:] in (["away"], ["apart"], ["on"], ["off"], ["up"], ["down"]):
        return None
    first, _, others = answer.partition(" ")
    following = others.split()[0]
    if first == "to" and (following == "be" or grammar.base_of_imperative(following)):
        return None
    if first == "by" and named is not None and _is_person(named.group()):
        return None
    if answer.startswith("from ") and clause.base not in ("come", "buy", "take", "get", "collect"):
        return None
    if answer.split()[-1].casefold() in PREPOSITIONS | DETERMINERS:
        return None
    return _made(clause, "where", before, answer, sentence, "place")


def _about_subject(clause: Clause, sentence: str) -> Iterator[Question]:
    """Who or what does it: the question keeps the statement's own order."""
    start, end = clause.subject_span
    subject = clause.text[start:end]
    if start == end or subject.casefold() in ("we", "you", "they", "it", "he", "she"):
        return
    tail = _cut_predicate(clause.text[clause.finite :])
    verb, _, others = tail.partition(" ")
    if len([w for w in others.split() if w.casefold() not in STOP_WORDS]) < 2:
        return
    person = _is_person(subject) or (
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
            named = _cut(others)
            yield Question(ask(f"what is the name of {named}"), subject, sentence, "name")
        elif person:
            yield Question(
                ask(f"who {grammar.singular(verb)} {others}"), subject, sentence, "subject"
            )
        return
    if clause.verb in BE and not (grammar.is_participle(opening) or opening in PREPOSITIONS):
        return  # "The filters are paper cones": asked for by what they are
    if _dangles(others):
        return
    heavy = [w for w in others.split() if w.casefold() not in STOP_WORDS]
    told = re.search(r"\d|[A-Z]", others) is not None or len(heavy) >= 4
    yield Question(
        ask(f"{word} {grammar.singular(verb) if clause.plural or verb in BE else verb} {others}"),
        subject,
        sentence,
        "subject",
        weak=not told,
    )


def _cut_predicate(text: str) -> str:
    """A predicate up to the end of its clause; its own verb does not end it."""
    verb, _, others = text.partition(" ")
    return _join(verb, _cut(others))


def _about_complement(clause: Clause, sentence: str) -> Iterator[Question]:
    """What something is: "Hector is a sliding table saw"."""
    if clause.verb not in BE or clause.subject in ("you", "we"):
        return
    rest = clause.text[clause.rest :]
    answer = _whole(rest)
    words = answer.split()
    if not words or len(words) > 15 or _dangles(answer):
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
        if grammar.is_participle(words[-1]) and len(words) < 3:
            return
        if len(words) == 1 and not capital and not words[0][0].isdigit():
            return
        name = clause.subject.split()[0][:1].isupper()
        human = _is_person(answer) or (
            _is_person(clause.subject) and _ROLE.search(answer) is not None
        )
        word = "who" if human else "what"
        short = len(clause.subject.split()) < 3 and not name
        yield replace(_made(clause, word, "", answer, sentence, "definition"), weak=short)


def _about_object(clause: Clause, sentence: str) -> Iterator[Question]:
    """What something does something to: "The mill takes R8 tooling"."""
    rest = clause.text[clause.rest :]
    verb = clause.base
    if not verb:
        if clause.auxiliary in BE or clause.auxiliary in grammar.HAVE:
            return
        verb, _, rest = rest.partition(" ")
        if verb.casefold() in ("be", "have") or not grammar.is_verb(verb) or not verb.islower():
            return
        remainder = verb
    else:
        remainder = ""
    answer = _whole(rest)
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
    if grammar.is_participle(words[0]) or first.endswith(("ing", "wise", "ward", "wards")):
        return
    if _dangles(answer) or re.search(r"\b(?:what|how|where|who|whether)\b", answer):
        return
    style: Style = "rule" if clause.auxiliary in grammar.MODALS else "object"
    if clause.subject in ("you", "we") and not remainder and verb in ("do", "have", "get", "make"):
        return
    if verb in _SAYING or verb in _WITHOUT_OBJECT:
        return
    yield Question(
        clause.asked("what", remainder),
        answer,
        sentence,
        style,
        weak=len([w for w in clause.subject.split() if w.casefold() not in STOP_WORDS]) < 2
        and not clause.subject[:1].isupper(),
    )


def _about_list(clause: Clause, sentence: str) -> Iterator[Question]:
    """What things: "The drawer holds pliers, files and two hammers"."""
    rest = clause.text[clause.rest :]
    match = _LIST.match(rest)
    if match is None or (clause.subject in ("you", "we") and clause.base in _SAYING):
        return
    if clause.verb not in BE and not (clause.base and grammar.is_verb(clause.base)):
        return
    if clause.auxiliary in BE and grammar.is_participle(rest.split()[0].strip(",")):
        return
    items = [i.strip() for i in re.split(r",| and | or ", match["items"]) if i.strip()]
    if len(items) < 3 or any(len(item.split()) > 5 or _reads_as_clause(item) for item in items):
        return
    if items[0].split()[0].casefold() in PREPOSITIONS | {"to", "not", "that", "how", "what"}:
        return
    yield _made(clause, "what", "", match["items"], sentence, "list")


def _reads_as_clause(item: str) -> bool:
    first = item.split()[0].casefold()
    return first in BE | grammar.MODALS | {"it", "they", "which", "who", "then"}


def _which_section(clause: Clause, sentence: str, title: str, topic: str) -> Iterator[Question]:
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


def _whole(rest: str) -> str:
    """A complement up to the end of its clause; "" when the end cuts through a list."""
    verb = _joined_verb(rest)
    match = _BOUNDARY.search(rest)
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
        if not known and not grammar.is_participle(following):
            return ""
    return answer


def _dangles(answer: str) -> bool:
    """Whether an answer breaks off before its noun."""
    last = answer.split()[-1].casefold()
    return last in PREPOSITIONS | DETERMINERS | {"and", "or", "not", "to", "be"}


def _about_amounts_there(body: str, sentence: str) -> Iterator[Question]:
    match = re.match(r"There (are|were) (?:about |some |roughly |only |now )?", body)
    if match is None:
        return
    counted = re.match(
        rf"(?P<number>{_NUMBER}|{_WORD_NUMBER}|no|several) (?P<noun>(?:[a-z-]+ )?[a-z-]+)\b",
        body[match.end() :],
    )
    if counted is None or not _plural_noun(counted["noun"].split()[-1]):
        return
    if counted["number"] in ("no", "several"):
        return
    after = _cut(body[match.end() + counted.end() :])
    yield Question(
        ask(f"how many {counted['noun']} {match[1]} there {after}"),
        counted["number"],
        sentence,
        "quantity",
        weak=not after,
    )


def _about_reasons(body: str, sentence: str, casing: Casing) -> Iterator[Question]:
    match = _REASON.fullmatch(body)
    if match is None:
        return
    clause = grammar.read_clause(match["main"], proper=casing.proper, common=casing.common)
    if clause is None or _BOUNDARY.search(match["main"][clause.rest :] + " "):
        return
    if re.search(r"\bnot\b|n['’]t\b", match["main"][clause.finite : clause.finite + 16]):
        return
    reason = match["reason"].strip()
    word = match["word"]
    answer = f"{word} {reason}" if word in ("so that", "in order to") else reason
    if len(answer.split()) > 15:
        answer = _cut(answer)
    if not 2 <= len(answer.split()) <= 15:
        return
    yield Question(clause.asked("why", match["main"][clause.rest :]), answer, sentence, "reason")


def _about_conditions(body: str, sentence: str, casing: Casing) -> Iterator[Question]:
    match = _CONDITION.fullmatch(body)
    if match is not None:
        given, main, word = match["given"], match["main"], match["word"].casefold()
    else:
        match = _TRAILING_CONDITION.fullmatch(body)
        if match is None:
            return
        given, main, word = match["given"], match["main"], match["word"]
        if _BOUNDARY.search(given) or main.endswith((" only", " even")):
            return
        given = given.rstrip(",.;: ")
    if re.match(r"(?:it|they|he|she|this|that|these|not|possible|necessary)\b", given):
        return
    clause = grammar.read_clause(main, proper=casing.proper, common=casing.common)
    answer = _cut(main) if match.re is _CONDITION else main
    answer = re.split(r" and |, ", answer)[0] if len(answer.split()) > 15 else answer
    if clause is None or not 2 <= len(answer.split()) <= 15:
        return
    if match.re is _TRAILING_CONDITION and clause.auxiliary in ("may", "can", "must"):
        return
    if (
        clause.subject == "you"
        and clause.auxiliary == "should"
        and clause.subject_span[0] == clause.subject_span[1]
    ):
        question = f"what should you do {word} {given}"
    elif word in ("if", "when", "once", "whenever"):
        question = f"what happens {word} {given}"
    else:
        return
    yield Question(ask(question), answer, sentence, "condition")


def _from_heading(clause: Clause, sentence: str, topic: str) -> Iterator[Question]:
    subject = clause.subject
    if not topic or subject in ("you", "we", "they", "it") or not 2 <= len(subject.split()) <= 6:
        return
    answer = _cut_predicate(clause.text[clause.finite :])
    if (
        not 4 <= len(answer.split()) <= 15
        or _dangles(answer)
        or clause.text[clause.subject_span[0] :].find(answer) < 0
    ):
        return
    yield Question(
        f"What does “{topic}” say about {subject}?".replace("“", '"').replace("”", '"'),
        answer,
        sentence,
        "heading",
    )


# Lines and tables to questions


def _about_field(piece: Piece, topic: str, casing: Casing) -> Iterator[Question]:
    key, value = piece.key.strip(" *_`"), piece.text.strip(" *_`")
    if not 1 <= len(value.split()) <= 15 or len(key) < 2 or not re.search(r"\w", value):
        return
    name = key.replace("_", " ")
    spoken = name
    if not any(c.isupper() for c in name[1:]) and name not in casing.proper:
        spoken = name[:1].lower() + name[1:]
    evidence = f"{piece.of} {key}: {value}".strip()
    if spoken.split()[0].casefold() in STOP_WORDS and spoken.split()[0] not in ("a", "the"):
        return
    style: Style = "table" if piece.of else "field"
    plural = _plural_noun(spoken.split()[-1]) or _plural_noun(spoken.split()[0])
    verb = "are" if plural else "is"
    if ";" in value:
        return
    if piece.of and (spoken.split()[-1] in PREPOSITIONS or grammar.is_participle(spoken)):
        row = grammar.lowered(piece.of, proper=casing.proper, common=casing.common)
        yield Question(ask(f'for {row}, what is given under "{name}"'), value, evidence, style)
        return
    if piece.of:
        row = grammar.lowered(piece.of, proper=casing.proper, common=casing.common)
        # Two wordings, so that a model does not learn one phrase by heart.
        if len(piece.of + key) % 2:
            yield Question(ask(f"what {verb} the {spoken} for {row}"), value, evidence, style)
        else:
            yield Question(ask(f"for {row}, what {verb} the {spoken}"), value, evidence, style)
        return
    if re.match(r"(?:a|an|the|my|your|our)\s", spoken):
        return
    if _looks_like_thing(name):
        yield Question(
            ask(f'what is given for {name} under "{topic}"'), value, evidence, style, weak=False
        )
        return
    yield Question(ask(f"what {verb} the {spoken}"), value, evidence, style, weak=True)


def _looks_like_thing(key: str) -> bool:
    """A key that names a thing with a value ("Pot of tea"), not a property ("Leadscrew")."""
    return (
        bool(re.search(r"[,\d&/]| to | of | at | in |^Monday|^Tuesday|day$", key))
        or len(key.split()) > 3
    )


def _left_out(sentence: str) -> Iterator[Question]:
    """The sentence with one telling stretch left out."""
    if not 7 <= len(sentence.split()) <= 28 or sentence.endswith(("?", ":")):
        return
    for pattern in (_MONEY, _TIME, _QUOTED, _QUANTITY, _DATE, _NAME):
        for match in pattern.finditer(sentence, 1):
            start, end = match.span(1) if pattern is _QUOTED else match.span()
            if pattern is _QUANTITY:
                end = match.end("unit") if match["unit"] else match.end("number")
                if match["percent"]:
                    end = match.end()
            if (pattern is _NAME and start < 2) or sentence[start - 1] == ":":
                continue
            blanked = f"{sentence[:start]}{_BLANK}{sentence[end:]}"
            yield Question(
                f"Which words are missing here: {blanked}", sentence[start:end], sentence, "cloze"
            )
            break


def kind_of(
    style: Style,
) -> Literal["question", "field", "list", "heading", "section", "cloze"]:
    """The row kind that a style is counted under."""
    if style in ("field", "table"):
        return "field"
    if style == "list" or style == "heading" or style == "section" or style == "cloze":
        return style
    return "question"
