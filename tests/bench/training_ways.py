"""One training of the built-in model, one way, in a process of its own; prints what it took.

    python -m tests.bench.training_ways WAY ROWS.json

``bare`` is the loop that anybody would write with PyTorch and peft: shuffled batches, padded to
their longest row, the loss that the model itself computes. ``ours`` is what ``fti finetune`` runs,
``ungrouped`` the same with the bare loop's order. ``trl`` is its SFTTrainer as it comes, but in
float32 (its default, bfloat16, it refuses on most CPUs). All train the same adapter on the same
rows with the same batch size, each row once.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fti.pipelines.engines.causal_lm.loading import load_causal_lm
from fti.pipelines.engines.encoding import IGNORED, EncodedExample
from fti.pipelines.engines.model_config import ModelConfig
from fti.pipelines.training.steps.batches import collate
from fti.pipelines.training.steps.loss import Responses
from fti.pipelines.training.steps.methods import trainable
from fti.pipelines.training.training_config import TrainingConfig

CONFIG = TrainingConfig(epochs=1, batch_size=8, learning_rate=1e-4, checkpoint_s=1e9, dropout=0.0)
PAD = 0


def main() -> None:
    way, file = sys.argv[1:]
    rows = [EncodedExample(*row) for row in json.loads(Path(file).read_text("utf-8"))]
    base = load_causal_lm(ModelConfig(device="cpu"))
    with trainable(base, CONFIG) as model:
        _bare(model, rows[:2])  # what is allocated and compiled once
        resting = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        seconds = {"bare": _bare, "ours": _ours, "ungrouped": _ungrouped, "trl": _trl}[way](
            model, rows
        )
        peak = _memory("VmHWM")
    tokens = sum(len(row.input_ids) for row in rows)
    print(
        json.dumps(
            {
                "tokens_per_second": tokens / seconds,
                "peak_mb": peak,
                "training_mb": peak - resting,
                "seconds": seconds,
            }
        )
    )


def _bare(model: Any, rows: list[EncodedExample]) -> float:
    import torch

    model.train()
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad), lr=CONFIG.peak_rate()
    )
    started = time.perf_counter()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(7)).tolist()
    for at in range(0, len(rows), CONFIG.batch_size):
        batch = collate([(i, rows[i]) for i in order[at : at + CONFIG.batch_size]], pad=PAD)
        batch.pop("rows")
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def _ours(model: Any, rows: list[EncodedExample]) -> float:
    from fti.pipelines.training.steps.trainer import train_model

    objective = Responses(
        rows, ids=[str(n) for n in range(len(rows))], validation=[], config=CONFIG, pad=PAD
    )
    with tempfile.TemporaryDirectory() as folder:
        log = train_model(
            model, objective, config=CONFIG, learning_rate=CONFIG.peak_rate(),
            folder=Path(folder), measurable=False,
        )  # fmt: skip
    return log.seconds


def _ungrouped(model: Any, rows: list[EncodedExample]) -> float:
    from fti.pipelines.training.steps import trainer as train
    from fti.pipelines.training.steps.batches import plan_order

    def ungrouped(lengths: Any, **how: Any) -> list[int]:
        return plan_order(lengths, **how, group=False)

    train.plan_order = ungrouped
    return _ours(model, rows)


def _trl(model: Any, rows: list[EncodedExample]) -> float:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    spent: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            spent.append(time.perf_counter())

        def on_train_end(self, *_: Any, **__: Any) -> None:
            spent.append(time.perf_counter())

    data = Dataset.from_list(
        [
            {
                "input_ids": row.input_ids,
                "completion_mask": [int(label != IGNORED) for label in row.labels],
            }
            for row in rows
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=CONFIG.batch_size,
                learning_rate=CONFIG.peak_rate(),
                bf16=False,
                use_cpu=True,
                max_length=None,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=data,
            processing_class=_tokenizer(),
            callbacks=[Clock()],
        )
        trainer.train()
    return spent[1] - spent[0]


def _tokenizer() -> Any:
    from fti.pipelines.engines.causal_lm.loading import load_tokenizer
    from fti.pipelines.engines.weights import find_model

    return load_tokenizer(find_model("builtin"))


def _memory(field: str) -> float:
    status = Path("/proc/self/status").read_text("utf-8")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024


if __name__ == "__main__":
    main()
