"""Which passage an answer rests on, compared word for word. Pure functions of texts.

Words are compared without case and punctuation, as SQuAD's normalisation does; scripts that write
no spaces are compared character by character.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from fti.store.answer_types import Citation
from fti.store.contracts.prompt_contract import ParsedResponse
from fti.store.types import Passage

_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_SPACELESS}]|[^\s{_SPACELESS}—–/…]+")
_EDGES = "".join(set(string.punctuation) - set("$%#&+@€£")) + "“”‘’«»„‚"
_PUNCTUATION = str.maketrans("", "", string.punctuation + "“”‘’«»„‚")
_QUOTE_WORDS = 3  # shorter shared stretches are chance, unless they are the whole claim


def word_set(*lines: str) -> frozenset[str]:
    """The words of the lines."""
    return frozenset(word for line in lines for word in line.split())


#: Words that say nothing about a topic. English; other languages just lose this refinement.
STOP_WORDS = word_set(
    "a about after again all also am an and any are as at be because been before being between",
    "both but by can could did do does doing done down during each few for from further had has",
    "have having he her here hers him his how i if in into is it its itself just many may me might",
    "more most much must my no nor not of off on once only or other our ours out over own s same",
    "shall she should so some such t than that the their theirs them then there these they this",
    "those through to too under until up upon us very was we were what when where which while who",
    "whom whose why will with would yes you your yours",
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it compares, and where it stands (edge punctuation left out)."""

    folded: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """The words of a text, in order; what is punctuation only is left out."""
    found = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        folded = token.translate(_PUNCTUATION).casefold()
        if folded:
            start = match.start() + len(token) - len(token.lstrip(_EDGES))
            end = match.end() - (len(token) - len(token.rstrip(_EDGES)))
            found.append(Word(folded, start, end))
    return found


def folded_words(text: str) -> list[str]:
    """The words of a text as they compare; as ``words`` without the places, and quicker."""
    return [f for t in _TOKEN.findall(text) if (f := t.translate(_PUNCTUATION).casefold())]


def content_words(text: str) -> list[str]:
    """Folded words that carry meaning, in order."""
    return [w for w in folded_words(text) if w not in STOP_WORDS]


def shared_stretch(claim: str, passage: str) -> str:
    """The longest stretch of ``passage`` that ``claim`` repeats word for word.

    Empty unless it holds a content word and is either the whole claim or three words and more.
    """
    said, shown = words(claim), words(passage)
    matcher = SequenceMatcher(
        None, [w.folded for w in said], [w.folded for w in shown], autojunk=False
    )
    match = matcher.find_longest_match()
    stretch = shown[match.b : match.b + match.size]
    if all(w.folded in STOP_WORDS for w in stretch):
        return ""
    if match.size < min(_QUOTE_WORDS, len(said)):
        return ""
    return passage[stretch[0].start : stretch[-1].end]


def attribution(text: str, passages: Sequence[Passage]) -> int | None:
    """Number of the first passage that holds the whole of ``text``, word for word.

    None when no passage does, or when ``text`` is stop words only ("yes", "it was not"): those
    stand everywhere and prove nothing.
    """
    said = folded_words(text)
    if all(w in STOP_WORDS for w in said):
        return None
    needle = " ".join(["", *said, ""])
    for number, passage in enumerate(passages, start=1):
        shown = " ".join(["", *folded_words(passage.text), ""])
        if needle in shown:
            return number
    return None


def citations(parsed: ParsedResponse, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """What each marker of an understood response points at."""
    found = []
    said = claims(parsed.text, parsed.spans)
    for number, (start, end), claim in zip(parsed.markers, parsed.spans, said, strict=True):
        passage = passages[number - 1]
        found.append(
            Citation(
                marker=number,
                chunk_id=passage.chunk_id,
                document_id=passage.document_id,
                source=passage.source,
                title=passage.title,
                start=start,
                end=end,
                quote=shared_stretch(claim, passage.text),
            )
        )
    return tuple(found)


def claims(text: str, markers: Sequence[tuple[int, int]]) -> list[str]:
    """What each of the markers, which stand at these places of an answer, is there for.

    That is the text before it, back to the marker before that; markers that follow one another
    share a claim.
    """
    found = []
    claim_start = previous_end = 0
    for start, end in markers:
        if text[previous_end:start].strip():
            claim_start = previous_end
        found.append(_without_markers(text, markers, claim_start, start))
        previous_end = end
    return found


def _without_markers(text: str, markers: Sequence[tuple[int, int]], start: int, end: int) -> str:
    pieces, at = [], start
    for marker_start, marker_end in markers:
        if start <= marker_start < end:
            pieces.append(text[at:marker_start])
            at = marker_end
    pieces.append(text[at:end])
    return "".join(pieces)


def plain_text(text: str, cited: Sequence[Citation]) -> str:
    """An answer's text without its markers."""
    for citation in sorted(cited, key=lambda c: c.start, reverse=True):
        text = text[: citation.start].rstrip(" ") + text[citation.end :]
    return text.strip()
