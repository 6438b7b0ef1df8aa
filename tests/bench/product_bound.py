"""What the matrix products of a model allow at most on this machine, and nothing else.

    python -m tests.bench.product_bound --set generator.precision=float32

Every linear layer of the model that answers is called alone, as serving calls it (packed, in its
precision), on as many rows as are read at once. A service that did nothing but read prompts, and
lost no time to attention, norms, retrieval, HTTP and Python, would read so many tokens a second.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from fti.app.build import Engines
from fti.app.settings import load_settings
from fti.pipelines.engines.causal_lm.loading import load_to_answer
from fti.pipelines.engines.generation import load_generator
from fti.store.contracts.prompt_contract import BUILTIN_FORM

ROWS = 256  # tokens of a prompt that are multiplied at once
_TIMES = 7


def product_bound(settings: Sequence[str]) -> dict[str, float]:
    """Tokens a second, thousands of millions of operations a second, and the kept beginning.

    Args:
        settings: ``KEY=VALUE`` each.
    """
    import torch

    config = load_settings(overrides=list(settings)).generator
    loaded = load_to_answer(config)
    generator: Any = load_generator(
        config, embedder=Engines(load_settings()).embedder, loaded=loaded
    )
    shapes: Counter[tuple[int, int]] = Counter()
    layers: dict[tuple[int, int], Callable[[Any], Any]] = {}
    for layer in loaded.model.modules():
        if isinstance(layer, torch.nn.Linear) and layer.out_features < 10_000:  # not the output
            shape = (layer.in_features, layer.out_features)
            shapes[shape] += 1
            layers[shape] = layer
    seconds = operations = 0.0
    with torch.inference_mode():
        for shape, count in shapes.items():
            given = torch.randn(ROWS, shape[0])
            took = []
            for _ in range(_TIMES):
                began = time.perf_counter()
                for _ in range(10):
                    layers[shape](given)
                took.append((time.perf_counter() - began) / 10)
            seconds += count * median(took[2:])
            operations += count * 2.0 * ROWS * shape[0] * shape[1]
    beginnings = [generator.counter.encode(BUILTIN_FORM.messages(text)) for text in ("a", "9 b")]
    same = [a == b for a, b in zip(*beginnings, strict=False)]
    return {
        "tokens_per_second": round(ROWS / seconds, 1),
        "gflops": round(operations / seconds / 1e9, 1),
        "kept_tokens": same.index(False) if False in same else len(same),
    }


def main() -> None:
    """Print the bound as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set", action="append", default=[], help="settings, as fti takes them")
    print(json.dumps(product_bound(parser.parse_args().set)))


if __name__ == "__main__":
    main()
