from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fti.pipelines.engines.cross_encoders.entailment import EntailmentConfig, load_entailment
from fti.pipelines.engines.model_files import file_sha256
from fti.store.errors import ConfigError, IntegrityError, ModelUnavailable
from tests.support.tiny_model import make_cross_encoder

PAIRS = [
    ("The kiln is fired on Thursdays.", "The kiln is fired."),
    ("Books are lent for three weeks. " * 40, "Books are lent."),
    ("The workshop opens at nine.", "Nobody may enter before nine. " * 40),
]


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = ("contradiction", "Entailment", "neutral")
    return make_cross_encoder(tmp_path_factory.mktemp("models") / "tiny-nli", labels=labels)


def config(folder: Path, **changes: object) -> EntailmentConfig:
    return EntailmentConfig.model_validate({"id": str(folder), "device": "cpu", **changes})


def test_none_is_the_default() -> None:
    assert load_entailment(EntailmentConfig()) is None


def test_a_probability_is_the_softmax_of_the_entailment_label(nli: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    entailment = load_entailment(config(nli, batch_size=2, max_tokens=128))
    assert entailment is not None
    model = AutoModelForSequenceClassification.from_pretrained(nli).eval()
    tokenizer = AutoTokenizer.from_pretrained(nli)
    with torch.inference_mode():
        expected = [
            model(**tokenizer(premise, claim, truncation=True, max_length=128, return_tensors="pt"))
            .logits.softmax(-1)[0, 1]
            .item()
            for premise, claim in PAIRS
        ]

    found = entailment.probabilities(PAIRS)

    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(set(found.round(4).tolist())) == 3, "the order they were asked in is kept"
    assert entailment.probabilities([]).shape == (0,)
    assert entailment.identity.weights_sha256 == file_sha256(nli / "model.safetensors")


def test_another_name_of_the_label_can_be_configured(nli: Path) -> None:
    with pytest.raises(ConfigError, match=r"no label 'yes', but 'contradiction', 'Entailment'"):
        load_entailment(config(nli, label="yes"))
    neutral, entailed = (load_entailment(config(nli, label=n)) for n in ("NEUTRAL", "entailment"))
    assert neutral is not None
    assert entailed is not None
    assert (neutral.probabilities(PAIRS) + entailed.probabilities(PAIRS) < 1).all()


def test_a_model_that_is_not_here_or_is_damaged_says_so(nli: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="acme/nli") as caught:
        load_entailment(EntailmentConfig(id="acme/nli", revision="a" * 40))
    assert "hf download acme/nli" in caught.value.hint
    with pytest.raises(ConfigError, match="pinned revision"):
        load_entailment(EntailmentConfig(id="acme/nli"))
    for file in nli.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        load_entailment(config(tmp_path))
