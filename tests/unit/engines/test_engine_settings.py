"""What of a generator's configuration shapes answers: how it is run, as it comes to here."""

from __future__ import annotations

from typing import Any

import pytest

from fti.pipelines.engines import generation
from fti.pipelines.engines.generation import engine_settings
from fti.pipelines.engines.generator import GeneratorConfig


@pytest.mark.parametrize(
    ("changes", "has", "precision"),
    [
        ({}, True, "bfloat16"),
        ({}, False, "float32"),
        ({"precision": "float32"}, True, "float32"),
        ({"precision": "bfloat16"}, False, "bfloat16"),
        ({"packed": False}, True, "float32"),
        ({"dtype": "bfloat16"}, False, "bfloat16"),
    ],
)
def test_the_format_of_products_is_what_it_comes_to_here(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], has: bool, precision: str
) -> None:
    monkeypatch.setattr(generation, "has_bfloat16", lambda device: has)
    said = engine_settings(GeneratorConfig(device="cpu", **changes))
    assert said["precision"] == precision
    assert said["dtype"] == changes.get("dtype", "float32")


def test_sizes_of_batches_shape_no_answer() -> None:
    one, other = (engine_settings(GeneratorConfig(device="cpu", batch_size=n)) for n in (1, 8))
    assert one == other
