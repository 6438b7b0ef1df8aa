"""A question that leans on earlier ones, told so that it can be understood by itself.

Word lists and one pattern, no model: the same conversation always gives the same question. The
lists are English; questions in other languages stand for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fti.pipelines.inference.answering.citations import STOP_WORDS, folded_words, word_set
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
_PLACE = (
    "after|at|before|between|by|during|for|from|in|near|on|over|since|to|under|until|with|without"
)
_OTHER_PLACE = re.compile(
    rf"(?:(?:and|but|or|so|then|also|what|how)\s+(?:about\s+)?)*"
    rf"(?P<place>{_PLACE})\s+(?P<what>\S+(?:\s+\S+){{0,3}}?)\s*[?.!]*",
    re.IGNORECASE,
)


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

    Where it only names another place or time ("And on Mondays?"), that takes its predecessor's
    place in the earlier question ("When is it open on Saturdays?"); else the questions that it
    leans on stand before it. A question that leans on none comes back as it is.
    """
    first, *more = _chain(question, history)
    told = first
    for next_ in more:
        told = _in_its_place(told, next_) or " ".join(f"{told} {next_}".split())
    return told


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
    refers = any(w in _REFERRING for w in said)
    fragment = said[0] in STOP_WORDS and said[0] not in _ASKING
    return (
        not content
        or ((refers or goes_on) and len(content) <= 4)
        or (fragment and len(content) <= 2)
    )
