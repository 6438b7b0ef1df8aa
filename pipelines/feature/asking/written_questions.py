"""A question as the rules write it, and what they must know of the documents to write one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from fti.pipelines.feature.asking.grammar import Clause

Style = Literal[
    "subject", "object", "quantity", "date", "place", "name", "definition", "reason", "condition",
    "rule", "list", "field", "table", "heading", "section", "cloze",
]  # fmt: skip


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


def made(
    clause: Clause, word: str, remainder: str, answer: str, sentence: str, style: Style
) -> Question:
    """A question about the clause: a question word, and what remains of the clause."""
    return Question(clause.asked(word, remainder), answer, sentence, style)


def joined(*parts: str) -> str:
    """The parts that are not empty, with spaces between."""
    return " ".join(p for p in parts if p)


def kind_of(
    style: Style,
) -> Literal["question", "field", "list", "heading", "section", "cloze"]:
    """The row kind that a style is counted under."""
    if style in ("field", "table"):
        return "field"
    if style == "list" or style == "heading" or style == "section" or style == "cloze":
        return style
    return "question"
