"""As much English grammar as turning a plain statement into a question needs.

A clause is read as subject, verb and rest from closed word lists and word endings; there is no
tagger and no model. What does not fit the simple patterns is refused rather than guessed at, since
an odd question teaches more harm than a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fti.pipelines.feature.asking.verbs import (
    BE,
    HAVE,
    MODALS,
    PARTICIPLES,
    PAST,
    THIRD,
    VERBS,
    base_of_imperative,
    irregular_past,
    is_participle,
    word_set,
)

TOKEN = re.compile(
    r"[£$€]?\d+(?:[.,:/]\d+)*%?|[^\W\d_]+(?:['’][^\W\d_]+)*(?:[-/][\w]+)*|\w[\w'’.-]*\w|\w|[^\w\s]"
)


DETERMINERS = word_set(
    """
    a an the this that these those my your his her its our their each every some any no all both
    either another most many several few
    """
)
PREPOSITIONS = word_set(
    """
    about above across after against along among around as at before behind below beneath beside
    between beyond by down during for from in inside into like near of off on onto out outside
    over past per since through throughout to toward towards under until up upon via with within
    without
    """
)
_BREAKS = word_set(
    """
    that which who whom whose when where while if because although though unless since so but
    whether whatever whichever what how why than and or nor as
    """
)
_ADVERBS = word_set(
    """
    also always never often usually sometimes only still already now then just even normally
    generally typically mostly mainly therefore however currently again once twice soon later
    first today thus not
    """
)
_PRONOUN_SUBJECTS = word_set("we you they he she it everybody everyone somebody anyone")
_UNFIT_SUBJECTS = word_set(
    """
    nobody no none neither nothing there here this that these those it he she they i one such
    which what who when where how why if please not never only so then thus
    """
)
_PLURAL_NOUNS = word_set("people children men women members police staff")
_INNER_PRONOUNS = word_set("i we you he she they it them him us me")


# Forms that are read as nouns or adjectives unless a plain subject stands before them.
_ALSO_NOUNS = word_set(
    """
    act acts aim aims answer answers attack attacks award awards ban bans base bases call calls
    cause causes change changes charge charges check checks claim claims control controls cost
    costs count counts cover covers cross cut cuts deal deals demand demands design designs
    display displays drink drinks drive drives drop drops end ends exercise exercises face faces
    feature features feed feeds fight fights fire fires fit fits flow flows fold folds force
    forces form forms gain gains grant grants guide guides halt head heads help hold holds host
    hosts hunt influence issue issues label labels land lands last launch lead leads light
    lights limit limits link links list lists load loads loan loans lock locks march mark marks
    measure measures mount move moves name names need needs note notes notice notices oil oils
    order orders paint paints park parks pass passes pause place places plan plans play plays
    point points pour press print prints process processes program programs protest protests
    range ranges rate rates record records report reports request requests rescue rent result
    results return returns ride rides rise rises rule rules run runs sand scan scans score
    scores search set sets share shares ship ships show shows sign signs signal signals sound
    sounds split spray stack stacks staff stain stamp stamps stand stands star stars start state
    states stay stick sticks stop stops store stores stretch strike strikes study studies supply
    supplies support supports swap switch switches target targets taste test tests tie ties
    touch trace track tracks trade trades train trains transfer transfers travel treat turn
    turns update updates upgrade use uses visit visits vote votes wait walk walks want wash
    watch watches wear welcome wind winds work works wrap yield found left saw felt thought
    wound ground read
    """
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a mark of a clause, with its place."""

    text: str
    start: int
    end: int

    @property
    def low(self) -> str:
        """The token case folded."""
        return self.text.casefold()


@dataclass(frozen=True, slots=True)
class Clause:
    """A statement taken apart: ``subject`` + (``auxiliary`` or an inflected verb) + the rest.

    ``finite`` is where the inflected verb begins, ``rest`` where what follows it does. For a
    question, ``auxiliary`` is put first and ``base`` (empty for "be" and other auxiliaries) follows
    the subject: "Agnes takes oil" is "does" + "Agnes" + "take" + "oil".
    """

    text: str
    lead: str
    subject: str
    subject_span: tuple[int, int]
    auxiliary: str
    base: str
    finite: int
    rest: int
    plural: bool

    @property
    def verb(self) -> str:
        """The verb that carries the meaning, as far as one word tells."""
        return self.base or self.auxiliary

    def asked(self, question_word: str, remainder: str) -> str:
        """``question_word`` + auxiliary + subject + verb + ``remainder`` + question mark."""
        parts = [question_word, self.auxiliary, self.subject, self.base, remainder, self.lead]
        return ask(" ".join(p for p in parts if p))


def tokens(text: str) -> list[Token]:
    """Words and marks of ``text``."""
    return [Token(m.group(), m.start(), m.end()) for m in TOKEN.finditer(text)]


def ask(text: str) -> str:
    """``text`` as a question: single spaces, a capital first, a question mark last."""
    text = re.sub(r"\s+([,.;:!?%)])", r"\1", " ".join(text.split())).strip(" ,;:.!?-–—")
    return text[:1].upper() + text[1:] + "?"


def lowered(phrase: str, *, proper: frozenset[str], common: frozenset[str]) -> str:
    """A phrase from a sentence's beginning as it would stand inside one.

    Args:
        phrase: the words.
        proper: words that the document writes with a capital inside sentences.
        common: words that the document writes without one.
    """
    first, _, others = phrase.partition(" ")
    bare = first.strip(",.'’\"")
    if not bare or not bare[0].isupper() or (bare.isupper() and len(bare) > 1) or bare == "I":
        return phrase
    low = bare.casefold()
    closed = low in DETERMINERS | PREPOSITIONS | _PRONOUN_SUBJECTS | _BREAKS
    if not closed:
        stem = re.sub(r"['’]s?$", "", bare)
        name = stem in proper or not others or others[:1].isupper()
        if name and (stem.casefold() not in common or others[:1].isupper()):
            return phrase
        if any(c.isupper() or c.isdigit() for c in bare[1:]):
            return phrase
    return first[:1].lower() + first[1:] + (" " + others if others else "")


def read_clause(
    text: str, *, proper: frozenset[str] = frozenset(), common: frozenset[str] = frozenset()
) -> Clause | None:
    """Take a plain statement apart; None when it is not one of the simple patterns.

    Args:
        text: one clause without its final full stop.
        proper: see ``lowered``.
        common: see ``lowered``.
    """
    lead, offset = _split_lead(text)
    found = [Token(t.text, t.start + offset, t.end + offset) for t in tokens(text[offset:])]
    if len(found) < 3:
        return None
    if base_of_imperative(found[0].text) and _opens_instruction(found):
        return _instruction(text, lead, found, proper=proper, common=common)
    at = _finite(found)
    if at is None:
        return None
    subject = found[:at]
    if not _is_subject(subject):
        return None
    span = (subject[0].start, subject[-1].end)
    spoken = lowered(text[span[0] : span[1]], proper=proper, common=common)
    verb = found[at]
    plural = _is_plural(subject)
    if spoken not in proper and " " not in spoken and verb.low in ("are", "were", "have"):
        spoken = spoken[:1].lower() + spoken[1:]  # one name has a singular verb: these are things
    rest = verb.end
    if verb.low in BE | MODALS or (verb.low in HAVE and _perfect(found, at)):
        auxiliary, base = verb.low, ""
    elif verb.low in HAVE:
        auxiliary, base = {"has": "does", "have": "do", "had": "did"}[verb.low], "have"
    elif verb.low in THIRD:
        auxiliary, base = "does", THIRD[verb.low]
    elif verb.low in PAST and not (verb.low in VERBS and plural):
        auxiliary, base = "did", PAST[verb.low]
    else:
        auxiliary, base = "do", verb.low
    while rest < len(text) and text[rest].isspace():
        rest += 1
    return Clause(
        text=text,
        lead=lowered(lead, proper=proper, common=common),
        subject=spoken,
        subject_span=span,
        auxiliary=auxiliary,
        base=base,
        finite=verb.start,
        rest=rest,
        plural=plural,
    )


def _split_lead(text: str) -> tuple[str, int]:
    """An adverbial before the subject ("On Sundays, …"), to be said at the question's end."""
    head, comma, _ = text.partition(", ")
    first = head.split(" ")[0].casefold() if head else ""
    if comma and first in PREPOSITIONS and 1 < len(head.split()) <= 7:
        return head, len(head) + len(comma)
    return "", 0


def _finite(found: Sequence[Token]) -> int | None:
    """Index of the inflected verb of the main clause."""
    for at, token in enumerate(found[:12]):
        low = token.low
        if at == 0:
            continue
        if not (token.text[0].isalnum() or token.text[0] in "'’&"):
            return None
        if low in _BREAKS and low not in ("and", "or"):
            return None
        if low in BE | MODALS | HAVE:
            return at
        if re.search(r"n['’]t$", low):
            return None  # what is not so makes no clear question
        if _is_finite_verb(found, at):
            return at
    return None


def _is_finite_verb(found: Sequence[Token], at: int) -> bool:
    token, before = found[at], found[at - 1]
    low = token.low
    if not token.text[0].islower():
        return False
    if before.low in DETERMINERS | PREPOSITIONS | {"and", "or", "&"}:
        return False
    following = [t.low for t in found[at + 1 : at + 4]]
    # "The cloth guards protect …": the verb is the later one.
    later = any(
        w in BE | MODALS | HAVE or ((w in THIRD or w in VERBS) and w not in _ALSO_NOUNS)
        for w in following[:2]
    )
    plural = before.low in ("we", "you", "they") or _is_plural(found[:at])
    if low in THIRD:
        if later or (plural and before.low.endswith("s")):
            return False
        return (
            low not in _ALSO_NOUNS
            or (bool(following) and following[0] not in PREPOSITIONS)
            or (at == 1 and found[0].text[0].isupper())
        )
    if low in VERBS and plural and not later:
        return low not in _ALSO_NOUNS or (
            before.low in ("we", "you", "they", "people", "members")
            or (bool(following) and following[0] not in PREPOSITIONS)
        )
    if low in PAST and not later and (low not in PARTICIPLES or irregular_past(low)):
        return low not in _ALSO_NOUNS or (bool(following) and following[0] in DETERMINERS)
    if low in PAST:
        # A form that is also a participle may belong to the subject ("work left on the shelf is").
        tail = [t.low for t in found[at + 1 : at + 14]]
        if any(w in BE | MODALS | HAVE for w in tail) or low in _ALSO_NOUNS:
            return False
        return bool(following) and following[0] not in {"by"}
    return False


def _perfect(found: Sequence[Token], at: int) -> bool:
    for token in found[at + 1 : at + 3]:
        if token.low in _ADVERBS:
            continue
        return token.low in ("been", "to") or is_participle(token.low)
    return False


def _is_subject(subject: Sequence[Token]) -> bool:
    if not subject or len(subject) > 9:
        return False
    first = subject[0]
    if first.low in _UNFIT_SUBJECTS | PREPOSITIONS | _BREAKS | _ADVERBS:
        return False
    if len(subject) == 1:
        return first.low not in DETERMINERS and (
            first.low in _PRONOUN_SUBJECTS or first.low not in _INNER_PRONOUNS
        )
    if first.low in ("its", "his", "her", "their") or any(
        t.low in ("one", "ones") for t in subject
    ):
        return False
    if any(t.low in _INNER_PRONOUNS | (_BREAKS - {"and", "or"}) for t in subject):
        return False
    if subject[-1].low in DETERMINERS | PREPOSITIONS | {"and", "or", "not", "&"}:
        return False
    if subject[-1].low in _ADVERBS or (first.text[0].isdigit() and len(subject) < 2):
        return False
    return not any(t.text in '()[]{}"“”|' for t in subject)


def _is_plural(subject: Sequence[Token]) -> bool:
    head = _head(subject)
    if any(t.low == "and" for t in subject):
        return True
    if subject[0].low in ("these", "those", "both", "many", "several", "few", "we", "you", "they"):
        return True
    low = head.low
    if low in _PLURAL_NOUNS:
        return True
    return (
        low.endswith("s")
        and not low.endswith(("ss", "us", "is", "'s", "’s"))
        and (
            head.text[0].islower()
            or (len(subject) > 1 and subject[0].low in DETERMINERS)
            or (len(subject) == 1 and low not in THIRD)
        )
    )


def _head(subject: Sequence[Token]) -> Token:
    """The noun that the verb agrees with: the last word before the first preposition."""
    for at, token in enumerate(subject):
        if at and token.low in PREPOSITIONS:
            return subject[at - 1]
    return subject[-1]


def _opens_instruction(found: Sequence[Token]) -> bool:
    if found[0].low in _ALSO_NOUNS and found[1].low not in DETERMINERS | {"it", "them", "up"}:
        return False
    # "Nails hold …", "Print needs …": a noun that looks like a verb with its own verb after it.
    if any(t.low in BE | MODALS | HAVE for t in found[1:4]):
        return False
    return not (found[1].low in THIRD and found[1].low not in _ALSO_NOUNS)


def _instruction(
    text: str,
    lead: str,
    found: Sequence[Token],
    *,
    proper: frozenset[str],
    common: frozenset[str],
) -> Clause:
    verb = found[0]
    rest = verb.end
    while rest < len(text) and text[rest].isspace():
        rest += 1
    return Clause(
        text=text,
        lead=lowered(lead, proper=proper, common=common),
        subject="you",
        subject_span=(verb.start, verb.start),
        auxiliary="should",
        base=verb.low,
        finite=verb.start,
        rest=rest,
        plural=True,
    )
