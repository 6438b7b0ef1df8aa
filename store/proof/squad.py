"""How two short answers are compared: the rules of SQuAD's official evaluation.

Datasets, evaluation and the built-in model's recipe all compare answers, and must do it alike
(Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016).
"""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def overlap(answer: str, gold: str) -> float:
    """F1 over the words of both: the harmonic mean of precision and recall."""
    said, wanted = normalised(answer).split(), normalised(gold).split()
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))
