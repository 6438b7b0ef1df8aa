"""Learning from pairs: the loss is the paper's, and the better response becomes likelier."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.encoding import IGNORED, EncodedExample, PromptEncoder
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.training.examples import EncodedPair, EncodedPairs, encode_pairs
from fti.pipelines.training.preferences import Preferences, log_likelihoods
from fti.pipelines.training.steps import methods
from fti.pipelines.training.steps.methods import trainable
from fti.pipelines.training.steps.trainer import train_model
from fti.store.errors import TrainingError
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from fti.store.types import PreferenceExample, Split
from tests.support import boxes
from tests.support.boxes import COLOURS, FAST, FORM, contract_for, run
from tests.support.tiny_model import make_tiny_lm
from tests.support.values import EMBEDDER, a_passage

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = make_tiny_lm(tmp_path_factory.mktemp("tiny"))
    return load_causal_lm(ModelConfig(id=str(folder), device="cpu"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def pair(n: int) -> EncodedPair:
    prompt = [20 + (n * 13 + k * 7) % 300 for k in range(9 + n % 5)]

    def ending(*ids: int) -> EncodedExample:
        return EncodedExample([*prompt, *ids], [IGNORED] * len(prompt) + list(ids))

    # Of differing lengths; what is better is always the same kind of ending.
    return EncodedPair(chosen=ending(11, 12, 13 + n % 2), rejected=ending(*range(200, 204 + n % 3)))


def objective(pairs: int = 12, validation: int = 4, **changes: Any) -> Preferences:
    return Preferences(
        [pair(n) for n in range(pairs)],
        ids=[f"pair{n}" for n in range(pairs)],
        validation=[pair(n) for n in range(pairs, pairs + validation)],
        config=FAST.model_copy(update=changes),
        pad=4,
    )


def by_hand(model: Any, example: EncodedExample) -> float:
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
    return sum(
        float(logits[place - 1, label])
        for place, label in enumerate(example.labels)
        if label != IGNORED
    )


def test_likelihoods_are_sums_over_the_response_alone(base: LoadedModel) -> None:
    import torch

    pairs = objective()
    batch = pairs.batch([0, 3, 4])
    with torch.no_grad():
        found = log_likelihoods(base.model, batch).tolist()

    rows = [*(pair(n).chosen for n in (0, 3, 4)), *(pair(n).rejected for n in (0, 3, 4))]
    assert found == pytest.approx([by_hand(base.model, row) for row in rows], rel=1e-4)


def test_an_untrained_model_prefers_nothing(base: LoadedModel) -> None:
    pairs = objective()
    pairs.remember(base.model)

    measured = pairs.measure(base.model)

    assert measured is not None
    assert measured.loss == pytest.approx(math.log(2), abs=1e-4)


def test_the_loss_is_the_papers(base: LoadedModel) -> None:
    import torch

    pairs = objective(beta=0.3)
    pairs.remember(base.model)
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    reference = [(by_hand(base.model, pair(n).chosen), by_hand(base.model, pair(n).rejected))
                 for n in (1, 2)]  # fmt: skip
    with torch.no_grad():
        base.model.model.norm.weight.mul_(0.9)
        found = float(pairs.loss(base.model, pairs.batch([1, 2])))
        now = [(by_hand(base.model, pair(n).chosen), by_hand(base.model, pair(n).rejected))
               for n in (1, 2)]  # fmt: skip
        base.model.load_state_dict(before)

    expected = [
        math.log1p(math.exp(-0.3 * ((c - rc) - (r - rr))))
        for (c, r), (rc, rr) in zip(now, reference, strict=True)
    ]
    assert found == pytest.approx(sum(expected) / 2, rel=1e-3)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_better_response_becomes_likelier(
    base: LoadedModel, tmp_path: Path, method: str
) -> None:
    pairs = objective(method=method, max_steps=10, dropout=0.0)
    rate = 0.005 if method == "lora" else 5e-4
    config = FAST.model_copy(update={"method": method, "max_steps": 10, "dropout": 0.0})
    with trainable(base, config) as model:
        log = train_model(model, pairs, config=config, learning_rate=rate, folder=tmp_path)
        best = pairs.measure(model)

    assert log.before is not None
    assert log.before.loss == pytest.approx(math.log(2), abs=1e-4)
    assert best is not None
    assert best.loss < 0.66 < log.before.loss
    assert best.exact == 1.0


def test_the_better_response_becomes_likelier_in_bfloat16_too(
    base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A CPU without the instructions emulates them: slow, and the same numbers.
    monkeypatch.setattr(methods, "has_bfloat16", lambda device: True)
    pairs = objective(max_steps=10, dropout=0.0)
    config = FAST.model_copy(update={"max_steps": 10, "dropout": 0.0, "precision": "bfloat16"})
    with trainable(base, config) as model:
        log = train_model(model, pairs, config=config, learning_rate=0.005, folder=tmp_path)
        best = pairs.measure(model)

    assert log.before is not None
    assert log.before.loss == pytest.approx(math.log(2), abs=5e-3)
    assert best is not None
    assert best.loss < 0.67 < log.before.loss


def preference(n: int, split: Split, **changes: Any) -> PreferenceExample:
    colour, other = COLOURS[n % 8], COLOURS[(n + 3) % 8]
    passages = (
        a_passage(f"Box {n} is {colour}.", chunk_id=f"c{n}"),
        a_passage(f"Bag {n} is {other}.", rank=2, chunk_id=f"z{n}"),
    )
    fields = {
        "id": f"{split}{n}",
        "kind": "wrong_passage",
        "question": f"What colour is box {n}?",
        "passages": passages,
        "chosen": colour,
        "chosen_citations": (1,),
        "chosen_response": "",
        "rejected": other,
        "rejected_citations": (2,),
        "rejected_response": "",
        "split": split,
        "documents": (f"d-{split}",),
    }
    return PreferenceExample(**(fields | changes))


def encoded(base: LoadedModel, *rows: PreferenceExample, **changes: Any) -> EncodedPairs:
    return encode_pairs(
        rows, contract=contract_for(base, **changes), encoder=PromptEncoder(base.tokenizer)
    )


def test_both_responses_answer_the_very_prompt_that_is_served(base: LoadedModel) -> None:
    (one,) = encoded(base, preference(1, "train")).examples
    prompt = one.chosen.labels.count(IGNORED)

    assert one.chosen.input_ids[:prompt] == one.rejected.input_ids[:prompt]
    assert one.rejected.labels[:prompt] == [IGNORED] * prompt
    said = [
        base.tokenizer.decode(row.input_ids[prompt:], skip_special_tokens=True)
        for row in (one.chosen, one.rejected)
    ]
    assert said == ["blue [1]", "black [2]"]


def test_an_abstention_may_be_either_side(base: LoadedModel) -> None:
    row = preference(1, "train", chosen="", chosen_citations=())
    (one,) = encoded(base, row).examples

    prompt = one.chosen.labels.count(IGNORED)
    said = base.tokenizer.decode(one.chosen.input_ids[prompt:], skip_special_tokens=True)
    assert said == FORM.abstention


def test_pairs_that_no_model_could_answer_so_are_left_out(base: LoadedModel) -> None:
    rows = [
        preference(1, "train"),
        preference(2, "train", rejected="long " * 60, rejected_citations=()),
    ]

    assert encoded(base, *rows, max_passages=1).dropped == {
        "rejected_cites_what_is_not_shown": 1,
        "response_too_long": 1,
    }


def test_a_dataset_of_pairs_makes_a_version_that_prefers_better(
    store: Store, base: LoadedModel
) -> None:
    data = store.datasets.publish(
        "pairs",
        rows={
            "train": [preference(n, "train") for n in range(16)],
            "validation": [preference(n, "validation") for n in range(16, 20)],
        },
        features_version=3,
        embedder=EMBEDDER,
        prompt_digest=FORM.digest,
        run_id="r-20260101-000000-000000",
    )
    config = FAST.model_copy(update={"max_steps": 12, "checkpoint_s": 0.0, "dropout": 0.2})

    def killer(event: ProgressEvent) -> None:
        if event.stage == "finetune" and event.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store, base, data, config, progress=killer)
    resumed = run(store, base, data, config)
    whole = run(store, base, data, config)

    further = run(store, base, data, config.model_copy(update={"rank": 8}), start=resumed)

    assert further.parent == resumed.ref
    assert further.adapter is not None
    assert further.adapter.rank == FAST.rank  # that of the version gone on from
    assert further.metrics["validation_loss_before"] == pytest.approx(math.log(2), abs=1e-4)
    metrics = resumed.metrics
    assert metrics["resumed_from_step"] == 6
    assert metrics["validation_loss"] < 0.69 < metrics["validation_loss_before"] + 0.01
    assert metrics["validation_preferred"] > 0.5
    digests = [{f.path: f.sha256 for f in v.files} for v in (resumed, whole)]
    assert digests[0]["adapter_model.safetensors"] == digests[1]["adapter_model.safetensors"]


def test_training_goes_on_from_what_a_version_had_learned(store: Store, base: LoadedModel) -> None:
    data = boxes.dataset(store)
    first = run(store, base, data)
    second = run(store, base, data, start=first)

    assert second.metrics["validation_loss_before"] == pytest.approx(
        first.metrics["validation_loss"], rel=1e-4
    )
    assert second.parent == first.ref
    assert store.runs.get(second.run_id).inputs["parent"] == first.ref


@pytest.mark.parametrize(("begun", "asked"), [("lora", "full"), ("full", "lora")])
def test_an_adapter_does_not_go_on_as_a_whole_model_nor_the_other_way(
    store: Store, base: LoadedModel, begun: str, asked: str
) -> None:
    data = boxes.dataset(store)
    first = run(store, base, data, FAST.model_copy(update={"method": begun, "max_steps": 1}))

    with pytest.raises(TrainingError, match=r"reader/1 is .* cannot go on from it by") as caught:
        run(store, base, data, FAST.model_copy(update={"method": asked}), start=first)

    assert f"training.method={begun}" in caught.value.hint
