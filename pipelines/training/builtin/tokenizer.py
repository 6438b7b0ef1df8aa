"""The built-in model's tokenizer: MiniLM's word pieces, but cased, and exact for any text.

MiniLM knows 30,522 lower-cased word pieces. The decoder that starts from its weights must write
``Nanjing``, not ``nanjing``, so every token here is a cased spelling of one of those pieces, in one
of three places: after a space (``ĠNanjing``), at the start of a word without a space before it
(``Nanjing``), or inside a word (``▁jing``). Text is cut exactly where MiniLM would cut it, so its
embeddings stay meaningful, and all 256 bytes are tokens, so every text comes back unchanged.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, END, SYSTEM, USER, ASSISTANT)

# Not in the byte-level alphabet (U+0021 to U+0143), so it cannot be mistaken for text.
INSIDE = "▁"
SPACE = "Ġ"

# Words are cut after 32 letters: the matcher's time grows with the square of a word's length, and
# documents hold base64 blobs.
WORD = r"\n\n| ?\p{L}{1,32}| ?\p{N}{1,12}| ?[^\s\p{L}\p{N}]|\s"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def byte_alphabet() -> dict[int, str]:
    """The printable stand-in of each byte, as GPT-2 chose them."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in keep}
    for offset, byte in enumerate(b for b in range(256) if b not in table):
        table[byte] = chr(256 + offset)
    return table


BYTES = byte_alphabet()


def spelled(text: str) -> str:
    """Text in the byte-level alphabet."""
    return "".join(BYTES[b] for b in text.encode("utf-8"))


def plain(text: str) -> str:
    """Lower case without accents, one character for each (``\\uffff`` where that is impossible)."""
    out = []
    for char in text:
        base = "".join(
            c for c in unicodedata.normalize("NFD", char.lower()) if unicodedata.category(c) != "Mn"
        )
        out.append(base if len(base) == 1 else "\uffff")
    return "".join(out)


def cut(word: str, pieces: Mapping[str, int]) -> list[str]:
    """A word cut as MiniLM cuts its lower-cased form; single characters where it cannot."""
    low, out, start = plain(word), [], 0
    while start < len(word):
        end = len(word)
        while (
            end > start and (low[start:end] if start == 0 else "##" + low[start:end]) not in pieces
        ):
            end -= 1
        end = max(end, start + 1)
        out.append(word[start:end])
        start = end
    return out


def words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, with its leading space if it has one."""
    counts: Counter[str] = Counter()
    splitter = pre_tokenizers.Split(Regex(WORD), behavior="isolated")
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(text))
    return counts


def candidates(counts: Mapping[str, int], pieces: Mapping[str, int]) -> dict[str, float]:
    """Tokens that the words would be cut into if every spelling were in the vocabulary.

    An answer starts without a space what stood in the passage after one, so each token after a
    space also counts for its form without one.
    """
    tokens: dict[str, float] = defaultdict(float)
    for word, n in counts.items():
        core = word.removeprefix(" ")
        if not core or core.isspace():
            continue
        first, *rest = cut(core, pieces)
        tokens[(SPACE if core != word else "") + spelled(first)] += n
        if core != word:
            tokens[spelled(first)] += n / 4 if first[0].islower() else n / 2
        for piece in rest:
            tokens[INSIDE + spelled(piece)] += n
    return tokens


def general(pieces: Mapping[str, int]) -> Iterator[str]:
    """Tokens for text unlike the training text, MiniLM's commonest pieces first."""
    ordered = [p for p, _ in sorted(pieces.items(), key=lambda item: item[1])]
    latin = [
        p for p in ordered if p.removeprefix("##").isascii() and p.removeprefix("##").isalnum()
    ]
    inside = [p.removeprefix("##") for p in latin if p.startswith("##")]
    initial = [p for p in latin if not p.startswith("##")]
    yield from (INSIDE + p for p in inside)
    yield from (SPACE + p for p in initial[:9000])
    for p in initial:
        if len(p) <= 3 and p.isalpha():
            yield from (SPACE + p, SPACE + p.capitalize(), p.capitalize(), SPACE + p.upper())
    yield from (SPACE + p.capitalize() for p in initial[:9000] if p.isalpha())
    yield from (p for p in initial[:4000])
    yield from (INSIDE + p.upper() for p in inside if len(p) <= 2)
    yield from (SPACE + p for p in initial[9000:])


def vocabulary(texts: Iterable[str], pieces: Mapping[str, int], size: int) -> dict[str, int]:
    """Token to id: control tokens, all bytes, two thirds by the training text, the rest general."""
    order: dict[str, None] = dict.fromkeys(SPECIAL)
    for char in BYTES.values():
        order |= {char: None, INSIDE + char: None}
    order |= {spelled("\n\n"): None, SPACE: None}
    for c in map(chr, range(0xA1, 0x180)):
        order |= {spelled(c): None, INSIDE + spelled(c): None}
    ranked = candidates(words(texts), pieces)
    common = [t for t, n in sorted(ranked.items(), key=lambda item: (-item[1], item[0])) if n >= 3]
    for source in (common[: size * 2 // 3], general(pieces), common[size * 2 // 3 :]):
        for token in source:
            if len(order) >= size:
                break
            order.setdefault(token)
    return {token: i for i, token in enumerate(order)}


def build(texts: Iterable[str], pieces: Mapping[str, int], size: int) -> Tokenizer:
    """The tokenizer over a vocabulary made from ``texts`` and MiniLM's ``pieces``."""
    vocab = vocabulary(texts, pieces, size)
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab, unk_token=PAD, continuing_subword_prefix=INSIDE, max_input_chars_per_word=256
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace(INSIDE, ""), decoders.ByteLevel()])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return tokenizer


def minilm_pieces(folder: Path) -> dict[str, int]:
    """MiniLM's word pieces and their ids, from the model folder's ``vocab.txt``."""
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return {piece: i for i, piece in enumerate(lines)}


def for_transformers(tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers loads and saves it, with the chat template."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped
