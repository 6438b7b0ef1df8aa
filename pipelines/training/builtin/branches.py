"""Rows to ids: the passages once, then each question with its response as a branch behind them.

A branch sees the passages and itself, and its positions go on where the passages end, so it is
computed exactly as if it stood alone with them: the ids that serving sends, then the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.encoding import encode_prompt, encode_text, end_ids
from fti.pipelines.training.builtin.reading_rows import FORM, Row
from fti.store.types import Message

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Branch:
    """The ids of one question behind the shared ones; those from ``prompt`` on are learned."""

    ids: list[int]
    prompt: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as ids: what all its questions begin with, and the branches."""

    prefix: list[int]
    branches: list[Branch]

    def __len__(self) -> int:
        return len(self.prefix) + sum(len(b.ids) for b in self.branches)


def encode_row(tokenizer: Any, row: Row) -> Encoded:
    """Ids of a row; prefix and branch together are the ids that ``encode_example`` gives."""
    return encode_turns(
        tokenizer, [(FORM.messages(t.question, row.passages), t.response) for t in row.turns]
    )


def encode_turns(tokenizer: Any, turns: Sequence[tuple[Sequence[Message], str]]) -> Encoded:
    """Ids of prompts that begin alike, each with its response."""
    prompts = [encode_prompt(tokenizer, messages) for messages, _ in turns]
    # A branch has at least one id of its prompt, which predicts its response's first.
    most = min(map(len, prompts)) - 1
    together = (len(set(column)) == 1 for column in zip(*prompts, strict=False))
    shared = next((at for at, same in enumerate(together) if not same or at == most), most)
    branches = [
        Branch(
            [*prompt[shared:], *encode_text(tokenizer, response), *end_ids(tokenizer)],
            len(prompt) - shared,
        )
        for prompt, (_, response) in zip(prompts, turns, strict=True)
    ]
    return Encoded(prompts[0][:shared], branches)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right, with what each token sees and what is to be predicted.

    ``where`` are flat indices of the tokens that predict, ``targets`` what they should, ``weights``
    how much each counts: every response counts by the root of its length, so that a sentence does
    not outweigh the phrases. ``turn`` numbers the response that each belongs to.
    """

    ids: Tensor
    positions: Tensor
    sees: Tensor
    where: Tensor
    targets: Tensor
    weights: Tensor
    turn: Tensor


def collate(rows: Sequence[Encoded], pad: int) -> Batch:
    """One batch out of rows."""
    import torch

    width = max(len(r) for r in rows)
    ids = torch.full((len(rows), width), pad)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    sees = torch.zeros(len(rows), width, width, dtype=torch.bool)
    where: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    turns: list[int] = []
    turn = 0
    for n, row in enumerate(rows):
        shared = len(row.prefix)
        ids[n, :shared] = torch.tensor(row.prefix)
        positions[n, :shared] = torch.arange(shared)
        sees[n, :, :shared] = causal[:, :shared]
        at = shared
        for branch in row.branches:
            end = at + len(branch.ids)
            ids[n, at:end] = torch.tensor(branch.ids)
            positions[n, at:end] = torch.arange(shared, shared + len(branch.ids))
            sees[n, at:end, at:end] = causal[at:end, at:end]
            learned = len(branch.ids) - branch.prompt
            where += range(n * width + at + branch.prompt - 1, n * width + end - 1)
            targets += branch.ids[branch.prompt :]
            weights += [learned**-0.5] * learned
            turns += [turn] * learned
            turn += 1
            at = end
    return Batch(
        ids=ids,
        positions=positions,
        sees=sees[:, None],
        where=torch.tensor(where),
        targets=torch.tensor(targets),
        weights=torch.tensor(weights),
        turn=torch.tensor(turns),
    )


def batches(rows: Sequence[Encoded], most_tokens: int) -> list[list[Encoded]]:
    """Rows of similar length together, each group within a number of tokens, padding counted."""
    out: list[list[Encoded]] = []
    current: list[Encoded] = []
    for row in sorted(rows, key=len):
        if current and len(row) * (len(current) + 1) > most_tokens:
            out.append(current)
            current = []
        current.append(row)
    if current:
        out.append(current)
    return out
