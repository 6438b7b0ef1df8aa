"""Training data of the built-in models in small: the same files, a handful of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARAGRAPH = (
    "The river Lorvel rises in the hills of Tamnor and reaches the sea after 240 kilometres. "
    "In 1871 the engineer Anna Weller built a bridge of iron across it near Oldport. "
    "Every spring the lower fields are flooded, and farmers move their cattle to higher ground."
)
OTHER = "The river Sund is short. In 1950 Carl Benz drew maps of it. Nobody fishes there."
SENTINEL = "Zzyzx forbidden test sentence."


def dump(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_reading_data(root: Path) -> Path:
    """The folders that ``read_corpus`` reads, and test data that it must not."""
    train = root / "squad" / "train"
    asked = [
        ("Who built the bridge?", ["Anna Weller"]),
        ("How long is the Lorvel?", ["240 kilometres"]),
        ("Where does the river rise?", ["in the hills of Tamnor"]),
    ]
    (train / "articles").mkdir(parents=True)
    for name in ("Lorvel", "Kenya"):
        text = f"# {name}\n\n{PARAGRAPH}\n\n{PARAGRAPH.replace('Lorvel', 'Sund')}\n"
        (train / "articles" / f"{name}.md").write_text(text, encoding="utf-8")
    place = {"document": "articles/Lorvel.md", "paragraph": 0}
    held = {"document": "articles/Kenya.md", "paragraph": 1}
    dump(
        train / "questions.jsonl",
        [{"id": q, "question": q, "answers": a, **p} for q, a in asked for p in (place, held)],
    )
    dump(
        train / "unanswerable.jsonl", [{"id": "u", "question": "Who sank?", "answers": [], **place}]
    )
    dump(train / "paragraphs.jsonl", [{"id": "p1", "text": PARAGRAPH}])
    dump(
        train / "paragraph_questions.jsonl",
        [{"id": q, "question": q, "answers": a, "paragraph_id": "p1"} for q, a in asked],
    )
    dump(
        train / "sentence_pairs.jsonl",
        [
            {
                "id": str(n),
                "question": f"When was tower {n} built?",
                "answer_sentence": f"Tower {n} rose in {1800 + n}.",
            }
            for n in range(12)
        ],
    )
    for name in ("fairytale_qa", "policy_qa", "covid_qa", "qed_nq"):
        context = PARAGRAPH.replace(".", " .") if name == "qed_nq" else PARAGRAPH
        dump(
            root / "reading" / f"{name}.jsonl",
            [{"id": q, "question": q, "answers": a, "context": context} for q, a in asked],
        )
    (root / "squad" / "corpus").mkdir()
    (root / "squad" / "corpus" / "Test.md").write_text(f"# Test\n\n{SENTINEL}\n", encoding="utf-8")
    test_row = {"id": "t", "question": SENTINEL, "answers": [SENTINEL]}
    test_row |= {"document": "corpus/Test.md", "paragraph": 0}
    dump(root / "squad" / "questions.jsonl", [test_row])
    dump(root / "squad" / "unanswerable.jsonl", [{**test_row, "answers": []}])
    return root


def fresh_model(tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        tie_word_embeddings=True, initializer_range=0.3, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)
