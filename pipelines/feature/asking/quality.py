"""What makes a question worth training on. Everything here is a pure function of its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fti.store.proof.squad import normalised

_WORD = re.compile(r"\w+", re.UNICODE)
_LONGEST_ANSWER = 15  # words
_LONGEST_WORD = 40  # characters; what is longer is an address, a hash or a broken extraction
_REPEATED = re.compile(r"([^\W\d_]|[^\w\s.=-])\1{4}")  # "aaaaa", "?????"


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Function words of English: they carry grammar, not content.
STOP_WORDS = _set("""
    a about above after again against all also although always am an and any are as at be because
    been before being below between both but by can cannot could did do does doing down during each
    either else ever every few for from further had has have having he her here hers him his how
    however i if in into is it its itself just least less let many may me might more most much must
    my neither never no nobody none nor not nothing now of off often on once one only onto or other
    others our out over own per perhaps please quite rather same shall she should since so some
    soon still such than that the their them then there therefore these they this those though
    through thus to too under unless until up upon us very was we well were what when where whether
    which while who whom whose why will with within without would yet you your yours
    """)

_PRONOUNS = _set(
    "i you he she it we they me him her us them this that these those one ones itself themselves "
    "himself herself yourself ourselves everything anything something nothing everybody anybody "
    "somebody nobody everyone anyone someone here there so then which who what"
)

_WRITTEN = frozenset(".,;:!?'\"-–—_()[]/%&’‘“”€£$°×+")

# Lines that a site or a licence puts on every page; what they say is about no document.
_BOILERPLATE = re.compile(
    r"all rights reserved|copyright|©|\(c\) \d{4}|cookie|privacy policy|terms of (use|service)"
    r"|skip to (main )?content|subscribe to|click here|read more|log in to|sign up|newsletter"
    r"|as is\b.{0,40}without warrant|table of contents|page \d+ of \d+|last (updated|modified)"
    r"|lorem ipsum|back to top|share (this|on)|follow us",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """The words and numbers of a text, case folded."""
    return _WORD.findall(text.casefold())


def content_words(text: str) -> list[str]:
    """The words of a text that carry content, case folded."""
    return [w for w in words(text) if w not in STOP_WORDS]


def folded(text: str) -> str:
    """Text with every run of white space as one space: how passages and answers compare."""
    return " ".join(text.split())


def holds(text: str, answer: str) -> bool:
    """Whether ``text`` contains ``answer`` as whole words after SQuAD normalisation.

    An answer that normalises to nothing (an article, a symbol) is looked for as it is written.
    """
    needle = normalised(answer)
    if not needle:
        return folded(answer) in folded(text)
    return f" {needle} " in f" {normalised(text)} "


def located(text: str, answers: Sequence[str]) -> str:
    """The shortest accepted answer as ``text`` spells it, white space folded; "" for none.

    First looked for as it is written, then under SQuAD normalisation.
    """
    flat = folded(text)
    for answer in sorted((folded(a) for a in answers), key=lambda a: (len(a), a)):
        if not answer:
            continue
        exact = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", flat)
        if exact is None:
            exact = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", flat, re.IGNORECASE)
        if exact is not None:
            return exact.group()
    for answer in sorted(answers, key=lambda a: (len(a), a)):
        found = _located_normalised(flat, answer)
        if found:
            return found
    return ""


def _located_normalised(flat: str, answer: str) -> str:
    wanted = normalised(answer).split()
    if not wanted:
        return ""
    spans = [(m.start(), m.end(), normalised(m.group())) for m in re.finditer(r"\S+", flat)]
    spans = [span for span in spans if span[2]]
    for first in range(len(spans) - len(wanted) + 1):
        window = spans[first : first + len(wanted)]
        if [piece for _, _, piece in window] == wanted:
            return flat[window[0][0] : window[-1][1]].strip(" .,;:!?\"'()[]")
    return ""


@dataclass(frozen=True)
class Candidate:
    """A question that may become a row.

    Args:
        question: as a person would ask.
        answer: what answers it.
        evidence: the sentence, line or quote that it was made from.
        passage: the text that the answer has to stand in; None where that is not asked for.
        longest_answer: words an answer may have.
    """

    question: str
    answer: str
    evidence: str
    passage: str | None = None
    longest_answer: int = _LONGEST_ANSWER

    @cached_property
    def reply(self) -> list[str]:
        """The answer's words."""
        return words(self.answer)

    @cached_property
    def asked(self) -> list[str]:
        """The question's words."""
        return words(self.question)


def _answer_in_question(of: Candidate) -> bool:
    if f" {' '.join(of.reply)} " in f" {' '.join(of.asked)} ":
        return True
    heavy = [w for w in of.reply if w not in STOP_WORDS]
    return bool(heavy) and sum(w in of.asked for w in heavy) / len(heavy) > 0.6


def _says_nothing(of: Candidate) -> bool:
    return not any(c.isdigit() for c in of.answer) and all(w in STOP_WORDS for w in of.reply)


#: Why a question is not trained on, in the order in which it is looked at.
FILTERS: Mapping[str, Callable[[Candidate], bool]] = {
    "answer_not_in_passage": lambda of: (
        of.passage is not None and folded(of.answer) not in folded(of.passage)
    ),
    "answer_long": lambda of: len(of.answer.split()) > of.longest_answer,
    "answer_pronoun": lambda of: bool(of.reply) and all(w in _PRONOUNS for w in of.reply),
    "answer_empty": lambda of: not of.reply or _says_nothing(of),
    "question_length": lambda of: not 4 <= len(of.question.split()) <= 30,
    "question_vague": lambda of: len(content_words(of.question)) < 2,
    "answer_in_question": _answer_in_question,
    "unbalanced": lambda of: not balanced(of.answer) or not balanced(of.question),
    "unreadable": lambda of: not readable(of.question) or not readable(of.answer),
    "evidence_thin": lambda of: len(content_words(of.evidence)) < 3,
    "boilerplate": lambda of: is_boilerplate(of.evidence),
}


def rejection(candidate: Candidate) -> str:
    """The first of ``FILTERS`` that a question does not pass; "" when it is good."""
    return next((name for name, rejects in FILTERS.items() if rejects(candidate)), "")


def readable(text: str) -> bool:
    """Whether a text reads as words and figures: nothing undecoded, run together or repeated."""
    if "\ufffd" in text or _REPEATED.search(text):
        return False
    if any(len(word) > _LONGEST_WORD for word in text.split()):
        return False
    # Digits, punctuation and currency are as good as letters; symbols and boxes are not.
    odd = sum(not (c.isalnum() or c.isspace() or c in _WRITTEN) for c in text)
    return odd <= 0.15 * len(text)


def is_boilerplate(sentence: str) -> bool:
    """Whether a sentence is page furniture: navigation, copyright, cookies, generated lines."""
    letters = sum(c.isalpha() for c in sentence)
    if letters < 0.5 * len(sentence.replace(" ", "")):
        return True
    return _BOILERPLATE.search(sentence) is not None


def balanced(text: str) -> bool:
    """Whether brackets and double quotes in ``text`` come in pairs."""
    for left, right in ("()", "[]", "{}", "“”"):
        if text.count(left) != text.count(right):
            return False
    return text.count('"') % 2 == 0


def question_key(question: str) -> str:
    """Two questions with one key ask the same, small words and order of writing aside."""
    return " ".join(content_words(question))


def reads_as_english(text: str) -> bool:
    """Whether a text holds enough English function words for English templates to fit it."""
    found = words(text[:20_000])
    return len(found) >= 8 and sum(w in STOP_WORDS for w in found) / len(found) > 0.22
