"""A training seen from outside its steps: time, measurements, and which weights were the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fti.pipelines.training.steps.loss import Measured
from fti.pipelines.training.steps.methods import Weights, get_weights, put_weights
from fti.pipelines.training.steps.ranks import agreed, rank, wait
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.files.atomic import write_json
from fti.store.progress import Progress, ProgressEvent

MARKER = "log.json"  # the last file of a checkpoint: without it the rest may be half written
BEST = "best.safetensors"


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


def final_loss(curve: Sequence[Mapping[str, float]]) -> float | None:
    """The mean loss of the last tenth of the steps; None where there was no step."""
    losses = [entry["loss"] for entry in curve if "loss" in entry]
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail) if tail else None


class Watch:
    """What goes on around the steps of one training.

    Args:
        model: what is trained.
        measure: tells how good it is now; None where there is nothing to measure with.
        config: how it is trained.
        log: of this training, filled when it goes on from a checkpoint.
        best: the best weights so far, likewise.
        progress: told after every step.
    """

    def __init__(
        self,
        model: Any,
        *,
        measure: Callable[[], Measured] | None,
        config: TrainingConfig,
        log: TrainingLog,
        best: Weights | None,
        progress: Progress,
    ) -> None:
        self.model = model
        self.measure = measure
        self.config = config
        self.log = log
        self.best = best
        self.progress = progress
        self._before = log.seconds
        self._measuring = 0.0
        self._started = time.monotonic()
        self.saved_at = self._started
        self.seconds = log.seconds

    def start(self) -> None:
        """Begin the clock, and measure what the model does before it is trained."""
        self._started = self.saved_at = time.monotonic()
        if self.measure is not None and self.log.before is None:
            self.progress(
                ProgressEvent("finetune", 0, self.log.planned_steps, "measuring the base model")
            )
            self.log.before = self._measure()

    def look_at_clock(self) -> None:
        """Let ``seconds`` be what it is now: of training, those before a kill included."""
        self.seconds = agreed(self._before + time.monotonic() - self._started)

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
        self.look_at_clock()
        done = self.share(step)
        if self.measure is not None and done * self.config.evaluations >= self.log.measured + 1:
            self._measure_trained(step)
            self.log.measured = int(self.share(step) * self.config.evaluations)
        patience = self.config.patience
        if patience and self.log.since_best >= patience:
            self.log.stopped = "no lower validation loss"
            return True
        if done >= 1.0 and step < self.log.planned_steps:
            self.log.stopped = "time"
            return True
        return False

    def logged(self, step: int, loss: float, rate: float, tokens: int) -> None:
        """Note a step and tell how things stand."""
        self.log.tokens = tokens
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
        """Measure the last weights if that was not done, and put the best ones on the model."""
        step = self.log.steps
        self.look_at_clock()
        self.log.seconds = self.seconds
        if self.measure is not None and "validation_loss" not in self._entry(step):
            self._measure_trained(step)
        if self.best is not None:
            put_weights(self.model, self.best)

    def time_to_save(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return bool(agreed(time.monotonic() - self.saved_at >= self.config.checkpoint_s))

    def save(self, checkpoint: Path) -> None:
        """Complete a checkpoint: with the best weights so far and, last, the log."""
        wait()  # every process has written its random state
        if rank() == 0:
            if self.best is not None:
                write_weights(self.best, checkpoint / BEST)
            self.log.seconds = self.seconds
            write_json(checkpoint / MARKER, self.log.as_json())
        self.saved_at = time.monotonic()

    def _entry(self, step: int) -> dict[str, float]:
        if not self.log.curve or self.log.curve[-1]["step"] != step:
            self.log.curve.append({"step": step})
        return self.log.curve[-1]

    def _measure(self) -> Measured:
        assert self.measure is not None
        started = time.monotonic()
        found = self.measure() if rank() == 0 else None
        measured, self._measuring = agreed((found, time.monotonic() - started))
        assert isinstance(measured, Measured)
        return measured

    def _measure_trained(self, step: int) -> None:
        found = self._measure()
        self._entry(step).update(validation_loss=found.loss, validation_exact=found.exact)
        if self.log.best is None or found.loss < self.log.best.loss:
            self.log.best, self.log.best_step, self.log.since_best = found, step, 0
            self.best = {k: v.detach().cpu().clone() for k, v in get_weights(self.model).items()}
        else:
            self.log.since_best += 1


def write_weights(weights: Weights, path: Path) -> None:
    """Save weights as safetensors."""
    from safetensors.torch import save_file

    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, str(path))


def read_weights(path: Path) -> Weights:
    """Load weights that ``write_weights`` saved."""
    from safetensors.torch import load_file

    return load_file(str(path))
