"""What a batch gains by answering questions together: the whole way, against one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fti.app.build import build_assistant, build_embedder
from fti.app.commands.demo import FOLDER
from fti.app.settings import load_settings
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.pipelines.inference.answering.answer import Assistant
from fti.pipelines.inference.evaluating.cases import load_cases
from fti.store.store import Store


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


@pytest.mark.benchmark(group="32 answers of the default profile, against one by one")
@pytest.mark.parametrize("way", ["together", "eight at once"])
def test_many_answers_against_one_by_one(benchmark: Any, assistant: Assistant, way: str) -> None:
    """As a batch asks, and as eight clients of the service do, less HTTP."""
    asked = [case.question for case in load_cases(FOLDER / "cases.jsonl")][:32]
    assistant.answer_many(asked)  # warm: the sentences of these passages are embedded

    def together() -> None:
        assistant.answer_many(asked)

    def at_once() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(assistant.answer, asked))

    many = together if way == "together" else at_once
    alone: list[tuple[float, float]] = []
    shared: list[tuple[float, float]] = []
    for _ in range(3):  # in turn, so that a machine that slows down slows both
        alone.append(_clocked(lambda: [assistant.answer(question) for question in asked]))
        shared.append(_clocked(many))
    benchmark.pedantic(many, rounds=1, iterations=1)
    ratios = [
        min(a) / min(b)
        for a, b in zip(zip(*alone, strict=True), zip(*shared, strict=True), strict=True)
    ]
    benchmark.extra_info["wall_ratio"], benchmark.extra_info["processor_ratio"] = ratios
    print(
        f"\n32 answers {way}: {ratios[0]:.2f} times the throughput of one by one, "
        f"{ratios[1]:.2f} by processor time"
    )


def _clocked(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor
