"""Training a LoRA adapter on encoded rows: transformers' Trainer with our loss and our order.

The vocabulary is projected only where a label is, which for prompts of hundreds of tokens and
answers of ten is most of the head's work saved. The order of rows is a pure function of lengths
and seed, so that a killed run that goes on from a checkpoint sees the same batches. Checkpoints
hold pickles (optimizer and random state): they are read only from the folder given, never moved.
"""

from __future__ import annotations

import inspect
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.engines.encoding import IGNORED, EncodedExample
from pipelines.training.config import TrainingConfig
from store.atomic import write_json
from store.errors import TrainingError
from store.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from torch import Tensor

_MARKER = "log.json"  # the last file of a checkpoint: without it the rest may be half written
_WEIGHTS = "adapter.safetensors"
_BEST = "best.safetensors"
_GROUPED = 16  # batches whose rows are sorted by length together
_MULTIPLE = 8  # padded lengths are multiples of it

Weights = dict[str, "Tensor"]


@dataclass(frozen=True)
class Measured:
    """What validation rows say: loss per response token, and the share of responses that greedy
    decoding would give word for word.
    """

    loss: float
    exact: float


@dataclass
class TrainingLog:
    """What a training has done so far; goes along with its checkpoints."""

    curve: list[dict[str, float]] = field(default_factory=list)
    before: Measured | None = None
    best: Measured | None = None
    best_step: int = 0
    measured: int = 0
    since_best: int = 0
    seconds: float = 0.0
    tokens: int = 0
    steps: int = 0
    planned_steps: int = 0
    stopped: str = "complete"
    resumed_from_step: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Prompt and response tokens per second of training, validation included."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """For disk."""
        values = dict(vars(self))
        for name in ("before", "best"):
            values[name] = None if values[name] is None else vars(values[name])
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingLog:
        """From disk."""
        for name in ("before", "best"):
            values[name] = None if values[name] is None else Measured(**values[name])
        return cls(**values)


def plan_order(
    lengths: Sequence[int], *, batch: int, rows: int, seed: int, group: bool = True
) -> list[int]:
    """The order in which rows are trained on: ``rows`` places over as many passes as that takes.

    Rows of like length lie in one batch, so that little is padded; batches of a group come in
    random order, and the group of the first has its longest first, so that too little memory
    shows at once.
    """
    generator = np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < rows:
        order += generator.permutation(len(lengths)).tolist()
    order = order[:rows]
    if not group:
        return order
    planned: list[int] = []
    size = batch * _GROUPED
    for start in range(0, rows, size):
        some = sorted(order[start : start + size], key=lambda i: -lengths[i])
        batches = [some[i : i + batch] for i in range(0, len(some), batch)]
        # A batch that is not full can only be the last of all.
        full = [b for b in batches if len(b) == batch]
        rest = [b for b in batches if len(b) < batch]
        first = [full.pop(0)] if start == 0 and full else []
        shuffled = [full[int(i)] for i in generator.permutation(len(full))]
        for one in (*first, *shuffled, *rest):
            planned += one
    return planned


def collate(examples: Sequence[tuple[int, EncodedExample]], *, pad: int) -> dict[str, Tensor]:
    """Rows as one batch, padded on the right; ``rows`` says which they are."""
    import torch

    longest = max(len(e.input_ids) for _, e in examples)
    longest += -longest % _MULTIPLE
    ids = torch.full((len(examples), longest), pad, dtype=torch.long)
    labels = torch.full((len(examples), longest), IGNORED, dtype=torch.long)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for place, (_, example) in enumerate(examples):
        length = len(example.input_ids)
        ids[place, :length] = torch.tensor(example.input_ids)
        labels[place, :length] = torch.tensor(example.labels)
        mask[place, :length] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "rows": torch.tensor([index for index, _ in examples]),
    }


def response_logits(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits and targets at the places of a batch where any row has a label."""
    targets = batch["labels"][:, 1:]
    places = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if _projects_some(model):
        logits = model(**inputs, logits_to_keep=places, use_cache=False).logits
    else:
        logits = model(**inputs, use_cache=False).logits[:, places]
    return logits.float(), targets[:, places]


def _projects_some(model: Any) -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(type(base).forward).parameters


def measure(model: Any, examples: Sequence[EncodedExample], *, batch: int, pad: int) -> Measured:
    """Loss per response token and share of exact responses, without changing the model."""
    import torch
    from torch.nn.functional import cross_entropy

    training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, tokens, exact = 0.0, 0, 0
    indexed = sorted(enumerate(examples), key=lambda pair: -len(pair[1].input_ids))
    with torch.no_grad():
        for start in range(0, len(indexed), batch):
            moved = {
                k: v.to(device) for k, v in collate(indexed[start : start + batch], pad=pad).items()
            }
            logits, targets = response_logits(model, moved)
            total += float(
                cross_entropy(
                    logits.flatten(0, 1),
                    targets.flatten(),
                    ignore_index=IGNORED,
                    reduction="sum",
                )
            )
            labelled = targets != IGNORED
            tokens += int(labelled.sum())
            right = (logits.argmax(-1) == targets) | ~labelled
            exact += int(right.all(dim=1).sum())
    model.train(training)
    return Measured(loss=total / max(tokens, 1), exact=exact / max(len(examples), 1))


def train_adapter(
    model: Any,
    examples: Sequence[EncodedExample],
    *,
    ids: Sequence[str],
    validation: Sequence[EncodedExample],
    config: TrainingConfig,
    pad: int,
    folder: Path,
    progress: Progress,
) -> TrainingLog:
    """Train the adapter that stands on ``model``; afterwards it is the best one measured.

    A run that was killed goes on from the newest whole checkpoint in ``folder``, to the same
    result on a CPU.

    Args:
        model: a peft model with a fresh, seeded adapter.
        examples: what to train on.
        ids: which rows they are, to be named when the loss is not a number.
        validation: what to choose the adapter by; empty: the last one is kept.
        config: how.
        pad: id that fills batches.
        folder: for checkpoints, of this training alone.
        progress: told after every step.

    Raises:
        TrainingError: the loss is not a number, or memory ran out.
    """
    import torch

    step_rows = config.batch_size * config.gradient_accumulation
    rows = (
        config.max_steps * step_rows
        if config.max_steps
        else max(1, round(len(examples) * config.epochs))
    )
    lengths = [len(e.input_ids) for e in examples]
    order = plan_order(lengths, batch=step_rows, rows=rows, seed=config.seed)
    planned = -(-rows // step_rows)
    checkpoint = newest_checkpoint(folder)
    log = TrainingLog(planned_steps=planned)
    best: Weights | None = None
    if checkpoint is not None:
        log = TrainingLog.from_json(json.loads((checkpoint / _MARKER).read_text("utf-8")))
        log.resumed_from_step = log.steps
        best = _read(checkpoint / _BEST) if (checkpoint / _BEST).exists() else None
    watch = _Watch(
        model, validation=validation, config=config, pad=pad, log=log, best=best, progress=progress
    )
    trainer = _trainer(
        model, examples, ids, order, config=config, pad=pad, folder=folder, watch=watch
    )
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"Memory ran out with batches of {config.batch_size} rows of up to {max(lengths)} "
            "tokens.",
            hint="Halve training.batch_size and double training.gradient_accumulation, or set "
            "training.gradient_checkpointing=true.",
        ) from error
    watch.finish()
    return watch.log


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a training; half-written ones, left by a kill, are removed."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if (path / _MARKER).is_file():
            found.append((int(path.name.rpartition("-")[2]), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


class _Watch:
    """Time, measurements, and which adapter was the best."""

    def __init__(
        self,
        model: Any,
        *,
        validation: Sequence[EncodedExample],
        config: TrainingConfig,
        pad: int,
        log: TrainingLog,
        best: Weights | None,
        progress: Progress,
    ) -> None:
        self.model = model
        self.validation = validation
        self.config = config
        self.pad = pad
        self.log = log
        self.best = best
        self.progress = progress
        self._before = log.seconds
        self._measuring = 0.0
        self._started = time.monotonic()
        self.saved_at = self._started

    def start(self) -> None:
        """Begin the clock, and measure what the base model does without the adapter's help."""
        self._started = self.saved_at = time.monotonic()
        if self.validation and self.log.before is None:
            self.progress(
                ProgressEvent("finetune", 0, self.log.planned_steps, "measuring the base model")
            )
            self.log.before = self._measure()

    @property
    def seconds(self) -> float:
        """Of training, those before a kill included."""
        return self._before + time.monotonic() - self._started

    def share(self, step: int) -> float:
        """How much of the training is done, by steps or by time, whichever is further."""
        done = step / self.log.planned_steps
        if self.config.max_seconds is not None:
            # What the last measurement will take belongs to the time that was given.
            given = max(self.config.max_seconds - self._measuring, self.config.max_seconds / 2)
            done = max(done, self.seconds / given)
        return min(1.0, done)

    def rate(self, step: int) -> float:
        """Factor of the learning rate."""
        done, warmup = self.share(step), self.config.warmup
        if done < warmup:
            # The first step learns something too.
            return max(done, 0.5 / self.log.planned_steps) / warmup
        rest = (done - warmup) / (1.0 - warmup)
        if self.config.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * rest))
        return 1.0 - rest if self.config.schedule == "linear" else 1.0

    def after_step(self, step: int) -> bool:
        """Measure when it is time to; whether to stop."""
        self.log.steps = step
        done = self.share(step)
        if self.validation and done * self.config.evaluations >= self.log.measured + 1:
            self._measure_adapter(step)
            self.log.measured = int(self.share(step) * self.config.evaluations)
        patience = self.config.patience
        if patience and self.log.since_best >= patience:
            self.log.stopped = "no lower validation loss"
            return True
        if done >= 1.0 and step < self.log.planned_steps:
            self.log.stopped = "time"
            return True
        return False

    def logged(self, step: int, loss: float, rate: float) -> None:
        """Note a step and tell how things stand."""
        self.log.seconds = self.seconds
        entry = self._entry(step)
        entry["loss"], entry["learning_rate"] = loss, rate
        left = self.log.seconds / max(self.share(step), 1e-9) * (1.0 - self.share(step))
        values = {
            "loss": loss,
            "seconds_left": left,
            "tokens_per_second": self.log.tokens_per_second,
        }
        if self.log.best is not None:
            values["validation_loss"] = self.log.best.loss
        self.progress(ProgressEvent("finetune", step, self.log.planned_steps, values=values))

    def finish(self) -> None:
        """Measure the last adapter if that was not done, and put the best one on the model."""
        step = self.log.steps
        self.log.seconds = self.seconds
        if self.validation and "validation_loss" not in self._entry(step):
            self._measure_adapter(step)
        if self.best is not None:
            put_weights(self.model, self.best)

    def save(self, checkpoint: Path) -> None:
        """Complete a checkpoint: with the best adapter so far and, last, the log."""
        if self.best is not None:
            _write(self.best, checkpoint / _BEST)
        self.log.seconds = self.seconds
        write_json(checkpoint / _MARKER, self.log.as_json())
        self.saved_at = time.monotonic()

    def _entry(self, step: int) -> dict[str, float]:
        if not self.log.curve or self.log.curve[-1]["step"] != step:
            self.log.curve.append({"step": step})
        return self.log.curve[-1]

    def _measure(self) -> Measured:
        started = time.monotonic()
        found = measure(self.model, self.validation, batch=2 * self.config.batch_size, pad=self.pad)
        self._measuring = time.monotonic() - started
        return found

    def _measure_adapter(self, step: int) -> None:
        found = self._measure()
        self._entry(step).update(validation_loss=found.loss, validation_exact=found.exact)
        if self.log.best is None or found.loss < self.log.best.loss:
            self.log.best, self.log.best_step, self.log.since_best = found, step, 0
            self.best = {k: v.detach().cpu().clone() for k, v in get_weights(self.model).items()}
        else:
            self.log.since_best += 1


def get_weights(model: Any) -> Weights:
    """The adapter's weights, by the names they are saved under."""
    from peft import get_peft_model_state_dict

    weights: Weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return weights


def put_weights(model: Any, weights: Weights) -> None:
    """Replace the adapter's weights."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, weights)


def _write(weights: Weights, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, str(path))


def _read(path: Path) -> Weights:
    from safetensors.torch import load_file

    return load_file(str(path))


def _trainer(
    model: Any,
    examples: Sequence[EncodedExample],
    ids: Sequence[str],
    order: Sequence[int],
    *,
    config: TrainingConfig,
    pad: int,
    folder: Path,
    watch: _Watch,
) -> Any:
    from torch.nn.functional import cross_entropy
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class AdapterTrainer(Trainer):
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Tensor],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Any:
            logits, targets = response_logits(model, inputs)
            loss = cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            if not loss.isfinite():
                rows = ", ".join(ids[int(i)] for i in inputs["rows"])
                raise TrainingError(
                    f"The loss is {loss.item()!r} at step {self.state.global_step + 1} (rows "
                    f"{rows}).",
                    hint=f"Lower training.learning_rate, which is {config.learning_rate:g}; if it "
                    "happens at the first step, look at these rows.",
                )
            watch.log.tokens += int(inputs["attention_mask"].sum())
            return loss / (num_items_in_batch or (targets != IGNORED).sum())

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, watch.rate)
            return self.lr_scheduler

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            target = Path(output_dir or folder)
            target.mkdir(parents=True, exist_ok=True)
            _write(get_weights(self.model), target / _WEIGHTS)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            put_weights(model or self.model, _read(Path(resume_from_checkpoint) / _WEIGHTS))

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
            watch.save(folder / f"checkpoint-{state.global_step}")

    precision = str(next(model.parameters()).dtype)
    device = next(model.parameters()).device.type
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        activation_checkpointing=config.gradient_checkpointing,
        bf16=precision == "torch.bfloat16" and device == "cuda",
        fp16=precision == "torch.float16" and device == "cuda",
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
        log_level="error",
    )
    rows = [(index, examples[index]) for index in order]
    pack: Callable[[Any], Any] = lambda some: collate(some, pad=pad)  # noqa: E731
    trainer = AdapterTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=pack,
        callbacks=[Watching()],
    )
    # The loss is already a mean over the tokens of all batches of a step.
    trainer.model_accepts_loss_kwargs = True
    trainer.remove_callback(PrinterCallback)
    return trainer
