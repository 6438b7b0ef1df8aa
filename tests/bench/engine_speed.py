"""How fast each engine runs a model of a given shape, with random weights: speed, not sense.

    python -m tests.bench.engine_speed [--shape 0.5b] [--prompt 512] [--answer 64] [--only NAME ...]

Each format runs in a process of its own, one after the other. Prints one JSON object: for each the
seconds to the first token after a prompt that nothing of is kept, tokens a second after it, the
processor time of a prompt and its answer, and by how many MB the process grew with the engine.
Shapes: ``135m`` is the model that ships, ``0.5b`` Qwen2.5-0.5B with fewer pieces. Set
OMP_WAIT_POLICY=PASSIVE where other work wants the cores too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from fti.pipelines.engines.generator import GenerationRequest, Generator, GeneratorConfig
from fti.store.types import Message

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "135m": ("llama", {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3,
    }),
    "0.5b": ("qwen2", {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2,
    }),
}  # fmt: skip
FORMATS: dict[str, dict[str, str]] = {
    "float32": {"engine": "transformers", "precision": "float32"},
    "bfloat16": {"engine": "transformers", "dtype": "bfloat16"},
    "int8": {"engine": "transformers", "quantization": "int8"},
    "llama.cpp f16": {"engine": "llamacpp", "gguf": "f16"},
    "llama.cpp q8_0": {"engine": "llamacpp", "gguf": "q8_0"},
}
_VOCABULARY = 49152  # rows of embeddings; the pieces are the tiny tokenizer's
_ROUNDS = 3


def main() -> None:
    """Make the model, run each format in a process, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="0.5b")
    parser.add_argument("--prompt", type=int, default=512, help="Tokens.")
    parser.add_argument("--answer", type=int, default=64, help="Tokens.")
    parser.add_argument("--only", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        model, name = given.one.split("|")
        print(json.dumps(measured(Path(model), FORMATS[name], given.prompt, given.answer)))
        return
    out: dict[str, Any] = {"shape": given.shape, "prompt": given.prompt, "answer": given.answer}
    with tempfile.TemporaryDirectory() as folder:
        model = make(Path(folder) / "model", given.shape)
        for name in given.only:
            command = [sys.executable, "-m", "tests.bench.engine_speed", "--one", f"{model}|{name}"]
            command += ["--prompt", str(given.prompt), "--answer", str(given.answer)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            out[name] = json.loads(done.stdout)
            print(name, out[name], file=sys.stderr)
    print(json.dumps(out, indent=1))


def make(folder: Path, shape: str) -> Path:
    """A model with random weights in half precision; its folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tests.support.tiny_model import byte_level_tokenizer

    architecture, sizes = SHAPES[shape]
    tokenizer = byte_level_tokenizer()
    config = AutoConfig.for_model(
        architecture, vocab_size=_VOCABULARY, max_position_embeddings=8192,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id, **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measured(model: Path, options: dict[str, str], prompt: int, answer: int) -> dict[str, float]:
    """One format's figures: medians of a few prompts, each unlike the one before it."""
    from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
    from fti.pipelines.engines.generation import load_generator
    from fti.pipelines.engines.openmp import wait_asleep

    if options["engine"] == "llamacpp":
        wait_asleep()
    fields = {"id": str(model), "device": "cpu", "context_tokens": 2048, "batch_size": 1}
    config = GeneratorConfig.model_validate(fields | options)
    before = psutil.Process().memory_info().rss
    generator = load_generator(config, embedder=HashingEmbedder(16))
    first, rest, processor = [], [], []
    for number in range(_ROUNDS + 1):
        # By themselves, since text of a random model may come in one piece at its end.
        at, _, _ = timed(generator, asked(generator, 2 * number, prompt, 1))
        whole, spent, tokens = timed(generator, asked(generator, 2 * number + 1, prompt, answer))
        if number:  # the first ones warm
            first.append(at)
            rest.append((tokens - 1) / (whole - at))
            processor.append(spent)
    return {
        "first_s": round(statistics.median(first), 3),
        "tokens_per_s": round(statistics.median(rest), 1),
        "processor_s": round(statistics.median(processor), 2),
        "grew_mb": round((psutil.Process().memory_info().rss - before) / 1e6),
    }


def timed(generator: Generator, one: GenerationRequest) -> tuple[float, float, int]:
    """Seconds by the wall and of the processor until it has ended, and its tokens."""
    began, spent = time.perf_counter(), time.process_time()
    (made,) = generator.generate([one])
    assert made.usage is not None
    return time.perf_counter() - began, time.process_time() - spent, made.usage.completion_tokens


def asked(generator: Generator, number: int, prompt: int, answer: int) -> GenerationRequest:
    """A prompt of so many tokens; the random model is not likely to end its answer earlier."""
    text = f"{number} " + "ab " * prompt
    text = generator.counter.truncate(text, prompt - 8)
    turns = (Message(role="user", content=text),)
    return GenerationRequest(turns, text, max_new_tokens=answer)


if __name__ == "__main__":
    main()
