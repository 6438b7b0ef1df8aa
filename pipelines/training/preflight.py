"""Before a training: may these rows be learned from, does it fit into memory, how long is it?

Memory and time are measured on the model itself with one row and one batch, and carried over to
the whole: nothing of that is kept, and the random state is as before.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fti.pipelines.training.steps.batches import padded_tokens
from fti.pipelines.training.steps.loss import bare
from fti.pipelines.training.steps.ranks import world
from fti.pipelines.training.steps.trainer import Objective, plan
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.errors import TrainingError
from fti.store.types import DatasetVersion, InstructionExample, PreferenceExample

_GIB = 1024**3
_ADAM = 8  # bytes per trained parameter: two moments in float32
# What a backward pass holds beside what the forward pass saved: gradients on their way.
_BACKWARD = 1.25


@dataclass(frozen=True)
class Estimate:
    """What a training will take. Bytes come on top of what is held already; seconds are of all.

    ``rows_at_once`` are computed together, as many of a batch as memory holds.
    ``available_bytes`` is None where this machine does not tell, ``seconds`` where it was not
    measured.
    """

    rows: int
    steps: int
    tokens: int
    padded_tokens: int
    trained_parameters: int
    optimizer_bytes: int
    activation_bytes: int
    available_bytes: int | None
    rows_at_once: int
    seconds: float | None = None

    @property
    def bytes(self) -> int:
        """Memory in all."""
        return self.optimizer_bytes + self.activation_bytes

    def as_json(self) -> dict[str, Any]:
        """For people and for the run's record."""
        return {"memory_bytes": self.bytes, **asdict(self)}

    def __str__(self) -> str:
        free = "" if self.available_bytes is None else f" of {_gib(self.available_bytes)} free"
        time = "" if self.seconds is None else f", about {_span(self.seconds)}"
        rows = f"{self.rows_at_once} row{'' if self.rows_at_once == 1 else 's'} at once"
        return f"{self.steps} steps, {rows}, about {_gib(self.bytes)} more memory{free}{time}"

    def fitted(self, config: TrainingConfig) -> TrainingConfig:
        """The same training in batches of ``rows_at_once``: gradients add up over more of them."""
        parts = config.batch_size // self.rows_at_once
        return config.model_copy(
            update={
                "batch_size": self.rows_at_once,
                "gradient_accumulation": config.gradient_accumulation * parts,
            }
        )


def require_fit(model: Any, objective: Objective, config: TrainingConfig) -> Estimate:
    """Estimate memory and time of a training; find how many rows of a batch fit at once.

    Args:
        model: as it will be trained.
        objective: what it will learn.
        config: how.

    Raises:
        TrainingError: not even one row fits into memory; names the setting to change.
    """
    import torch

    order, step_rows = plan(objective, config)
    lengths = [objective.lengths[row] for row in order]
    longest = max(range(len(order)), key=lambda place: lengths[place])
    device = next(model.parameters()).device
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with torch.random.fork_rng(), _as_in_training(model):
        per_token = _saved_bytes(model, objective, order[longest]) / lengths[longest]
        if config.gradient_checkpointing:
            per_token = _checkpointed(model, per_token)
        # Gradients, moments, and the best weights so far (those in the machine's own memory).
        optimizer_bytes = trained * (4 + _ADAM + (4 if device.type == "cpu" else 0))
        limit = available_bytes(device.type)
        allowed = int(config.max_memory_gb * _GIB) if config.max_memory_gb is not None else limit
        for size in _divisors(config.batch_size):
            worst = max(
                padded_tokens(lengths[i : i + size], size) for i in range(0, len(order), size)
            )
            activation_bytes = int(per_token * worst * _BACKWARD)
            if allowed is None or optimizer_bytes + activation_bytes <= allowed:
                break
        estimate = Estimate(
            rows=len(order),
            steps=-(-len(order) // step_rows),
            tokens=sum(lengths),
            padded_tokens=padded_tokens(lengths, size),
            trained_parameters=trained,
            optimizer_bytes=optimizer_bytes,
            activation_bytes=activation_bytes,
            available_bytes=limit,
            rows_at_once=size,
        )
        if allowed is not None and estimate.bytes > allowed:
            raise _too_large(model, estimate, config, per_token, allowed, lengths)
        middle = order[len(order) // 2 :][:size]
        spent = _step_seconds(model, objective, middle)
    per_place = spent / padded_tokens([objective.lengths[r] for r in middle], len(middle))
    # The processes share the batches. Measuring goes forward only, which is a third of the work.
    seconds = per_place * estimate.padded_tokens / world()
    seconds += (config.evaluations + 1) * per_place / 3 * objective.validation_tokens
    if config.max_seconds is not None:
        seconds = min(seconds, config.max_seconds)
    return Estimate(**{**asdict(estimate), "seconds": round(seconds, 1)})


def _divisors(batch: int) -> list[int]:
    """Parts that a batch can be cut into evenly, the largest first."""
    return [size for size in range(batch, 0, -1) if batch % size == 0]


def _too_large(
    model: Any,
    estimate: Estimate,
    config: TrainingConfig,
    per_token: float,
    allowed: int,
    lengths: Sequence[int],
) -> TrainingError:
    given = "are free" if config.max_memory_gb is None else "are allowed by training.max_memory_gb"
    shrunk = estimate.activation_bytes * _checkpointed(model, per_token) / per_token
    if not config.gradient_checkpointing and estimate.optimizer_bytes + shrunk <= allowed:
        hint = "Set training.gradient_checkpointing=true."
    elif config.method == "full":
        hint = "Set training.method=lora, or use a smaller model."
    else:
        hint = "Lower prompt.max_prompt_tokens or training.rank, or use a smaller model."
    return TrainingError(
        f"This training needs about {_gib(estimate.bytes)} more memory "
        f"({_gib(estimate.optimizer_bytes)} to train {estimate.trained_parameters:,} parameters, "
        f"{_gib(estimate.activation_bytes)} for one row of up to {max(lengths)} tokens at a "
        f"time), and {_gib(allowed)} {given}.",
        hint=hint,
    )


@contextlib.contextmanager
def _as_in_training(model: Any) -> Iterator[None]:
    training = model.training
    model.train()
    try:
        yield
    finally:
        model.train(training)
        model.zero_grad(set_to_none=True)


def _saved_bytes(model: Any, objective: Objective, row: int) -> int:
    """Bytes that a forward pass of one row keeps for its backward pass."""
    from torch.autograd.graph import saved_tensors_hooks

    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = objective.loss(model, _on_device(model, objective, [row]))
    total = sum(saved.values())
    del loss
    return total


def _checkpointed(model: Any, per_token: float) -> float:
    """Bytes by token where each layer keeps its input alone, and one at a time is whole."""
    settings = bare(model).config.get_text_config()
    layers = int(getattr(settings, "num_hidden_layers", 1))
    width = int(getattr(settings, "hidden_size", 0))
    return min(per_token, per_token / layers + layers * width * 4.0)


def _step_seconds(model: Any, objective: Objective, rows: Sequence[int]) -> float:
    import torch

    batch = _on_device(model, objective, rows)
    spent = math.inf
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        objective.loss(model, batch).backward()
        if batch["labels"].is_cuda:
            torch.cuda.synchronize()
        spent = min(spent, time.perf_counter() - started)
    return spent


def _on_device(model: Any, objective: Objective, rows: Sequence[int]) -> dict[str, Any]:
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in objective.batch(rows).items()}


def available_bytes(device: str) -> int | None:
    """Memory that is free for this process: of the device, the machine, or its container."""
    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    if device != "cpu":
        return None
    import psutil

    free = int(psutil.virtual_memory().available)
    limit = _read_number(Path("/sys/fs/cgroup/memory.max"))
    used = _read_number(Path("/sys/fs/cgroup/memory.current"))
    return free if limit is None or used is None else min(free, max(0, limit - used))


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text("utf-8"))
    except (OSError, ValueError):  # another system, or "max"
        return None


def _gib(count: float) -> str:
    return f"{count / _GIB:.1f} GB" if count >= _GIB else f"{count / _GIB * 1024:.1f} MB"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def require_held_out(
    rows: Sequence[InstructionExample | PreferenceExample],
    dataset: DatasetVersion,
    held_out: Mapping[str, frozenset[str]],
) -> None:
    """Refuse training rows that were made from, or show, a document that is evaluated on.

    Args:
        rows: to be trained on.
        dataset: theirs; what its validation and test splits stand on is held out too.
        held_out: further document ids, by the name of what they are evaluated for.

    Raises:
        TrainingError: names the documents and the rows.
    """
    splits = {
        f"the {split} split": frozenset(dataset.documents.get(split, ()))
        for split in ("validation", "test")
    }
    for what, documents in {**splits, **held_out}.items():
        met = {
            row.id: shared
            for row in rows
            if (shared := documents & {*row.documents, *(p.document_id for p in row.passages)})
        }
        if met:
            named = sorted(frozenset[str]().union(*met.values()))
            raise TrainingError(
                f"{len(met)} training rows of {dataset.ref} hold text of {len(named)} documents "
                f"that {what} is about: {', '.join(named[:3])} (rows {', '.join(list(met)[:3])}).",
                hint=f"Build the dataset again without them: fti dataset build {dataset.name}",
            )
