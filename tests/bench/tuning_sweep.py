"""How settings of fine-tuning and of datasets pay: each is trained, and asked what was held out.

    python -m tests.bench.tuning_sweep --corpus FOLDER --cases CASES.jsonl \
        --way "all layers: training.batch_size=4 training.max_steps=60" \
        --way "ten layers: training.batch_size=4 training.max_steps=60 training.last_layers=10"

Two sets of cases written by hand lie here. ``fastapi_cases.jsonl`` asks about FastAPI's English
documentation (its folder ``docs/en/docs``, ingested under the name ``en``), and
``handbook_cases.jsonl`` about the pages of 18F's handbook (github.com/18F/handbook, commit 1e49556,
its folder ``pages`` under the name ``corpus``); these were written before any result was seen.

Ingests the folder, builds one dataset for each set of ``dataset.`` settings, fine-tunes the base
for each way, and evaluates base and tuned models with retrieval on the cases about documents that
none of them was trained on. Prints a line a way: F1, the paired difference to the base with its
95 % interval, what went wrong by kind, and processor seconds of the training. Nothing is timed
against a clock, so that a busy machine changes no result: give steps, not seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from fti.app.build import Engines
from fti.app.operations.measuring.evaluating import evaluate_model
from fti.app.operations.training.dataset_building import make_dataset
from fti.app.operations.training.finetuning import train
from fti.app.settings import Settings, load_settings
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.evaluating.cases import load_cases
from fti.pipelines.inference.evaluating.evaluation import case_rows, compare
from fti.pipelines.inference.evaluating.evaluation_figures import EvaluationReport
from fti.store.progress import quiet
from fti.store.store import Store
from fti.store.types import Case


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path(".fti-sweep"))
    parser.add_argument("--train-on-cases", action="store_true", help="cases become rows, too")
    parser.add_argument("--limit", type=int, help="most cases")
    parser.add_argument(
        "--way", action="append", default=[], metavar="NAME: KEY=VALUE ...", help="what to try"
    )
    return parser.parse_args()


def main() -> None:
    """Run every way that has not been run in this store."""
    options = arguments()
    store = Store(options.store)
    cases = load_cases(options.cases)
    plain = settings_of(options.store, [])
    engines = Engines(plain)
    if not store.features.exists():
        ingest(
            [str(options.corpus)], store=store, embedder=engines.embedder, config=plain.features,
            progress=quiet,
        )  # fmt: skip
    done = options.store / "sweep.jsonl"
    known = (
        {json.loads(x)["way"] for x in done.read_text("utf-8").splitlines()}
        if done.exists()
        else set()
    )
    for number, way in enumerate(options.way):
        name, _, given = way.partition(":")
        if name in known:
            continue
        keys = given.split()
        dataset = dataset_of(store, options, keys, cases)
        settings = settings_of(options.store, keys)
        started = time.process_time()
        version = train(settings, store, dataset=dataset, name=f"way-{number}", progress=quiet)
        seconds = time.process_time() - started
        asked = held_out(store, dataset, cases)[: options.limit]
        before = measured(settings, store, asked, "base", engines)
        after = measured(settings, store, asked, version.ref, engines)
        found = compare(case_rows(store, after.run), case_rows(store, before.run))["f1"]
        row = {
            "way": name, "cases": len(asked), "rows": store.datasets.get(dataset).rows["train"],
            "base": f1(before), "tuned": f1(after), "difference": found.model_dump(mode="json"),
            "faults_before": dict(before.faults), "faults": dict(after.faults),
            "steps": dict(version.metrics), "cpu_s": round(seconds),
        }  # fmt: skip
        with done.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def settings_of(store: Path, keys: list[str]) -> Settings:
    """The default profile with these settings, on the CPU as it comes."""
    return load_settings(None, store=store, overrides=["evaluation.group=8", *keys])


def dataset_of(
    store: Store, options: argparse.Namespace, keys: list[str], cases: list[Case]
) -> str:
    """The dataset of a way's settings, built once."""
    own = sorted(key for key in keys if key.startswith("dataset."))
    wanted = json.dumps(own)
    kept = options.store / "sweep-datasets.json"
    refs: dict[str, str] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    if wanted not in refs:
        settings = settings_of(options.store, own)
        engines = Engines(settings)
        made = make_dataset(
            settings, store, name="sweep", embedder=engines.embedder, engines=engines,
            cases=cases if options.train_on_cases else None, progress=quiet,
        )  # fmt: skip
        print(f"{made.ref}: {dict(made.rows)} {dict(made.kinds)}", file=sys.stderr, flush=True)
        refs[wanted] = made.ref
        kept.write_text(json.dumps(refs), "utf-8")
    return refs[wanted]


def held_out(store: Store, dataset: str, cases: list[Case]) -> list[Case]:
    """The cases about documents of the test split."""
    from fti.pipelines.inference.evaluating.cases import GoldDocuments

    test = set(store.datasets.get(dataset).documents["test"])
    gold = GoldDocuments(store.features.records())
    return [case for case in cases if set(gold.find(case.document)) & test]


def measured(
    settings: Settings, store: Store, cases: list[Case], model: str, engines: Engines
) -> EvaluationReport:
    """One model with retrieval; the base's answers are kept from way to way."""
    return evaluate_model(
        settings, store, cases, model=model, use_retrieval=True, engines=engines, resume=True,
        progress=quiet,
    ).report  # fmt: skip


def f1(report: EvaluationReport) -> Any:
    """Mean F1, a refusal of the unanswerable counted as right."""
    return round(report.answers["f1"].mean, 4) if report.answers else None


if __name__ == "__main__":
    main()
