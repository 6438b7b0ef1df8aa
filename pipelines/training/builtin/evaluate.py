"""Measure the built-in model on the test collection: answers, abstentions, time.

Reads ``squad/corpus`` and its questions, which training never does. For choosing between recipes
use the development figures of the training log; run this to report. The sentence most similar to
the question is a baseline, asked the same in the same run.
"""

from __future__ import annotations

import random
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.causal_lm.decoding import read_prompt
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.encoding import encode_prompt, encode_text
from fti.pipelines.engines.evidence import nearest_sentences
from fti.pipelines.engines.extractive import ExtractiveGenerator
from fti.pipelines.engines.generator import (
    GenerationRequest,
    Generator,
)
from fti.pipelines.training.builtin.evidence_rows import nearest_texts
from fti.pipelines.training.builtin.reading_rows import FORM, Asked, Corpus, Text, jsonl, shown
from fti.store.contracts.prompt_contract import EvidenceChoice
from fti.store.proof.gate import bootstrap_interval
from fti.store.proof.squad import normalised, overlap
from fti.store.store import Store
from fti.store.types import Fusion, Interval, Passage

if TYPE_CHECKING:
    from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
    from fti.pipelines.engines.embedders.embedding import Embedder

NEW_TOKENS = 64
EVIDENCE_SENTENCES = 4
"""How many sentences the default profile shows of what was retrieved."""

EVIDENCE_CHOICE: EvidenceChoice = "hybrid"
FUSION = Fusion(method="bounded", vector_weight=0.2)
"""How sentences are chosen and passages found there."""

GOLD, AS_SERVED = "gold paragraph", "as served"

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0)

REFUSE_ABOVE = 0.6
"""How likely a refusal must be to stand: what the default profile says."""


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


def cases(data: Path, name: str, count: int, *, seed: int = 0) -> list[Case]:
    """A fixed sample of a test file, each with the one paragraph it was asked about."""
    texts = paragraphs(data)
    rows = random.Random(seed).sample(jsonl(data / "squad" / name), count)
    out = []
    for row in rows:
        gold = texts[row["document"]][row["paragraph"]]
        out.append(Case(row["question"], tuple(row["answers"]), (numbered(gold, 1),), 1))
    return out


def paragraphs(data: Path) -> dict[str, list[Passage]]:
    """The test articles' paragraphs by document, without the title line."""
    out = {}
    for path in sorted((data / "squad" / "corpus").glob("*.md")):
        head, *texts = path.read_text(encoding="utf-8").strip().split("\n\n")
        source = f"corpus/{path.name}"
        out[source] = [
            Passage(
                rank=1, chunk_id=f"{source}#{n}", document_id=source,
                title=head.removeprefix("# "), source=source, text=text,
            )
            for n, text in enumerate(texts)
        ]  # fmt: skip
    return out


def numbered(passage: Passage, rank: int) -> Passage:
    """The passage at another place of a prompt."""
    return passage.model_copy(update={"rank": rank})


class Search:
    """The paragraphs of all test articles in a store of their own, searched as the default profile
    searches: by vectors and words, fused.
    """

    def __init__(self, data: Path, embedder: Embedder) -> None:
        import pyarrow as pa

        self._embedder = embedder
        self._folder = TemporaryDirectory(prefix="fti-test-articles-")
        self._features = Store(Path(self._folder.name)).features
        passages = [p for group in paragraphs(data).values() for p in group]
        self._known = {(p.source, p.text): p for p in passages}
        vectors = embedder.embed_documents([f"{p.title}\n{p.text}" for p in passages])
        table = pa.table(
            {
                "source": [p.source for p in passages],
                "title": [p.title for p in passages],
                "text": [p.text for p in passages],
                "vector": list(vectors),
            }
        )
        self._features.write(table, identity=embedder.identity)

    def cases(self, asked: Sequence[Case], *, passages: int) -> list[Case]:
        """The same questions with the paragraphs that are found first.

        ``gold`` is 0 where the paragraph asked about is not among them.
        """
        vectors = self._embedder.embed_queries([case.question for case in asked])
        out = []
        for case, vector in zip(asked, vectors, strict=True):
            found = self._features.search_hybrid(case.question, vector, passages, fusion=FUSION)
            shown = tuple(
                numbered(self._known[p.source, p.text], n) for n, p in enumerate(found, start=1)
            )
            wanted = case.passages[case.gold - 1].chunk_id
            gold = next((p.rank for p in shown if p.chunk_id == wanted), 0)
            out.append(Case(case.question, case.answers, shown, gold))
        return out


def samples(data: Path, embedder: Embedder, count: int) -> dict[str, list[Case]]:
    """What is asked, by what is shown with it; the unanswerable ones hold no answers."""
    answerable = cases(data, "questions.jsonl", count)
    unanswerable = cases(data, "unanswerable.jsonl", count)
    search = Search(data, embedder)
    return {
        GOLD: answerable,
        AS_SERVED: evidence(search.cases(answerable, passages=4), embedder),
        f"{GOLD}, unanswerable": unanswerable,
        f"{AS_SERVED}, unanswerable": evidence(search.cases(unanswerable, passages=4), embedder),
    }


def evidence(
    asked: Sequence[Case], embedder: Embedder, *, count: int = EVIDENCE_SENTENCES
) -> list[Case]:
    """The same questions with what the contract's evidence selection leaves of their passages."""
    out = []
    for case in asked:
        shown = nearest_sentences(
            case.question, case.passages, embedder, count=count, choice=EVIDENCE_CHOICE
        )
        wanted = case.passages[case.gold - 1].chunk_id if case.gold else None
        gold = next((n for n, p in enumerate(shown, start=1) if p.chunk_id == wanted), 0)
        out.append(Case(case.question, case.answers, shown, gold))
    return out


def repeat_nearest(asked: Sequence[Case], embedder: Embedder) -> list[str]:
    """The baseline without a language model: the sentence most similar to the question."""
    generator = ExtractiveGenerator(embedder, min_similarity=-1.0)
    requests = [
        GenerationRequest(
            messages=FORM.messages(c.question, c.passages), max_new_tokens=200,
            question=c.question, passages=c.passages,
        )
        for c in asked
    ]  # fmt: skip
    return [made.text for made in generator.generate(requests)]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    batch: int = 8,
    bfloat16: bool = False,
) -> list[str]:
    """Greedy responses of a model in training, prompts of similar length together."""
    import torch

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        padded = tokenizer.pad(
            {"input_ids": [prompts[i] for i in group]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        with (
            torch.inference_mode(),
            torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bfloat16),
        ):
            made = model.generate(**padded, max_new_tokens=NEW_TOKENS, do_sample=False)
        made = made[:, padded["input_ids"].shape[1] :]
        for i, text in zip(
            group, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True
        ):
            texts[i] = text
    return texts


@dataclass(frozen=True, slots=True)
class Said:
    """What the built-in model answers if it must, and how likely it thinks a refusal."""

    text: str
    refusal: float

    def above(self, threshold: float) -> str:
        """Its response where refusals stand from a chance on."""
        return FORM.response("") if self.refusal >= threshold else self.text


def outright(generator: TransformersGenerator, asked: Sequence[Case]) -> list[Said]:
    """What the built-in model says to each case, by the code that serves it, refusals apart."""
    requests = [
        GenerationRequest(
            messages=FORM.messages(c.question, c.passages), max_new_tokens=NEW_TOKENS,
            question=c.question, passages=c.passages, refusal=FORM.response(""),
            refuse_above=1.0,
        )
        for c in asked
    ]  # fmt: skip
    texts = [made.text for made in generator.generate(requests)]
    loaded = generator.loaded
    chances = refusal_chances(loaded, asked)
    return [Said(text, chance) for text, chance in zip(texts, chances, strict=True)]


def by_threshold(
    said: Mapping[str, Sequence[Said]], asked: Mapping[str, Sequence[Case]]
) -> list[dict[str, float]]:
    """What each threshold of refusals makes of the same answers, in percent: means alone."""
    table = []
    for threshold in THRESHOLDS:
        row = {"refuse_above": threshold}
        for where, sample in asked.items():
            found = scored([each.above(threshold) for each in said[where]], sample)
            row[f"{where}: refused"] = round(found["refused"].mean, 1)
            if any(case.answers for case in sample):
                row[f"{where}: F1"] = round(found["f1"].mean, 1)
        table.append(row)
    return table


def scored(texts: Sequence[str], sample: Sequence[Case]) -> dict[str, Interval]:
    """Exact match, F1, refusals and right citations, each with its interval, in percent.

    A refusal of an answerable question scores 0 in exact match and F1. ``cited`` is over answers
    whose gold passage was shown.
    """
    figures: dict[str, list[float]] = {"em": [], "f1": [], "refused": [], "cited": []}
    for case, text in zip(sample, texts, strict=True):
        parsed = FORM.parse(text, len(case.passages))
        bare = "" if parsed.abstained else re.sub(r"\s*\[\d{1,3}\]", "", parsed.text)
        figures["refused"].append(100.0 * parsed.abstained)
        figures["em"].append(100 * max((exact(bare, a) for a in case.answers), default=0.0))
        figures["f1"].append(100 * max((overlap(bare, a) for a in case.answers), default=0.0))
        if not parsed.abstained and case.gold:
            figures["cited"].append(100.0 * (case.gold in parsed.markers))
    return {name: bootstrap_interval(values) for name, values in figures.items() if values}


def timing(generator: Generator, sample: Sequence[Case]) -> dict[str, float]:
    """Median seconds to the first piece of text and to a whole answer, one by one."""
    first: list[float] = []
    whole: list[float] = []
    for case in sample[:20]:
        start = time.perf_counter()
        request = GenerationRequest(
            messages=FORM.messages(case.question, case.passages), max_new_tokens=NEW_TOKENS,
            question=case.question, passages=case.passages,
        )  # fmt: skip
        for number, _ in enumerate(generator.stream(request)):
            if number == 0:
                first.append(time.perf_counter() - start)
        whole.append(time.perf_counter() - start)
    middle = len(first) // 2
    return {"first": round(sorted(first)[middle], 3), "whole": round(sorted(whole)[middle], 3)}


def evaluate(
    ask: Callable[[Sequence[Case]], list[str]], asked: Mapping[str, Sequence[Case]]
) -> dict[str, str]:
    """Every figure of the model card for one way of answering, by its name there.

    Args:
        ask: gives the answer to each case.
        asked: see ``samples``.
    """
    out: dict[str, str] = {}
    for where, sample in asked.items():
        found = scored(ask(sample), sample)
        print(where, found, file=sys.stderr, flush=True)
        if any(case.answers for case in sample):
            out[f"{where}: exact match"] = written(found["em"])
            out[f"{where}: F1"] = written(found["f1"])
            out[f"{where}: wrongly refused (%)"] = written(found["refused"])
            if "cited" in found:
                out[f"{where}: answers that cite the gold one (%)"] = written(found["cited"])
        else:
            out[f"{where}: refused (%)"] = written(found["refused"])
    return out


def held_out(
    corpus: Corpus, embedder: Embedder, *, count: int
) -> tuple[list[Case], list[Case], list[Case]]:
    """Questions on the held-out articles, always the same.

    Returns:
        ``count`` over their paragraph alone, the same over the sentences nearest to them in it and
        three more paragraphs, and up to ``count`` without an answer, as served.
    """
    rng = random.Random(0)
    pairs = [(t, a) for t in corpus.held_out for a in t.asked]
    rng.shuffle(pairs)

    def shown_as_served(text: Text, asked: Asked) -> Case:
        others = [t for t in corpus.held_out if t.group == text.group and t.text != text.text]
        texts = [text, *nearest_texts(asked.question, others, embedder, count=3)]
        answers = (asked.answer,) if asked.answer else ()
        return evidence([Case(asked.question, answers, shown(texts, rng), 1)], embedder)[0]

    answerable = [(t, a) for t, a in pairs if a.answer][:count]
    without = [(t, a) for t, a in pairs if not a.answer][:count]
    return (
        [Case(a.question, (a.answer,), shown([t], rng), 1) for t, a in answerable],
        [shown_as_served(t, a) for t, a in answerable],
        [shown_as_served(t, a) for t, a in without],
    )


def development(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    embedder: Embedder,
    *,
    count: int = 100,
    bfloat16: bool = False,
) -> dict[str, float]:
    """Figures on the held-out articles, by greedy decoding: to choose recipes by."""
    whole, served, foreign = held_out(corpus, embedder, count=count)
    was_training = model.training
    model.eval()
    out: dict[str, float] = {}
    for name, asked_of in (("whole", whole), ("served", served), ("foreign", foreign)):
        prompts = [
            encode_prompt(tokenizer, FORM.messages(c.question, c.passages)) for c in asked_of
        ]
        figures = scored(generate(model, tokenizer, prompts, bfloat16=bfloat16), asked_of)
        out[f"dev_{name}_refused"] = round(figures["refused"].mean, 1)
        if name != "foreign":
            out[f"dev_{name}_f1"] = round(figures["f1"].mean, 1)
    model.train(was_training)
    return out


def refusal_chances(loaded: LoadedModel, asked: Sequence[Case]) -> list[float]:
    """How likely the model thinks a refusal of each case: by its first token, which no answer has.

    ``prompt.refuse_above`` is chosen by what these are for questions with and without an answer.
    """
    first = encode_text(loaded.tokenizer, FORM.response(""))[0]
    chances = []
    for case in asked:
        ids = encode_prompt(loaded.tokenizer, FORM.messages(case.question, case.passages))
        logits, _ = read_prompt(loaded, None, ids, threading.Event())
        chances.append(float(logits[0].float().softmax(-1)[first]))
    return chances


def written(figure: Interval) -> str:
    """A figure and its 95 % interval."""
    return f"{figure.mean:.1f} ({figure.low:.1f} to {figure.high:.1f})"
