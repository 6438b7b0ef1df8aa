"""The lean BERT encoder: the numbers of transformers, and only where it is that model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from fti.pipelines.engines.embedders.bert import bert_encoder

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


def model(**settings: Any) -> Any:
    torch.manual_seed(0)
    return BertModel(BertConfig(**(SMALL | settings))).eval()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("types", [False, True])
def test_hidden_states_are_those_of_transformers(padded: bool, types: bool) -> None:
    bert = model()
    encoder = bert_encoder(bert)
    assert encoder is not None
    ids = torch.randint(0, 50, (5, 33))
    mask = torch.ones_like(ids)
    if padded:
        for row, length in enumerate((33, 1, 7, 20, 32)):
            mask[row, length:] = 0
    kinds = torch.randint(0, 2, ids.shape) if types else None
    with torch.inference_mode():
        wanted = bert(input_ids=ids, attention_mask=mask, token_type_ids=kinds).last_hidden_state
        found = encoder(ids, mask, kinds)
        again = encoder(ids, mask, kinds)
    read = mask.bool()
    torch.testing.assert_close(found[read], wanted[read], rtol=0.0, atol=1e-5)
    assert torch.equal(found[read], again[read]), "nothing of the model was written over"


def test_weights_that_change_change_it_too() -> None:
    bert = model()
    encoder = bert_encoder(bert)
    assert encoder is not None
    ids = torch.randint(0, 50, (2, 9))
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        before = encoder(ids, mask)
        bert.encoder.layer[1].output.dense.weight.mul_(1.5)
        wanted = bert(input_ids=ids, attention_mask=mask).last_hidden_state
        after = encoder(ids, mask)
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, wanted, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: model(hidden_act="relu"), id="another activation"),
        pytest.param(lambda: model().to(torch.bfloat16), id="another precision"),
        pytest.param(lambda: model(output_hidden_states=True), id="all layers asked for"),
        pytest.param(
            lambda: RobertaModel(RobertaConfig(**(SMALL | {"max_position_embeddings": 60}))),
            id="another architecture",
        ),
    ],
)
def test_other_models_have_none(other: Any) -> None:
    assert bert_encoder(other()) is None


def test_a_model_that_computes_something_else_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    bert = model()
    real = BertModel.forward

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(self, *args, **kwargs)
        found.last_hidden_state = found.last_hidden_state + 0.01
        return found

    monkeypatch.setattr(BertModel, "forward", changed)
    assert bert_encoder(bert) is None
