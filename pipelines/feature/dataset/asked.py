"""Questions that are to become rows, from whatever source, and what became of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.store.types import Message, Passage, Split, sha256_hex

Kind = Literal[
    "question", "field", "list", "heading", "section", "cloze",
    "case", "feedback", "written", "chat", "unanswerable",
]  # fmt: skip

#: Most rows beside imported conversations, where no setting says how many.
MAX_ROWS = 4000

#: Kinds that come from people; they stand before what was written from the documents.
GIVEN: frozenset[Kind] = frozenset({"case", "feedback", "chat", "unanswerable"})


#: Of imported files what was given and taken; what else is counted of them was left out.
IMPORTED_COUNTS = ("rows", "conversations", "answers", "used")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is to become a row: where its answer stands, if anywhere.

    Args:
        kind: the row's.
        question: what is asked.
        answer: as the passage spells it; "" when nothing answers it.
        document: id of the document that it is about; "" for what rests on none.
        chunks: ids of the chunks that answer it, the best one first.
        split: where the row goes.
        tag: style of the question, or the id that its source has for it.
        title: the document's, to say what a weak question is about.
        weak: whether the question alone says too little to be searched for.
        evidence: the sentence or quote that the answer was taken from.
        history: turns before the question.
        shown: the passages of the row, where they are not to be searched for.
        cited: 1-based positions in ``shown``.
    """

    kind: Kind
    question: str
    answer: str
    document: str
    chunks: tuple[str, ...]
    split: Split
    tag: str
    title: str = ""
    weak: bool = False
    evidence: str = ""
    history: tuple[Message, ...] = ()
    shown: tuple[Passage, ...] | None = None
    cited: tuple[int, ...] = ()


@dataclass
class Tally:
    """What became of what was considered, for the run's metrics and the dataset's card."""

    styles: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    feedback: Counter[str] = field(default_factory=Counter)
    imported: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    gold_inserted: int = 0
    _filters: dict[str, tuple[int, int]] = field(default_factory=dict)

    def filtered(self, name: str, considered: int, kept: int) -> None:
        """Count what a filter was shown and what it let pass; counts of one name add up."""
        before = self._filters.get(name, (0, 0))
        self._filters[name] = (before[0] + considered, before[1] + kept)

    def passed_through(
        self, considered: int, rejected: Mapping[str, int], names: Iterable[str]
    ) -> None:
        """Count a chain of filters in their order, given how many each one turned away."""
        for name in names:
            kept = considered - rejected.get(name, 0)
            self.filtered(name, considered, kept)
            considered = kept

    @property
    def rejected(self) -> Counter[str]:
        """How many each filter turned away, where it did."""
        return Counter({n: a - b for n, (a, b) in self._filters.items() if a > b})

    @property
    def left_out(self) -> Counter[str]:
        """What did not become a row, by reason, whatever source it came from."""
        used = {
            "used", "kept", "prompt_tokens", "reply_tokens", "asked_again", *IMPORTED_COUNTS
        }  # fmt: skip
        every = self.rejected + self.cases + self.feedback + self.imported + self.written
        return Counter({reason: n for reason, n in every.items() if reason not in used and n})

    @property
    def sources(self) -> dict[str, dict[str, int]]:
        """What each source gave and what of it could not be used."""
        by_name = {
            "cases": self.cases, "feedback": self.feedback, "imported": self.imported,
            "written": self.written,
        }  # fmt: skip
        return {
            name: dict(sorted((k, v) for k, v in counts.items() if v))
            for name, counts in by_name.items()
            if any(counts.values())
        }

    @property
    def filters(self) -> list[dict[str, Any]]:
        """Every filter in the order applied, with the share that it let pass."""
        return [
            {"filter": n, "considered": a, "kept": b, "share": round(b / a, 4) if a else None}
            for n, (a, b) in self._filters.items()
        ]


def order(seed: int, text: str) -> str:
    """A key to sort by: at random, and the same for the same seed and text."""
    return sha256_hex(f"{seed}\n{text}")


def with_share(asked: Sequence[Asked], config: DatasetConfig, tally: Tally) -> list[Asked]:
    """No more unanswerable cases than their share: a model that mostly abstains is no use."""
    unanswerable = [a for a in asked if a.kind == "unanswerable"]
    room = round((len(asked) - len(unanswerable)) * config.unanswerable / (1 - config.unanswerable))
    unanswerable.sort(key=lambda a: order(config.seed, a.question))
    left_out = {id(a) for a in unanswerable[room:]}
    if left_out:
        tally.cases["used"] -= len(left_out)
        tally.cases["unanswerable_beyond_share"] = len(left_out)
    return [a for a in asked if id(a) not in left_out]


def sampled(asked: Sequence[Asked], config: DatasetConfig, tally: Tally) -> list[Asked]:
    """At most ``max_rows``: what people gave first, documents in turn, imports in their share.

    Imported conversations are all taken where neither setting bounds them.
    """
    chats = [a for a in asked if a.kind == "chat"]
    given = [a for a in asked if a.kind in GIVEN and a.kind != "chat"]
    written = [a for a in asked if a.kind not in GIVEN]
    share = config.max_imported_share
    room = within_share = len(chats)
    if share is not None and (given or written):
        most = len(asked) if config.max_rows is None else min(len(asked), config.max_rows)
        within_share = min(room, round(most * share))
        if share < 1:
            within_share = min(
                within_share, round((len(given) + len(written)) * share / (1 - share))
            )
    room = within_share if config.max_rows is None else min(within_share, config.max_rows)
    tally.imported["beyond_max_imported_share"] += len(chats) - within_share
    tally.imported["beyond_max_rows"] += within_share - room
    imported = _in_turn(chats, config)[:room]
    most = MAX_ROWS if config.max_rows is None else config.max_rows - len(imported)
    kept: list[Asked] = []
    for part in (given, written):
        kept += _in_turn(part, config)[: max(0, most - len(kept))]
    chosen = {id(one) for one in (*kept, *imported)}
    return [one for one in asked if id(one) in chosen]


def _in_turn(asked: Sequence[Asked], config: DatasetConfig) -> list[Asked]:
    """One of each document, then another of each, in the seed's order."""
    by_document: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        # What rests on no document takes its turn by itself.
        by_document[one.document or f"\n{one.tag}"].append(one)
    ranked = [
        (rank, order(config.seed, one.question), one)
        for of_document in by_document.values()
        for rank, one in enumerate(
            sorted(of_document, key=lambda a: order(config.seed, a.question))
        )
    ]
    ranked.sort(key=lambda item: item[:2])
    return [one for _, _, one in ranked]
