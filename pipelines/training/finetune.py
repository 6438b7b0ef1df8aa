"""A dataset version becomes a model version: an adapter, or a whole model, ready to serve.

The same command run again goes on where a killed one stopped, and on a CPU ends in the same
weights. What is registered is safetensors and text; checkpoints stay in the store's own folder
and are removed once the version is published.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from typing import Any

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.causal_lm.saving import (
    save_adapter,
    save_whole,
)
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.training.examples import EncodedPairs
from fti.pipelines.training.finetune_contract import FINETUNE
from fti.pipelines.training.objectives import Encoded, encoded, objective_of
from fti.pipelines.training.preflight import require_fit
from fti.pipelines.training.readmes import model_readme
from fti.pipelines.training.steps.attempts import attempt_of, published
from fti.pipelines.training.steps.callbacks import TrainingLog, final_loss, read_weights
from fti.pipelines.training.steps.methods import (
    continued,
    precision,
    put_weights,
    trainable,
)
from fti.pipelines.training.steps.ranks import agreed, rank, world
from fti.pipelines.training.steps.tracking import callbacks
from fti.pipelines.training.steps.trainer import train_model
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.contracts.prompt_contract import Contract
from fti.store.files.atomic import staged_folder, write_json, writer_lock
from fti.store.logs.runs import OpenRun
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import (
    DatasetVersion,
    sha256_hex,
)
from fti.store.versioned.model_version import ADAPTER_FILE, LOG_FILE, AdapterInfo, ModelVersion


@FINETUNE.enforced
def finetune(
    dataset: DatasetVersion,
    *,
    name: str,
    store: Store,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    embedder: Embedder | None = None,
    held_out: Mapping[str, frozenset[str]] | None = None,
    start: ModelVersion | None = None,
    progress: Progress = quiet,
) -> ModelVersion:
    """Train an adapter or the whole model on a dataset's training rows, and register it.

    In several processes (``accelerate launch``) all call this; the first one alone writes.

    Args:
        dataset: what to learn; its validation rows choose the weights, its test rows are not read.
        name: of the model; each fine-tuning is a new version.
        store: where from and where to.
        base: the model to stand on, without adapters; it is as before when this returns.
        contract: what the result will be served under.
        config: how.
        embedder: that of the contract; needed where the contract selects evidence.
        held_out: ids of documents that nothing may be learned from, by what is evaluated on them.
        start: a version to go on from, under its contract; its adapter's shape is kept. A whole
            model is itself the ``base``.
        progress: told after every step, with the loss and the seconds left.

    Raises:
        InvalidName: ``name`` is none that a model can have.
        ContractError: the contract names another base, or the rows another embedder, or it
            selects evidence and there is no embedder.
        TrainingError: the base cannot be trained so, memory does not suffice, rows hold text that
            is evaluated on, no row is left to train on, or the loss is not a number.
        StoreLocked: another process trains the very same.
        IntegrityError: the dataset's files are not as published.
    """
    store.models.check_name(name)
    if dataset.kind == "preference":
        # What dropout does to a likelihood would drown what training does to it.
        config = config.model_copy(update={"dropout": 0.0})
    begin = None if start is None else store.models.open(start.ref)
    if start is not None and begin is not None:
        config = continued(config, start, begin)
    digest = _digest(dataset, base, contract, config, start)
    folder = store.layout.checkpoints / digest[:32]
    inputs = {
        "dataset": dataset.ref,
        "dataset_digest": dataset.digest,
        "base": base.identity.id,
        "base_revision": base.identity.revision,
        "contract": contract.digest,
        "training_digest": digest,
        "features_version": str(dataset.features_version),
        **({"parent": start.ref} if start is not None else {}),
    }
    leads = rank() == 0
    progress = progress if leads else quiet
    with contextlib.ExitStack() as held:
        run: OpenRun | None = None
        if leads:
            held.enter_context(
                writer_lock(folder.with_suffix(".lock"), timeout_s=0, what=f"train {name}")
            )
            run = held.enter_context(
                store.runs.running(
                    "finetune", inputs=inputs, settings=config.model_dump(mode="json")
                )
            )
        attempt = agreed(attempt_of(folder) if leads else None)
        version = published(store, name, attempt)
        if agreed(version is None):
            train, validation = encoded(
                dataset, store, base, contract, config, embedder, progress, held_out or {}
            )
            objective = objective_of(train, validation, base, config)
            with trainable(base, config) as model:
                if begin is not None and config.method != "full":
                    put_weights(model, read_weights(begin / ADAPTER_FILE))
                objective.remember(model)
                estimate = agreed(require_fit(model, objective, config))
                progress(ProgressEvent("preflight", 1, 1, str(estimate)))
                log = train_model(
                    model,
                    objective,
                    config=estimate.fitted(config),
                    learning_rate=config.peak_rate(preferences=dataset.kind == "preference"),
                    folder=folder,
                    measurable=bool(validation.examples),
                    callbacks=callbacks(config.log_to, store.layout.runs / run.id) if run else (),
                    progress=progress,
                )
                if run is not None:
                    metrics = _metrics(log, train, validation, model) | {
                        "training_digest": digest,
                        "attempt": attempt,
                        "estimated": estimate.as_json(),
                        "precision": precision(config, model),
                    }
                    store.runs.attach(run.id, "curve", log.curve)
                    version = _register(
                        model, store=store, name=name, dataset=dataset, base=base,
                        contract=contract, config=config, log=log, metrics=metrics, run_id=run.id,
                        parent=start.ref if start is not None else None,
                    )  # fmt: skip
        version = store.models.get(agreed(version.ref if version else None))
        if run is not None:
            run.outputs["model"] = version.ref
            run.metrics.update(version.metrics)
            shutil.rmtree(folder, ignore_errors=True)
    return version


def foresee(
    dataset: DatasetVersion,
    *,
    store: Store,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    embedder: Embedder | None = None,
    held_out: Mapping[str, frozenset[str]] | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """What ``finetune`` would do and take, with every check it makes; nothing is trained or kept.

    Raises:
        As ``finetune``.
    """
    FINETUNE.require(dataset=dataset, store=store, base=base, contract=contract, config=config)
    train, validation = encoded(
        dataset, store, base, contract, config, embedder, progress, held_out or {}
    )
    with trainable(base, config) as model:
        estimate = require_fit(model, objective_of(train, validation, base, config), config)
    return {
        "train_rows": len(train.examples),
        "validation_rows": len(validation.examples),
        "dropped_rows": train.dropped,
        **estimate.as_json(),
    }


def _digest(
    dataset: DatasetVersion,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    start: ModelVersion | None,
) -> str:
    """Identity of this very training: what must agree for a checkpoint to be gone on from."""
    parts = (
        "1",
        dataset.digest,
        contract.digest,
        base.identity.model_dump_json(),
        base.device,
        config.model_dump_json(exclude={"max_memory_gb", "log_to"}),
    )
    begun = [f"{f.path} {f.sha256}" for f in start.files] if start is not None else []
    return sha256_hex("\n".join([*parts, *begun]))


def _metrics(log: TrainingLog, train: Encoded, validation: Encoded, model: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "train_rows": len(train.examples),
        "validation_rows": len(validation.examples),
        "dropped_rows": train.dropped,
        "steps": log.steps,
        "processes": world(),
        "planned_steps": log.planned_steps,
        "stopped": log.stopped,
        "resumed_from_step": log.resumed_from_step,
        "train_loss": final_loss(log.curve),
        "seconds": round(log.seconds, 2),
        "tokens_per_second": round(log.tokens_per_second, 1),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    share = "preferred" if isinstance(train, EncodedPairs) else "exact"
    if log.before is not None and log.best is not None:
        found |= {
            "validation_loss_before": log.before.loss,
            "validation_loss": log.best.loss,
            f"validation_{share}_before": log.before.exact,
            f"validation_{share}": log.best.exact,
            "best_step": log.best_step,
        }
    return found


def _register(
    model: Any,
    *,
    store: Store,
    name: str,
    dataset: DatasetVersion,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    log: TrainingLog,
    metrics: Mapping[str, Any],
    run_id: str,
    parent: str | None,
) -> ModelVersion:
    adapter = None
    with staged_folder(store.layout.checkpoints) as folder:
        if config.method == "full":
            save_whole(base, folder)
        else:
            settings = model.peft_config["default"]
            settings.base_model_name_or_path = base.identity.id
            adapter = AdapterInfo(
                rank=config.rank,
                alpha=config.alpha,
                target_modules=tuple(sorted(settings.target_modules)),
            )
            save_adapter(model, folder)
        write_json(folder / LOG_FILE, {"steps": log.curve})
        return store.models.publish(
            name,
            folder,
            contract=contract,
            dataset=dataset,
            run_id=run_id,
            metrics=metrics,
            adapter=adapter,
            parent=parent,
            card=model_readme(name, dataset, base, contract, config, metrics, run_id),
        )
