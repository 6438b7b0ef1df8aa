from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti.pipelines.engines.encoding import IGNORED, EncodedExample
from fti.pipelines.training.steps.batches import collate, padded_tokens, plan_order
from fti.pipelines.training.steps.loss import measure, response_logits
from fti.pipelines.training.steps.trainer import newest_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from fti.pipelines.engines.causal_lm.loading import load_causal_lm
    from fti.pipelines.engines.model_config import ModelConfig
    from tests.support.tiny_model import make_tiny_lm

    folder = make_tiny_lm(tmp_path_factory.mktemp("tiny"))
    return load_causal_lm(ModelConfig(id=str(folder), device="cpu")).model


def example(prompt: int, response: int) -> EncodedExample:
    ids = [5 + (7 * n) % 400 for n in range(prompt + response)]
    return EncodedExample(input_ids=ids, labels=[IGNORED] * prompt + ids[prompt:])


@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=60),
    batch=st.integers(1, 9),
    rows=st.integers(1, 200),
    seed=st.integers(0, 5),
)
def test_every_row_comes_as_often_as_any_other(
    lengths: list[int], batch: int, rows: int, seed: int
) -> None:
    order = plan_order(lengths, batch=batch, rows=rows, seed=seed)

    times = [order.count(i) for i in range(len(lengths))]
    assert len(order) == rows
    assert max(times) - min(times) <= 1
    assert order == plan_order(lengths, batch=batch, rows=rows, seed=seed)


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = [10 + (37 * n) % 500 for n in range(256)]

    def padded(order: list[int]) -> int:
        return padded_tokens([lengths[i] for i in order], 8) - sum(lengths)

    grouped = plan_order(lengths, batch=8, rows=256, seed=1)
    random = plan_order(lengths, batch=8, rows=256, seed=1, group=False)
    assert padded(grouped) < 0.3 * padded(random)


def test_the_longest_batch_of_the_first_group_comes_first() -> None:
    lengths = list(range(1, 65))

    order = plan_order(lengths, batch=4, rows=64, seed=3)

    assert sorted(order[:4]) == [60, 61, 62, 63]


def test_another_seed_is_another_order() -> None:
    assert plan_order([3] * 40, batch=4, rows=40, seed=1) != plan_order(
        [3] * 40, batch=4, rows=40, seed=2
    )


def test_padding_is_neither_read_nor_learned() -> None:
    batch = collate([(4, example(6, 2)), (9, example(3, 1))], pad=0)

    assert batch["rows"].tolist() == [4, 9]
    assert batch["attention_mask"].sum(dim=1).tolist() == [8, 4]
    assert batch["labels"][1].tolist() == [IGNORED] * 3 + [batch["input_ids"][1, 3].item()] + (
        [IGNORED] * 4
    )


def test_only_the_response_has_a_loss(model: Any) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    batch = collate([(0, example(40, 5)), (1, example(23, 9)), (2, example(31, 2))], pad=4)
    with torch.no_grad():
        logits, targets, rows = response_logits(model, batch)
        whole = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[
            :, :-1
        ]

    assert len(logits) == len(targets) == 5 + 9 + 2  # nothing else is projected
    assert rows.bincount().tolist() == [5, 9, 2]
    ours = cross_entropy(logits, targets)
    full = cross_entropy(
        whole.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED
    )
    assert ours.item() == pytest.approx(full.item(), rel=1e-5)


def test_a_measurement_does_not_depend_on_the_batch(model: Any) -> None:
    examples = [example(10 + 9 * n, 1 + n % 4) for n in range(7)]

    one = measure(model, examples, batch=1, pad=4)
    many = measure(model, examples, batch=4, pad=4)

    assert one.loss == pytest.approx(many.loss, rel=1e-4)
    assert one.exact == many.exact


def test_a_response_is_exact_when_greedy_decoding_gives_it(model: Any) -> None:
    import torch

    prompt = example(12, 1).input_ids[:12]
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, 12, dtype=torch.long),
            max_new_tokens=4,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=4,
        )[0].tolist()
    right = EncodedExample(out, [IGNORED] * 12 + out[12:])
    wrong = EncodedExample([*out[:-1], out[-1] + 1], [IGNORED] * 12 + [*out[12:-1], out[-1] + 1])

    assert measure(model, [right, wrong], batch=2, pad=4).exact == 0.5


def test_only_whole_checkpoints_are_gone_on_from(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / "log.json").write_text("{}", "utf-8")

    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-11").exists()
