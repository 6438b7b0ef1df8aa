"""BERT's encoder with little around its matrix products.

On a few hundred tokens of a small model the forward pass of transformers spends about a tenth of
its time on what is not needed for inference: masks that mask nothing, copies where a sum could be
made in place, calls through layers of modules, which threads that share one interpreter wait for.
The operations are the same, those of Devlin et al. 2019 (arXiv:1810.04805, section 3) as
``transformers.models.bert`` writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: How far hidden states may lie from those of transformers; rounding stays far below.
_TOLERANCE = 1e-4


class BertEncoder:
    """The hidden states of the last layer, for inference in fp32.

    Args:
        model: a ``transformers.BertModel``, or what ``plain_bert.assembled`` makes. Its layers are
            called, not copied: weights that change later change here too.
        heads: of attention.
    """

    def __init__(self, model: Any, *, heads: int) -> None:
        self._embeddings = model.embeddings
        self._layers = list(model.encoder.layer.children())
        self._heads = heads

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states, shape ``(texts, tokens, hidden)``; those of padding mean nothing.

        Args:
            input_ids: shape ``(texts, tokens)``.
            attention_mask: 0 for padding, same shape.
            token_type_ids: same shape; None: all 0.
        """
        from torch.nn import functional

        texts, tokens = input_ids.shape
        words = self._embeddings.word_embeddings(input_ids)
        if token_type_ids is None:
            words += self._embeddings.token_type_embeddings.weight[0]
        else:
            words += self._embeddings.token_type_embeddings(token_type_ids)
        words += self._embeddings.position_embeddings.weight[:tokens]
        hidden = self._embeddings.LayerNorm(words).view(texts * tokens, -1)
        read = None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]

        def by_head(rows: torch.Tensor) -> torch.Tensor:
            return rows.view(texts, tokens, self._heads, -1).transpose(1, 2)

        for layer in self._layers:
            own, after, feed = layer.attention.self, layer.attention.output, layer.output
            seen = functional.scaled_dot_product_attention(
                by_head(own.query(hidden)),
                by_head(own.key(hidden)),
                by_head(own.value(hidden)),
                attn_mask=read,
            )
            seen = seen.transpose(1, 2).reshape(texts * tokens, -1)
            hidden = after.LayerNorm(after.dense(seen).add_(hidden))
            inner = functional.gelu(layer.intermediate.dense(hidden))
            hidden = feed.LayerNorm(feed.dense(inner).add_(hidden))
        return hidden.view(texts, tokens, -1)


def bert_encoder(model: Any) -> BertEncoder | None:
    """The encoder for this model; None where it is another kind, or gives other numbers."""
    import torch
    from transformers import BertModel

    if type(model) is not BertModel:
        return None
    config: Any = model.config
    if (
        config.hidden_act != "gelu"
        or config.is_decoder
        or config.output_hidden_states
        or getattr(config, "position_embedding_type", "absolute") != "absolute"
        or any(p.dtype != torch.float32 or p.device.type != "cpu" for p in model.parameters())
    ):
        return None
    encoder = BertEncoder(model, heads=int(config.num_attention_heads))
    size = min(int(config.vocab_size), 100)
    ids = torch.arange(2 * 8).view(2, 8) * 7 % size
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with torch.inference_mode():
        wanted = model(input_ids=ids, attention_mask=mask).last_hidden_state
        found = encoder(ids, mask)
    # A release of transformers that computes anything else is followed, not contradicted.
    same = torch.allclose(found[mask.bool()], wanted[mask.bool()], rtol=0.0, atol=_TOLERANCE)
    return encoder if same else None
