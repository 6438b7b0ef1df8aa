"""What a GGUF file says of a tokenizer: its pieces, merges, control tokens, and how text is cut.

llama.cpp knows no regular expressions but its own: how a text is cut into words before pieces are
merged is a name in the file. The names here are those whose cuts are what the tokenizer's pipeline
does, read off ``tokenizer.json``; a pipeline that is none of them is refused, since a file with a
name that nearly fits would read some prompts otherwise than the model was trained to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fti.pipelines.engines.encoding import end_ids
from fti.store.errors import ContractError

_NUMBERS = "%NUMBERS%"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%NUMBERS%| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN = _WORDS.replace(_NUMBERS, r"\p{N}")
_LLAMA_3 = _WORDS.replace(_NUMBERS, r"\p{N}{1,3}")

#: How a pipeline cuts, and whether a word that is a piece is one whatever the merges say, each
#: with llama.cpp's name (``llama-vocab.cpp``, ``LLAMA_VOCAB_PRE_TYPE_…``).
_NAMES: dict[tuple[tuple[Any, ...], bool], str] = {
    ((("ByteLevel", True),), False): "gpt-2",
    ((("Digits", True), ("ByteLevel", True)), False): "smollm",
    ((("Split", _QWEN), ("ByteLevel", False)), False): "qwen2",
    ((("Split", _LLAMA_3), ("ByteLevel", False)), True): "llama-bpe",
}

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # llama_token_type


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A byte-level BPE tokenizer, as ``tokenizer.ggml.*`` has it.

    ``pieces`` and ``types`` have one entry per id; ``merges`` are pairs joined by a space.
    ``ends`` is the id that ends a turn; ``begins`` says whether every text begins with ``bos``.
    """

    pieces: list[str]
    types: list[int]
    merges: list[str]
    cut: str
    ends: int
    begins: bool
    bos: int | None
    eos: int | None
    pad: int | None
    template: str


def read_vocabulary(tokenizer: Any, size: int, *, model: str) -> Vocabulary:
    """What to write of a tokenizer.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        size: rows of the model's embeddings; those without a piece are filled up.
        model: whose it is, for messages.

    Raises:
        ContractError: llama.cpp has no tokenizer that does the same.
    """
    pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
    inner = pipeline["model"]
    cut = _cut(pipeline, model=model)
    ids: dict[str, int] = dict(inner["vocab"])
    added = tokenizer.added_tokens_decoder
    ids.update({token.content: int(index) for index, token in added.items()})
    if max(ids.values()) >= size:
        raise _refused(model, f"it has {max(ids.values()) + 1} ids for {size} embeddings")
    pieces = [f"[PAD{index}]" for index in range(size)]
    types = [_UNUSED] * size
    for piece, index in ids.items():
        pieces[index], types[index] = piece, _NORMAL
    for index, token in added.items():
        types[int(index)] = _CONTROL if token.special else _USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in inner["merges"]]
    bos = tokenizer.bos_token_id
    return Vocabulary(
        pieces=pieces,
        types=types,
        merges=merges,
        cut=cut,
        ends=end_ids(tokenizer)[0],
        begins=bos is not None and tokenizer("x")["input_ids"][:1] == [bos],
        bos=bos,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        template=str(tokenizer.chat_template),
    )


def _cut(pipeline: dict[str, Any], *, model: str) -> str:
    """llama.cpp's name for how a pipeline cuts texts into words."""
    inner = pipeline["model"]
    if inner["type"] != "BPE" or inner.get("byte_fallback"):
        raise _refused(model, f"it is no byte-level BPE ({inner['type']})")
    normalizer = pipeline.get("normalizer")
    if normalizer and normalizer.get("type") != "NFC":
        raise _refused(model, f"it changes texts first ({normalizer.get('type')})")
    steps = pipeline.get("pre_tokenizer") or {}
    parts = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    name = _NAMES.get((tuple(map(_step, parts)), bool(inner.get("ignore_merges"))))
    if name is None:
        raise _refused(model, "it cuts texts into words in another way")
    return name


def _step(part: dict[str, Any]) -> tuple[Any, ...]:
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "ByteLevel", bool(part.get("use_regex", True))
        case {"type": "Digits"}:
            return "Digits", bool(part.get("individual_digits"))
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"}:
            return ("Split", regex) if not part.get("invert") else ("inverted", regex)
        case _:
            return (json.dumps(part, sort_keys=True),)


def _refused(model: str, why: str) -> ContractError:
    return ContractError(
        f"llama.cpp has no tokenizer like that of {model!r}: {why}.",
        hint="Export it with --format merged and serve that folder with vLLM or transformers.",
    )
