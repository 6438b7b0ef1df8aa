"""A question that leans on earlier ones, told so that it can be understood by itself.

Word lists and one pattern, no model: the same conversation always gives the same question. The
lists are English; questions in other languages stand for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from fti.pipelines.inference.answering.citations import STOP_WORDS, folded_words, word_set
from fti.pipelines.inference.answering.rewording import reworded, short_answer
from fti.store.types import Message

_FOLLOW_UPS = 3  # how many earlier questions a chain of follow-ups may reach back over
_REFERRING = word_set(
    "it its he him his she her hers they them their theirs this that these those there one ones",
    "former latter same such",
)
_GOING_ON = word_set("and but or so also then otherwise instead else")
_CONTRACTED = word_set("whats hows whos wheres whens whys thats heres theres")
_ASKING = word_set(
    "what who whom whose which when where why how is are was were am be do does did can could will",
    "would should shall may might must has have had",
)
_BEING = word_set("is are was were will")
_PLACE = (
    "after|at|before|between|by|during|for|from|in|near|on|over|since|to|under|until|with|without"
)
_OTHER_PLACE = re.compile(
    rf"(?:(?:and|but|or|so|then|also|what|how)\s+(?:about\s+)?)*"
    rf"(?P<place>{_PLACE})\s+(?P<what>\S+(?:\s+\S+){{0,3}}?)\s*[?.!]*",
    re.IGNORECASE,
)
# A single capitalised name, after "And" or "What about".
_OTHER_NAME = re.compile(
    r"(?:(?:[Aa]nd|[Bb]ut|[Oo]r|[Ss]o)\s+)?(?:(?:[Ww]hat|[Hh]ow)\s+about\s+)?(?:for\s+|with\s+|the\s+)*"
    r"(?P<name>(?!(?:Why|What|How|Who|When|Where|Which)\b)[A-Z][\w'-]*)\s*[?.!]*",
)
_NAME_INSIDE = re.compile(r"(?<!^)(?<![.?!]\s)\b(?!I\b)[A-Z][\w'-]*")
_MARKER = re.compile(r"\s*\[[0-9]{1,3}\]")


def retrieval_query(question: str, history: Sequence[Message] = ()) -> str:
    """What to search for: the question, preceded by the earlier ones that it leans on.

    A question leans on the one before it when it

    - has no content word ("Why?"),
    - refers back ("it", "they", "this") or goes on ("And", "But", "What about") and has at most
      four content words, or
    - is a fragment that begins with a small word ("in winter?") and has at most two.

    Up to three earlier questions are taken, as long as each leans on the one before it.
    """
    return " ".join(" ".join(_chain(question, history)).split())


def standalone(question: str, history: Sequence[Message] = ()) -> str:
    """The question as one would ask it without the conversation.

    Where it only names another place, time or name ("And on Mondays?", "What about Ruby?"), that
    takes its predecessor's place in the earlier question ("When is it open on Saturdays?"); a
    "Why?" and a pronoun are put into the words of the earlier question (``rewording``). Else the
    question that it leans on stands before it, with what was answered to it. A question that leans
    on none comes back as it is.
    """
    first, *more = _chain(question, history)
    told = first
    said = _answer_to(first, history)
    for next_ in more:
        told = (
            _in_its_place(told, next_)
            or _named_instead(told, next_)
            or reworded(told, said, next_)
            or _after(told, said, next_)
        )
        said = _answer_to(next_, history)
    return told


def _answer_to(question: str, history: Sequence[Message]) -> str:
    """What was answered to an earlier question, without markers; empty for a refusal of any form.

    A refusal has no marker, as an answer out of passages has.
    """
    for turn, reply in pairwise(history):
        if turn.role == "user" and turn.content == question and reply.role == "assistant":
            bare = _MARKER.sub("", reply.content)
            return " ".join(bare.split()) if bare != reply.content else ""
    return ""


def _after(before: str, said: str, question: str) -> str:
    answer = short_answer(said)
    answer = f" {answer[0].upper()}{answer[1:]}." if answer else ""
    return " ".join(f"{before}{answer} {question}".split())


def _named_instead(before: str, fragment: str) -> str:
    """``before`` with the fragment's name in the place of its own; empty where none fits."""
    match = _OTHER_NAME.fullmatch(fragment.strip())
    names = list(_NAME_INSIDE.finditer(before))
    if match is None or len(names) != 1:
        return ""
    (old,) = names
    return f"{before[: old.start()]}{match['name']}{before[old.end() :]}"


def _chain(question: str, history: Sequence[Message]) -> list[str]:
    """The question, after the earlier ones that it leans on."""
    asked = [m.content for m in history if m.role == "user" and m.content.strip()]
    parts = [question]
    while asked and len(parts) <= _FOLLOW_UPS and _leans(parts[0]):
        parts.insert(0, asked.pop())
    return parts


def _in_its_place(before: str, fragment: str) -> str:
    """``before`` with the fragment's phrase in the place of its own; empty where none fits."""
    match = _OTHER_PLACE.fullmatch(fragment.strip())
    if match is None:
        return ""
    place, what = match["place"].lower(), match["what"]
    if set(folded_words(what)) & (_ASKING | _REFERRING | set(_PLACE.split("|"))):
        return ""  # a clause of its own, or one that refers to something else still
    # Each word needs the white space before it, so that no text can be split in many ways.
    own = re.compile(
        rf"\b{place}(?:\s+(?!(?:{_PLACE})\b)[^\s?.!,;]+)+(?=\s*(?:[?.!,;]|\b(?:{_PLACE})\b|\Z))",
        re.IGNORECASE,
    )
    places = list(own.finditer(before))
    if len(places) != 1:
        return ""
    (old,) = places
    return f"{before[: old.start()]}{place} {what.rstrip('?.!')}{before[old.end() :]}"


def _leans(question: str) -> bool:
    said = [w.removesuffix("s") if w in _CONTRACTED else w for w in folded_words(question)]
    if not said:
        return False
    content = [w for w in said if w not in STOP_WORDS and w not in _REFERRING]
    goes_on = said[0] in _GOING_ON or said[:2] in (["what", "about"], ["how", "about"])
    # "Is there a lift?" points at nothing.
    pointing = [
        w
        for w, ahead in zip(said, ["", *said], strict=False)
        if w != "there" or ahead not in _BEING
    ]
    refers = any(w in _REFERRING for w in pointing)
    fragment = said[0] in STOP_WORDS and said[0] not in _ASKING
    return (
        not content
        or ((refers or goes_on) and len(content) <= 4)
        or (fragment and len(content) <= 2)
    )
