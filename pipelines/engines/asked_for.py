"""What kind of answer a question asks for: a phrase, or a sentence."""

from __future__ import annotations

import re

QUANTITY = re.compile(
    r"how (?:many|much|long|old|often|far|large|big|high|tall|deep|wide|fast|few|close|heavy|small|"
    r"late|early|soon|hot|cold|strong|common|populous)\b"
)
MANNER = re.compile(r"\b(?:how|describe|explain)\b")
HAPPENS = re.compile(
    r"\bwhat (?:\w+ ){0,2}?(?:happens?|happened)\b|\bwhat (?:should|must|can) \w+ do\b"
)


def wants_sentence(question: str, answer: str = "") -> bool:
    """Whether a person asking so wants a sentence, not a phrase: how, why, what happens.

    A reason in four words or more ("to avoid paying the tax") is answer enough.

    Args:
        question: in English.
        answer: the phrase at hand, if there is one.
    """
    low = question.lower()
    if "why" in low or "for what reason" in low:
        return len(answer.split()) < 4
    if HAPPENS.search(low):
        return True
    return bool(MANNER.search(low)) and not QUANTITY.search(low)
