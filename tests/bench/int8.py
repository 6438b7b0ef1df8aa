"""What int8 costs in answers: the default profile in float32 against int8 on the same cases.

    python -m tests.bench.int8 [--corpus FOLDER --cases CASES.jsonl] [--limit 150]

Without a folder, the demo's documents and cases. Cases are sampled with the seed that
``fti evaluate --limit`` has. Prints one JSON object: the metrics of both, the mean differences
(int8 minus float32) with their paired intervals, how many answers are word for word the same, and
the processor time of both, in ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fti.app.build import Engines, build_assistant
from fti.app.commands.demo import FOLDER
from fti.app.operations.evaluating import sample
from fti.app.settings import load_settings
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.evaluating.cases import load_cases
from fti.pipelines.inference.evaluating.evaluation import case_rows, compare, evaluate
from fti.store.store import Store


def main() -> None:
    """Evaluate both on one store, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=FOLDER / "corpus")
    parser.add_argument("--cases", type=Path, default=FOLDER / "cases.jsonl")
    parser.add_argument("--limit", type=int, default=150)
    given = parser.parse_args()
    cases = sample(load_cases(given.cases), given.limit)
    rows: dict[str, list[dict[str, Any]]] = {}
    found: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        store = Store(root)
        for quantization in ("none", "int8"):
            settings = load_settings(
                store=root, overrides=[f"generator.quantization={quantization}"], environment={}
            )
            engines = Engines(settings)
            if not store.features.exists():
                ingest(
                    [str(given.corpus)],
                    store=store,
                    embedder=engines.embedder,
                    config=settings.features,
                )
            assistant = build_assistant(settings, store, engines=engines)
            assistant.answer(cases[0].question)  # warm
            began = time.process_time()
            report = evaluate(assistant, cases, store=store, system=quantization)
            seconds[quantization] = time.process_time() - began
            rows[quantization] = case_rows(store, report.run)
            found[quantization] = report.model_dump(mode="json")["answers"]
            print(quantization, "done", file=sys.stderr)
    said = {name: {row["id"]: row.get("answer") for row in mine} for name, mine in rows.items()}
    differences = compare(rows["int8"], rows["none"])
    print(
        json.dumps(
            {
                "cases": len(rows["none"]),
                "same_answers": sum(
                    said["int8"].get(key) == text for key, text in said["none"].items()
                ),
                "answers": found,
                "differences": {name: d.model_dump() for name, d in differences.items()},
                "processor_time_ratio": round(seconds["none"] / seconds["int8"], 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
