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

PREVIOUS = 2
"""The head of MiniLM's first layer that looks at the previous token."""
REPEATED = range(6, 12)
"""Heads of the first layer that do so too and pass on more of what that token was."""
HEADS = {4: range(6, 12), 5: range(0, 8)}
"""Heads that become copying heads: in MiniLM's last layers, which serve its pooling most."""
STRENGTH = {0: 0.8, 4: 0.7, 5: 1.5}
"""How large what a layer's copying heads write is, compared with what it is added to."""
SHARPNESS = 14.0
"""By how much, in logits, a place that matches stands out from one that does not."""


def ridge(x: Tensor, y: Tensor, penalty: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weights and bias of the linear map from ``x`` to ``y`` with least squares."""
    import torch

    mx, my = x.mean(0), y.mean(0)
    xc, yc = x - mx, y - my
    damp = penalty * len(x) * xc.var() * torch.eye(x.shape[1])
    weights = torch.linalg.solve(xc.T @ xc + damp, xc.T @ yc)
    return weights, my - mx @ weights


def principal(x: Tensor, count: int) -> Tensor:
    """The directions in which the rows of ``x`` vary most, as columns."""
    import torch

    centred = x - x.mean(0)
    vectors: Tensor = torch.linalg.eigh(centred.T @ centred)[1]
    return vectors.flip(1)[:, :count]


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


def repeats(row: Sequence[int]) -> list[int]:
    """Where the next token is what followed the last two tokens before."""
    followed: dict[tuple[int, int], int] = {}
    out = []
    for i in range(1, len(row) - 1):
        pair = (row[i - 1], row[i])
        if followed.get(pair) == row[i + 1]:
            out.append(i)
        followed[pair] = row[i + 1]
    return out


def repeat_previous(model: BertLMHeadModel, x: Tensor, tokens: Tensor) -> None:
    """Let more heads of the first layer look at the previous token and say which it was."""
    import torch

    part = model.bert.encoder.layer[0].attention
    size = part.self.attention_head_size
    weights, bias = ridge(x, tokens)
    known = x @ weights + bias
    slices = principal(known, size * len(REPEATED))
    # Turned, so that the token before cannot be mistaken for the token itself.
    noise = torch.randn(len(slices), len(slices), generator=torch.Generator().manual_seed(2))
    turn = torch.linalg.qr(noise).Q
    scale = STRENGTH[0] * float(x.norm(dim=1).mean() / (known @ slices).norm(dim=1).mean())
    one = slice(PREVIOUS * size, (PREVIOUS + 1) * size)
    with torch.no_grad():
        for n, head in enumerate(REPEATED):
            at = slice(head * size, (head + 1) * size)
            piece = slices[:, n * size : (n + 1) * size]
            for linear in (part.self.query, part.self.key):
                linear.weight[at] = linear.weight[one]
                linear.bias[at] = linear.bias[one]
            part.self.value.weight[at] = (weights @ piece).T
            part.self.value.bias[at] = bias @ piece
            part.output.dense.weight[:, at] = turn @ piece * scale


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
    if len(layers) > max(HEADS):
        repeat_previous(model, torch.cat([s[1:] for s in states(model, rows, 0)]), table[now])
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
        axes = principal(guess, size)
        noise = ((table[before] - guess) @ axes).var(0).sqrt()
        query, key = (x @ w_now + b_now) @ axes / noise, guess @ axes / noise
        same = (query[:-1] * key[1:]).sum(1)  # the token just read is the one before the next
        other = (query[:-1] * key[1:].roll(97, 0)).sum(1)
        gain = (SHARPNESS * size**0.5 / float((same.mean() - other.mean()).clamp_min(1e-6))) ** 0.5
        # What is written: the token found, as well as a slice of a linear map can tell it.
        found = x @ w_now + b_now
        slices = principal(found, size * len(heads))
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
    last = states(model, rows, len(layers))
    again = [repeats(row) for row in rows]
    out = torch.cat([s[places] for s, places in zip(last, again, strict=True)])
    target = [row[i + 1] for row, places in zip(rows, again, strict=True) for i in places]
    weights, bias = ridge(out, table[torch.tensor(target)])
    grown = (out @ weights + bias).std()
    head = model.cls.predictions.transform
    with torch.no_grad():
        # GELU is close to linear well above zero: scaled small and shifted, it passes the map on.
        head.dense.weight.copy_((weights / grown * 0.5).T)
        head.dense.bias.copy_(bias / grown * 0.5 + 2.5)
    model.train()
