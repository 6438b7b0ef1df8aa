"""What is learned from a batch: the response's tokens, and nothing else.

The vocabulary is projected only where a label is, which for prompts of hundreds of tokens and
answers of ten is nearly all of the head's work saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.encoding import IGNORED, EncodedExample
from fti.pipelines.training.steps.batches import collate
from fti.pipelines.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """What validation rows say: loss per response token, and the share of responses that greedy
    decoding would give word for word.
    """

    loss: float
    exact: float


def bare(model: Any) -> Any:
    """The transformers model inside what peft and a distributed run put around it."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def response_logits(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits where a label is, with the labels and the batch's rows that they stand in.

    Returns:
        float32 logits [labels, vocabulary], targets [labels], rows [labels].
    """
    labels = batch["labels"]
    # The first token of a row is predicted by nothing; every other by the one before it.
    rows, before = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    targets = labels[rows, before + 1]
    places = rows * labels.shape[1] + before
    inputs = {
        name: batch[name]
        for name in ("input_ids", "attention_mask", "position_ids")
        if name in batch
    }

    def labelled_only(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = arguments[0]
        return (hidden.flatten(0, 1).index_select(0, places).unsqueeze(0), *arguments[1:])

    head = bare(model).get_output_embeddings()
    hook = head.register_forward_pre_hook(labelled_only) if head is not None else None
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        if hook is not None:
            hook.remove()
    if logits.shape[:2] == labels.shape:  # a model that has no head, or does not call it
        logits = logits.flatten(0, 1).index_select(0, places)
    return logits.reshape(len(places), -1).float(), targets, rows


def measure(model: Any, examples: Sequence[EncodedExample], *, batch: int, pad: int) -> Measured:
    """Loss per response token and share of exact responses, without changing the model."""
    import torch
    from torch.nn.functional import cross_entropy

    training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, tokens, exact = 0.0, 0, 0
    indexed = sorted(enumerate(examples), key=lambda pair: -len(pair[1].input_ids))
    with torch.no_grad():
        for start in range(0, len(indexed), batch):
            moved = {
                k: v.to(device) for k, v in collate(indexed[start : start + batch], pad=pad).items()
            }
            logits, targets, rows = response_logits(model, moved)
            total += float(cross_entropy(logits, targets, reduction="sum"))
            tokens += len(targets)
            wrong = rows[logits.argmax(-1) != targets]
            exact += len(moved["labels"]) - len(wrong.unique())
    model.train(training)
    return Measured(loss=total / max(tokens, 1), exact=exact / max(len(examples), 1))


class Responses:
    """Learning the responses of rows: cross entropy over their tokens; a ``train.Objective``.

    Args:
        examples: what to train on.
        ids: which rows they are, for messages.
        validation: what the model is measured on.
        config: how many rows are computed at once.
        pad: id that fills batches.
    """

    by_token = True

    def __init__(
        self,
        examples: Sequence[EncodedExample],
        *,
        ids: Sequence[str],
        validation: Sequence[EncodedExample],
        config: TrainingConfig,
        pad: int,
    ) -> None:
        self.examples = examples
        self.lengths: Sequence[int] = [len(e.input_ids) for e in examples]
        self.validation_tokens = sum(len(e.input_ids) for e in validation)
        self._ids = ids
        self._validation = validation
        self._config = config
        self._pad = pad

    def remember(self, model: Any) -> None:
        """Nothing: responses are learned for their own sake."""

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Rows as tensors."""
        return collate([(row, self.examples[row]) for row in rows], pad=self._pad)

    def loss(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """Summed over the tokens of the responses."""
        from torch.nn.functional import cross_entropy

        logits, targets, _ = response_logits(model, batch)
        return cross_entropy(logits, targets, reduction="sum")

    def name(self, row: int) -> str:
        """The row's id."""
        return self._ids[row]

    def measure(self, model: Any) -> Measured | None:
        """Over the validation rows."""
        if not self._validation:
            return None
        return measure(model, self._validation, batch=2 * self._config.batch_size, pad=self._pad)
