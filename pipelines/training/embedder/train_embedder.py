"""A dataset version becomes an embedder that puts questions nearer to what answers them.

sentence-transformers' trainer with the multiple negatives ranking loss (van den Oord et al.,
"Representation Learning with Contrastive Predictive Coding", 2018; Henderson et al., "Efficient
Natural Language Response Suggestion for Smart Reply", 2017): a question must lie nearer to its
passage than to its hard negatives and to every other passage of the batch. No passage stands twice
in a batch, or it would be its own negative. The same command run again goes on where a killed one
stopped, and on a CPU ends in the same weights.
"""

from __future__ import annotations

import shutil
from typing import Any

from fti.pipelines.engines.embedders.trained_embedder import OpenEmbedder, save_embedder
from fti.pipelines.training.embedder.embedder_config import EmbedderTrainingConfig
from fti.pipelines.training.embedder.embedder_rows import (
    Compose,
    Tuples,
    measure,
    require_enough,
    tuples,
)
from fti.pipelines.training.embedder.embedder_trainer import EmbedderLog, train_embedder
from fti.pipelines.training.examples import drawn
from fti.pipelines.training.readmes import embedder_readme
from fti.pipelines.training.steps.attempts import attempt_of, published
from fti.pipelines.training.steps.callbacks import final_loss
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import memory, seconds
from fti.store.errors import InputError, IntegrityError, PostconditionFailed
from fti.store.files.atomic import staged_folder, write_json, writer_lock
from fti.store.progress import Progress, quiet
from fti.store.store import Store
from fti.store.types import (
    DatasetVersion,
    InstructionExample,
    Split,
    sha256_hex,
)
from fti.store.versioned.model_version import LOG_FILE, ModelVersion

FINETUNE_EMBEDDER = PipelineContract("finetune-embedder")


@FINETUNE_EMBEDDER.precondition("The dataset holds instruction rows", raises=InputError)
def of_rows(dataset: DatasetVersion) -> None:
    """A preference says nothing of which passage is near to a question."""
    if dataset.kind != "instruction":
        raise InputError(
            f"{dataset.ref} holds preference pairs, and an embedder is trained on questions with "
            "their passages.",
            hint="Name a dataset of instruction rows: fti dataset list",
        )


@FINETUNE_EMBEDDER.invariant("The dataset's files are as published", raises=IntegrityError)
def as_published(store: Store, dataset: DatasetVersion) -> None:
    """To the byte: before an hour is spent on them, and after."""
    store.datasets.require_as_published(dataset)


@FINETUNE_EMBEDDER.postcondition("The version names the dataset and the embedder it was made from")
def names_its_origin(dataset: DatasetVersion, base: OpenEmbedder, result: ModelVersion) -> None:
    """So that it can be made again."""
    made_from = result.dataset, result.dataset_digest
    if made_from != (dataset.ref, dataset.digest):
        raise PostconditionFailed(
            f"{result.ref} says that it was trained on {result.dataset}, and it was on "
            f"{dataset.ref}."
        )
    if result.vector_contract.base != base.identity:
        raise PostconditionFailed(
            f"{result.ref} says that it was trained from {result.vector_contract.base.id!r}, and "
            f"it was from {base.identity.id!r}."
        )


FINETUNE_EMBEDDER.requires("seconds_p95", "at most", "s", seconds("finetune-embedder"))
FINETUNE_EMBEDDER.requires("memory_mb", "at most", "MB", memory("finetune-embedder"))


@FINETUNE_EMBEDDER.enforced
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

    def rows(split: Split, most: int | None) -> list[InstructionExample]:
        return drawn(list(store.datasets.rows(dataset.ref, split)), most, config.seed)

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
            "finetune",
            pipeline="finetune-embedder",
            inputs=inputs,
            settings=config.model_dump(mode="json"),
        ) as run,
    ):
        attempt = attempt_of(folder)
        version = published(store, name, attempt)
        if version is None:
            train = tuples(rows("train", config.max_rows), base, compose, config)
            require_enough(train, dataset, config)
            held_out = rows("validation", config.max_validation_rows)
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
                    card=embedder_readme(name, dataset, contract, metrics, run.id),
                )
        run.outputs["model"] = version.ref
        run.metrics.update(version.metrics)
        shutil.rmtree(folder, ignore_errors=True)
    return version


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


def _metrics(
    log: EmbedderLog, train: Tuples, validation: Tuples, base: OpenEmbedder
) -> dict[str, Any]:
    return {
        "train_rows": len(train.ids),
        "validation_rows": len(validation.ids),
        "steps": log.steps,
        "planned_steps": log.planned_steps,
        "stopped": log.stopped,
        "resumed_from_step": log.resumed_from_step,
        "train_loss": final_loss(log.curve),
        "seconds": round(log.seconds, 2),
        "trainable_parameters": sum(p.numel() for p in base.model.parameters() if p.requires_grad),
    }
