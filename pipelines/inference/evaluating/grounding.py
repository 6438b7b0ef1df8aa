"""Groundedness by inference: do the passages that an answer cites entail what it says?

The lexical measure (``metrics.support``) asks whether the words stand there; this asks a model of
natural language inference whether the claims follow, as in Honovich et al. 2022 ("TRUE:
Re-evaluating Factual Consistency Evaluation"). Premises are whole passages and the best one counts,
as in SummaC (Laban et al. 2022).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.cross_encoders.entailment import Entailment
from fti.pipelines.engines.sentences import split_sentences
from fti.pipelines.inference.answering.citations import plain_text
from fti.pipelines.inference.evaluating.grading import graded
from fti.store.answer_types import Answer
from fti.store.progress import Progress, quiet
from fti.store.types import Value, sha256_hex

if TYPE_CHECKING:
    from fti.store.store import Store

#: Name of the score in rows and reports.
GROUNDEDNESS = "groundedness"
_SUPPORTED = 0.5  # probability from which a claim counts as entailed
_BATCH = 32  # answers whose scores are kept together


#: The claims of an answer, and the passages it cites.
Evidence = tuple[list[str], list[str]]


class Grounding(Value):
    """How groundedness was measured: by which model, over how many answers.

    ``reused`` of them had been judged before; of ``lost`` ones the log holds no answer any more, so
    that they have no score.
    """

    model: str
    revision: str = ""
    weights_sha256: str = ""
    answers: int = 0
    reused: int = 0
    lost: int = 0


def claims(question: str, text: str) -> list[str]:
    """What an answer claims, a sentence each.

    The sentences of a longer answer stand for themselves. A single one, which is often no sentence
    at all ("Thursdays"), is read together with its question, in the words of Bohnet et al. 2022
    ("Attributed Question Answering").
    """
    said = split_sentences(text)
    if len(said) > 1:
        return said
    return [f"The answer to the question '{question.strip()}' is '{text.strip()}'"]


def evidence(answer: Answer) -> Evidence:
    """What an answer claims, and the passages that it cites for it, each once."""
    shown = {p.chunk_id: p for p in answer.passages}
    cited = dict.fromkeys(c.chunk_id for c in answer.citations)
    text = plain_text(answer.text, answer.citations)
    return (
        claims(answer.asked or answer.question, text),
        [f"{shown[c].heading}\n{shown[c].text}".strip() for c in cited],
    )


def groundedness(entailment: Entailment, answers: Sequence[Evidence]) -> list[float]:
    """Share of each answer's claims that follow from a passage it cites; 0 where it cites none."""
    pairs = [
        (premise, claim) for said, premises in answers for claim in said for premise in premises
    ]
    likely = iter(entailment.probabilities(pairs).tolist())
    found = []
    for said, premises in answers:
        best = [max((next(likely) for _ in premises), default=0.0) for _ in said]
        found.append(sum(p >= _SUPPORTED for p in best) / len(said))
    return found


def ground_answers(
    answers: Sequence[Answer],
    entailment: Entailment,
    *,
    store: Store,
    resume: bool = True,
    progress: Progress = quiet,
) -> tuple[list[float], int]:
    """The groundedness of each answer, and how many had been judged before.

    Args:
        answers: as logged.
        entailment: the model.
        store: where judgements are kept.
        resume: take over what the same model said of the same answer before.
        progress: told after every batch.
    """
    scores, reused = graded(
        [evidence(answer) for answer in answers],
        lambda batch: [{GROUNDEDNESS: score} for score in groundedness(entailment, batch)],
        key=lambda item: sha256_hex(json.dumps(item)),
        kept=store.results.under({GROUNDEDNESS: entailment.identity.model_dump(mode="json")}),
        resume=resume,
        batch=_BATCH,
        stage=GROUNDEDNESS,
        progress=progress,
    )
    return [float(score[GROUNDEDNESS]) for score in scores], reused


def ground_rows(
    rows: Sequence[dict[str, Any]],
    entailment: Entailment,
    *,
    store: Store,
    resume: bool = True,
    progress: Progress = quiet,
) -> Grounding:
    """Add ``groundedness`` to the rows that have a lexical ``faithfulness``; None to the others.

    Args:
        rows: scores per case, as ``scoring.answer_row`` makes them.
        entailment: the model.
        store: whose log holds the answers, and where judgements are kept.
        resume: take over what the same model said of the same answer before.
        progress: told after every batch.
    """
    identity = entailment.identity
    wanted = [row for row in rows if row.get("faithfulness") is not None]
    logged = store.answers.many(row["answer_id"] for row in wanted)
    judged = [row for row in wanted if row["answer_id"] in logged]
    scores, reused = ground_answers(
        [logged[row["answer_id"]] for row in judged],
        entailment,
        store=store,
        resume=resume,
        progress=progress,
    )
    for row in rows:
        if "f1" in row:
            row[GROUNDEDNESS] = None
    for row, score in zip(judged, scores, strict=True):
        row[GROUNDEDNESS] = score
    return Grounding(
        model=identity.id,
        revision=identity.revision,
        weights_sha256=identity.weights_sha256,
        answers=len(judged),
        reused=reused,
        lost=len(wanted) - len(judged),
    )
