"""The built-in model's tokenizer: the base model's byte-pair encoding, its rarer tokens left out.

A third of the base's 49,152 tokens covers nearly all of the training text. Leaving out a token
means leaving out the merge that makes it, so that text which held it is cut into shorter tokens
that the base knows too. All 256 bytes stay, so every text comes back unchanged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (PAD, START, END)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# How SmolLM2 cuts text before merging. GGUF files only name it ("smollm"), so that reading one
# gives GPT-2's cut, in which digits stand together; SmolLM2 takes every digit alone.
_CUT = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}


def whole(pipeline: Mapping[str, Any]) -> Tokenizer:
    """The base's tokenizer as it was trained.

    Args:
        pipeline: its ``tokenizer.json``.
    """
    return Tokenizer.from_str(json.dumps({**pipeline, "pre_tokenizer": _CUT}))


def token_counts(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each token occurs in ``texts``.

    An answer begins without the space that stood before it in the passage, so each token after a
    space also counts a little for its form without one.
    """
    counts: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        counts.update(encoding.tokens)
    bare = Counter(
        {t[1:]: n // 8 for t, n in counts.items() if len(t) > 1 and t[0] == "Ġ" and n >= 8}
    )
    return counts + bare


def kept_tokens(pipeline: Mapping[str, Any], counts: Mapping[str, int], size: int) -> list[str]:
    """The tokens to keep, in the order of their new ids.

    The commonest of the text first, then the base's own, which come in the order in which they
    were merged, the most general first. What a kept token is merged from is kept with it.
    """
    vocab: dict[str, int] = pipeline["model"]["vocab"]
    parts = {a + b: (a, b) for a, b in (tuple(m) for m in pipeline["model"]["merges"])}
    control = {token["content"] for token in pipeline["added_tokens"]}
    kept = dict.fromkeys(SPECIAL)
    kept |= dict.fromkeys(t for t in vocab if t not in parts and t not in control)

    def with_parts(token: str) -> list[str]:
        found, left = [], [token]
        while left:
            one = left.pop()
            if one not in kept:
                found.append(one)
                left += parts.get(one, ())
        return found

    common = [t for t, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= 3]
    ordered = sorted(vocab, key=vocab.__getitem__)
    share = size * 7 // 8
    for source, room in ((common, share), (ordered, size), (common, size)):
        for token in source:
            if token in vocab and token not in control:
                new = with_parts(token)
                if len(kept) + len(new) <= room:
                    kept |= dict.fromkeys(new)
    rest = sorted(list(kept)[len(SPECIAL) :], key=vocab.__getitem__)
    return [*SPECIAL, *rest]


def pruned(pipeline: Mapping[str, Any], kept: Iterable[str]) -> Tokenizer:
    """The tokenizer over the kept tokens only."""
    vocab = {token: i for i, token in enumerate(kept)}
    model = dict(pipeline["model"])
    model["vocab"] = vocab
    model["merges"] = [[a, b] for a, b in map(tuple, model["merges"]) if a + b in vocab]
    added = [
        {**t, "id": vocab[t["content"]]} for t in pipeline["added_tokens"] if t["content"] in vocab
    ]
    return whole({**pipeline, "model": model, "added_tokens": added, "post_processor": None})


def for_transformers(tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers loads and saves it, with the chat template."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped
