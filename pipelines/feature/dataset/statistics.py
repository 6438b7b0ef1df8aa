"""How long a dataset's rows are in tokens, and how evenly they are spread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fti.store.contracts.prompt_contract import TokenCounter
from fti.store.types import InstructionExample, Message, PreferenceExample, Split

_BINS = 12
_EMPTY = Message(role="user", content="")
_OPENINGS = ("who", "what", "when", "where", "why", "how", "which")


def row_statistics(
    rows: Mapping[Split, Sequence[InstructionExample]], counter: TokenCounter, *, tokenizer: str
) -> dict[str, Any]:
    """Lengths and balance of instruction rows.

    Args:
        rows: by split.
        counter: counts tokens; prompts as rendered, before a contract cuts them to its budget.
        tokenizer: which one that is, for people.
    """
    every = [row for part in rows.values() for row in part]
    cited = [row for row in every if row.citations]
    return {
        "tokens": {
            "tokenizer": tokenizer,
            "prompt": lengths(counter.count(row.messages) for row in every),
            "response": lengths(_tokens(counter, row.response) for row in every),
        },
        "balance": {
            "kinds": _shares(row.kind for row in every),
            "kinds_by_split": {s: _counts(row.kind for row in part) for s, part in rows.items()},
            "styles": _shares(row.style for row in every if row.style),
            "openings": _shares(_opening(row.question) for row in every),
            "gold_position": _shares(str(row.citations[0]) for row in cited),
            "passages": _shares(str(len(row.passages)) for row in every),
            "answer_words": lengths(len(row.answer.split()) for row in every if row.answer),
            "rows_per_document": _spread(row.documents[0] for row in every if row.documents),
        },
    }


def pair_statistics(
    pairs: Mapping[Split, Sequence[PreferenceExample]], counter: TokenCounter, *, tokenizer: str
) -> dict[str, Any]:
    """Lengths and balance of preference pairs; arguments as for ``row_statistics``."""
    every = [pair for part in pairs.values() for pair in part]
    return {
        "tokens": {
            "tokenizer": tokenizer,
            "prompt": lengths(counter.count(pair.messages) for pair in every),
            "chosen": lengths(_tokens(counter, pair.chosen_response) for pair in every),
            "rejected": lengths(_tokens(counter, pair.rejected_response) for pair in every),
        },
        "balance": {
            "kinds": _shares(pair.kind for pair in every),
            "kinds_by_split": {s: _counts(p.kind for p in part) for s, part in pairs.items()},
            "openings": _shares(_opening(pair.question) for pair in every),
            "chosen_abstains": _shares("yes" if not p.chosen else "no" for p in every),
            "rows_per_document": _spread(pair.documents[0] for pair in every if pair.documents),
        },
    }


def lengths(values: Iterable[int]) -> dict[str, Any]:
    """Least, mean, median, 95th percentile, greatest, sum, and a histogram of equal bins."""
    found = sorted(values)
    if not found:
        return {"n": 0}
    low, high = found[0], found[-1]
    width = max(1, math.ceil((high - low + 1) / _BINS))
    bins = Counter((value - low) // width for value in found)
    return {
        "n": len(found),
        "min": low,
        "mean": round(sum(found) / len(found), 1),
        "median": found[(len(found) - 1) // 2],
        "p95": found[math.ceil(0.95 * len(found)) - 1],
        "max": high,
        "sum": sum(found),
        "histogram": [
            {"from": low + n * width, "to": low + (n + 1) * width - 1, "count": bins.get(n, 0)}
            for n in range((high - low) // width + 1)
        ],
    }


def _tokens(counter: TokenCounter, text: str) -> int:
    """Tokens of a response: what it adds to a turn (a user's, which every template can begin)."""
    return counter.count([Message(role="user", content=text)]) - counter.count([_EMPTY])


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _shares(values: Iterable[str]) -> dict[str, Any]:
    """Counts, and how even they are: entropy over its greatest possible value, 1 for one kind."""
    counts = _counts(values)
    total = sum(counts.values())
    if not total:
        return {"counts": {}, "evenness": None}
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    evenness = entropy / math.log(len(counts)) if len(counts) > 1 else 1.0
    return {"counts": counts, "evenness": round(evenness, 3)}


def _spread(documents: Iterable[str]) -> dict[str, Any]:
    counts = Counter(documents)
    return lengths(counts.values()) | {"documents": len(counts)}


def _opening(question: str) -> str:
    first = question.split()[0].casefold().strip("\"'“‘(,") if question.split() else ""
    return first if first in _OPENINGS else "other"
