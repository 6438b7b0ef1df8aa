"""Follow-up questions told so that they stand alone: the rules against the built-in base model.

    python -m tests.bench.followups

The twenty chains of ``tests/unit/inference/answering/test_followup_chains.py``. The model is asked
as such models are: an instruction, three examples as earlier turns, greedy decoding. The tuned
reader, which only learned to answer, is asked the same. Word overlap is F1 over SQuAD's normal
form, with the question as a person would put it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fti.pipelines.engines.builtin_model import base_model
from fti.pipelines.engines.weights import find_model
from fti.pipelines.inference.answering.followup import standalone
from fti.store.proof.squad import normalised, overlap
from fti.store.types import Message
from tests.unit.inference.answering.test_followup_chains import CHAINS

INSTRUCTION = (
    "Rewrite the last question so that it can be understood without the conversation. "
    "Reply with the rewritten question only."
)
EXAMPLES = [
    ("When does the museum open?", "at nine", "And the garden?", "When does the garden open?"),
    ("Who painted the ceiling?", "Jan Olsen", "When was he born?", "When was Jan Olsen born?"),
    ("What is forbidden on the pier?", "fishing", "Why?", "Why is fishing forbidden on the pier?"),
]


def told(question: str, answer: str, then: str) -> str:
    """A conversation as the model is shown it."""
    return f"Question: {question}\nAnswer: {answer}\nQuestion: {then}"


def by_model(folder: Path) -> Callable[[str, str, str], str]:
    """A causal model's rewording."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)

    def reword(question: str, answer: str, then: str) -> str:
        turns: list[dict[str, Any]] = [{"role": "system", "content": INSTRUCTION}]
        for *given, wanted in EXAMPLES:
            turns.append({"role": "user", "content": told(*given)})
            turns.append({"role": "assistant", "content": wanted})
        turns.append({"role": "user", "content": told(question, answer, then)})
        ids = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            made = model.generate(**ids, max_new_tokens=48, do_sample=False)
        text = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return str(text).strip()

    return reword


def by_rules(question: str, answer: str, then: str) -> str:
    """What the service does."""
    history = [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return standalone(then, history)


def main() -> None:
    """Print what each way made of each chain, and how good it is."""
    with TemporaryDirectory() as folder:
        ways = {
            "rules": by_rules,
            "base model": by_model(base_model(Path(folder) / "base")),
            "reader": by_model(find_model("builtin").path),
        }
        scores: dict[str, dict[str, float]] = {}
        for name, way in ways.items():
            made = [way(asked, answered, then) for asked, answered, then, _ in CHAINS]
            wanted = [row[3] for row in CHAINS]
            same = [normalised(a) == normalised(b) for a, b in zip(made, wanted, strict=True)]
            shared = [overlap(a, b) for a, b in zip(made, wanted, strict=True)]
            scores[name] = {
                "exact": sum(same) / len(same),
                "overlap": round(sum(shared) / len(shared), 3),
            }
            for text, want in zip(made, wanted, strict=True):
                print(f"{name}: {text!r}  (a person: {want!r})")
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
