"""Corrections that people gave, as commands and the service show them."""

from __future__ import annotations

from typing import Any

from fti.store.answer_types import Correction


def correction_json(correction: Correction) -> dict[str, Any]:
    """A correction for JSON."""
    review = correction.review
    return {
        "answer_id": correction.answer.id,
        "state": correction.state,
        "question": correction.answer.asked or correction.answer.question,
        "answered": correction.answer.text,
        "correction": correction.feedback.correction,
        "comment": correction.feedback.comment,
        "given_at": correction.feedback.created_at.isoformat(),
        "model": correction.answer.model,
        "sources": list(dict.fromkeys(p.source for p in correction.answer.passages)),
        "answer": review.answer if review else None,
        "reason": review.reason if review else "",
    }
