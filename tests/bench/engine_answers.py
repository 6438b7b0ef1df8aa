"""What each engine answers to the same prompts: word for word, F1, time and memory.

    python -m tests.bench.engine_answers [--limit 50] [--only NAME ...]

The built-in model reads four paragraphs of the demo's documents: for a question that they answer
the one with the answer and three others of its document, else four of any. Nothing is searched, so
that what differs is the engine. Each format runs in a process of its own. Prints one JSON object:
for each how many texts are word for word those of float32, the mean F1 (a right refusal is 1) and
its mean difference from float32 with the paired 95 % interval, the processor time of all answers,
made in batches, and by how many MB the process grew.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from fti.app.commands.demo import FOLDER
from fti.pipelines.engines.generator import GenerationRequest, GeneratorConfig
from fti.store.contracts.prompt_contract import BUILTIN_FORM
from fti.store.proof.significance import differences
from fti.store.proof.squad import overlap
from fti.store.types import Passage
from tests.bench.engine_speed import FORMATS

_PARAGRAPHS = 4
_LEAST = 0.6  # as the default profile has it


def main() -> None:
    """Run each format in a process, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--only", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--one", choices=list(FORMATS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(answered(FORMATS[given.one], asked(given.limit))))
        return
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(["float32", *given.only]):
        command = [sys.executable, "-m", "tests.bench.engine_answers", "--one", name]
        command += ["--limit", str(given.limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, {k: v for k, v in found[name].items() if k != "rows"}, file=sys.stderr)
    print(json.dumps(compared(found), indent=1))


def asked(limit: int) -> list[tuple[GenerationRequest, list[str]]]:
    """Requests, four fifths of them answerable, each with its right answers."""
    lines = (FOLDER / "cases.jsonl").read_text("utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    pages = {path: paragraphs(path) for path in sorted((FOLDER / "corpus").rglob("*.md"))}
    dice = random.Random(7)
    dice.shuffle(cases)
    answerable = [case for case in cases if case["answers"] and case["document"].endswith(".md")]
    others = [case for case in cases if not case["answers"]]
    some = limit // 5
    out = []
    for case in [*answerable[: limit - some], *others[:some]]:
        shown = chosen(case, pages, dice)
        out.append((request(case["question"], shown), case["answers"]))
    return out


def paragraphs(path: Path) -> list[tuple[str, str]]:
    """The paragraphs of a document, each with the document's title."""
    blocks = [block.strip() for block in path.read_text("utf-8").split("\n\n")]
    title = blocks[0].lstrip("# ").splitlines()[0]
    return [(title, block[:600]) for block in blocks if len(block) > 60 and block[0] != "#"]


def chosen(
    case: dict[str, Any], pages: dict[Path, list[tuple[str, str]]], dice: random.Random
) -> list[tuple[str, str]]:
    """Four paragraphs for a question, that with the answer among them where there is one."""
    if not case["answers"]:
        every = [block for blocks in pages.values() for block in blocks]
        return dice.sample(every, _PARAGRAPHS)
    own = pages[FOLDER / case["document"]]
    gold = [block for block in own if any(answer in block[1] for answer in case["answers"])]
    rest = [block for block in own if block not in gold]
    shown = [*gold[:1], *dice.sample(rest, min(len(rest), _PARAGRAPHS - len(gold[:1])))]
    dice.shuffle(shown)
    return shown


def request(question: str, shown: list[tuple[str, str]]) -> GenerationRequest:
    """The prompt that the contract makes of a question and paragraphs."""
    passages = tuple(
        Passage(rank=n, chunk_id=str(n), document_id=title, title=title, source=title, text=text)
        for n, (title, text) in enumerate(shown, start=1)
    )
    return GenerationRequest(
        messages=BUILTIN_FORM.messages(question, passages),
        question=question,
        passages=passages,
        max_new_tokens=48,
        refusal=BUILTIN_FORM.response(""),
        refuse_above=_LEAST,
    )


def answered(
    options: dict[str, str], asking: list[tuple[GenerationRequest, list[str]]]
) -> dict[str, Any]:
    """One format's texts and scores, with what they took."""
    from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
    from fti.pipelines.engines.generation import load_generator
    from fti.pipelines.engines.openmp import wait_asleep

    if options["engine"] == "llamacpp":
        wait_asleep()
    config = GeneratorConfig.model_validate({"id": "builtin", "device": "cpu"} | options)
    before = psutil.Process().memory_info().rss
    generator = load_generator(config, embedder=HashingEmbedder(16))
    generator.generate([asking[0][0]])  # warms
    began, spent = time.perf_counter(), time.process_time()
    made = generator.generate([one for one, _ in asking])
    spent, began = time.process_time() - spent, time.perf_counter() - began
    rows = []
    for generation, (one, right) in zip(made, asking, strict=True):
        parsed = BUILTIN_FORM.parse(generation.text, len(one.passages))
        told = "" if parsed.abstained else _without_markers(parsed.text)
        score = max((overlap(told, gold) for gold in right), default=float(parsed.abstained))
        rows.append({"text": generation.text, "f1": score, "refused": parsed.abstained})
    return {
        "processor_s": round(spent, 1),
        "seconds": round(began, 1),
        "grew_mb": round((psutil.Process().memory_info().rss - before) / 1e6),
        "prompt_tokens": sum(generation.usage.prompt_tokens for generation in made),
        "rows": rows,
    }


def _without_markers(text: str) -> str:
    return re.sub(r"\[[\d, ]+\]", "", text)


def compared(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each format beside float32."""
    whole = found["float32"]["rows"]
    pairs = {
        name: [a["f1"] - b["f1"] for a, b in zip(mine["rows"], whole, strict=True)]
        for name, mine in found.items()
        if name != "float32"
    }
    over = differences(pairs)
    out: dict[str, Any] = {"answers": len(whole)}
    for name, mine in found.items():
        rows = mine.pop("rows")
        same = sum(a["text"] == b["text"] for a, b in zip(rows, whole, strict=True))
        out[name] = mine | {
            "same_words": same,
            "refused": sum(row["refused"] for row in rows),
            "f1": round(sum(row["f1"] for row in rows) / len(rows), 4),
        }
        if name in over:
            out[name]["f1_over_float32"] = over[name].model_dump()
    return out


if __name__ == "__main__":
    main()
