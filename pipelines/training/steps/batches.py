"""Encoded rows in the order they are trained on, and as tensors.

The order is a pure function of lengths and seed, so that a killed run that goes on from a
checkpoint sees the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fti.pipelines.engines.encoding import IGNORED, EncodedExample

if TYPE_CHECKING:
    from torch import Tensor

_GROUPED = 16  # batches whose rows are sorted by length together
_MULTIPLE = 8  # padded lengths are multiples of it


def plan_order(
    lengths: Sequence[int], *, batch: int, rows: int, seed: int, group: bool = True
) -> list[int]:
    """The order in which rows are trained on: ``rows`` places over as many passes as that takes.

    Rows of like length lie in one batch, so that little is padded; batches of a group come in
    random order, and the group of the first has its longest first, so that too little memory
    shows at once.
    """
    generator = np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < rows:
        order += generator.permutation(len(lengths)).tolist()
    order = order[:rows]
    if not group:
        return order
    planned: list[int] = []
    size = batch * _GROUPED
    for start in range(0, rows, size):
        some = sorted(order[start : start + size], key=lambda i: -lengths[i])
        batches = [some[i : i + batch] for i in range(0, len(some), batch)]
        # A batch that is not full can only be the last of all.
        full = [b for b in batches if len(b) == batch]
        rest = [b for b in batches if len(b) < batch]
        first = [full.pop(0)] if start == 0 and full else []
        shuffled = [full[int(i)] for i in generator.permutation(len(full))]
        for one in (*first, *shuffled, *rest):
            planned += one
    return planned


def padded_tokens(lengths: Sequence[int], batch: int) -> int:
    """Places that batches of ``batch`` take, padding included, in the order given."""
    total = 0
    for start in range(0, len(lengths), batch):
        some = lengths[start : start + batch]
        longest = max(some)
        total += len(some) * (longest + -longest % _MULTIPLE)
    return total


def collate(examples: Sequence[tuple[int, EncodedExample]], *, pad: int) -> dict[str, Tensor]:
    """Rows as one batch, padded on the right; ``rows`` says which they are."""
    import torch

    longest = max(len(e.input_ids) for _, e in examples)
    longest += -longest % _MULTIPLE
    ids = torch.full((len(examples), longest), pad, dtype=torch.long)
    labels = torch.full((len(examples), longest), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for place, (_, example) in enumerate(examples):
        length = len(example.input_ids)
        ids[place, :length] = torch.tensor(example.input_ids)
        labels[place, :length] = torch.tensor(example.labels)
        mask[place, :length] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "rows": torch.tensor([index for index, _ in examples]),
    }
