"""Questions for clauses that belong together: amounts, reasons and conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fti.pipelines.feature.asking import grammar
from fti.pipelines.feature.asking.clause_ends import BOUNDARY, cut
from fti.pipelines.feature.asking.grammar import ask
from fti.pipelines.feature.asking.phrases import NUMBER, WORD_NUMBER, plural_noun
from fti.pipelines.feature.asking.written_questions import Casing, Question

_CONDITION = re.compile(
    r"(?P<word>If|When|Whenever|Once|Before|After|While|Unless) (?P<given>[^,]{8,90}), "
    r"(?:then )?(?P<main>.+)"
)


_TRAILING_CONDITION = re.compile(r"(?P<main>.+?),? (?P<word>if) (?P<given>.{8,90})")


_REASON = re.compile(
    r"(?P<main>.+?),? (?P<word>because of|because|so that|in order to|due to|owing to|thanks to) "
    r"(?P<reason>.+)"
)


def about_amounts_there(body: str, sentence: str) -> Iterator[Question]:
    """How many there are, where a sentence says so."""
    match = re.match(r"There (are|were) (?:about |some |roughly |only |now )?", body)
    if match is None:
        return
    counted = re.match(
        rf"(?P<number>{NUMBER}|{WORD_NUMBER}|no|several) (?P<noun>(?:[a-z-]+ )?[a-z-]+)\b",
        body[match.end() :],
    )
    if counted is None or not plural_noun(counted["noun"].split()[-1]):
        return
    if counted["number"] in ("no", "several"):
        return
    after = cut(body[match.end() + counted.end() :])
    yield Question(
        ask(f"how many {counted['noun']} {match[1]} there {after}"),
        counted["number"],
        sentence,
        "quantity",
        weak=not after,
    )


def about_reasons(body: str, sentence: str, casing: Casing) -> Iterator[Question]:
    """Why something is so, or what it is for."""
    match = _REASON.fullmatch(body)
    if match is None:
        return
    clause = grammar.read_clause(match["main"], proper=casing.proper, common=casing.common)
    if clause is None or BOUNDARY.search(match["main"][clause.rest :] + " "):
        return
    if re.search(r"\bnot\b|n['’]t\b", match["main"][clause.finite : clause.finite + 16]):
        return
    reason = match["reason"].strip()
    word = match["word"]
    answer = f"{word} {reason}" if word in ("so that", "in order to") else reason
    if len(answer.split()) > 15:
        answer = cut(answer)
    if not 2 <= len(answer.split()) <= 15:
        return
    yield Question(clause.asked("why", match["main"][clause.rest :]), answer, sentence, "reason")


def about_conditions(body: str, sentence: str, casing: Casing) -> Iterator[Question]:
    """What holds under a condition."""
    match = _CONDITION.fullmatch(body)
    if match is not None:
        given, main, word = match["given"], match["main"], match["word"].casefold()
    else:
        match = _TRAILING_CONDITION.fullmatch(body)
        if match is None:
            return
        given, main, word = match["given"], match["main"], match["word"]
        if BOUNDARY.search(given) or main.endswith((" only", " even")):
            return
        given = given.rstrip(",.;: ")
    if re.match(r"(?:it|they|he|she|this|that|these|not|possible|necessary)\b", given):
        return
    clause = grammar.read_clause(main, proper=casing.proper, common=casing.common)
    answer = cut(main) if match.re is _CONDITION else main
    answer = re.split(r" and |, ", answer)[0] if len(answer.split()) > 15 else answer
    if clause is None or not 2 <= len(answer.split()) <= 15:
        return
    if match.re is _TRAILING_CONDITION and clause.auxiliary in ("may", "can", "must"):
        return
    if (
        clause.subject == "you"
        and clause.auxiliary == "should"
        and clause.subject_span[0] == clause.subject_span[1]
    ):
        question = f"what should you do {word} {given}"
    elif word in ("if", "when", "once", "whenever"):
        question = f"what happens {word} {given}"
    else:
        return
    yield Question(ask(question), answer, sentence, "condition")
