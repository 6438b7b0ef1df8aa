"""What an answer costs: our decoding loop against generate, and batches against one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.loading import load_causal_lm, load_to_answer
from fti.pipelines.engines.causal_lm.transformers_generator import (
    TransformersGenerator,
    serve_here,
)
from fti.pipelines.engines.generator import GenerationRequest, GeneratorConfig
from fti.store.types import Message
from tests.support.tiny_model import make_adapter


def _request(n: int) -> GenerationRequest:
    text = " ".join(f"The workshop opens at {n + i}." for i in range(30))
    return GenerationRequest(
        messages=(Message(role="user", content=text),), question="When?", max_new_tokens=24
    )


@pytest.mark.benchmark(group="24 tokens: our loop against transformers' generate")
@pytest.mark.parametrize("way", ["ours", "generate"])
def test_decoding(benchmark: Any, loaded_lm: Any, way: str) -> None:
    generator = TransformersGenerator(loaded_lm)
    if way == "ours":
        benchmark(lambda: generator.generate([_request(1)]))
        return
    import torch

    ids = torch.tensor([generator.counter.encode(_request(1).messages)])
    with torch.inference_mode():
        benchmark(
            lambda: loaded_lm.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
                pad_token_id=0,
            )
        )  # fmt: skip


@pytest.mark.benchmark(group="int8 against float32, built-in model")
@pytest.mark.parametrize("part", ["prefill of 700 tokens", "24 tokens"])
@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_quantization(benchmark: Any, quantization: Any, part: str) -> None:
    from fti.pipelines.engines.causal_lm.batching import Batcher
    from fti.pipelines.engines.causal_lm.decoding import Job
    from fti.pipelines.engines.model_config import ModelConfig

    loaded = load_causal_lm(ModelConfig(device="cpu", quantization=quantization))
    batcher = Batcher(loaded, batch_size=1)
    prompt, most = ([7] * 700, 1) if part.startswith("prefill") else ([7] * 8, 24)
    benchmark.pedantic(
        lambda: batcher.finish([(Job(prompt, most), lambda index: "")], None),
        rounds=5,
        warmup_rounds=1,
    )


@pytest.mark.benchmark(group="eight answers: one batch against one by one")
@pytest.mark.parametrize("batch", [1, 8])
def test_batching(benchmark: Any, loaded_lm: Any, batch: int) -> None:
    generator = TransformersGenerator(loaded_lm, batch_size=batch)
    requests = [_request(n) for n in range(8)]
    benchmark(lambda: generator.generate(requests))


@pytest.mark.benchmark(group="eight answers of 24 tokens under an adapter, built-in model")
@pytest.mark.parametrize("way", ["base", "adapter", "adapter by peft"])
def test_adapters(benchmark: Any, tmp_path: Path, way: str) -> None:
    """An adapter on the model that answers, against none, and against peft on transformers'."""
    config = GeneratorConfig(device="cpu")
    folder = None
    if way != "base":  # one that changes next to nothing, so that answers are as long
        folder = make_adapter(Path(config.id), tmp_path / "adapter", rank=16, std=1e-4)
    loaded = (load_causal_lm if way == "adapter by peft" else load_to_answer)(config)
    generator = serve_here(loaded, config, folder)
    requests = [_request(n) for n in range(8)]
    benchmark.pedantic(lambda: generator.generate(requests), rounds=5, warmup_rounds=1)
