"""Give the untrained decoder the skill to copy, computed instead of learned.

Reading needs an attention head that looks for the earlier place where the current token stood and
continues as it went on there. Trained from nothing, such heads take tens of millions of tokens to
appear. MiniLM already has half of it: a head in its first layer looks at the previous token
exactly. So what stood before each token can be read off by a linear map, and the other half, a
head that matches it with the current token and writes out what it finds, can be solved for by
least squares on a few thousand tokens of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertLMHeadModel

HEADS = {4: range(8, 12), 5: range(0, 6)}
"""Heads that become copying heads: in MiniLM's last layers, which serve its pooling most."""
STRENGTH = {4: 0.7, 5: 1.5}
"""How large what a layer's copying heads write is, compared with what it is added to."""
SHARPNESS = 9.0
"""By how much, in logits, a place that matches stands out from one that does not."""


def ridge(x: Tensor, y: Tensor, penalty: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weights and bias of the linear map from ``x`` to ``y`` with least squares."""
    import torch

    mx, my = x.mean(0), y.mean(0)
    xc, yc = x - mx, y - my
    damp = penalty * len(x) * xc.var() * torch.eye(x.shape[1])
    weights = torch.linalg.solve(xc.T @ xc + damp, xc.T @ yc)
    return weights, my - mx @ weights


def states(model: BertLMHeadModel, rows: Sequence[list[int]], layer: int) -> list[Tensor]:
    """What enters a layer (or leaves the last, for a layer one past it), for each row."""
    import torch

    out = []
    order = model.bert.encoder.layer
    with torch.no_grad():
        for row in rows:
            hidden = model.bert(
                input_ids=torch.tensor([row]), output_hidden_states=True, use_cache=False
            ).hidden_states
            assert len(hidden) == len(order) + 1
            out.append(hidden[layer][0])
    return out


def teach_copying(model: BertLMHeadModel, rows: Sequence[list[int]]) -> None:
    """Turn a few heads of the last layers into copying heads, and fit the output head to them.

    Args:
        model: the decoder as ``initial.from_minilm`` starts it; changed in place.
        rows: ids of texts in which much is said twice.
    """
    import torch

    model.eval()
    table = model.get_input_embeddings().weight.detach()
    used = torch.tensor([i for row in rows for i in row])
    table = table - table[used].mean(0)
    now = torch.tensor([i for row in rows for i in row[1:]])
    before = torch.tensor([i for row in rows for i in row[:-1]])
    layers = model.bert.encoder.layer
    for number, heads in HEADS.items():
        if number >= len(layers):
            continue
        x = torch.cat([s[1:] for s in states(model, rows, number)])
        part = layers[number].attention
        size = part.self.attention_head_size
        w_now, b_now = ridge(x, table[now])
        w_before, b_before = ridge(x, table[before])
        # The directions in which the previous token can be told best, weighted by how well.
        guess = x @ w_before + b_before
        _, _, axes = torch.linalg.svd(guess - guess.mean(0), full_matrices=False)
        axes = axes[:size].T
        noise = ((table[before] - guess) @ axes).var(0).sqrt()
        query, key = (x @ w_now + b_now) @ axes / noise, guess @ axes / noise
        same = (query[:-1] * key[1:]).sum(1)  # the token just read is the one before the next
        other = (query[:-1] * key[1:].roll(97, 0)).sum(1)
        gain = (SHARPNESS * size**0.5 / float((same.mean() - other.mean()).clamp_min(1e-6))) ** 0.5
        # What is written: the token found, as well as a slice of a linear map can tell it.
        found = x @ w_now + b_now
        _, _, slices = torch.linalg.svd(found - found.mean(0), full_matrices=False)
        slices = slices[: size * len(heads)].T
        scale = STRENGTH[number] * float(x.norm(dim=1).mean() / (found @ slices).norm(dim=1).mean())
        with torch.no_grad():
            for n, head in enumerate(heads):
                at = slice(head * size, (head + 1) * size)
                piece = slices[:, n * size : (n + 1) * size]
                part.self.query.weight[at] = ((w_now @ axes / noise) * gain).T
                part.self.query.bias[at] = (b_now @ axes / noise) * gain
                part.self.key.weight[at] = ((w_before @ axes / noise) * gain).T
                part.self.key.bias[at] = (b_before @ axes / noise) * gain
                part.self.value.weight[at] = (w_now @ piece).T
                part.self.value.bias[at] = b_now @ piece
                part.output.dense.weight[:, at] = piece * scale
    out = torch.cat([s[:-1] for s in states(model, rows, len(layers))])
    weights, bias = ridge(out, table[now])
    grown = (out @ weights + bias).std()
    head = model.cls.predictions.transform
    with torch.no_grad():
        # GELU is close to linear well above zero: scaled small and shifted, it passes the map on.
        head.dense.weight.copy_((weights / grown * 0.5).T)
        head.dense.bias.copy_(bias / grown * 0.5 + 2.5)
    model.train()
