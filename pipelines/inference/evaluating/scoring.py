"""One case, asked and scored: the row that an evaluation keeps of it.

A row is JSON values: what was asked and expected, every score, what was said, and in ``fault`` what
went wrong in one word, so that reports, comparisons and gates need nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fti.pipelines.inference.answering.citations import plain_text
from fti.pipelines.inference.evaluating import metrics
from fti.pipelines.inference.evaluating.slices import question_type
from fti.store.answer_types import Answer
from fti.store.types import Case, Passage

if TYPE_CHECKING:
    from fti.pipelines.inference.answering.answer import Assistant

#: What can go wrong with a case; "" when nothing did.
Fault = Literal[
    "",
    "retrieval_miss",
    "evidence_cut",
    "reader_miss",
    "wrong_refusal",
    "wrong_answer",
    "bad_citation",
]

# Enough passages for ten distinct documents, where a ranking of documents is scored.
_PASSAGES_FOR_DOCUMENTS = 50
#: F1 from which an answer is not called a miss.
RIGHT = 0.5


@dataclass(frozen=True, slots=True)
class ScoredCase:
    """A case with the ids and grades of its relevant documents; none when it names none."""

    case: Case
    documents: Mapping[str, int]

    def relevant(self, passage: Passage) -> bool:
        """Whether a passage meets the case's need.

        It does when it comes from a relevant document and, where answers are given, holds one.
        """
        if self.documents.get(passage.document_id, 0) <= 0:
            return False
        return not self.case.answers or metrics.contains_answer(passage.text, self.case.answers)

    @property
    def judged(self) -> bool:
        """Whether documents were judged (BEIR), so that a ranking of documents is scored."""
        return bool(self.case.relevant)


def passages_needed(scored: ScoredCase, configured: int) -> int:
    """How many passages a ranking must hold to be scored."""
    return _PASSAGES_FOR_DOCUMENTS if scored.judged else max(metrics.CUTOFF, configured)


def retrieval_row(
    scored: ScoredCase, passages: Sequence[Passage], *, seconds: float
) -> dict[str, Any]:
    """Scores of what a search found for a case within ``seconds``."""
    return {
        **_case_fields(scored.case),
        **_retrieval_scores(scored, passages),
        "similarity": _best_similarity(passages),
        "retrieve_s": seconds,
        "total_s": seconds,
    }


def answer_row(assistant: Assistant, scored: ScoredCase, run_id: str) -> dict[str, Any]:
    """Ask the assistant a case on behalf of a run, and score what comes back.

    ``None`` scores are those that the case does not bear on.
    """
    case = scored.case
    retrieved: tuple[Passage, ...] = ()
    answer: Answer | None = None
    with assistant.stream(case.question, run_id=run_id) as events:
        for event in events:
            retrieved = event.retrieved or retrieved
            answer = event.answer or answer
    assert answer is not None  # a stream ends with its answer
    return _answer_row(assistant, scored, answer, retrieved)


def answer_rows(
    assistant: Assistant, group: Sequence[ScoredCase], run_id: str
) -> list[dict[str, Any]]:
    """Rows of several cases, asked together: see ``Assistant.answer_many``.

    Raises:
        InputError, EngineError: the first case that cannot be answered.
    """
    rows = []
    found = assistant.answers_and_passages([s.case.question for s in group], run_id=run_id)
    for scored, (outcome, retrieved) in zip(group, found, strict=True):
        if isinstance(outcome, Exception):
            raise outcome
        rows.append(_answer_row(assistant, scored, outcome, retrieved))
    return rows


def _answer_row(
    assistant: Assistant, scored: ScoredCase, answer: Answer, retrieved: Sequence[Passage]
) -> dict[str, Any]:
    case = scored.case
    text = "" if answer.abstained else plain_text(answer.text, answer.citations)
    row = {
        **_case_fields(case),
        **(_retrieval_scores(scored, retrieved) if assistant.use_retrieval else {}),
        "answer_id": answer.id,
        "features_version": answer.features_version,
        "similarity": _best_similarity(answer.passages),
        "answer": text,
        "relevant_shown": [p.chunk_id for p in answer.passages if scored.relevant(p)],
        "abstained": answer.abstained,
        "abstention_reason": answer.abstention_reason,
        "exact_match": metrics.exact_match(text, case.answers),
        "f1": metrics.f1(text, case.answers),
        "rouge_l": metrics.rouge_l(text, case.answers),
        "abstention": float(answer.abstained != case.answerable),
        "citation_precision": None,
        "citation_recall": None,
        "faithfulness": None,
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
        **answer.timings,
    }
    if assistant.use_retrieval and not answer.abstained:
        shown = {p.chunk_id: p for p in answer.passages}
        cited = [shown[c.chunk_id] for c in answer.citations]
        if cited and scored.documents:
            row["citation_precision"] = sum(map(scored.relevant, cited)) / len(cited)
        if any(map(scored.relevant, answer.passages)):
            row["citation_recall"] = float(any(map(scored.relevant, cited)))
        row["faithfulness"] = (
            metrics.support(text, [f"{p.heading}\n{p.text}" for p in cited], question=case.question)
            if cited
            else 0.0
        )
    row["fault"] = _fault(scored, answer, row, retrieved[: assistant.contract.max_passages])
    return row


def _case_fields(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "question": case.question,
        "document": case.document,
        "answerable": case.answerable,
        "answers": list(case.answers),
        "tags": list(case.tags),
        "question_type": question_type(case.question),
    }


def _retrieval_scores(scored: ScoredCase, passages: Sequence[Passage]) -> dict[str, Any]:
    if not scored.documents:
        return {}
    if scored.judged:
        gains = metrics.document_gains((p.document_id for p in passages), scored.documents)
        ideal = [float(grade) for grade in scored.documents.values() if grade > 0]
    else:
        gains, ideal = metrics.first_relevant(map(scored.relevant, passages)), [1.0]
    rank = next((n for n, gain in enumerate(gains, start=1) if gain > 0), None)
    return {**metrics.ranking_scores(gains, ideal), "rank": rank}


def _best_similarity(passages: Sequence[Passage]) -> float | None:
    return max((p.similarity for p in passages if p.similarity is not None), default=None)


def _fault(
    scored: ScoredCase, answer: Answer, row: Mapping[str, Any], found: Sequence[Passage]
) -> Fault:
    """What went wrong with a case, in one word; empty when nothing did.

    Args:
        scored: the case.
        answer: what was said.
        row: its scores.
        found: the whole passages that the evidence shown was chosen from.
    """
    if not scored.case.answerable:
        return "" if answer.abstained else "wrong_answer"
    if row["f1"] >= RIGHT:
        return "bad_citation" if row["citation_precision"] == 0.0 else ""
    retrieved = "retrieve_s" in answer.timings
    if retrieved and scored.documents and not any(map(scored.relevant, answer.passages)):
        return "evidence_cut" if any(map(scored.relevant, found)) else "retrieval_miss"
    return "wrong_refusal" if answer.abstained else "reader_miss"
