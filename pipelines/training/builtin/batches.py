"""Rows to padded batches of ids with a weight for each token that is to be predicted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.engines.encoding import encode_text
from pipelines.training.builtin.gaps import strip_text
from pipelines.training.builtin.recipe import Recipe
from pipelines.training.builtin.rows import FORM, Corpus, Row, sentence_row
from pipelines.training.builtin.tokenizer import ASSISTANT, END, USER

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
    user, assistant, end = tokenizer.convert_tokens_to_ids([USER, ASSISTANT, END])
    newline = encode_text(tokenizer, "\n")
    ids: list[int] = []
    weights: list[float] = []
    responses = []
    for number, turn in enumerate(row.turns):
        content = FORM.messages(turn.question, row.passages if number == 0 else ())[-1].content
        body = encode_text(tokenizer, "\n" + content)
        repeated = len(encode_text(tokenizer, turn.question)) if number == 0 and row.passages else 0
        prompt = [*(newline if number else []), user, *body, end, *newline, assistant, *newline]
        response = [*encode_text(tokenizer, turn.response), end]
        tail = len(newline) * 2 + 2
        weights += (
            [0.0] * (len(prompt) - tail - repeated) + [repeat_weight] * repeated + [0.0] * tail
        )
        ids += prompt
        responses.append((len(ids), len(ids) + len(response)))
        ids += response
        weights += [1.0] * len(response)
    return Encoded(ids, weights, responses)


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded ids, positions, and flat indices of the predicted tokens with target and weight."""

    ids: Tensor
    positions: Tensor
    where: Tensor
    targets: Tensor
    weights: Tensor
    is_response: Tensor


def collate(rows: Sequence[Encoded], offsets: Sequence[int], pad: int) -> Batch:
    """Rows padded on the right; a causal mask needs no more, as padding is never looked back at."""
    import torch

    width = max(len(r.ids) for r in rows)
    ids = torch.tensor([r.ids + [pad] * (width - len(r.ids)) for r in rows])
    places = torch.stack([torch.arange(width) + offset for offset in offsets])
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
        places,
        torch.tensor(where),
        torch.tensor(targets),
        torch.tensor(weights),
        torch.tensor(response),
    )


def copying_rows(
    tokenizer: Any, corpus: Corpus, seed: int, *, count: int = 200, longest: int = 500
) -> list[list[int]]:
    """Ids of texts in which much is said twice, for ``copying.teach_copying``."""
    rng = random.Random(f"{seed} copying")
    newline, end = encode_text(tokenizer, "\n"), tokenizer.convert_tokens_to_ids(END)
    out: list[list[int]] = []
    while len(out) < count:
        if rng.random() < 0.5:
            ids = encode_text(tokenizer, strip_text(rng.choice(corpus.plain), rng, 350).text)
            start = rng.randrange(0, max(1, len(ids) // 2))
            ids = [*ids, end, *newline, *ids[start : start + 40]]
        else:
            chosen = rng.sample(corpus.pairs, 4)
            ids = encode_row(tokenizer, sentence_row(chosen, rng, max_turns=3)).ids
        out.append(ids[:longest])
    return out


def step_rows(
    rows: list[Encoded], rng: random.Random, recipe: Recipe, progress: float
) -> list[Encoded]:
    """Mark a few prompt tokens for prediction as well: practice in the causal mask."""
    share = recipe.prompt_share * (1 - progress)
    return [
        Encoded(
            r.ids,
            [w if w or rng.random() >= share else recipe.prompt_weight for w in r.weights],
            r.responses,
        )
        for r in rows
    ]


def batches(rows: list[Encoded], rng: random.Random, recipe: Recipe, pad: int) -> list[Batch]:
    """Batches of rows of similar length, each within the token budget."""
    out: list[list[Encoded]] = []
    current: list[Encoded] = []
    for row in sorted(rows, key=lambda r: len(r.ids)):
        if current and len(row.ids) * (len(current) + 1) > recipe.tokens_per_batch:
            out.append(current)
            current = []
        current.append(row)
    out.append(current)
    made = []
    for group in out:
        width = max(len(r.ids) for r in group)
        room = recipe.context - width
        # Half the rows start at position 0, as in serving; the others train the far positions.
        offsets = [rng.randint(0, room) if rng.random() < 0.5 else 0 for _ in group]
        made.append(collate(group, offsets, pad))
    return made
