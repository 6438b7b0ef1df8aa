"""What formats and engines gain and cost: the default profile against float32, on the same cases.

    python -m tests.bench.precisions [--corpus FOLDER --cases CASES.jsonl] [--limit 150]
        [--only NAME ...]

Without a folder, the demo's documents and cases. Cases are sampled with the seed that
``fti evaluate --limit`` has. Prints one JSON object, for each format: the metrics, the mean
differences from float32 with their paired intervals, how many answers are word for word the same,
the processor time of the evaluation over float32's, and of 20 questions asked one by one the median
seconds to the first piece of text and to the whole answer, and by how much the process grew when
the engine was loaded. "auto" multiplies in bfloat16 where the CPU has it, and is float32 elsewhere.
llama.cpp is tried where the extra ``llamacpp`` is installed; set OMP_WAIT_POLICY=PASSIVE on a
machine that does other work too.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from fti.app.build import Engines, build_assistant
from fti.app.commands.demo import FOLDER
from fti.app.operations.measuring.evaluating import sample
from fti.app.settings import load_settings
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.evaluating.cases import load_cases
from fti.pipelines.inference.evaluating.evaluation import case_rows, compare, evaluate
from fti.store.store import Store

FORMATS = {
    "float32": ["generator.precision=float32"],
    "auto": [],
    "bfloat16 weights": ["generator.dtype=bfloat16"],
    "int8": ["generator.quantization=int8"],
    "llama.cpp f16": ["generator.engine=llamacpp"],
    "llama.cpp q8_0": ["generator.engine=llamacpp", "generator.gguf=q8_0"],
}
_ASKED = 20


def main() -> None:
    """Evaluate both on one store, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=FOLDER / "corpus")
    parser.add_argument("--cases", type=Path, default=FOLDER / "cases.jsonl")
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--only", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    given = parser.parse_args()
    formats = [name for name in FORMATS if name == "float32" or name in given.only]
    if importlib.util.find_spec("xllamacpp") is None:
        formats = [name for name in formats if "llama.cpp" not in name]
    cases = sample(load_cases(given.cases), given.limit)
    rows: dict[str, list[dict[str, Any]]] = {}
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        store = Store(root)
        for name in formats:
            settings = load_settings(store=root, overrides=FORMATS[name], environment={})
            engines = Engines(settings)
            if not store.features.exists():
                ingest(
                    [str(given.corpus)],
                    store=store,
                    embedder=engines.embedder,
                    config=settings.features,
                )
            _ = engines.embedder
            before = psutil.Process().memory_info().rss
            assistant = build_assistant(settings, store, engines=engines)
            assistant.answer(cases[0].question)  # warm
            first, whole = latencies(assistant, [case.question for case in cases[:_ASKED]])
            began = time.process_time()
            report = evaluate(assistant, cases, store=store, system=name)
            rows[name] = case_rows(store, report.run)
            out[name] = {
                "answers": report.model_dump(mode="json")["answers"],
                "loaded_mb": round((psutil.Process().memory_info().rss - before) / 1e6),
                "processor_s": round(time.process_time() - began, 1),
                "first_s": first,
                "whole_s": whole,
            }
            print(name, json.dumps(out[name]), file=sys.stderr)
            del assistant, engines
            gc.collect()
    said = {name: {row["id"]: row.get("answer") for row in mine} for name, mine in rows.items()}
    for name, found in out.items():
        found["same_answers"] = sum(said[name].get(k) == v for k, v in said["float32"].items())
        found["over_float32"] = {
            metric: difference.model_dump()
            for metric, difference in compare(rows[name], rows["float32"]).items()
        }
    print(json.dumps({"cases": len(rows["float32"]), **out}, indent=1))


def latencies(assistant: Assistant, questions: list[str]) -> tuple[float, float]:
    """Median seconds to the first piece of an answer's text, and to its end."""
    first: list[float] = []
    whole: list[float] = []
    for question in questions:
        began = time.perf_counter()
        pieces = 0
        for event in assistant.stream(question):
            if event.kind == "text" and not pieces:
                first.append(time.perf_counter() - began)
                pieces = 1
        whole.append(time.perf_counter() - began)
    return round(statistics.median(first), 3), round(statistics.median(whole), 3)


if __name__ == "__main__":
    main()
