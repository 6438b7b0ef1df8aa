"""Questions with short answers written from one stretch of text, by rule and without a model.

Each question names its answer as the text spells it. Statements become wh-questions where
``grammar`` can take them apart; lines and tables become "what is the X of Y"; what is left can be
asked by leaving a word out. Which of the questions are kept is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fti.pipelines.feature.asking import grammar
from fti.pipelines.feature.asking.clause_questions import (
    about_complement,
    about_list,
    about_object,
    about_subject,
    from_heading,
    which_section,
)
from fti.pipelines.feature.asking.field_questions import about_field, left_out
from fti.pipelines.feature.asking.grammar import Clause
from fti.pipelines.feature.asking.linked_questions import (
    about_amounts_there,
    about_conditions,
    about_reasons,
)
from fti.pipelines.feature.asking.phrase_questions import (
    ask_date,
    ask_money,
    ask_name,
    ask_place,
    ask_quantity,
    ask_time,
)
from fti.pipelines.feature.asking.phrases import DATE, MONEY, NAME, QUANTITY, TIME
from fti.pipelines.feature.asking.pieces import pieces
from fti.pipelines.feature.asking.quality import folded
from fti.pipelines.feature.asking.written_questions import Casing, Question

_NOT_PROSE = re.compile(
    r"[<>={}|\\@#~^•→]|://|\.\.\.|…|\bPR\b|[\U0001F000-\U0001FAFF\u2600-\u27BF\u2B00-\u2BFF]"
    r"|^[^\w\"“'(£$€]"
)


def questions(
    text: str,
    *,
    title: str,
    section: Sequence[str],
    casing: Casing,
    headings: frozenset[str] = frozenset(),
    english: bool = True,
    context: str = "",
) -> list[Question]:
    """All questions that the rules can write about a chunk, in reading order.

    Args:
        text: the chunk.
        title: the document's title.
        section: headings above the chunk.
        casing: of the whole collection.
        headings: lines that are headings though nothing in the text marks them.
        english: whether English templates may be used; otherwise words are only left out.
        context: the chunk's.
    """
    found: list[Question] = []
    before: Clause | None = None
    topic = section[-1] if section else title
    known = {folded(h) for h in (*headings, *section, title)}
    for piece in pieces(text, headings=known, context=context):
        if piece.kind != "sentence":
            before = None
            if english:
                found += about_field(piece, topic, casing)
            continue
        if piece.first:
            before = None
        sentence = piece.text.rstrip()
        body = sentence.rstrip(".!;: ")
        resolved, shift = _resolved(body, before)
        clause = None
        if english and not sentence.endswith("?") and not _NOT_PROSE.search(sentence):
            parts = [resolved, *_parts(resolved)] if not shift else [resolved]
            for number, part in enumerate(parts):
                read = grammar.read_clause(part, proper=casing.proper, common=casing.common)
                if number == 0:
                    clause = read
                if read is not None:
                    found += _about_clause(read, sentence, own=not shift)
                    found += from_heading(read, sentence, topic)
            if section and not shift and clause is not None:
                found += which_section(clause, sentence, title, topic)
            found += about_amounts_there(resolved, sentence)
            found += about_reasons(resolved, sentence, casing)
            found += about_conditions(resolved, sentence, casing)
        if shift == 0:
            found += left_out(sentence)
        if clause is not None and clause.subject not in ("you", "we", "they", "it"):
            before = clause
    return [q for q in found if q.answer]


def _parts(body: str) -> list[str]:
    """Clauses of a sentence that can stand alone."""
    cut = re.split(r"\s*[;–—]\s+|:\s+|,\s+(?:and|but|so)\s+|\s+but\s+", body)
    return [part.strip() for part in cut if len(part.split()) >= 4] if len(cut) > 1 else []


def _resolved(body: str, before: Clause | None) -> tuple[str, int]:
    """The sentence with a leading "It" or "They" named by the subject of the one before."""
    word, _, others = body.partition(" ")
    if word in ("It's", "It’s", "They're", "They’re"):
        word, others = (
            word[:-2] if word[-1] == "s" else word[:-3],
            (f"{'is' if word[-1] == 's' else 'are'} {others}"),
        )
    if before is None or word not in ("It", "They", "He", "She") or len(before.subject.split()) > 5:
        return body, 0
    if (word == "They") != before.plural:
        return body, 0
    start, end = before.subject_span
    named = before.text[start:end]
    return f"{named} {others}", len(named) - len(word)


# Statements to questions


def _about_clause(clause: Clause, sentence: str, *, own: bool) -> Iterator[Question]:
    body = clause.text
    if re.search(r"\b(?:not|never|n't|no)\b|n['’]t\b", body[clause.finite : clause.finite + 24]):
        return
    if own:
        yield from about_subject(clause, sentence)
    yield from about_complement(clause, sentence)
    yield from about_object(clause, sentence)
    yield from about_list(clause, sentence)
    taken: list[tuple[int, int]] = []
    for pattern, write in (
        (MONEY, ask_money),
        (TIME, ask_time),
        (DATE, ask_date),
        (QUANTITY, ask_quantity),
        (NAME, ask_name),
    ):
        for match in pattern.finditer(body, clause.rest):
            span = match.span()
            if any(span[0] < end and start < span[1] for start, end in taken):
                continue
            question = write(clause, match, sentence)
            if question is not None:
                taken.append(span)
                yield question
    place = ask_place(clause, sentence)
    if place is not None:
        yield place


# Lines and tables to questions
