"""Measure a model folder on the test collection: answers, abstentions, time.

Reads ``squad/corpus`` and its questions, which training never does. For choosing between recipes
use the development figures of the training log; run this to report.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.engines.encoding import encode_prompt
from pipelines.training.builtin.rows import FORM, jsonl
from store.squad import normalised, overlap
from store.types import Passage

NEW_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Case:
    """A test question with its passages; ``gold`` is the number of the one it was asked about."""

    question: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    gold: int


def exact(answer: str, gold: str) -> float:
    """1 if both say the same in SQuAD's normal form."""
    return float(normalised(answer) == normalised(gold))


def cases(data: Path, name: str, count: int, *, passages: int, seed: int = 0) -> list[Case]:
    """A fixed sample of a test file: the paragraph asked about and others of its article."""
    rows = random.Random(seed).sample(jsonl(data / "squad" / name), count)
    texts = {
        f"corpus/{p.name}": p.read_text(encoding="utf-8").strip().split("\n\n")
        for p in (data / "squad" / "corpus").glob("*.md")
    }
    out = []
    for row in rows:
        rng = random.Random(row["id"])
        head, *paragraphs = texts[row["document"]]
        others = [p for n, p in enumerate(paragraphs) if n != row["paragraph"]]
        chosen = [paragraphs[row["paragraph"]], *rng.sample(others, passages - 1)]
        rng.shuffle(chosen)
        shown = tuple(
            Passage(
                rank=n, chunk_id=f"c{n}", document_id="d", title=head.removeprefix("# "),
                source=row["document"], text=text,
            )
            for n, text in enumerate(chosen, start=1)
        )  # fmt: skip
        gold = chosen.index(paragraphs[row["paragraph"]]) + 1
        out.append(Case(row["question"], tuple(row["answers"]), shown, gold))
    return out


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, batch: int = 8
) -> list[str]:
    """Greedy responses, prompts of similar length together, the longest cut at the front."""
    import torch

    room = model.config.max_position_embeddings - NEW_TOKENS
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        padded = tokenizer.pad(
            {"input_ids": [prompts[i][-room:] for i in group]},
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            made = model.generate(**padded, max_new_tokens=NEW_TOKENS, do_sample=False)
        made = made[:, padded["input_ids"].shape[1] :]
        for i, text in zip(
            group, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True
        ):
            texts[i] = text
    return texts


def answered(model: Any, tokenizer: Any, sample: Sequence[Case]) -> dict[str, float]:
    """Figures over a sample, in percent."""
    prompts = [encode_prompt(tokenizer, FORM.messages(c.question, c.passages)) for c in sample]
    texts = generate(model, tokenizer, prompts)
    em = score = refused = cited = 0.0
    for case, text in zip(sample, texts, strict=True):
        parsed = FORM.parse(text, len(case.passages))
        refused += parsed.abstained
        if parsed.abstained or not case.answers:
            continue
        bare = re.sub(r"\s*\[\d{1,3}\]", "", parsed.text)
        em += max(exact(bare, a) for a in case.answers)
        score += max(overlap(bare, a) for a in case.answers)
        cited += case.gold in parsed.markers
    share = 100 / len(sample)
    wrote = max(len(sample) - refused, 1)
    return {
        "em": round(em * share, 1),
        "f1": round(score * share, 1),
        "refused": round(refused * share, 1),
        "cited": round(cited / wrote * 100, 1),
    }


def timing(
    model: Any, tokenizer: Any, sample: Sequence[Case], *, tokens: int = 700
) -> dict[str, float]:
    """Median seconds to the first token and to a whole answer, one by one."""
    import torch

    prompts = [encode_prompt(tokenizer, FORM.messages(c.question, c.passages)) for c in sample]
    prompts = sorted(prompts, key=lambda p: abs(len(p) - tokens))[:20]
    first: list[float] = []
    whole: list[float] = []
    for prompt in prompts:
        ids = torch.tensor([prompt[-tokens:]], device=model.device)
        mask = torch.ones_like(ids)
        for times, most in ((first, 1), (whole, NEW_TOKENS)):
            start = time.perf_counter()
            with torch.inference_mode():
                model.generate(
                    input_ids=ids, attention_mask=mask, max_new_tokens=most, do_sample=False
                )
            times.append(time.perf_counter() - start)
    middle = len(prompts) // 2
    return {"first": round(sorted(first)[middle], 3), "whole": round(sorted(whole)[middle], 3)}


def evaluate(model: Any, tokenizer: Any, data: Path, *, count: int = 500) -> dict[str, Any]:
    """Every figure of the model card for one model, by its name there."""
    model.eval()
    one = answered(model, tokenizer, cases(data, "questions.jsonl", count, passages=1))
    four = answered(model, tokenizer, cases(data, "questions.jsonl", count, passages=4))
    none = answered(model, tokenizer, cases(data, "unanswerable.jsonl", count, passages=1))
    seconds = timing(model, tokenizer, cases(data, "questions.jsonl", 100, passages=4))
    return {
        "gold paragraph: exact match": one["em"],
        "gold paragraph: F1": one["f1"],
        "gold paragraph: answerable, wrongly refused (%)": one["refused"],
        "gold paragraph: unanswerable, refused (%)": none["refused"],
        "gold among 4 paragraphs of the article: exact match": four["em"],
        "gold among 4 paragraphs of the article: F1": four["f1"],
        "gold among 4 paragraphs of the article: wrongly refused (%)": four["refused"],
        "gold among 4 paragraphs of the article: answers citing the gold one (%)": four["cited"],
        "seconds to the first token, prompt of 700 tokens": seconds["first"],
        "seconds to the whole answer, prompt of 700 tokens": seconds["whole"],
    }
