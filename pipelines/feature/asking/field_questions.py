"""Questions without grammar: for a field of a line or table, and with a phrase left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fti.pipelines.feature.asking import grammar, verbs
from fti.pipelines.feature.asking.grammar import PREPOSITIONS, ask
from fti.pipelines.feature.asking.phrases import (
    DATE,
    MONEY,
    NAME,
    QUANTITY,
    QUOTED,
    TIME,
    plural_noun,
)
from fti.pipelines.feature.asking.pieces import Piece
from fti.pipelines.feature.asking.quality import STOP_WORDS
from fti.pipelines.feature.asking.written_questions import Casing, Question, Style

_BLANK = "____"


def about_field(piece: Piece, topic: str, casing: Casing) -> Iterator[Question]:
    """What a line or a cell of a table says about the thing that it is of."""
    key, value = piece.key.strip(" *_`"), piece.text.strip(" *_`")
    if not 1 <= len(value.split()) <= 15 or len(key) < 2 or not re.search(r"\w", value):
        return
    name = key.replace("_", " ")
    spoken = name
    if not any(c.isupper() for c in name[1:]) and name not in casing.proper:
        spoken = name[:1].lower() + name[1:]
    evidence = f"{piece.of} {key}: {value}".strip()
    if spoken.split()[0].casefold() in STOP_WORDS and spoken.split()[0] not in ("a", "the"):
        return
    style: Style = "table" if piece.of else "field"
    plural = plural_noun(spoken.split()[-1]) or plural_noun(spoken.split()[0])
    verb = "are" if plural else "is"
    if ";" in value:
        return
    if piece.of and (spoken.split()[-1] in PREPOSITIONS or verbs.is_participle(spoken)):
        row = grammar.lowered(piece.of, proper=casing.proper, common=casing.common)
        yield Question(ask(f'for {row}, what is given under "{name}"'), value, evidence, style)
        return
    if piece.of:
        row = grammar.lowered(piece.of, proper=casing.proper, common=casing.common)
        # Two wordings, so that a model does not learn one phrase by heart.
        if len(piece.of + key) % 2:
            yield Question(ask(f"what {verb} the {spoken} for {row}"), value, evidence, style)
        else:
            yield Question(ask(f"for {row}, what {verb} the {spoken}"), value, evidence, style)
        return
    if re.match(r"(?:a|an|the|my|your|our)\s", spoken):
        return
    if _looks_like_thing(name):
        yield Question(
            ask(f'what is given for {name} under "{topic}"'), value, evidence, style, weak=False
        )
        return
    yield Question(ask(f"what {verb} the {spoken}"), value, evidence, style, weak=True)


def _looks_like_thing(key: str) -> bool:
    """A key that names a thing with a value ("Pot of tea"), not a property ("Leadscrew")."""
    return (
        bool(re.search(r"[,\d&/]| to | of | at | in |^Monday|^Tuesday|day$", key))
        or len(key.split()) > 3
    )


def left_out(sentence: str) -> Iterator[Question]:
    """The sentence with one telling stretch left out."""
    if not 7 <= len(sentence.split()) <= 28 or sentence.endswith(("?", ":")):
        return
    for pattern in (MONEY, TIME, QUOTED, QUANTITY, DATE, NAME):
        for match in pattern.finditer(sentence, 1):
            start, end = match.span(1) if pattern is QUOTED else match.span()
            if pattern is QUANTITY:
                end = match.end("unit") if match["unit"] else match.end("number")
                if match["percent"]:
                    end = match.end()
            if (pattern is NAME and start < 2) or sentence[start - 1] == ":":
                continue
            blanked = f"{sentence[:start]}{_BLANK}{sentence[end:]}"
            yield Question(
                f"Which words are missing here: {blanked}", sentence[start:end], sentence, "cloze"
            )
            break
