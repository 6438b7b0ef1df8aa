"""Made-up rows: gaps cut into real text, asked for as questions.

They teach, very densely, the one skill everything rests on: find the place that matches the
question, and copy from it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from fti.pipelines.training.builtin.rows import (
    DATE,
    FORM,
    NAME,
    NUMBER,
    YEAR,
    Row,
    Text,
    Turn,
    shown,
)

SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]?")
FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "and",
        "or",
        "but",
        "by",
        "with",
        "from",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "he",
        "she",
        "they",
        "his",
        "her",
        "their",
        "which",
        "who",
        "whom",
        "whose",
        "not",
        "no",
        "had",
        "has",
        "have",
        "will",
        "would",
        "can",
        "could",
        "may",
        "might",
        "also",
        "than",
        "then",
    ]
)


def span(sentence: str, rng: random.Random) -> tuple[int, int] | None:
    """A piece of a sentence worth asking for: a date, number or name, or a few content words."""
    kind = rng.random()
    if kind < 0.65:
        found = [m.span() for pattern in (DATE, NUMBER, NAME) for m in pattern.finditer(sentence)]
        if found:
            return rng.choice(found)
    tokens = list(re.finditer(r"[\w'’-]+", sentence))
    for _ in range(6):
        if len(tokens) < 6:
            return None
        first = rng.randrange(len(tokens) - 1)
        last = min(len(tokens) - 1, first + rng.choice((0, 0, 1, 1, 2, 3)))
        ends = {tokens[first][0].lower(), tokens[last][0].lower()}
        piece = sentence[tokens[first].start() : tokens[last].end()]
        if not ends & FUNCTION_WORDS and not re.search(r"[,;:()\"]", piece):
            return tokens[first].start(), tokens[last].end()
    return None


def question_word(answer: str, rng: random.Random) -> str:
    """The word that asks for an answer of this kind."""
    if YEAR.fullmatch(answer):
        return rng.choice(("what year", "which year", "when"))
    if DATE.fullmatch(answer):
        return "when"
    if NUMBER.fullmatch(answer):
        return rng.choice(("how many", "how much", "what number"))
    if answer[0].isupper():
        return rng.choice(("who", "what", "which", "who or what"))
    return "what"


def gap_question(sentence: str, start: int, end: int, rng: random.Random) -> str:
    """The sentence around a span as a question for it, shortened and with words left out."""
    left, answer, right = sentence[:start].split(), sentence[start:end], sentence[end:].split()
    reach = rng.randint(3, 9)
    near_left, near_right = left[-reach:], right[: rng.randint(2, 9)]
    drop = rng.choice((0.0, 0.1, 0.3))
    near_left = [w for w in near_left if rng.random() >= drop]
    near_right = [w for w in near_right if rng.random() >= drop]
    before, after = " ".join(near_left), " ".join(near_right).rstrip(".!?,;: ")
    style, asked = rng.random(), question_word(answer, rng)
    if style < 0.25 or not (before or after):
        question = f"{before} ____ {after}"
    elif len(left) < 3 and after:  # the subject: "Who crossed the river in 1204"
        question = f"{asked} {after}"
    elif style < 0.6:
        question = f"{before} {asked} {after}"
    else:
        question = f"{asked} {before} {after}"
    question = re.sub(r"\s+", " ", question).strip().strip(",;: ")
    return question[:1].upper() + question[1:] + "?"


def gap_row(texts: Sequence[Text], rng: random.Random, *, max_turns: int) -> Row:
    """Questions for pieces of the given texts, which become the passages."""
    turns: list[Turn] = []
    for number, text in enumerate(texts, start=1):
        sentences = [m[0].strip() for m in SENTENCE.finditer(text.text) if 40 < len(m[0]) < 400]
        rng.shuffle(sentences)
        for sentence in sentences[: -(-max_turns // len(texts))]:
            if place := span(sentence, rng):
                answer = sentence[slice(*place)]
                turns.append(
                    Turn(gap_question(sentence, *place, rng), FORM.response(answer, [number]))
                )
    rng.shuffle(turns)
    return Row(shown(texts, rng), tuple(turns[:max_turns]))


def strip_text(text: Text, rng: random.Random, size: int) -> Text:
    """A run of whole sentences of a text, at most about ``size`` characters."""
    if len(text.text) <= size:
        return text
    ends = [m.end() for m in re.finditer(r"[.!?]\s|\n", text.text[:-size])] or [0]
    start = rng.choice([0, *ends])
    piece = text.text[start : start + size]
    stop = max(piece.rfind(". "), piece.rfind("\n"))
    return Text(
        text.heading, (piece[: stop + 1] if stop > size // 2 else piece).strip(), (), text.group
    )
