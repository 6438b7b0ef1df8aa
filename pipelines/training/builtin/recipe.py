"""What the built-in model is trained on, in which order and how: the recipe as values.

Proportions move along a stage. The first stage heals what pruning broke and teaches the form: at
its beginning a fifth of the rows are gaps and sentence finding, which give much practice in
matching and copying; at its end nearly all are real questions, few a row. The second shows what the
default profile shows, the sentences nearest to a question: short rows, so many questions a minute.
The third shows one sentence, nearly always with the answer: after the second, the model refused as
many questions with an answer as without. The last, short, leaves of the questions without an answer
only those that were asked about something else: a model this small cannot tell the others apart,
and learns from them to refuse at random.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fti.pipelines.training.builtin.evidence import Selection, evidence_row
from fti.pipelines.training.builtin.gaps import gap_row, strip_text
from fti.pipelines.training.builtin.invented import invented_row
from fti.pipelines.training.builtin.rows import Corpus, Row, Text, read_row, sentence_row

if TYPE_CHECKING:
    from fti.pipelines.engines.embedders.embedding import Embedder


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run with a learning rate and proportions of its own."""

    steps: int
    learning_rate: float
    shares: tuple[tuple[str, float, float], ...]
    """Kinds of rows, each with its share at the beginning and at the end of the stage."""
    evidence: float = 0.0
    """Share of the rows of real questions that show the nearest sentences, not whole passages."""
    selection: Selection = field(default_factory=Selection)
    warmup_steps: int = 20
    decay: float = 0.5
    """Share of the stage, at its end, over which the learning rate falls to a fiftieth."""
    prompt_share: float = 0.0
    """Share of the other prompt tokens that are predicted too, at the beginning of the stage."""

    @property
    def shows(self) -> str:
        """What most rows of the stage show, in words."""
        if not self.evidence:
            return "whole passages"
        commonest = max(range(len(self.selection.counts)), key=self.selection.counts.__getitem__)
        one = self.selection.counts[commonest] > sum(self.selection.counts) / 2
        return (
            "the sentence nearest to the question"
            if one
            else "the sentences nearest to the question"
        )

    def rate(self, step: int) -> float:
        """Learning rate of a step of the stage: warm up, hold, fall."""
        left = (self.steps - step) / max(1.0, self.steps * self.decay)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps, max(0.02, left))


PASSAGES = Stage(
    steps=720, learning_rate=6e-4, prompt_share=0.25,
    shares=(
        ("gaps", 0.08, 0.02),
        ("sentences", 0.10, 0.03),
        ("invented", 0.06, 0.08),
        ("squad_articles", 0.27, 0.31),
        ("squad_paragraphs", 0.20, 0.24),
        ("fairytale_qa", 0.12, 0.12),
        ("policy_qa", 0.05, 0.05),
        ("covid_qa", 0.03, 0.03),
        ("qed_nq", 0.09, 0.12),
    ),
)  # fmt: skip

EVIDENCE = Stage(
    steps=550, learning_rate=4e-4, decay=0.7, evidence=0.85,
    shares=(
        ("invented", 0.02, 0.02),
        ("sentences", 0.02, 0.02),
        ("squad_articles", 0.30, 0.36),
        ("squad_paragraphs", 0.26, 0.32),
        ("fairytale_qa", 0.14, 0.08),
        ("policy_qa", 0.12, 0.08),
        ("covid_qa", 0.04, 0.02),
        ("qed_nq", 0.10, 0.10),
    ),
)  # fmt: skip

SENTENCE = Stage(
    steps=450, learning_rate=3e-4, decay=0.8, evidence=0.92,
    selection=Selection(counts=(85, 10, 5), missed=0.08, foreign=0.06),
    shares=(
        ("invented", 0.02, 0.02),
        ("sentences", 0.02, 0.02),
        ("squad_articles", 0.34, 0.38),
        ("squad_paragraphs", 0.30, 0.34),
        ("fairytale_qa", 0.12, 0.08),
        ("policy_qa", 0.09, 0.06),
        ("covid_qa", 0.03, 0.02),
        ("qed_nq", 0.08, 0.08),
    ),
)  # fmt: skip

OFF_TOPIC = replace(
    SENTENCE, steps=80, learning_rate=1.5e-4, decay=0.9, warmup_steps=5,
    selection=Selection(
        counts=(85, 10, 5), missed=0.0, foreign=0.06, altered=0.0, unanswerable=False
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of a training run; ``tokens`` counts padding too, since padding costs time."""

    layers: tuple[int, ...] = (0, 1, 2, 8, 15, 16, 17, 18, 22, 23, 24, 29)
    """Which of the base's layers are kept: see the model card for how they were chosen."""
    neurons: int = 544
    """How many neurons of each kept layer."""
    vocabulary: int = 16_384
    context: int = 2048
    """Longest prompt with its answer; rows of training are shorter, see ``row_tokens``."""
    row_tokens: int = 700
    stages: tuple[Stage, ...] = (PASSAGES, EVIDENCE, SENTENCE, OFF_TOPIC)
    tokens_per_step: int = 2560
    tokens_per_batch: int = 512
    weight_decay: float = 0.01
    clip: float = 1.0
    repeat_weight: float = 0.1
    """Weight of predicting the repeated question: free practice in copying."""
    prompt_weight: float = 0.15

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[Stage, int]:
        """The stage that a step belongs to, and its place in it."""
        for stage in self.stages[:-1]:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], step

    def scaled(self, steps: int) -> Recipe:
        """The same recipe over another number of steps."""
        before = self.steps
        kept = [max(1, round(stage.steps * steps / before)) for stage in self.stages[:-1]]
        lengths = [*kept, max(1, steps - sum(kept))]
        stages = (
            replace(stage, steps=length) for stage, length in zip(self.stages, lengths, strict=True)
        )
        return replace(self, stages=tuple(stages))

    @classmethod
    def read(cls, values: dict[str, Any]) -> Recipe:
        """The recipe that ``asdict`` wrote to JSON."""
        stages = tuple(
            Stage(
                **{
                    **stage,
                    "shares": tuple(tuple(share) for share in stage["shares"]),
                    "selection": Selection(
                        **{
                            **stage["selection"],
                            "counts": tuple(stage["selection"]["counts"]),
                        }
                    ),
                }
            )
            for stage in values["stages"]
        )
        return cls(**{**values, "layers": tuple(values["layers"]), "stages": stages})

    def written(self) -> dict[str, Any]:
        """The recipe as JSON can hold it."""
        return asdict(self)


class Stream:
    """Rows without end; each source is gone through in a shuffled order before any repeats.

    ``taken`` is the whole state: how many items of each source were used. Row ``n`` of step ``s``
    depends on the seed, the step and ``taken`` only, which is what makes resuming exact.
    """

    def __init__(
        self,
        corpus: Corpus,
        seed: int,
        embedder: Embedder,
        taken: dict[str, int] | None = None,
    ) -> None:
        self.corpus = corpus
        self.embedder = embedder
        self.seed = seed
        self.taken = dict(taken or {})
        self._orders: dict[tuple[str, int], list[int]] = {}
        self._groups: dict[str, list[Text]] = {}
        for texts in corpus.reading.values():
            for text in texts:
                self._groups.setdefault(text.group, []).append(text)

    def _next(self, source: str, size: int) -> int:
        count = self.taken.get(source, 0)
        self.taken[source] = count + 1
        turn, place = divmod(count, size)
        if (source, turn) not in self._orders:
            order = list(range(size))
            random.Random(f"{self.seed} {source} {turn}").shuffle(order)
            self._orders = {k: v for k, v in self._orders.items() if k[0] != source}
            self._orders[source, turn] = order
        return self._orders[source, turn][place]

    def _texts(self, source: str, texts: Sequence[Text], count: int) -> list[Text]:
        return [texts[self._next(source, len(texts))] for _ in range(count)]

    def row(self, rng: random.Random, stage: Stage, progress: float) -> Row:
        """The next row, for a point of a stage between 0 and 1."""
        weights = [a + (b - a) * progress for _, a, b in stage.shares]
        source = rng.choices([name for name, _, _ in stage.shares], weights)[0]
        late = progress > 0.6
        most = rng.choice((1, 2, 3, 4, 6)) if late else rng.choice((2, 3, 4, 6))
        plain = self.corpus.plain
        if source == "gaps":
            count = rng.choice((1, 1, 2, 3))
            size = rng.choice((300, 500, 800)) // count
            texts = [strip_text(t, rng, max(size, 200)) for t in self._texts(source, plain, count)]
            return gap_row(texts, rng, max_turns=8)
        if source == "sentences":
            pairs = self.corpus.pairs
            picked = [pairs[self._next(source, len(pairs))] for _ in range(rng.randint(3, 7))]
            return sentence_row(picked, rng, max_turns=most + 2)
        if source == "invented":
            return invented_row(plain, rng, max_turns=most + 2)
        text = self._texts(source, self.corpus.reading[source], 1)[0]
        near = self._groups[text.group]
        if stage.evidence and rng.random() < stage.evidence:
            return evidence_row(text, near, rng, self.embedder, stage.selection)
        if rng.random() < 0.3:
            near = plain
        distractors = rng.choices(
            (0, 1, 2, 3, 4), (50, 22, 14, 9, 5) if late else (60, 25, 15, 0, 0)
        )[0]
        chosen = rng.sample(near, min(len(near), distractors + 4))
        if rng.random() < 0.7:  # short distractors cost less and are as good for learning to point
            chosen = [shortened(t, rng) for t in chosen]
        return read_row(text, chosen, rng, max_turns=most, distractors=distractors)


def shortened(text: Text, rng: random.Random) -> Text:
    """A piece of a text, with those of its questions whose answers still stand in it."""
    piece = strip_text(text, rng, 350)
    kept = tuple(a for a in text.asked if a.answer and a.answer in piece.text)
    return Text(piece.heading, piece.text, kept, text.group)
