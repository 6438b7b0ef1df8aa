"""Packed linear layers: the same products, of the weights as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fti.pipelines.engines import packed
from fti.pipelines.engines.causal_lm import transformers_generator
from fti.pipelines.engines.causal_lm.decoding import forward
from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.causal_lm.transformers_generator import serve_here
from fti.pipelines.engines.generator import GeneratorConfig
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.engines.packed import PackedForward, is_packed, pack_linears
from fti.pipelines.engines.weights import has_bfloat16
from fti.store.errors import ConfigError
from tests.support.tiny_model import make_adapter

ROWS = torch.linspace(-2.0, 2.0, 3 * 24).view(3, 24)


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.manual_seed(3)
    return torch.nn.Linear(24, 40)


@pytest.fixture
def fresh_lm(tiny_lm: Path) -> LoadedModel:
    return load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu"))


@pytest.fixture(scope="module")
def adapter(tiny_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_lm, tmp_path_factory.mktemp("adapters") / "a")


def inferred(layer: Any, rows: torch.Tensor = ROWS) -> torch.Tensor:
    with torch.inference_mode():
        product: torch.Tensor = layer(rows)
    return product


@pytest.mark.parametrize("shape", [(3, 24), (1, 3, 24), (3, 1, 24), (1, 24), (1, 1, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_products_are_the_layers_own(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    layer = torch.nn.Linear(24, 40, bias=bias)
    rows = torch.linspace(-2.0, 2.0, torch.Size(shape).numel()).view(shape)

    found, wanted = inferred(PackedForward(layer), rows), inferred(layer, rows)

    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_a_lone_row_are_bit_for_bit_what_they_were(
    layer: torch.nn.Linear, count: int
) -> None:
    rows = torch.linspace(-2.0, 2.0, count * 24).view(count, 24)
    assert torch.equal(inferred(PackedForward(layer), rows), inferred(layer, rows))


@pytest.mark.parametrize("count", [16, 17, 32, 255, 256, 257, 700])
def test_many_rows_are_multiplied_in_parts_and_come_out_in_their_places(
    layer: torch.nn.Linear, count: int
) -> None:
    rows = torch.linspace(-2.0, 2.0, count * 24).view(1, count, 24)
    found, wanted = inferred(PackedForward(layer), rows), inferred(layer, rows)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-5)


def test_what_many_rows_give_does_not_hang_on_how_many_there_are(layer: torch.nn.Linear) -> None:
    """The routines that oneDNN keeps are few, whatever lengths prompts have."""
    ours, seen = PackedForward(layer), set()
    multiply = ours._multiply

    def counted(given: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.add(len(given))
        return multiply(given, *rest)

    ours._multiply = counted
    for count in range(1, 600, 7):
        inferred(ours, torch.ones(count, 24))
    assert len(seen) < 30


@pytest.mark.skipif(not has_bfloat16("cpu"), reason="this CPU has no bfloat16")
@pytest.mark.parametrize("count", [1, 5, 40, 300])
def test_bfloat16_rounds_products_and_nothing_else(count: int) -> None:
    torch.manual_seed(3)
    large, head = torch.nn.Linear(400, 300), torch.nn.Linear(300, 500)
    small = torch.nn.Linear(300, 20)
    model = WithHead(torch.nn.ModuleList([large, small, head]), head)
    wanted = inferred(large, torch.linspace(-2.0, 2.0, count * 400).view(count, 400))
    exact = inferred(head, wanted), inferred(small, wanted)

    assert pack_linears(model, bfloat16=True) == 3
    found = inferred(large, torch.linspace(-2.0, 2.0, count * 400).view(count, 400))
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert torch.allclose(found, wanted, atol=2e-2 * float(wanted.abs().max()))
    for layer, said in zip((head, small), exact, strict=True):
        assert torch.allclose(inferred(layer, wanted), said, atol=1e-4), "those stay in float32"


class WithHead(torch.nn.Module):
    def __init__(self, layers: torch.nn.ModuleList, head: torch.nn.Linear) -> None:
        super().__init__()
        self.layers, self.head = layers, head

    def get_output_embeddings(self) -> torch.nn.Linear:
        return self.head


def test_bfloat16_on_a_cpu_without_it_is_refused_in_words(
    fresh_lm: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_generator, "has_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match="bfloat16"):
        serve_here(fresh_lm, GeneratorConfig(precision="bfloat16"))


@pytest.mark.parametrize("change", ["in place", "other weights"])
def test_weights_that_change_are_followed(layer: torch.nn.Linear, change: str) -> None:
    ours = PackedForward(layer)
    with torch.no_grad():
        if change == "in place":
            layer.weight.mul_(2.0)
        else:
            layer.weight = torch.nn.Parameter(torch.ones(40, 24))

    assert torch.equal(inferred(ours), inferred(layer))


def test_gradients_flow_to_the_weights_and_through(layer: torch.nn.Linear) -> None:
    rows = ROWS.clone().requires_grad_()

    PackedForward(layer)(rows).sum().backward()

    assert rows.grad is not None
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad, ROWS.sum(0).expand(40, -1))


def test_only_layers_that_this_is_for_are_exchanged(layer: torch.nn.Linear) -> None:
    model = torch.nn.ModuleDict(
        {
            "plain": layer,
            "short": torch.nn.Linear(24, 40, dtype=torch.bfloat16),
            "embedding": torch.nn.Embedding(10, 24),
        }
    )

    assert pack_linears(model) == 1
    assert pack_linears(model) == 0
    assert is_packed(model["plain"])
    assert model["plain"] is layer
    assert not is_packed(model["short"])


def test_a_routine_that_gives_other_numbers_is_left_aside(
    layer: torch.nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(PackedForward):
        def __call__(self, given: torch.Tensor) -> torch.Tensor:
            return super().__call__(given) * 1.01

    monkeypatch.setattr(packed, "PackedForward", Wrong)
    model = torch.nn.Sequential(layer)

    assert pack_linears(model) == 0
    assert not is_packed(layer)


def test_a_model_says_the_same_with_packed_layers_and_with_adapters_on_them(
    tiny_lm: Path, adapter: Path
) -> None:
    plain, ours = (load_causal_lm(ModelConfig(id=str(tiny_lm), device="cpu")) for _ in range(2))
    assert pack_linears(ours.model) > 4
    ids = torch.arange(5, 17).view(2, 6)

    for on_plain, on_ours in (
        (None, None),
        (plain.add_adapter(adapter), ours.add_adapter(adapter)),
    ):
        wanted, _ = forward(plain, on_plain, ids, None, None)
        found, _ = forward(ours, on_ours, ids, None, None)
        assert torch.allclose(found, wanted, atol=1e-4)
    ours.remove_adapter("adapter1")
    assert any(map(is_packed, ours.model.modules()))


@pytest.mark.parametrize("wanted", [True, False])
def test_a_generator_packs_unless_told_not_to(fresh_lm: LoadedModel, wanted: bool) -> None:
    serve_here(fresh_lm, GeneratorConfig(packed=wanted))

    assert any(map(is_packed, fresh_lm.model.modules())) is wanted
