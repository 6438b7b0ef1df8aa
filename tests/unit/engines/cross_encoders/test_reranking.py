from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fti.pipelines.engines.cross_encoders.reranking import (
    CrossEncoderReranker,
    LexicalReranker,
    RerankerConfig,
    load_reranker,
    rerank,
)
from fti.pipelines.engines.model_files import file_sha256
from fti.store.errors import EngineError, ModelUnavailable
from fti.store.types import Passage
from tests.support.tiny_model import make_cross_encoder

TEXTS = [
    "Bikes are repaired at the stand by the door.",
    "The kiln is fired on Thursdays.",
    "The workshop opens at nine, and the kiln room at ten.",
]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("models") / "tiny-judge")


def passages() -> list[Passage]:
    return [
        Passage(
            rank=n, chunk_id=f"c{n}", document_id="d", source="s", title="", text=text, score=9.0
        )
        for n, text in enumerate(TEXTS, start=1)
    ]


def test_none_is_the_default() -> None:
    assert load_reranker(RerankerConfig()) is None


def test_shared_rare_words_decide_the_lexical_order() -> None:
    scores = LexicalReranker().score("When is the kiln fired?", TEXTS)

    assert int(scores.argmax()) == 1
    assert scores[2] > scores[0]


def test_no_texts_have_no_scores() -> None:
    assert LexicalReranker().score("kiln", []).shape == (0,)
    assert rerank(LexicalReranker(), "kiln", []) == []


def test_reranking_renews_rank_and_score_and_keeps_the_rest() -> None:
    ranked = rerank(LexicalReranker(), "When is the kiln fired?", passages())

    assert [p.chunk_id for p in ranked] == ["c2", "c3", "c1"]
    assert [p.rank for p in ranked] == [1, 2, 3]
    assert ranked[0].score > ranked[1].score > ranked[2].score
    assert ranked[0].text == TEXTS[1]


def test_equals_keep_their_order() -> None:
    ranked = rerank(LexicalReranker(), "zanzibar", passages())

    assert [p.chunk_id for p in ranked] == ["c1", "c2", "c3"]


def test_a_cross_encoder_scores_as_the_model_itself_does(cross_encoder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reranker = load_reranker(
        RerankerConfig(engine="cross-encoder", id=str(cross_encoder), device="cpu", batch_size=2)
    )
    assert reranker is not None
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    with torch.inference_mode():
        expected = [
            float(model(**tokenizer("kiln?", text, return_tensors="pt")).logits) for text in TEXTS
        ]

    scores = reranker.score("kiln?", TEXTS)

    assert np.argsort(scores).tolist() == np.argsort(expected).tolist()
    np.testing.assert_allclose(scores, torch.sigmoid(torch.tensor(expected)).numpy(), atol=1e-4)
    assert reranker.identity.id == "tiny-judge"
    assert reranker.identity.weights_sha256 == file_sha256(cross_encoder / "model.safetensors")
    assert reranker.score("kiln?", []).shape == (0,)


def test_a_classifier_with_several_outputs_is_no_reranker(tmp_path: Path) -> None:
    folder = make_cross_encoder(tmp_path / "three", outputs=3)
    config = RerankerConfig(engine="cross-encoder", id=str(folder), device="cpu")

    reranker = load_reranker(config)

    assert isinstance(reranker, CrossEncoderReranker)
    with pytest.raises(EngineError, match="one output"):
        reranker.score("kiln?", TEXTS)


def test_a_reranker_that_is_not_here_says_how_to_fetch_it() -> None:
    config = RerankerConfig(engine="cross-encoder", id="acme/judge", revision="a" * 40)

    with pytest.raises(ModelUnavailable) as caught:
        load_reranker(config)

    assert "hf download acme/judge" in caught.value.hint


def test_a_cross_encoder_is_named_for_its_engine() -> None:
    with pytest.raises(ValidationError, match=r"reranker\.id"):
        RerankerConfig(engine="cross-encoder")
    # --set reranker.engine=none takes out what the profile names, and leaves it named.
    assert load_reranker(RerankerConfig(id="acme/judge")) is None
