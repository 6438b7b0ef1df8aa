"""The steps of an embedder's training: loss, learning rate, time, checkpoints."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.embedders.trained_embedder import OpenEmbedder
from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
from fti.pipelines.training.embedder.embedder_rows import Tuples
from fti.pipelines.training.steps.trainer import newest_checkpoint
from fti.store.errors import TrainingError
from fti.store.files.atomic import write_json
from fti.store.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from torch import Tensor


_MARKER = "log.json"  # the last file of a checkpoint: without it the rest may be half written


_WEIGHTS = "embedder.safetensors"


@dataclass
class EmbedderLog:
    """What a training has done so far; goes along with its checkpoints."""

    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    planned_steps: int = 0
    stopped: str = "complete"
    resumed_from_step: int = 0


def train_embedder(
    base: OpenEmbedder,
    train: Tuples,
    *,
    config: EmbedderTrainingConfig,
    folder: Path,
    progress: Progress,
) -> EmbedderLog:
    """Train ``base.model`` on tuples; a killed training goes on from ``folder``.

    Raises:
        TrainingError: the loss is not a number, or memory ran out.
    """
    import torch

    planned = config.max_steps or max(1, round(len(train.ids) * config.epochs / config.batch_size))
    checkpoint = newest_checkpoint(folder)
    log = EmbedderLog(planned_steps=planned)
    if checkpoint is not None:
        log = EmbedderLog(**json.loads((checkpoint / _MARKER).read_text("utf-8")))
        log.resumed_from_step = log.steps
    with _deterministic(config.seed), _shortened(base.model, config.max_tokens):
        trainer = _trainer(base, train, config=config, folder=folder, log=log, progress=progress)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"Memory ran out with batches of {config.batch_size} questions and "
                f"{1 + config.negatives} passages each.",
                hint="Halve embedder_training.batch_size, or set embedder_training.max_tokens.",
            ) from error
    base.model.eval()
    return log


@contextlib.contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    import torch
    from transformers import set_seed

    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(True, warn_only=True)
        set_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)


@contextlib.contextmanager
def _shortened(model: Any, max_tokens: int | None) -> Iterator[None]:
    whole = model.max_seq_length
    if max_tokens is not None:
        model.max_seq_length = min(whole, max_tokens)
    try:
        yield
    finally:
        model.max_seq_length = whole


def _trainer(
    base: OpenEmbedder,
    train: Tuples,
    *,
    config: EmbedderTrainingConfig,
    folder: Path,
    log: EmbedderLog,
    progress: Progress,
) -> Any:
    from datasets import Dataset
    from safetensors.torch import load_file, save_file
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.training_args import (
        BatchSamplers,
        SentenceTransformerTrainingArguments,
    )
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import PrinterCallback, TrainerCallback

    watch = _Watch(config, log, progress)

    class EmbedderTrainer(SentenceTransformerTrainer):
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Tensor],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            if not loss.isfinite():
                raise TrainingError(
                    f"The loss is {loss.item()!r} at step {self.state.global_step + 1}.",
                    hint="Lower embedder_training.learning_rate, which is "
                    f"{config.learning_rate:g}.",
                )
            return loss

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, watch.rate)
            return self.lr_scheduler

        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """The card is the registry's."""

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            target = Path(output_dir or folder)
            target.mkdir(parents=True, exist_ok=True)
            weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
            save_file(weights, str(target / _WEIGHTS))

        def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
            self.model.load_state_dict(load_file(str(Path(checkpoint_path) / _WEIGHTS)))

    class Watching(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if watch.after_step(state.global_step):
                control.should_training_stop = True
            if time.monotonic() - watch.saved_at >= config.checkpoint_s:
                control.should_save = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                watch.logged(state.global_step, logs["loss"], logs["learning_rate"])

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.saved(folder / f"checkpoint-{state.global_step}")

    on_gpu = base.device.startswith("cuda")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=log.planned_steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        use_cpu=base.device == "cpu",
        bf16=False,
        seed=config.seed,
        data_seed=config.seed,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        dataloader_pin_memory=on_gpu,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=2,
        eval_strategy="no",
        disable_tqdm=True,
        report_to="none",
        log_level="error",
    )
    columns = {"anchor": train.questions, "positive": train.positives}
    columns |= {f"negative_{n}": column for n, column in enumerate(train.negatives, start=1)}
    trainer = EmbedderTrainer(
        model=base.model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(base.model, scale=config.scale),
        callbacks=[Watching()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class _Watch:
    """Time and steps of one training."""

    def __init__(
        self, config: EmbedderTrainingConfig, log: EmbedderLog, progress: Progress
    ) -> None:
        self.config = config
        self.log = log
        self.progress = progress
        self._before = log.seconds
        self._started = self.saved_at = time.monotonic()

    def start(self) -> None:
        self._started = self.saved_at = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def share(self, step: int) -> float:
        """How much of the training is done, by steps or by time, whichever is further."""
        done = step / self.log.planned_steps
        if self.config.max_seconds is not None:
            done = max(done, self.seconds / self.config.max_seconds)
        return min(1.0, done)

    def rate(self, step: int) -> float:
        """Factor of the learning rate: up in the warm-up, then down to nothing in a line."""
        done, warmup = self.share(step), self.config.warmup
        if done < warmup:
            # The first step learns something too.
            return max(done, 0.5 / self.log.planned_steps) / warmup
        return (1.0 - done) / (1.0 - warmup)

    def after_step(self, step: int) -> bool:
        self.log.steps = step
        if self.share(step) >= 1.0 and step < self.log.planned_steps:
            self.log.stopped = "time"
            return True
        return False

    def logged(self, step: int, loss: float, rate: float) -> None:
        self.log.seconds = self.seconds
        self.log.curve.append({"step": step, "loss": loss, "learning_rate": rate})
        done = self.share(step)
        left = self.log.seconds / max(done, 1e-9) * (1.0 - done)
        self.progress(
            ProgressEvent(
                "finetune",
                step,
                self.log.planned_steps,
                values={"loss": loss, "seconds_left": left},
            )
        )

    def saved(self, checkpoint: Path) -> None:
        self.log.seconds = self.seconds
        write_json(checkpoint / _MARKER, vars(self.log))
        self.saved_at = time.monotonic()
