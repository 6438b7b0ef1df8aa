"""What a training step costs: our loop against a bare one and against trl, on the same rows."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.encoding import IGNORED, EncodedExample
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.store import Store
from fti.store.types import Passage

ROOT = Path(__file__).parents[2]


def uniform() -> list[EncodedExample]:
    """Rows of 192 tokens of which the last 16 are learned."""
    ids = [100 + (37 * n) % 9000 for n in range(192)]
    return [EncodedExample(ids, [IGNORED] * 176 + ids[176:]) for _ in range(32)]


def mixed(tmp_path: Path) -> list[EncodedExample]:
    """The demo's questions over one to four passages of its documents, as they are encoded."""
    from fti.pipelines.engines.causal_lm.loading import load_tokenizer
    from fti.pipelines.engines.encoding import PromptEncoder, encode_example
    from fti.pipelines.engines.weights import find_model
    from fti.pipelines.inference.answering.retrieve import Retriever
    from fti.store.contracts.prompt_contract import BUILTIN_FORM

    demo = ROOT / "app" / "demo"
    store, embedder = Store(tmp_path / "store"), HashingEmbedder()
    ingest([str(demo / "corpus")], store=store, embedder=embedder, config=FeatureConfig())
    retriever = Retriever(store.features, embedder)
    encoder = PromptEncoder(load_tokenizer(find_model("builtin")))
    form = BUILTIN_FORM
    rows = []
    lines = (demo / "cases.jsonl").read_text("utf-8").splitlines()
    for number, line in enumerate(lines[::3][:32]):
        case = json.loads(line)
        found: list[Passage] = retriever.search(case["question"], 1 + number % 4)
        answer = (case["answers"] or [""])[0]
        messages = form.messages(case["question"], found)
        response = form.response(answer, (1,) if answer else ())
        rows.append(encode_example(encoder.tokenizer, messages, response))
    return rows


@pytest.mark.timeout(0)  # six fine-tunings, and bare loops are slow
@pytest.mark.benchmark(group="fine-tuning the built-in model")
@pytest.mark.parametrize("lengths", ["uniform", "mixed"])
def test_training(benchmark: Any, tmp_path: Path, lengths: str, capsys: Any) -> None:
    rows = uniform() if lengths == "uniform" else mixed(tmp_path)
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([[row.input_ids, row.labels] for row in rows]), "utf-8")
    ways = ["bare", "ours", "ungrouped", "bare", "ours"]
    ways += ["trl"] if importlib.util.find_spec("trl") else []
    if lengths == "uniform":
        ways.remove("ungrouped")  # there is nothing to group

    def run() -> dict[str, list[dict[str, float]]]:
        taken: dict[str, list[dict[str, float]]] = {}
        for way in ways:
            done = subprocess.run(
                [sys.executable, "-m", "tests.bench.training_ways", way, str(file)],
                cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            taken.setdefault(way, []).append(json.loads(done.stdout.splitlines()[-1]))
        return taken

    taken = benchmark.pedantic(run, rounds=1, iterations=1)
    best = {
        way: {
            "tokens_per_second": max(one["tokens_per_second"] for one in runs),
            "peak_mb": min(one["peak_mb"] for one in runs),
            "training_mb": min(one["training_mb"] for one in runs),
        }
        for way, runs in taken.items()
    }
    spread = [len(row.input_ids) for row in rows]
    with capsys.disabled():
        print(f"\n{lengths}: {len(rows)} rows of {min(spread)} to {max(spread)} tokens")
        for way, figures in best.items():
            share = {name: value / best["bare"][name] for name, value in figures.items()}
            print(
                f"  {way:10} {figures['tokens_per_second']:7.0f} tokens/s "
                f"({share['tokens_per_second']:.2f} of bare), peak {figures['peak_mb']:.0f} MB "
                f"({share['peak_mb']:.2f}), of it training {figures['training_mb']:.0f} MB "
                f"({share['training_mb']:.2f})"
            )
    benchmark.extra_info.update(best)
