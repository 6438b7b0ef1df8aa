"""What every model that writes questions has in common: what it is asked about, and its price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fti.pipelines.feature.dataset.asked import Asked, Tally, order
from fti.pipelines.feature.dataset.dataset_config import WriterConfig
from fti.store.errors import InputError
from fti.store.progress import Progress
from fti.store.types import Chunk, Document, ModelIdentity, Split, Value


class Estimate(Value):
    """What writing will take at most, before anything is asked.

    ``kept`` passages were written about before and cost nothing. ``reply_tokens`` is the bound that
    the settings put on replies; a retry of each would double it.
    """

    model: str
    passages: int
    kept: int
    prompt_tokens: int
    reply_tokens: int
    cost: float

    @property
    def tokens(self) -> int:
        """Prompts and replies together."""
        return self.prompt_tokens + self.reply_tokens


class Writer(Protocol):
    """A model that writes questions about passages."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights write."""
        ...

    def estimate(self, chunks: Sequence[Chunk], documents: Mapping[str, Document]) -> Estimate:
        """What writing about these passages will take at most."""
        ...

    def write(
        self,
        chunks: Sequence[Chunk],
        documents: Mapping[str, Document],
        split_of: Mapping[str, Split],
        tally: Tally,
        progress: Progress,
    ) -> list[Asked]:
        """Questions about these passages, the good ones."""
        ...


def chosen(chunks: Sequence[Chunk], config: WriterConfig, seed: int) -> list[Chunk]:
    """The passages that are written about: each text once, at most ``max_passages``."""
    by_text: dict[str, Chunk] = {}
    for chunk in chunks:
        by_text.setdefault(chunk.content_hash, chunk)
    once = list(by_text.values())
    if config.max_passages is None or len(once) <= config.max_passages:
        return once
    drawn = sorted(once, key=lambda c: order(seed, c.id))[: config.max_passages]
    ids = {c.id for c in drawn}
    return [c for c in once if c.id in ids]


def require_budget(expected: Callable[[], Estimate], config: WriterConfig) -> None:
    """Refuse before anything is asked; nothing is estimated where there is no budget.

    Raises:
        InputError: the estimate exceeds ``budget_tokens``.
    """
    budget = config.budget_tokens
    if budget is None:
        return
    estimate = expected()
    if estimate.tokens > budget:
        raise InputError(
            f"Writing about {estimate.passages - estimate.kept} passages may take "
            f"{estimate.tokens} tokens, and the budget is {budget}.",
            hint="Raise dataset.writer.budget_tokens, or lower dataset.writer.max_passages or "
            "max_new_tokens.",
        )
