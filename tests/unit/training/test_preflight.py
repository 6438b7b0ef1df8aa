"""What is refused before a training begins, and what is foretold."""

from __future__ import annotations

from pathlib import Path

import pytest

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.encoding import IGNORED, EncodedExample
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.training.preflight import Estimate, available_bytes, require_fit
from fti.pipelines.training.steps.loss import Responses
from fti.pipelines.training.steps.methods import trainable
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.errors import IntegrityError, TrainingError
from fti.store.progress import ProgressEvent
from fti.store.store import Store
from tests.support.boxes import FAST, dataset, run
from tests.support.tiny_model import make_tiny_lm

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = make_tiny_lm(tmp_path_factory.mktemp("tiny"))
    return load_causal_lm(ModelConfig(id=str(folder), device="cpu"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def example(prompt: int, response: int) -> EncodedExample:
    ids = [5 + (7 * n) % 400 for n in range(prompt + response)]
    return EncodedExample(input_ids=ids, labels=[IGNORED] * prompt + ids[prompt:])


def estimate(base: LoadedModel, config: TrainingConfig, longest: int = 200) -> Estimate:
    rows = [example(longest - 10 - n, 5) for n in range(16)]
    objective = Responses(
        rows, ids=[f"row{n}" for n in range(16)], validation=rows[:4], config=config, pad=4
    )
    with trainable(base, config) as model:
        return require_fit(model, objective, config)


def test_memory_grows_with_the_batch_and_the_rows(base: LoadedModel) -> None:
    one = estimate(base, FAST)
    twice = estimate(base, FAST.model_copy(update={"batch_size": 8}))
    shorter = estimate(base, FAST, longest=100)

    assert twice.activation_bytes == pytest.approx(2 * one.activation_bytes, rel=0.02)
    assert shorter.activation_bytes == pytest.approx(one.activation_bytes / 2, rel=0.2)
    assert one.steps == 6
    assert one.tokens <= one.padded_tokens < 1.2 * one.tokens
    assert one.seconds is not None
    assert one.seconds > 0


def test_what_is_trained_costs_gradients_and_moments(base: LoadedModel) -> None:
    adapter = estimate(base, FAST)
    whole = estimate(base, FAST.model_copy(update={"method": "full"}))

    assert whole.trained_parameters == sum(p.numel() for p in base.model.parameters())
    assert whole.optimizer_bytes == 16 * whole.trained_parameters
    assert adapter.optimizer_bytes < whole.optimizer_bytes


def test_the_activations_counted_are_those_that_are_kept(base: LoadedModel) -> None:
    # By hand, for one layer of the tiny model: what a Llama block needs for its backward pass is
    # some tens of its widths for every token. A count that missed most of it, or counted shared
    # storage again and again, would lie far outside.
    found = estimate(base, FAST)
    widths = 2 * (10 * 64 + 5 * 128)
    per_token = found.activation_bytes / (4 * 200) / 4

    assert 0.5 * widths < per_token < 4 * widths


def test_checkpointed_activations_are_fewer(base: LoadedModel) -> None:
    plain = estimate(base, FAST)
    checkpointed = estimate(base, FAST.model_copy(update={"gradient_checkpointing": True}))

    assert checkpointed.activation_bytes < 0.7 * plain.activation_bytes


@pytest.mark.parametrize(("share", "rows"), [(1.01, 4), (0.6, 2), (0.45, 1)])
def test_as_many_rows_of_a_batch_are_computed_at_once_as_memory_holds(
    base: LoadedModel, share: float, rows: int
) -> None:
    need = estimate(base, FAST)
    allowed = (need.optimizer_bytes + share * need.activation_bytes) / 1024**3
    config = FAST.model_copy(update={"max_memory_gb": allowed})

    found = estimate(base, config)

    assert found.rows_at_once == rows
    assert found.bytes <= allowed * 1024**3
    assert found.steps == need.steps
    fitted = found.fitted(config)
    assert fitted.batch_size * fitted.gradient_accumulation == FAST.batch_size


def test_where_no_row_fits_checkpointing_is_named(base: LoadedModel) -> None:
    need = estimate(base, FAST.model_copy(update={"batch_size": 1}))
    allowed = (need.optimizer_bytes + 0.8 * need.activation_bytes) / 1024**3

    with pytest.raises(
        TrainingError, match=r"for one row of up to \d+ tokens at a time\), and .*max_memory_gb"
    ) as caught:
        estimate(base, FAST.model_copy(update={"batch_size": 1, "max_memory_gb": allowed}))

    assert "training.gradient_checkpointing=true" in caught.value.hint


@pytest.mark.parametrize(
    ("method", "hint"), [("full", "training.method=lora"), ("lora", "prompt.max_prompt_tokens")]
)
def test_where_the_weights_do_not_fit_a_smaller_method_is_named(
    base: LoadedModel, method: str, hint: str
) -> None:
    config = FAST.model_copy(update={"method": method, "max_memory_gb": 1e-6})

    with pytest.raises(TrainingError) as caught:
        estimate(base, config)

    assert hint in caught.value.hint


def test_an_estimate_changes_nothing(base: LoadedModel) -> None:
    import torch

    with trainable(base, FAST) as model:
        before = {k: v.clone() for k, v in model.state_dict().items()}
        state = torch.random.get_rng_state()
        rows = [example(30, 5) for _ in range(8)]
        objective = Responses(rows, ids=["r"] * 8, validation=[], config=FAST, pad=4)
        require_fit(model, objective, FAST)

        assert torch.equal(torch.random.get_rng_state(), state)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


def test_this_machine_says_how_much_memory_is_free() -> None:
    free = available_bytes("cpu")

    assert free is not None
    assert 2**20 < free < 2**50
    assert available_bytes("mps") is None


def test_what_a_training_will_take_is_told_and_kept(store: Store, base: LoadedModel) -> None:
    events: list[ProgressEvent] = []
    version = run(store, base, dataset(store), progress=events.append)

    (told,) = [e for e in events if e.stage == "preflight"]
    assert told.detail.startswith("6 steps, 4 rows at once, about ")
    assert version.metrics["estimated"]["steps"] == 6
    assert version.metrics["estimated"]["memory_bytes"] > 0


def test_a_dataset_that_was_changed_is_refused(store: Store, base: LoadedModel) -> None:
    data = dataset(store)
    path = store.datasets.path(data.ref) / "test.jsonl"
    path.write_text("{}\n", "utf-8")

    with pytest.raises(IntegrityError, match="boxes/1 is not as published") as caught:
        run(store, base, data)

    assert "fti dataset build boxes" in caught.value.hint


def test_a_dataset_of_another_digest_is_refused(store: Store, base: LoadedModel) -> None:
    data = dataset(store).model_copy(update={"digest": "f" * 64})

    with pytest.raises(IntegrityError, match="not ffffffffffff"):
        run(store, base, data)


def test_documents_that_are_evaluated_on_are_not_trained_on(
    store: Store, base: LoadedModel
) -> None:
    with pytest.raises(
        TrainingError, match=r"16 training rows .* that quiz/1 is about: d-train \(rows train0"
    ) as caught:
        run(store, base, dataset(store), held_out={"quiz/1": frozenset({"d-train"})})

    assert "fti dataset build boxes" in caught.value.hint


def test_a_row_that_shows_a_held_out_document_is_refused(store: Store, base: LoadedModel) -> None:
    data = dataset(store, shown_in_train="d-validation")

    with pytest.raises(TrainingError, match="that the validation split is about: d-validation"):
        run(store, base, data)
