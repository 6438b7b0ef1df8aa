"""A dataset version becomes an embedder that puts questions nearer to what answers them.

sentence-transformers' trainer with the multiple negatives ranking loss (van den Oord et al.,
"Representation Learning with Contrastive Predictive Coding", 2018; Henderson et al., "Efficient
Natural Language Response Suggestion for Smart Reply", 2017): a question must lie nearer to its
passage than to its hard negatives and to every other passage of the batch. No passage stands twice
in a batch, or it would be its own negative. The same command run again goes on where a killed one
stopped, and on a CPU ends in the same weights.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from fti.pipelines.engines.embedders.trained_embedder import OpenEmbedder, save_embedder
from fti.pipelines.training.steps.attempts import attempt_of, published
from fti.pipelines.training.steps.trainer import newest_checkpoint
from fti.store.contracts.embedder_contract import EmbedderContract
from fti.store.errors import TrainingError
from fti.store.files.atomic import staged_folder, write_json, writer_lock
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import (
    DatasetVersion,
    InstructionExample,
    ModelIdentity,
    Passage,
    Split,
    Value,
    sha256_hex,
)
from fti.store.versioned.model_version import LOG_FILE, ModelVersion

if TYPE_CHECKING:
    from torch import Tensor

#: The text of a passage that is embedded, as the feature pipeline composes it.
Compose = Callable[[Passage], str]

_MARKER = "log.json"  # the last file of a checkpoint: without it the rest may be half written
_WEIGHTS = "embedder.safetensors"


class EmbedderTrainingConfig(Value):
    """How an embedder is trained."""

    epochs: float = Field(default=1.0, gt=0, le=100, description="Passes over the training rows.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps instead of epochs; None: by epochs."
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Time to train for; the learning rate comes down in time. None: no limit. "
        "Results then depend on the machine's speed.",
    )
    max_rows: int | None = Field(
        default=None, ge=1, description="Most training rows, drawn by the seed; None: all."
    )
    batch_size: int = Field(
        default=32,
        ge=2,
        le=4096,
        description="Questions in a batch; the passages of the others are negatives of each.",
    )
    negatives: int = Field(
        default=1, ge=0, le=20, description="Hard negatives of each question that are used."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Tokens of a passage that training sees; fewer are quicker. None: as many as "
        "the embedder. What is served sees as many as ever.",
    )
    learning_rate: float = Field(default=2e-5, gt=0, le=1, description="At its highest.")
    warmup: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the training in which the rate goes up."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Longer gradients are cut to it.")
    scale: float = Field(
        default=20.0,
        gt=0,
        description="Factor of the cosines before the softmax: one over the temperature.",
    )
    max_validation_rows: int = Field(
        default=256, ge=0, description="Most validation rows that are measured before and after."
    )
    checkpoint_s: float = Field(
        default=120.0, ge=0, description="Seconds between checkpoints: what a kill can cost."
    )
    seed: int = Field(default=7, ge=0, lt=2**32, description="Of the order and of dropout.")


@dataclass(frozen=True, slots=True)
class Tuples:
    """Questions, the passage that answers each, and as many hard negatives for each.

    ``negatives`` has a list per place, each as long as ``questions``.
    """

    ids: list[str]
    questions: list[str]
    positives: list[str]
    negatives: list[list[str]]


@dataclass
class EmbedderLog:
    """What a training has done so far; goes along with its checkpoints."""

    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    planned_steps: int = 0
    stopped: str = "complete"
    resumed_from_step: int = 0


def finetune_embedder(
    dataset: DatasetVersion,
    *,
    name: str,
    store: Store,
    base: OpenEmbedder,
    compose: Compose,
    config: EmbedderTrainingConfig,
    progress: Progress = quiet,
) -> ModelVersion:
    """Train an embedder on a dataset's training rows and register it.

    Args:
        dataset: rows that cite the passage which answers them; the other passages of a row are its
            hard negatives. Validation rows are measured before and after, test rows are not read.
        name: of the model; each fine-tuning is a new version.
        store: where from and where to.
        base: what to train; it is changed by this.
        compose: the text of a passage as it is embedded in the store.
        config: how.
        progress: told after every step.

    Raises:
        TrainingError: fewer questions than a batch are left to train on, the loss is not a number,
            or memory ran out.
        StoreLocked: another process trains the very same.
        IntegrityError: the dataset's files are not as published.
    """
    digest = _digest(dataset, base, config)
    folder = store.layout.checkpoints / digest[:32]
    store.models.check_name(name)
    inputs = {
        "dataset": dataset.ref,
        "dataset_digest": dataset.digest,
        "kind": "embedder",
        "base": base.identity.id,
        "base_revision": base.identity.revision,
        "base_weights": base.identity.weights_sha256,
        "training_digest": digest,
        "features_version": str(dataset.features_version),
    }
    with (
        writer_lock(folder.with_suffix(".lock"), timeout_s=0, what=f"train {name}"),
        store.runs.running(
            "finetune", inputs=inputs, settings=config.model_dump(mode="json")
        ) as run,
    ):
        attempt = attempt_of(folder)
        version = published(store, name, attempt)
        if version is None:
            train = tuples(_rows(store, dataset, "train", config), base, compose, config)
            _require_enough(train, dataset, config)
            held_out = list(store.datasets.rows(dataset.ref, "validation"))
            held_out = _drawn(held_out, config.max_validation_rows, config.seed)
            validation = tuples(held_out, base, compose, config)
            before = measure(base.model, validation)
            log = train_embedder(base, train, config=config, folder=folder, progress=progress)
            metrics = {
                **_metrics(log, train, validation, base),
                **{f"validation_{key}_before": value for key, value in before.items()},
                **{f"validation_{k}": v for k, v in measure(base.model, validation).items()},
                "training_digest": digest,
                "attempt": attempt,
            }
            store.runs.attach(run.id, "curve", log.curve)
            with staged_folder(store.layout.checkpoints) as written:
                contract = save_embedder(base, written)
                write_json(written / LOG_FILE, {"steps": log.curve})
                version = store.models.publish(
                    name,
                    written,
                    contract=contract,
                    dataset=dataset,
                    run_id=run.id,
                    metrics=metrics,
                    card=_card(name, dataset, contract, metrics, run.id),
                )
        run.outputs["model"] = version.ref
        run.metrics.update(version.metrics)
        shutil.rmtree(folder, ignore_errors=True)
    return version


def tuples(
    rows: Sequence[InstructionExample],
    base: OpenEmbedder,
    compose: Compose,
    config: EmbedderTrainingConfig,
) -> Tuples:
    """Rows as texts to embed, prefixes before them; a row without what it takes is left out.

    A row with fewer negatives than asked for has its last one again.
    """
    found = Tuples([], [], [], [[] for _ in range(config.negatives)])
    for row in rows:
        if not row.answer or not row.citations:
            continue
        right = row.citations[0] - 1
        others = [p for n, p in enumerate(row.passages) if n + 1 not in row.citations]
        if len(others) < min(1, config.negatives):
            continue
        found.ids.append(row.id)
        found.questions.append(base.query_prefix + row.question)
        found.positives.append(base.document_prefix + compose(row.passages[right]))
        for place, column in enumerate(found.negatives):
            passage = others[min(place, len(others) - 1)]
            column.append(base.document_prefix + compose(passage))
    return found


def measure(model: Any, held_out: Tuples) -> dict[str, float]:
    """Recall@1 and MRR of each question's passage among all passages of these rows.

    Nothing where there are no rows.
    """
    if not held_out.questions:
        return {}
    pool = list(
        dict.fromkeys(
            text for column in (held_out.positives, *held_out.negatives) for text in column
        )
    )
    place = {text: n for n, text in enumerate(pool)}
    vectors = [
        model.encode(
            texts, prompt="", convert_to_numpy=True, normalize_embeddings=True,
            show_progress_bar=False,
        )
        for texts in (held_out.questions, pool)
    ]  # fmt: skip
    scores = vectors[0] @ vectors[1].T
    right = np.array([place[text] for text in held_out.positives])
    own = scores[np.arange(len(right)), right]
    ranks = (scores > own[:, None]).sum(axis=1) + 1
    return {"recall@1": float((ranks == 1).mean()), "mrr": float((1 / ranks).mean())}


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


def _rows(
    store: Store, dataset: DatasetVersion, split: Split, config: EmbedderTrainingConfig
) -> list[InstructionExample]:
    return _drawn(list(store.datasets.rows(dataset.ref, split)), config.max_rows, config.seed)


def _drawn(rows: list[InstructionExample], most: int | None, seed: int) -> list[InstructionExample]:
    if most is None or len(rows) <= most:
        return rows
    drawn = sorted(rows, key=lambda row: sha256_hex(f"{seed}\n{row.id}"))[:most]
    chosen = {row.id for row in drawn}
    return [row for row in rows if row.id in chosen]


def _require_enough(train: Tuples, dataset: DatasetVersion, config: EmbedderTrainingConfig) -> None:
    if len(train.ids) < config.batch_size:
        raise TrainingError(
            f"The dataset {dataset.ref} has {len(train.ids)} questions with a passage and a hard "
            f"negative, fewer than the {config.batch_size} of a batch.",
            hint="Give more questions, or lower embedder_training.batch_size.",
        )


def _digest(dataset: DatasetVersion, base: OpenEmbedder, config: EmbedderTrainingConfig) -> str:
    """Identity of this very training: what must agree for a checkpoint to be gone on from."""
    parts = (
        "embedder-1",
        dataset.digest,
        base.identity.model_dump_json(),
        base.query_prefix,
        base.document_prefix,
        base.device,
        config.model_dump_json(),
    )
    return sha256_hex("\n".join(parts))


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


def _metrics(
    log: EmbedderLog, train: Tuples, validation: Tuples, base: OpenEmbedder
) -> dict[str, Any]:
    losses = [entry["loss"] for entry in log.curve]
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "train_rows": len(train.ids),
        "validation_rows": len(validation.ids),
        "steps": log.steps,
        "planned_steps": log.planned_steps,
        "stopped": log.stopped,
        "resumed_from_step": log.resumed_from_step,
        "train_loss": sum(tail) / len(tail) if tail else None,
        "seconds": round(log.seconds, 2),
        "trainable_parameters": sum(p.numel() for p in base.model.parameters() if p.requires_grad),
    }


def _card(
    name: str,
    dataset: DatasetVersion,
    contract: EmbedderContract,
    metrics: dict[str, Any],
    run_id: str,
) -> str:
    base: ModelIdentity = contract.base
    at = f" at revision `{base.revision}`" if base.revision else ""
    measured = "\n".join(
        f"| {key} | {value:.4g} |" if isinstance(value, float) else f"| {key} | {value} |"
        for key, value in metrics.items()
        if isinstance(value, int | float | str) and key not in ("training_digest", "attempt")
    )
    prefixes = ", ".join(
        f"{what} {text!r}"
        for what, text in (
            ("before questions", contract.query_prefix),
            ("before documents", contract.document_prefix),
        )
        if text
    )
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, retrieval, rag]
---

# {name}

An embedder fine-tuned to put a question near the passage that answers it.

- Base: `{base.id}`{at}, weights sha256 `{base.weights_sha256}`
- Dataset: `{dataset.ref}`, digest `{dataset.digest}`
- Contract: digest `{contract.digest}`: {contract.dimension} dimensions, {contract.pooling} pooling,
  unit length, {contract.max_tokens} tokens of a text{f"; {prefixes}" if prefixes else ""}
- Run: `{run_id}`
- Loss: multiple negatives ranking, with hard negatives from the live search

| metric | value |
|---|---|
{measured}

The validation rows come from documents that were not trained on; their figures are of each
question's passage among the passages of these rows. Whether a store's search gets better is
decided on a frozen case set, by `fti models promote NAME/N --alias champion`.

## Use

    fti models promote NAME/N --alias champion     # the gate, then all vectors made anew
    fti ingest FOLDER --set embedder.id=registry:NAME/N

With NAME/N the version this folder is. sentence-transformers loads the folder as it is.
"""
