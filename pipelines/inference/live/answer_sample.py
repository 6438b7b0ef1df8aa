"""Which of the live answers are judged: the same of the same days, whenever somebody looks."""

from __future__ import annotations

from collections.abc import Sequence

from fti.store.answer_types import Answer
from fti.store.types import sha256_hex


def drawn(answers: Sequence[Answer], sample: int) -> list[Answer]:
    """The answers that are judged: of those that answered, the first by the digest of their ids."""
    candidates = [answer for answer in answers if answered(answer)]
    return sorted(candidates, key=lambda answer: sha256_hex(answer.id))[:sample]


def answered(answer: Answer) -> bool:
    """Whether an answer claims anything that passages could bear out."""
    return not answer.abstained and bool(answer.text.strip()) and bool(answer.passages)
