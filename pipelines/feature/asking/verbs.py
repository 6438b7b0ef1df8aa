"""Which English words are verbs, and the forms that these have; no tagger, closed lists."""

from __future__ import annotations

import re


def word_set(text: str) -> frozenset[str]:
    """The words of a list written as one string."""
    return frozenset(text.split())


BE = word_set("is are was were")


MODALS = word_set("can could may might must shall should will would")


HAVE = word_set("has have had")


# Base forms whose other forms are regular; a form that is far oftener a noun is left out.
VERBS = word_set(
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
) & (VERBS | {"trip", "step"})


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
    for base in VERBS | set(_IRREGULAR) - {"be"}:
        third[_third(base)] = base
        before, done = _IRREGULAR.get(base, (_regular_past(base), _regular_past(base)))
        past[before] = base
        participles.add(done)
    return third, past, frozenset(participles)


THIRD, PAST, PARTICIPLES = _forms()


def singular(verb: str) -> str:
    """A verb after "who" or "what": "are" becomes "is", "keep" becomes "keeps"."""
    low = verb.casefold()
    fixed = {"are": "is", "were": "was", "have": "has"}
    if low in fixed:
        return fixed[low]
    return _third(low) if low in VERBS and low not in PAST else verb


def is_participle(word: str) -> bool:
    """Whether a word can follow "is" or "has" as a participle."""
    word = word.casefold()
    return word in PARTICIPLES or (len(word) > 4 and word.endswith("ed"))


def is_verb(word: str) -> bool:
    """Whether a word is a form of a known verb."""
    word = word.casefold()
    return word in VERBS or word in THIRD or word in PAST or word in PARTICIPLES


def base_of_imperative(word: str) -> bool:
    """Whether a word can open an instruction."""
    return word.casefold() in VERBS


def irregular_past(low: str) -> bool:
    """Whether the past of a verb is no participle as well: "wrote", not "kept"."""
    base = PAST[low]
    return base in _IRREGULAR and _IRREGULAR[base][0] != _IRREGULAR[base][1]
