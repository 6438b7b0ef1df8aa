"""As much English grammar as turning a plain statement into a question needs.

A clause is read as subject, verb and rest from closed word lists and word endings; there is no
tagger and no model. What does not fit the simple patterns is refused rather than guessed at, since
an odd question teaches more harm than a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

TOKEN = re.compile(
    r"[£$€]?\d+(?:[.,:/]\d+)*%?|[^\W\d_]+(?:['’][^\W\d_]+)*(?:[-/][\w]+)*|\w[\w'’.-]*\w|\w|[^\w\s]"
)


def word_set(text: str) -> frozenset[str]:
    """The words of a list written as one string."""
    return frozenset(text.split())


BE = word_set("is are was were")
MODALS = word_set("can could may might must shall should will would")
HAVE = word_set("has have had")
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

# Base forms whose other forms are regular; a form that is far oftener a noun is left out.
_VERBS = word_set(
    """
    accept accompany achieve act add admit adopt agree allow answer apply appoint arrange arrive
    ask assess assign attach attack attend attract avoid award ban base become begin believe
    belong bring broadcast build burn buy call carry catch cause celebrate change charge check
    choose claim clean clear close collect combine come complete comprise compose conduct
    connect consist contain continue contribute control convert cost count cover create cross
    cut deal decide declare decline defeat define deliver demand depend describe design destroy
    determine develop die differ direct discover discuss display divide double draw drink drive
    drop earn eat elect employ enable end enter establish estimate evolve examine exceed exclude
    exist expand expect explain explore export expose express extend face fail fall feature feed
    feel fight fill find finish fire fit flow fly fold follow forbid force form found gain get
    give go govern graduate grant grow halt handle hang happen head hear help hire hold identify
    impose improve include increase influence inform inherit insist install introduce invade
    invent invite involve issue join keep kill know lack land last lay lead learn leave lend let
    lie lift limit link list live load locate lock lose lower maintain make manage march mark
    marry mean measure meet melt merge move name need negotiate obtain occupy occur offer open
    operate oppose order organise organize originate own pass pay perform permit place plan play
    possess pour prefer prepare present preserve prevent produce promote propose protect prove
    provide publish pull purchase pursue push put raise range reach read receive recognise
    recognize recommend record recover reduce refer reflect refuse regard reject release rely
    remain remove repair replace report represent require resign resist respond restore result
    retain retire return reveal ride rise roast rule run say see seek sell send separate serve
    set settle sew share shoot show shrink sign sink sit sleep sound speak specify spend spin
    split spread stand start state stay steal stop store strike study submit succeed suffer
    suggest supply support surrender surround survive take taste teach tell tend test think
    throw tie touch train transfer travel treat trigger try turn understand undergo unite use
    vary visit vote wait walk want warn wash watch weaken wear weigh widen win wipe withdraw
    work write yield aim appear approve argue assume borrow calculate capture cite clamp coat
    commit compare compete consider consume convince dissolve drain dry emerge emit encourage
    ensure erase escape exchange execute exercise fasten freeze generate glue guarantee guide
    hit host hunt illustrate implement indicate inspect insert interpret isolate label lapse
    launch light listen loan mention mount notice note oil oversee paint park pause persuade
    pick point polish predict press print process program protest punish qualify quote rate
    react rebuild recall refill reform refund register regulate reinforce relate remind renew
    rent reply request rescue reserve reset reside restrict revise rotate sand save scan score
    search select sharpen ship shut signal solve spray squeeze stack staff stain stamp star
    steer stick stretch swallow swap sweep switch swell target threaten tighten tilt trace track
    trade translate unload unlock update upgrade urge vacate weld welcome wind wrap
    """
)

# base: (past, participle); forms that do not follow the rules.
_IRREGULAR = {
    "be": ("was", "been"), "become": ("became", "become"), "begin": ("began", "begun"),
    "bring": ("brought", "brought"), "broadcast": ("broadcast", "broadcast"),
    "build": ("built", "built"), "buy": ("bought", "bought"), "catch": ("caught", "caught"),
    "choose": ("chose", "chosen"), "come": ("came", "come"), "cost": ("cost", "cost"),
    "cut": ("cut", "cut"), "deal": ("dealt", "dealt"), "do": ("did", "done"),
    "draw": ("drew", "drawn"), "drink": ("drank", "drunk"), "drive": ("drove", "driven"),
    "eat": ("ate", "eaten"), "fall": ("fell", "fallen"), "feed": ("fed", "fed"),
    "feel": ("felt", "felt"), "fight": ("fought", "fought"), "find": ("found", "found"),
    "fly": ("flew", "flown"), "forbid": ("forbade", "forbidden"), "freeze": ("froze", "frozen"),
    "get": ("got", "got"), "give": ("gave", "given"), "go": ("went", "gone"),
    "grow": ("grew", "grown"), "hang": ("hung", "hung"), "have": ("had", "had"),
    "hear": ("heard", "heard"), "hit": ("hit", "hit"), "hold": ("held", "held"),
    "keep": ("kept", "kept"), "know": ("knew", "known"), "lay": ("laid", "laid"),
    "lead": ("led", "led"), "leave": ("left", "left"), "lend": ("lent", "lent"),
    "let": ("let", "let"), "lie": ("lay", "lain"), "light": ("lit", "lit"),
    "lose": ("lost", "lost"), "make": ("made", "made"), "mean": ("meant", "meant"),
    "meet": ("met", "met"), "oversee": ("oversaw", "overseen"), "pay": ("paid", "paid"),
    "put": ("put", "put"), "read": ("read", "read"), "rebuild": ("rebuilt", "rebuilt"),
    "reset": ("reset", "reset"), "ride": ("rode", "ridden"), "rise": ("rose", "risen"),
    "run": ("ran", "run"), "say": ("said", "said"), "see": ("saw", "seen"),
    "seek": ("sought", "sought"), "sell": ("sold", "sold"), "send": ("sent", "sent"),
    "set": ("set", "set"), "sew": ("sewed", "sewn"), "shoot": ("shot", "shot"),
    "show": ("showed", "shown"), "shrink": ("shrank", "shrunk"), "shut": ("shut", "shut"),
    "sink": ("sank", "sunk"), "sit": ("sat", "sat"), "sleep": ("slept", "slept"),
    "speak": ("spoke", "spoken"), "spend": ("spent", "spent"), "spin": ("spun", "spun"),
    "split": ("split", "split"), "spread": ("spread", "spread"), "stand": ("stood", "stood"),
    "steal": ("stole", "stolen"), "stick": ("stuck", "stuck"), "strike": ("struck", "struck"),
    "sweep": ("swept", "swept"), "swell": ("swelled", "swollen"), "take": ("took", "taken"),
    "teach": ("taught", "taught"), "tell": ("told", "told"), "think": ("thought", "thought"),
    "throw": ("threw", "thrown"), "undergo": ("underwent", "undergone"),
    "understand": ("understood", "understood"), "wear": ("wore", "worn"),
    "win": ("won", "won"), "wind": ("wound", "wound"), "withdraw": ("withdrew", "withdrawn"),
    "write": ("wrote", "written"),
}  # fmt: skip
_DOUBLING = word_set(
    """
    admit ban clamp commit cut drop fit get hit let plan put refer regret rent reset run set
    shut sit spin split step stop swap transfer trap trip win wrap program
    """
) & (_VERBS | {"trip", "step"})

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


def _third(base: str) -> str:
    if base == "have":
        return "has"
    if re.search(r"(s|x|z|ch|sh|o)$", base):
        return base + "es"
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ies"
    return base + "s"


def _regular_past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ied"
    if base in _DOUBLING:
        return base + base[-1] + "ed"
    return base + "ed"


def _forms() -> tuple[dict[str, str], dict[str, str], frozenset[str]]:
    third, past, participles = {}, {}, set()
    for base in _VERBS | set(_IRREGULAR) - {"be"}:
        third[_third(base)] = base
        before, done = _IRREGULAR.get(base, (_regular_past(base), _regular_past(base)))
        past[before] = base
        participles.add(done)
    return third, past, frozenset(participles)


_THIRD, _PAST, _PARTICIPLES = _forms()


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


def singular(verb: str) -> str:
    """A verb after "who" or "what": "are" becomes "is", "keep" becomes "keeps"."""
    low = verb.casefold()
    fixed = {"are": "is", "were": "was", "have": "has"}
    if low in fixed:
        return fixed[low]
    return _third(low) if low in _VERBS and low not in _PAST else verb


def tokens(text: str) -> list[Token]:
    """Words and marks of ``text``."""
    return [Token(m.group(), m.start(), m.end()) for m in TOKEN.finditer(text)]


def ask(text: str) -> str:
    """``text`` as a question: single spaces, a capital first, a question mark last."""
    text = re.sub(r"\s+([,.;:!?%)])", r"\1", " ".join(text.split())).strip(" ,;:.!?-–—")
    return text[:1].upper() + text[1:] + "?"


def is_participle(word: str) -> bool:
    """Whether a word can follow "is" or "has" as a participle."""
    word = word.casefold()
    return word in _PARTICIPLES or (len(word) > 4 and word.endswith("ed"))


def is_verb(word: str) -> bool:
    """Whether a word is a form of a known verb."""
    word = word.casefold()
    return word in _VERBS or word in _THIRD or word in _PAST or word in _PARTICIPLES


def base_of_imperative(word: str) -> bool:
    """Whether a word can open an instruction."""
    return word.casefold() in _VERBS


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
    elif verb.low in _THIRD:
        auxiliary, base = "does", _THIRD[verb.low]
    elif verb.low in _PAST and not (verb.low in _VERBS and plural):
        auxiliary, base = "did", _PAST[verb.low]
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
        w in BE | MODALS | HAVE or ((w in _THIRD or w in _VERBS) and w not in _ALSO_NOUNS)
        for w in following[:2]
    )
    plural = before.low in ("we", "you", "they") or _is_plural(found[:at])
    if low in _THIRD:
        if later or (plural and before.low.endswith("s")):
            return False
        return (
            low not in _ALSO_NOUNS
            or (bool(following) and following[0] not in PREPOSITIONS)
            or (at == 1 and found[0].text[0].isupper())
        )
    if low in _VERBS and plural and not later:
        return low not in _ALSO_NOUNS or (
            before.low in ("we", "you", "they", "people", "members")
            or (bool(following) and following[0] not in PREPOSITIONS)
        )
    if low in _PAST and not later and (low not in _PARTICIPLES or _irregular_past(low)):
        return low not in _ALSO_NOUNS or (bool(following) and following[0] in DETERMINERS)
    if low in _PAST:
        # A form that is also a participle may belong to the subject ("work left on the shelf is").
        tail = [t.low for t in found[at + 1 : at + 14]]
        if any(w in BE | MODALS | HAVE for w in tail) or low in _ALSO_NOUNS:
            return False
        return bool(following) and following[0] not in {"by"}
    return False


def _irregular_past(low: str) -> bool:
    base = _PAST[low]
    return base in _IRREGULAR and _IRREGULAR[base][0] != _IRREGULAR[base][1]


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
            or (len(subject) == 1 and low not in _THIRD)
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
    return not (found[1].low in _THIRD and found[1].low not in _ALSO_NOUNS)


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
