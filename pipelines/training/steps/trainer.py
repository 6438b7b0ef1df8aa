"""The steps of a training: transformers' Trainer with our loss, our order and our checkpoints.

Checkpoints hold pickles (optimizer and random state): they are read only from the folder given,
never moved.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fti.pipelines.training.steps.batches import plan_order
from fti.pipelines.training.steps.callbacks import (
    BEST,
    MARKER,
    TrainingLog,
    Watch,
    read_weights,
    write_weights,
)
from fti.pipelines.training.steps.loss import Measured
from fti.pipelines.training.steps.methods import (
    Weights,
    computes_in_bfloat16,
    get_weights,
    noisy_embeddings,
    put_weights,
)
from fti.pipelines.training.steps.ranks import rank, wait, world
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.errors import TrainingError
from fti.store.progress import Progress, quiet

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS = "weights.safetensors"


class Objective(Protocol):
    """What is to be learned: rows, their loss, and how good the model is.

    ``lengths`` are tokens by row, ``validation_tokens`` those of all that is measured.
    ``by_token`` says whether the loss of a step is a mean over the labelled tokens of all its
    batches, or over its rows.
    """

    lengths: Sequence[int]
    validation_tokens: int
    by_token: bool

    def remember(self, model: Any) -> None:
        """Note what the untrained model says, where that is what it is measured against."""
        ...

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Rows as tensors, with ``labels``, and their numbers as ``rows``."""
        ...

    def loss(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """Summed over the labelled tokens, or the mean over the rows; see ``by_token``."""
        ...

    def name(self, row: int) -> str:
        """What messages call a row."""
        ...

    def measure(self, model: Any) -> Measured | None:
        """How good the model is on the validation rows; None when there are none."""
        ...


def plan(objective: Objective, config: TrainingConfig) -> tuple[list[int], int]:
    """The rows in the order they are trained on, and how many of them make a step."""
    step_rows = config.batch_size * config.gradient_accumulation * world()
    rows = (
        config.max_steps * step_rows
        if config.max_steps
        else max(1, round(len(objective.lengths) * config.epochs))
    )
    order = plan_order(objective.lengths, batch=step_rows, rows=rows, seed=config.seed)
    return order, step_rows


def train_model(
    model: Any,
    objective: Objective,
    *,
    config: TrainingConfig,
    learning_rate: float,
    folder: Path,
    measurable: bool = True,
    callbacks: Sequence[Any] = (),
    progress: Progress = quiet,
) -> TrainingLog:
    """Train what of ``model`` can be trained; afterwards it has the best weights measured.

    A run that was killed goes on from the newest whole checkpoint in ``folder``, to the same
    result on a CPU.

    Args:
        model: a model with a fresh, seeded adapter, or with all its weights free.
        objective: what to learn, and from which rows.
        config: how.
        learning_rate: at its highest.
        folder: for checkpoints, of this training alone.
        measurable: whether there are validation rows; without them the last weights are kept.
        callbacks: of the Trainer, told what it logs.
        progress: told after every step.

    Raises:
        TrainingError: the loss is not a number, or memory ran out.
    """
    import torch

    order, step_rows = plan(objective, config)
    planned = -(-len(order) // step_rows)
    checkpoint = newest_checkpoint(folder)
    log = TrainingLog(planned_steps=planned)
    best: Weights | None = None
    if checkpoint is not None:
        log = TrainingLog.from_json(json.loads((checkpoint / MARKER).read_text("utf-8")))
        log.resumed_from_step = log.steps
        best = read_weights(checkpoint / BEST) if (checkpoint / BEST).exists() else None

    def measured() -> Measured:
        found = objective.measure(model)
        assert found is not None
        return found

    watch = Watch(
        model,
        measure=measured if measurable else None,
        config=config,
        log=log,
        best=best,
        progress=progress if rank() == 0 else quiet,
    )
    trainer = _trainer(
        model, objective, order, step_rows,
        config=config, learning_rate=learning_rate, folder=folder, watch=watch,
        callbacks=callbacks,
    )  # fmt: skip
    try:
        with noisy_embeddings(model, config.neftune_alpha):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"Memory ran out with batches of {config.batch_size} rows of up to "
            f"{max(objective.lengths)} tokens.",
            hint="Set a smaller training.max_memory_gb, so that fewer rows are computed at once, "
            "or training.gradient_checkpointing=true.",
        ) from error
    watch.finish()
    return watch.log


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a training; half-written ones, left by a kill, are removed."""
    found: list[tuple[int, Path]] = []
    wait()
    for path in folder.glob("checkpoint-*"):
        if (path / MARKER).is_file():
            found.append((int(path.name.rpartition("-")[2]), path))
        elif rank() == 0:
            shutil.rmtree(path, ignore_errors=True)
    wait()
    return max(found)[1] if found else None


def _trainer(
    model: Any,
    objective: Objective,
    order: Sequence[int],
    step_rows: int,
    *,
    config: TrainingConfig,
    learning_rate: float,
    folder: Path,
    watch: Watch,
    callbacks: Sequence[Any],
) -> Any:
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    tokens = list(accumulate(objective.lengths[row] for row in order))

    class OurTrainer(Trainer):
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Tensor],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Any:
            loss = objective.loss(model, inputs)
            if not loss.isfinite():
                named = dict.fromkeys(objective.name(int(i)) for i in inputs["rows"])
                rows = ", ".join(named)
                raise TrainingError(
                    f"The loss is {loss.item()!r} at step {self.state.global_step + 1} (rows "
                    f"{rows}).",
                    hint=f"Lower training.learning_rate, which is {learning_rate:g}; if it "
                    "happens at the first step, look at these rows.",
                )
            if not objective.by_token:
                return loss
            # The processes' gradients are averaged, and the tokens counted over all of them.
            assert num_items_in_batch is not None
            return loss * world() / num_items_in_batch

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, watch.rate)
            return self.lr_scheduler

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            target = Path(output_dir or folder)
            target.mkdir(parents=True, exist_ok=True)
            write_weights(get_weights(self.model), target / _WEIGHTS)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            put_weights(model or self.model, read_weights(Path(resume_from_checkpoint) / _WEIGHTS))

    class Watching(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if watch.after_step(state.global_step):
                control.should_training_stop = True
            newest = watch.log.curve[-1] if watch.log.curve else {}
            if callbacks and newest.get("step") == state.global_step:  # it was measured
                trainer.log({k: v for k, v in newest.items() if k.startswith("validation")})
            if watch.time_to_save():
                control.should_save = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                step = state.global_step
                done = tokens[min(step * step_rows, len(tokens)) - 1]
                watch.logged(step, logs["loss"], logs["learning_rate"], done)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.save(folder / f"checkpoint-{state.global_step}")

    parameter = next(model.parameters())
    device = parameter.device.type
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        activation_checkpointing=config.gradient_checkpointing,
        bf16=computes_in_bfloat16(config, model),
        fp16=str(parameter.dtype) == "torch.float16" and device == "cuda",
        use_cpu=device == "cpu",
        seed=config.seed,
        data_seed=config.seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=2,
        eval_strategy="no",
        disable_tqdm=True,
        report_to="none",
        ddp_find_unused_parameters=False,
        log_level="error",
    )
    # More than one GPU is used by launching more processes, not by threads that copy the model.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    trainer = OurTrainer(
        model=model,
        args=arguments,
        train_dataset=list(order),
        data_collator=objective.batch,
        callbacks=[Watching(), *callbacks],
    )
    trainer.model_accepts_loss_kwargs = objective.by_token
    trainer.remove_callback(PrinterCallback)
    return trainer
