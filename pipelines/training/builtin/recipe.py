"""What the built-in reader is trained on and how: the recipe as values, and the stream of rows.

Somewhat more than half of the rows have the form that the default profile serves, and more of them
towards the end; the others show whole paragraphs, about which several questions can be asked for
the price of one reading.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.sentences import sentence_spans
from fti.pipelines.training.builtin.branches import Encoded, encode_row
from fti.pipelines.training.builtin.evidence_rows import Selection, evidence_row
from fti.pipelines.training.builtin.reading_rows import (
    Corpus,
    Mix,
    Row,
    Text,
    paired_reply,
    passage_row,
    sentence_row,
)

if TYPE_CHECKING:
    from fti.pipelines.engines.embedders.embedding import Embedder

SENTENCES = "sentence_pairs"
UNANSWERED = "squad_unanswerable"
_CANDIDATES = 12
_SHORT_CHARS = 350


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of a training run. The learning rate falls over the planned time, not over steps:
    how many steps fit into an evening depends on the machine.
    """

    minutes: float = 85.0
    """Planned length of the run; the learning rate falls to ``floor`` over it."""
    learning_rate: float = 6e-4
    warmup: float = 0.03
    """Share of the run over which the learning rate rises."""
    floor: float = 0.04
    """What is left of the learning rate at the end."""
    rank: int = 16
    alpha: float = 32.0
    tokens_per_step: int = 2560
    tokens_per_batch: int = 1280
    row_tokens: int = 800
    """Longer rows are left out."""
    clip: float = 1.0
    evidence: tuple[float, float] = (0.5, 0.7)
    """Share of the rows in the served form, at the beginning and at the end."""
    shares: tuple[tuple[str, float], ...] = (
        ("squad_articles", 0.31),
        ("squad_paragraphs", 0.26),
        (UNANSWERED, 0.08),
        ("qed_nq", 0.10),
        ("fairytale_qa", 0.11),
        (SENTENCES, 0.05),
        ("covid_qa", 0.03),
        ("policy_qa", 0.06),
    )
    """Sources of the rows, each with its share. ``squad_unanswerable`` are the texts of
    ``squad_articles`` about which people also wrote questions that they do not answer: these are
    few and teach what no exchanged word does, so they come more often than their number says.
    """
    mix: Mix = field(default_factory=Mix)
    selection: Selection = field(default_factory=Selection)

    def rate(self, progress: float) -> float:
        """Learning rate at a point of the run between 0 and 1."""
        if progress < self.warmup:
            return self.learning_rate * max(progress / self.warmup, 0.05)
        left = (1.0 - progress) / (1.0 - self.warmup)
        return self.learning_rate * (self.floor + (1.0 - self.floor) * max(0.0, left))

    def written(self) -> dict[str, Any]:
        """The recipe as JSON can hold it."""
        return asdict(self)


class Shuffled:
    """Goes through each source in a shuffled order before any of it repeats.

    ``taken`` is the whole state: how many items of each source were used.
    """

    def __init__(self, seed: int, taken: dict[str, int] | None = None) -> None:
        self.seed = seed
        self.taken = dict(taken or {})
        self._orders: dict[tuple[str, int], list[int]] = {}

    def next(self, source: str, size: int) -> int:
        """The index of the next of ``size`` items of a source."""
        count = self.taken.get(source, 0)
        self.taken[source] = count + 1
        turn, place = divmod(count, size)
        if (source, turn) not in self._orders:
            order = list(range(size))
            random.Random(f"{self.seed} {source} {turn}").shuffle(order)
            self._orders = {k: v for k, v in self._orders.items() if k[0] != source}
            self._orders[source, turn] = order
        return self._orders[source, turn][place]


class Stream(Shuffled):
    """Rows for the reader without end.

    A row depends on the seed, the generator given and ``taken`` only, which is what makes resuming
    exact.
    """

    def __init__(
        self,
        corpus: Corpus,
        seed: int,
        embedder: Embedder,
        recipe: Recipe,
        taken: dict[str, int] | None = None,
    ) -> None:
        super().__init__(seed, taken)
        self.corpus = corpus
        self.embedder = embedder
        self.recipe = recipe
        self._pairs = [pair for pair in corpus.pairs if paired_reply(*pair)]
        articles = corpus.reading.get("squad_articles", [])
        unanswered = [text for each in articles if (text := contrasted(each))]
        self._texts = corpus.reading | {UNANSWERED: unanswered or articles}
        self._groups: dict[str, list[Text]] = {}
        for texts in corpus.reading.values():
            for text in texts:
                self._groups.setdefault(text.group, []).append(text)

    def encoded(self, tokenizer: Any, rng: random.Random, progress: float) -> Encoded | None:
        """The next row as ids; None where it came without any turn."""
        row = self.row(rng, progress)
        return encode_row(tokenizer, row) if row.turns else None

    def row(self, rng: random.Random, progress: float) -> Row:
        """The next row, for a point of the run between 0 and 1. It may come without any turn."""
        recipe = self.recipe
        source = rng.choices([n for n, _ in recipe.shares], [s for _, s in recipe.shares])[0]
        if source == SENTENCES:
            count = rng.randint(3, 6)
            return sentence_row(
                [self._pairs[self.next(source, len(self._pairs))] for _ in range(count)], rng
            )
        texts = self._texts[source]
        text = texts[self.next(source, len(texts))]
        group = self._groups[text.group]
        near = [
            t for t in rng.sample(group, min(len(group), _CANDIDATES + 2)) if t.text != text.text
        ]
        spare, near = near[:2], near[2:]
        first, last = recipe.evidence
        if rng.random() < first + (last - first) * progress:
            return evidence_row(text, near, spare, rng, self.embedder, recipe.mix, recipe.selection)
        count = rng.choices((0, 1, 2), (60, 25, 15))[0]
        return passage_row(text, [shortened(t, rng) for t in near[:count]], spare, rng, recipe.mix)


def contrasted(text: Text) -> Text | None:
    """The text with its unanswerable questions and as many others; None if it has none of them."""
    without = [a for a in text.asked if not a.answer]
    if not without:
        return None
    return replace(text, asked=(*without, *[a for a in text.asked if a.answer][: len(without)]))


def shortened(text: Text, rng: random.Random) -> Text:
    """A few sentences of a text: a distractor that costs little."""
    spans = sentence_spans(text.text)
    if not spans or len(text.text) <= _SHORT_CHARS:
        return text
    at = rng.randrange(len(spans))
    start, end = spans[at]
    for _, after in spans[at + 1 :]:
        if after - start > _SHORT_CHARS:
            break
        end = after
    return Text(text.heading, text.text[start : min(end, start + 2 * _SHORT_CHARS)], (), text.group)
