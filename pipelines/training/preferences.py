"""Learning which of two responses is the better one: direct preference optimisation (DPO).

Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
NeurIPS 2023, equation 7. What the model said before training is computed once, so that neither a
second model nor a second pass is needed while training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fti.pipelines.training.examples import EncodedPair
from fti.pipelines.training.steps.batches import collate
from fti.pipelines.training.steps.loss import Measured, response_logits
from fti.pipelines.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor


def log_likelihoods(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The log-probability of each row's response, summed over its tokens [rows]."""
    from torch.nn.functional import cross_entropy

    logits, targets, rows = response_logits(model, batch)
    likelihoods = -cross_entropy(logits, targets, reduction="none")
    return likelihoods.new_zeros(len(batch["labels"])).index_add(0, rows, likelihoods)


def margins(model: Any, batch: dict[str, Tensor], before: Tensor) -> Tensor:
    """By how much more than before training the model prefers the chosen response [pairs].

    Args:
        model: as it is now.
        batch: the chosen responses, then the rejected ones.
        before: log-likelihoods of the same rows before training.
    """
    gained = log_likelihoods(model, batch) - before
    chosen, rejected = gained.chunk(2)
    return chosen - rejected


class Preferences:
    """Learning from pairs of responses; a ``train.Objective``.

    Args:
        pairs: what to train on.
        ids: which rows they are, for messages.
        validation: what the model is measured on.
        config: how many pairs are computed at once, and how far the model may move (``beta``).
        pad: id that fills batches.
    """

    by_token = False

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        *,
        ids: Sequence[str],
        validation: Sequence[EncodedPair],
        config: TrainingConfig,
        pad: int,
    ) -> None:
        self.lengths: Sequence[int] = [pair.tokens for pair in pairs]
        self.validation_tokens = sum(pair.tokens for pair in validation)
        # Validation pairs are numbered on after those of training.
        self._pairs = [*pairs, *validation]
        self._trained = len(pairs)
        self._ids = ids
        self._config = config
        self._pad = pad
        self._before: Tensor | None = None

    def remember(self, model: Any) -> None:
        """Note what the model says before it is trained: what its changes are measured against."""
        import torch

        training = model.training
        model.eval()
        device = next(model.parameters()).device
        before = torch.zeros(len(self._pairs), 2, device=device)
        order = sorted(range(len(self._pairs)), key=lambda i: -self._pairs[i].tokens)
        with torch.no_grad():
            for start in range(0, len(order), self._config.batch_size):
                some = order[start : start + self._config.batch_size]
                batch = {k: v.to(device) for k, v in self.batch(some).items()}
                before[some] = log_likelihoods(model, batch).reshape(2, -1).T
        model.train(training)
        self._before = before

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Pairs as tensors: the chosen responses, then the rejected ones."""
        chosen = [(row, self._pairs[row].chosen) for row in rows]
        return collate(
            [*chosen, *((row, self._pairs[row].rejected) for row in rows)], pad=self._pad
        )

    def loss(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """The mean over the pairs."""
        return self._losses(self._margins(model, batch)).mean()

    def name(self, row: int) -> str:
        """The row's id."""
        return self._ids[row]

    def measure(self, model: Any) -> Measured | None:
        """Mean loss over the validation pairs, and the share of which the better is preferred."""
        import torch

        if len(self._pairs) == self._trained:
            return None
        training = model.training
        model.eval()
        device = next(model.parameters()).device
        found: list[Tensor] = []
        with torch.no_grad():
            for start in range(self._trained, len(self._pairs), self._config.batch_size):
                some = range(start, min(start + self._config.batch_size, len(self._pairs)))
                batch = {k: v.to(device) for k, v in self.batch(some).items()}
                found.append(self._margins(model, batch))
        model.train(training)
        gained = torch.cat(found)
        return Measured(
            loss=float(self._losses(gained).mean()), exact=float((gained > 0).float().mean())
        )

    def _margins(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        if self._before is None:
            self.remember(model)
        assert self._before is not None
        pairs = batch["rows"][: len(batch["rows"]) // 2]
        return margins(model, batch, self._before[pairs].T.flatten())

    def _losses(self, gained: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self._config.beta * gained)
