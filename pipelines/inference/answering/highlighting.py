"""Which sentences of a cited passage carry an answer, and which of their words.

Read off the texts, so that it is the same whatever generated the answer, and for answers that were
logged long ago. It shows a reader where to look, and proves nothing: words are compared as
citations compare them, and an answer in other words than the passage's gets its likeliest sentence
with nothing marked in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from fti.pipelines.engines.context import context_at
from fti.pipelines.engines.sentences import sentence_spans
from fti.pipelines.inference.answering.citations import STOP_WORDS, Word, claims, words
from fti.store.answer_types import Answer
from fti.store.types import Passage, Value

_MOST_SENTENCES = 3  # for one claim; a list may stand on several lines
_WORTH_ANOTHER = 1 / 3  # of a claim's words, before one more sentence is shown for it
_ENDING = 3  # characters by which two forms of a word may differ ("open", "opening")
_STEM = 4
_SENTENCE_WORDS = 4
_BRIDGED = 3  # words between two that carry an answer, and are marked with them
_SPACELESS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


class Span(Value):
    """A stretch of a text, in characters."""

    start: int
    end: int


class Evidence(Value):
    """A sentence of a passage, and the words in it that a reader should see first.

    Offsets are characters of ``Passage.text``. ``context`` is what the sentence cannot be read
    without: the names of the columns, where it is a row of a table.
    """

    start: int
    end: int
    words: tuple[Span, ...] = ()
    context: str = ""


@dataclass(frozen=True, slots=True)
class Nearest:
    """What came nearest to a question that was not answered; ``marker`` numbers its passage."""

    marker: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class _Sentence:
    start: int
    end: int
    words: tuple[Word, ...]  # placed in the passage

    @property
    def folded(self) -> set[str]:
        return {word.folded for word in self.words}


def evidence_of(answer: Answer) -> tuple[tuple[Evidence, ...], ...]:
    """For each passage that an answer was shown: the sentences that carry the answer, in order.

    A passage that is not cited carries nothing.
    """
    cited = answer.citations
    said = claims(answer.text, [(citation.start, citation.end) for citation in cited])
    of_passage: dict[int, list[str]] = {}
    for citation, claim in zip(cited, said, strict=True):
        of_passage.setdefault(citation.marker, []).append(claim)
    question = answer.asked or answer.question
    return tuple(
        _carrying(of_passage.get(number, ()), question, passage)
        for number, passage in enumerate(answer.passages, start=1)
    )


def nearest_to(answer: Answer) -> Nearest | None:
    """Of a refusal: the sentence that came nearest to the question, with the words they share.

    None for an answer that is none, and where nothing was retrieved.
    """
    if not answer.abstained or not answer.passages:
        return None
    asked = _content(words(answer.asked or answer.question))
    best: tuple[tuple[int, bool], int, Passage, _Sentence, list[int]] | None = None
    for number, passage in enumerate(answer.passages, start=1):
        for sentence in _sentences(passage):
            shared = _alike_any(sentence.words, asked)
            # Different words count; one that comes again and again says no more. A line of a word
            # or two is a heading or a cell.
            different = len({sentence.words[at].folded for at in shared})
            rank = (different, len(sentence.words) >= _SENTENCE_WORDS)
            if best is None or rank > best[0]:
                best = (rank, number, passage, sentence, shared)
    if best is None:
        return None
    _, number, passage, sentence, shared = best
    return Nearest(number, _evidence(passage, sentence, _joined(sentence.words, shared, ())))


def _carrying(said: Sequence[str], question: str, passage: Passage) -> tuple[Evidence, ...]:
    if not said:
        return ()
    sentences = _sentences(passage)
    asked = _content(words(question))
    marked: dict[int, set[int]] = {}
    bridges: set[str] = set()
    for claim in said:
        spoken = words(claim)
        bridges |= {word.folded for word in spoken}
        for place in _chosen(spoken, asked, sentences):
            carrying = _words_of(spoken, asked, sentences[place].words)
            marked.setdefault(place, set()).update(carrying)
    return tuple(
        _evidence(
            passage,
            sentences[place],
            _joined(sentences[place].words, sorted(marked[place]), bridges),
        )
        for place in sorted(marked)
    )


def _chosen(
    claim: Sequence[Word], asked: Collection[str], sentences: Sequence[_Sentence]
) -> list[int]:
    """The sentences that together say what the claim says, the one that says most first."""
    if not sentences:
        return []
    wanted = _content(claim)
    # "Yes" and "a" stand everywhere: then the question alone says which sentence is meant.
    claim = claim if wanted else ()
    missing = set(wanted)
    found: list[int] = []
    while len(found) < min(_MOST_SENTENCES, len(sentences)):
        says = {
            place: len(missing & sentence.folded)
            for place, sentence in enumerate(sentences)
            if place not in found
        }
        most = max(says.values())
        if found and most < max(1, _WORTH_ANOTHER * len(wanted)):
            break
        # Comparing word by word is slow, and only for those that say equally much.
        best = max(
            (place for place, many in says.items() if many == most),
            key=lambda place: (
                _longest_run(claim, sentences[place].words)[1],
                len(_alike_any(sentences[place].words, asked)),
            ),
        )
        found.append(best)
        missing -= sentences[best].folded
        if not missing:
            break
    return found


def _words_of(claim: Sequence[Word], asked: Collection[str], shown: Sequence[Word]) -> list[int]:
    """Which words of a sentence carry a claim.

    They are those that both say. What the question said already carries nothing, unless nothing
    else does.
    """
    start, size = _longest_run(claim, shown)
    whole = size == len(claim)
    places = range(start, start + size) if whole else range(len(shown))
    wanted = _content(claim)
    if not wanted:
        return []
    carrying = [at for at in places if shown[at].folded in wanted]
    known = {carrying[at] for at in _alike_any([shown[at] for at in carrying], asked)}
    if whole and len(known) in (0, len(carrying)):
        return list(places)  # word for word, small words at its ends included
    return [at for at in carrying if at not in known] or carrying


def _longest_run(claim: Sequence[Word], shown: Sequence[Word]) -> tuple[int, int]:
    """The longest stretch of a sentence that a claim repeats: where it begins, and its length."""
    matcher = SequenceMatcher(
        None, [w.folded for w in claim], [w.folded for w in shown], autojunk=False
    )
    match = matcher.find_longest_match()
    return match.b, match.size


def _joined(shown: Sequence[Word], places: Sequence[int], bridges: Collection[str]) -> list[Span]:
    """Stretches of words, with the few words between them that an answer says too."""
    stretches: list[list[int]] = []
    for at in places:
        between = shown[stretches[-1][1] + 1 : at] if stretches else ()
        near = stretches and len(between) <= _BRIDGED
        if near and all(word.folded in bridges for word in between):
            stretches[-1][1] = at
        else:
            stretches.append([at, at])
    # A single character of a script without spaces is chance.
    return [
        Span(start=shown[first].start, end=shown[last].end)
        for first, last in stretches
        if last > first or not _SPACELESS.fullmatch(shown[first].folded)
    ]


def _alike_any(shown: Sequence[Word], asked: Collection[str]) -> list[int]:
    return [
        at
        for at, word in enumerate(shown)
        if word.folded not in STOP_WORDS and any(_alike(word.folded, each) for each in asked)
    ]


def _alike(one: str, other: str) -> bool:
    """Whether two words are forms of one, as far as their beginnings tell."""
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    stem = max(_STEM, len(long) - _ENDING)
    return len(short) >= stem and short[:stem] == long[:stem] and not one.isdigit()


def _content(found: Sequence[Word]) -> set[str]:
    return {word.folded for word in found if word.folded not in STOP_WORDS}


def _sentences(passage: Passage) -> list[_Sentence]:
    text = passage.text
    spans = sentence_spans(text)
    if not spans and text.strip():  # a heading, or a line without words
        start = len(text) - len(text.lstrip())
        spans = [(start, len(text.rstrip()))]
    return [
        _Sentence(
            start,
            end,
            tuple(
                Word(word.folded, word.start + start, word.end + start)
                for word in words(text[start:end])
            ),
        )
        for start, end in spans
    ]


def _evidence(passage: Passage, sentence: _Sentence, stretches: Sequence[Span]) -> Evidence:
    return Evidence(
        start=sentence.start,
        end=sentence.end,
        words=tuple(stretches),
        context=context_at(passage, sentence.start),
    )
