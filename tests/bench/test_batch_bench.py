"""What a batch gains by answering questions together: the whole way, against one by one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from app.build import build_assistant, build_embedder
from app.commands.demo import FOLDER
from app.settings import load_settings
from pipelines.feature.ingest import ingest
from pipelines.inference.answer import Assistant
from pipelines.inference.cases import load_cases
from store.store import Store


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    """The default profile over the demo's handbook."""
    root = tmp_path_factory.mktemp("batch") / "store"
    settings = load_settings(Path("configs/default.yaml"), store=root, environment={})
    store = Store(root)
    ingest(
        [str(FOLDER / "corpus")],
        store=store,
        embedder=build_embedder(settings),
        config=settings.features,
    )
    return build_assistant(settings, store)


@pytest.mark.benchmark(group="16 answers of the default profile: together against one by one")
def test_a_batch_against_one_by_one(benchmark: Any, assistant: Assistant) -> None:
    asked = [case.question for case in load_cases(FOLDER / "cases.jsonl")][:16]
    assistant.answer_many(asked[:2])  # warm
    started = time.perf_counter()
    for question in asked:
        assistant.answer(question)
    alone = time.perf_counter() - started
    benchmark.pedantic(lambda: assistant.answer_many(asked), rounds=1, iterations=1)
    ratio = alone / benchmark.stats.stats.min
    benchmark.extra_info["one_by_one_s"] = round(alone, 2)
    benchmark.extra_info["ratio"] = round(ratio, 2)
    print(f"\n16 answers: {alone:.2f} s one by one, {ratio:.2f} times as long as together")
