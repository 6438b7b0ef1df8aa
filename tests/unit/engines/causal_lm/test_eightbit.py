"""8 bits that keep what a model says: scales moved between layers, and channels that stand out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from fti.pipelines.engines.causal_lm import eightbit

IDS = torch.arange(3, 63).reshape(2, 30)


def model_of(kind: str, **more: Any) -> Any:
    """A random model whose channels differ in size as those of a trained one do."""
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(
        **{
            "vocab_size": 96, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        } | more,
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if "layernorm" in name:  # as in trained models: few channels are much larger
            parameter[torch.randperm(64)[:3]] *= 40
        elif name.endswith("bias"):
            parameter.normal_()
    return model


def divergence(one: Any, other: Any) -> float:
    """Mean KL divergence of the next token's distribution."""
    with torch.inference_mode():
        p, q = (m(input_ids=IDS).logits.log_softmax(-1) for m in (one, other))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Llama", {}),
        ("Llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
        ("Mistral", {"head_dim": 16}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 32}),
    ],
)
def test_a_smoothed_model_says_the_same(kind: str, more: dict[str, Any]) -> None:
    model = model_of(kind, **more)
    whole = copy.deepcopy(model)
    assert eightbit.smooth(model, IDS) == 2
    for name, parameter in model.model.layers[0].named_parameters():
        scaled = not name.endswith("bias") or "v_proj" in name or "up_proj" in name
        moved = not torch.equal(parameter, whole.model.layers[0].get_parameter(name))
        assert moved == (scaled and "q_norm" not in name and "k_norm" not in name), name
    with torch.inference_mode():
        torch.testing.assert_close(
            model(input_ids=IDS).logits, whole(input_ids=IDS).logits, rtol=1e-3, atol=1e-4
        )


def test_other_blocks_are_left_alone() -> None:
    model = model_of("Gemma2", head_dim=16)
    whole = copy.deepcopy(model)
    assert eightbit.smooth(model, IDS) == 0
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


def test_smoothing_keeps_what_plain_eight_bits_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("Llama")
    smoothed = eightbit.in_eight_bits(copy.deepcopy(model), Counting())
    assert type(smoothed.lm_head) is torch.nn.Linear
    assert type(smoothed.model.layers[0].mlp.up_proj) is not torch.nn.Linear
    monkeypatch.setattr(eightbit, "smooth", lambda model, ids: 0)
    plain = eightbit.in_eight_bits(copy.deepcopy(model), Counting())
    assert divergence(model, smoothed) < 0.5 * divergence(model, plain)


class Counting:
    """A tokenizer of as many ids as the text has words."""

    def encode(self, text: str) -> list[int]:
        return [len(word) % 96 for word in text.split()][:60]
