"""What the service adds: answers asked at once against one by one, and chunks of a stream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing

from fti.app.service.api import create_app
from fti.pipelines.engines.causal_lm.transformers_generator import TransformersGenerator
from fti.pipelines.engines.generator import GenerationRequest
from fti.store.types import Message
from tests.support.service import Scripted, assistant_over, filled_store, serving


def _ask(generator: TransformersGenerator, n: int) -> None:
    text = " ".join(f"The workshop opens at {n + i}." for i in range(30))
    request = GenerationRequest(
        messages=(Message(role="user", content=text),), question="When?", max_new_tokens=24
    )
    list(generator.stream(request))


@pytest.mark.benchmark(group="eight who ask: at once against one after the other")
@pytest.mark.parametrize("clients", [1, 8])
def test_asking_at_once(benchmark: Any, clients: int) -> None:
    """With the built-in model, whose steps are worth sharing."""
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm
    from fti.pipelines.engines.model_config import ModelConfig

    generator = TransformersGenerator(load_causal_lm(ModelConfig(device="cpu")))
    with ThreadPoolExecutor(clients) as pool:
        benchmark.pedantic(
            lambda: list(pool.map(lambda n: _ask(generator, n), range(8))),
            rounds=3,
            warmup_rounds=1,
        )


@pytest.mark.benchmark(group="a stream over HTTP: 100 chunks against one")
@pytest.mark.parametrize("pieces", [1, 100])
def test_streamed_chunks(benchmark: Any, tmp_path: Path, pieces: int) -> None:
    store = filled_store(tmp_path / "store")
    assistant = assistant_over(store, Scripted(pieces=["word "] * pieces))
    body = {"messages": [{"role": "user", "content": "When does it open?"}], "stream": True}
    with (
        structlog.testing.capture_logs(),
        serving(create_app(assistant)) as base,
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        benchmark(lambda: client.post("/v1/chat/completions", json=body))
