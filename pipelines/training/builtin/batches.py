"""Rows to padded batches of ids with a weight for each token that is to be predicted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.encoding import encode_text
from fti.pipelines.training.builtin.recipe import Recipe
from fti.pipelines.training.builtin.rows import FORM, Row
from fti.pipelines.training.builtin.tokenizer import END, START

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of a row and how much predicting each of them counts (0: not at all)."""

    ids: list[int]
    weights: list[float]
    responses: list[tuple[int, int]]
    """Where each response stands, its end-of-turn token included."""


def encode_row(tokenizer: Any, row: Row, *, repeat_weight: float = 0.0) -> Encoded:
    """Ids of the whole conversation, as the chat template spells it, and their weights."""
    start, end = tokenizer.convert_tokens_to_ids([START, END])
    newline = encode_text(tokenizer, "\n")
    reply = [end, *newline, start, *encode_text(tokenizer, "assistant\n")]
    ids: list[int] = []
    weights: list[float] = []
    responses = []
    for number, turn in enumerate(row.turns):
        content = FORM.messages(turn.question, row.passages if number == 0 else ())[-1].content
        body = encode_text(tokenizer, f"user\n{content}")
        repeated = len(encode_text(tokenizer, turn.question)) if number == 0 and row.passages else 0
        lead = [*(newline if number else []), start]
        response = [*encode_text(tokenizer, turn.response), end]
        weights += [0.0] * (len(lead) + len(body) - repeated)
        weights += [repeat_weight] * repeated + [0.0] * len(reply)
        ids += [*lead, *body, *reply]
        responses.append((len(ids), len(ids) + len(response)))
        ids += response
        weights += [1.0] * len(response)
    return Encoded(ids, weights, responses)


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded ids, and flat indices of the predicted tokens with target and weight."""

    ids: Tensor
    where: Tensor
    targets: Tensor
    weights: Tensor
    is_response: Tensor


def collate(rows: Sequence[Encoded], pad: int) -> Batch:
    """Rows padded on the right; a causal mask needs no more, as padding is never looked back at."""
    import torch

    width = max(len(r.ids) for r in rows)
    ids = torch.tensor([r.ids + [pad] * (width - len(r.ids)) for r in rows])
    where, targets, weights, response = [], [], [], []
    for n, row in enumerate(rows):
        for at in range(1, len(row.ids)):
            if row.weights[at]:
                where.append(n * width + at - 1)
                targets.append(row.ids[at])
                weights.append(row.weights[at])
                response.append(row.weights[at] == 1.0)
    return Batch(
        ids,
        torch.tensor(where),
        torch.tensor(targets),
        torch.tensor(weights),
        torch.tensor(response),
    )


def step_rows(
    rows: list[Encoded], rng: random.Random, share: float, weight: float
) -> list[Encoded]:
    """Mark a share of the prompt tokens for prediction as well: they heal what pruning broke."""
    return [
        Encoded(
            r.ids,
            [w if w or rng.random() >= share else weight for w in r.weights],
            r.responses,
        )
        for r in rows
    ]


def batches(rows: list[Encoded], recipe: Recipe, pad: int) -> list[Batch]:
    """Batches of rows of similar length, each within the token budget."""
    out: list[list[Encoded]] = []
    current: list[Encoded] = []
    for row in sorted(rows, key=lambda r: len(r.ids)):
        if current and len(row.ids) * (len(current) + 1) > recipe.tokens_per_batch:
            out.append(current)
            current = []
        current.append(row)
    out.append(current)
    return [collate(group, pad) for group in out]
