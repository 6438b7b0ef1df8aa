"""The untrained built-in model: MiniLM's layers as a causal decoder over our cased vocabulary.

What MiniLM learned about which words and sentences mean the same is what reading needs most and
what a small training budget cannot teach. Its six layers are copied as they are; only the mask
becomes causal. The output head starts close to the identity.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.training.builtin.tokenizer import (
    ASSISTANT,
    BYTES,
    END,
    INSIDE,
    PAD,
    SPACE,
    SPECIAL,
    SYSTEM,
    USER,
    cut,
    minilm_pieces,
    plain,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertConfig, BertLMHeadModel, PreTrainedTokenizerFast

BYTE_OF = {char: byte for byte, char in BYTES.items()}
ROLES = {PAD: "[PAD]", END: "[SEP]", SYSTEM: "[unused1]", USER: "[CLS]", ASSISTANT: "[MASK]"}


def text_of(token: str) -> str:
    """What a vocabulary entry spells, without its place marks; U+FFFD for parts of a character."""
    raw = token.removeprefix(INSIDE).removeprefix(SPACE)
    return bytes(BYTE_OF[c] for c in raw).decode("utf-8", "replace")


def sources(token: str, pieces: dict[str, int]) -> list[int]:
    """MiniLM's pieces whose mean embedding a token starts from; empty if there are none."""
    if token in SPECIAL:
        return [pieces[ROLES[token]]]
    text, inside = text_of(token), token.startswith(INSIDE)
    low = plain(text)
    if inside and "##" + low in pieces:
        return [pieces["##" + low]]
    parts = cut(text, pieces)
    keys, at = [], 0
    for part in parts:
        piece = low[at : at + len(part)]
        keys.append(piece if at == 0 else "##" + piece)
        at += len(part)
    return [pieces[key] for key in keys if key in pieces]


def embeddings(vocab: dict[str, int], table: Tensor, pieces: dict[str, int], seed: int) -> Tensor:
    """Token embeddings: MiniLM's, moved a little in a direction for each spelling and place.

    ``The``, ``the`` and ``_the`` mean the same to MiniLM. Shared directions keep that, and let the
    output head tell them apart: "capital, no space before it" is one thing to learn, not one per
    word.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    mean, scale = table.mean(0), float(table.std())
    width = table.shape[1]

    def direction() -> Tensor:
        return torch.randn(width, generator=generator) * scale

    spaced, inner, capital, upper = (direction() * 0.4 for _ in range(4))
    out = torch.empty(len(vocab), width)
    for token, index in sorted(vocab.items(), key=lambda item: item[1]):
        found = sources(token, pieces)
        vector = table[found].mean(0) if found else mean + direction()
        vector = vector + direction() * 0.1
        if token not in SPECIAL:
            text = text_of(token)
            vector = vector + spaced * token.startswith(SPACE) + inner * token.startswith(INSIDE)
            vector = vector + (
                upper if text.isupper() and len(text) > 1 else capital * text[:1].isupper()
            )
        out[index] = vector
    return out


def positions(table: Tensor, context: int) -> Tensor:
    """Position embeddings for a longer context: the known ones, then repeated with a shift.

    The shift tells position 512 from position 0 while leaving the distance between neighbours,
    which attention to the previous token lives on, as it was.
    """
    import torch

    shift = torch.randn(table.shape[1], generator=torch.Generator().manual_seed(1)) * table.std()
    rows = [table + shift * turn for turn in range(-(-context // len(table)))]
    return torch.cat(rows)[:context].clone()


def config(vocab_size: int, context: int, *, hidden: int = 384, layers: int = 6) -> BertConfig:
    """The architecture; the defaults are MiniLM's (heads of 32, inner layer four times as wide)."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        intermediate_size=hidden * 4,
        max_position_embeddings=context,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        is_decoder=True,
        pad_token_id=SPECIAL.index(PAD),
        eos_token_id=SPECIAL.index(END),
        bos_token_id=None,
        tie_word_embeddings=True,
    )


def untrained(
    vocab_size: int, context: int, *, seed: int, hidden: int = 384, layers: int = 6
) -> BertLMHeadModel:
    """The architecture with random weights: the baseline that training is compared with."""
    import torch
    from transformers import BertLMHeadModel, GenerationConfig

    torch.manual_seed(seed)
    model = BertLMHeadModel(config(vocab_size, context, hidden=hidden, layers=layers))
    model.generation_config = GenerationConfig(
        pad_token_id=SPECIAL.index(PAD), eos_token_id=SPECIAL.index(END), do_sample=False
    )
    return model


def from_minilm(
    tokenizer: PreTrainedTokenizerFast, folder: Path, context: int, *, seed: int
) -> BertLMHeadModel:
    """The decoder as training starts: MiniLM's layers, our vocabulary, a longer context."""
    import torch
    from transformers import BertModel

    base = BertModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)
    shape = base.config
    model = untrained(
        len(tokenizer),
        context,
        seed=seed,
        hidden=shape.hidden_size,
        layers=shape.num_hidden_layers,
    )
    state = base.state_dict()
    words, places = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
    state[words] = embeddings(tokenizer.get_vocab(), state[words], minilm_pieces(folder), seed)
    state[places] = positions(state[places], context)
    model.bert.load_state_dict(state)
    head = model.cls.predictions.transform
    with torch.no_grad():
        # GELU is close to linear above 2, so this is the identity until training bends it.
        head.dense.weight.copy_(torch.eye(head.dense.weight.shape[0]))
        head.dense.bias.fill_(2.5)
        # Cosine-like logits: embeddings have a norm of about 1 and hidden states one of about 20.
        head.LayerNorm.weight.fill_(0.5)
    model.tie_weights()
    return model
