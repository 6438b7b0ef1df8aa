"""Rows that ask the same are one row, and no row asks what a frozen case asks.

A row asks the same as another when question, answer and the turns before are equal up to case,
punctuation and white space, or when the questions resemble each other and their figures and answers
are equal.
Decontamination follows two usual tests: the share of a held-out question's word n-grams that a row
holds (Chowdhery et al. 2022, "PaLM", appendix on contamination: 70 % of 8-grams), and resemblance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fti.pipelines.feature.asking.quality import words
from fti.pipelines.feature.dataset.asked import Asked, Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.ingesting.resemblance import SimilarTexts
from fti.store.versioned.casesets import CaseSets

_NGRAM = 8  # words
_SHORTEST = 5  # words; a shorter question is compared by resemblance alone


def unique(asked: Sequence[Asked], config: DatasetConfig, tally: Tally) -> list[Asked]:
    """The first of those that ask the same, in the order given."""
    exact: list[Asked] = []
    seen: set[str] = set()
    for one in asked:
        # Outside a conversation, one question with two answers teaches neither.
        what = "" if one.kind != "chat" else f"{_turns(one)}\n{_plain(one.answer)}"
        key = f"{_plain(one.question)}\n{what}"
        if key not in seen:
            seen.add(key)
            exact.append(one)
    tally.filtered("exact_duplicate", len(asked), len(exact))
    kept: list[Asked] = []
    index = SimilarTexts(threshold=config.near_duplicate_questions)
    for one in exact:
        alike = index.like(_near(one))
        if any(_same(kept[n], one) for n in alike):
            continue
        index.add(_near(one))
        kept.append(one)
    tally.filtered("near_duplicate", len(exact), len(kept))
    return kept


class FrozenQuestions:
    """What the frozen case sets ask.

    Args:
        sets: where they lie.
        config: what counts as asking the same.
        versions: those that count, as ``name/N``; None: every version of every one.
    """

    def __init__(
        self, sets: CaseSets, config: DatasetConfig, versions: Sequence[str] | None = None
    ) -> None:
        self._least = config.contamination_ngrams
        self._similar = SimilarTexts(threshold=config.contamination)
        self._homes: list[str] = []
        self._sizes: list[int] = []
        self._ngrams: dict[str, list[int]] = {}
        seen: set[str] = set()
        listed = [version.ref for version in sets.list()] if versions is None else versions
        self.versions = list(listed)
        for ref in self.versions:
            for case in sets.cases(ref):
                plain = _plain(case.question)
                if plain in seen:
                    continue
                seen.add(plain)
                number = self._similar.add(case.question)
                ngrams = _ngrams(plain.split())
                self._homes.append(ref)
                self._sizes.append(len(ngrams))
                for ngram in ngrams:
                    self._ngrams.setdefault(ngram, []).append(number)

    def __len__(self) -> int:
        return len(self._homes)

    def asks(self, one: Asked) -> str:
        """The frozen set that asks what this row asks; "" when none does."""
        for number in self._similar.like(one.question):
            return self._homes[number]
        turns = [m.content for m in one.history]
        text = words(" ".join([*turns, one.question, one.answer if one.kind == "chat" else ""]))
        shared: Counter[int] = Counter()
        for size in range(_SHORTEST, _NGRAM + 1):
            for ngram in {" ".join(text[at : at + size]) for at in range(len(text) - size + 1)}:
                shared.update(self._ngrams.get(ngram, ()))
        for number, count in sorted(shared.items()):
            if count >= self._least * self._sizes[number]:
                return self._homes[number]
        return ""


def decontaminated(
    asked: Sequence[Asked], frozen: FrozenQuestions, tally: Tally
) -> tuple[list[Asked], Counter[str]]:
    """Without the training and validation rows that ask what a frozen set asks; how many by set.

    Test rows may: they are not learned from.
    """
    kept: list[Asked] = []
    by_set: Counter[str] = Counter()
    considered = [one for one in asked if one.split != "test"]
    for one in asked:
        home = frozen.asks(one) if one.split != "test" else ""
        if home:
            by_set[home] += 1
        else:
            kept.append(one)
    tally.filtered("in_frozen_cases", len(considered), len(considered) - sum(by_set.values()))
    return kept, by_set


def _ngrams(found: Sequence[str]) -> set[str]:
    """The word 8-grams of a question; the whole of a shorter one."""
    if len(found) < _SHORTEST:
        return set()
    return {" ".join(found[at : at + _NGRAM]) for at in range(max(1, len(found) - _NGRAM + 1))}


def _same(one: Asked, other: Asked) -> bool:
    """Whether two that resemble each other ask the same: what tells them apart may be a figure."""
    figures = [[w for w in words(_near(a)) if any(c.isdigit() for c in w)] for a in (one, other)]
    return figures[0] == figures[1] and _plain(one.answer) == _plain(other.answer)


def _plain(text: str) -> str:
    return " ".join(words(text))


def _turns(one: Asked) -> str:
    return "\n".join(_plain(m.content) for m in one.history)


def _near(one: Asked) -> str:
    """What is compared: an imported request with its turns, a question by itself."""
    return " ".join(_joined(one)) if one.kind == "chat" else one.question


def _joined(one: Asked) -> Iterable[str]:
    yield from (m.content for m in one.history)
    yield one.question
