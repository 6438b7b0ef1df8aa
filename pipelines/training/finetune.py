"""A dataset version becomes a model version: an adapter, or a whole model, ready to serve.

The same command run again goes on where a killed one stopped, and on a CPU ends in the same
weights. What is registered is safetensors and text; checkpoints stay in the store's own folder
and are removed once the version is published.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from typing import Any

from fti.pipelines.engines.causal_lm.loading import LoadedModel, save_adapter, save_whole
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.encoding import PromptEncoder
from fti.pipelines.training.examples import (
    REJECTED_HIDDEN,
    EncodedPairs,
    EncodedRows,
    encode_pairs,
    encode_rows,
)
from fti.pipelines.training.preferences import Preferences
from fti.pipelines.training.preflight import require_as_published, require_fit, require_held_out
from fti.pipelines.training.steps.attempts import attempt_of, published
from fti.pipelines.training.steps.callbacks import TrainingLog, read_weights
from fti.pipelines.training.steps.loss import Responses
from fti.pipelines.training.steps.methods import (
    continued,
    precision,
    put_weights,
    require_trainable,
    trainable,
)
from fti.pipelines.training.steps.ranks import agreed, rank, world
from fti.pipelines.training.steps.tracking import callbacks
from fti.pipelines.training.steps.trainer import train_model
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import ContractError, IntegrityError, PostconditionFailed, TrainingError
from fti.store.files.atomic import staged_folder, write_json, writer_lock
from fti.store.logs.runs import OpenRun
from fti.store.progress import Progress, ProgressEvent, quiet
from fti.store.store import Store
from fti.store.types import (
    DatasetVersion,
    InstructionExample,
    PreferenceExample,
    Split,
    sha256_hex,
)
from fti.store.versioned.model_version import ADAPTER_FILE, LOG_FILE, AdapterInfo, ModelVersion

Encoded = EncodedRows | EncodedPairs


FINETUNE = PipelineContract("finetune")


@FINETUNE.precondition("The base can be trained by this method here", raises=TrainingError)
def can_be_trained(base: LoadedModel, config: TrainingConfig) -> None:
    """Method, quantization, precision and device go together."""
    require_trainable(base, config)


@FINETUNE.invariant("The dataset's files are as published", raises=IntegrityError)
def as_published(store: Store, dataset: DatasetVersion) -> None:
    """To the byte: before hours are spent on them, and after."""
    require_as_published(store, dataset)


@FINETUNE.precondition("The contract names the base model that is loaded", raises=ContractError)
def same_base(base: LoadedModel, contract: Contract) -> None:
    """Weights, tokenizer and revision, to the byte."""
    if contract.base != base.identity:
        ours, theirs = contract.base.model_dump(), base.identity.model_dump()
        differing = "; ".join(
            f"{key} {ours[key]!r} is not {theirs[key]!r}"
            for key in ours
            if ours[key] != theirs[key]
        )
        raise ContractError(
            f"The contract is for {contract.base.id!r}, and {base.identity.id!r} is loaded: "
            f"{differing}.",
            hint="Train with the profile that the contract was made from.",
        )


@FINETUNE.precondition(
    "The rows were retrieved by the embedder that the contract names", raises=ContractError
)
def same_embedder(dataset: DatasetVersion, contract: Contract) -> None:
    """A model serves behind the retrieval that it was trained behind."""
    if contract.embedder != dataset.embedder:
        raise ContractError(
            f"The rows of {dataset.ref} were retrieved by {dataset.embedder.id!r}, and the "
            f"contract is for {contract.embedder.id!r}.",
            hint=f"Build the dataset again: fti dataset build {dataset.name}",
        )


@FINETUNE.precondition("Prompt and answer fit the base model's context", raises=ContractError)
def fits_context(base: LoadedModel, contract: Contract) -> None:
    """Both budgets of the contract together."""
    if contract.max_prompt_tokens + contract.max_new_tokens > base.context_tokens:
        raise ContractError(
            f"Prompt and answer take up to {contract.max_prompt_tokens} + "
            f"{contract.max_new_tokens} tokens, and {base.identity.id!r} holds "
            f"{base.context_tokens}.",
            hint="Lower prompt.max_prompt_tokens.",
        )


@FINETUNE.postcondition("The base model is given back without an adapter")
def bare_base(base: LoadedModel) -> None:
    """Whoever holds it goes on with the base itself."""
    carried = next((n for n, _ in base.model.named_parameters() if ".lora_" in n), None)
    if carried is not None:
        raise PostconditionFailed(
            f"The base model {base.identity.id!r} still carries an adapter ({carried!r})."
        )


@FINETUNE.postcondition("The version will be served under the contract it was trained under")
def same_contract(contract: Contract, result: ModelVersion) -> None:
    """To the field: there is no training/serving skew."""
    if result.contract != contract:
        raise PostconditionFailed(
            f"{result.ref} was registered under the contract {result.contract.digest[:12]}, and "
            f"trained under {contract.digest[:12]}."
        )


@FINETUNE.postcondition("The version names the dataset that it was trained on")
def names_its_dataset(dataset: DatasetVersion, result: ModelVersion) -> None:
    """Lineage begins here."""
    if result.dataset != dataset.ref:
        raise PostconditionFailed(
            f"{result.ref} names the dataset {result.dataset!r} and was trained on {dataset.ref!r}."
        )


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
            train, validation = _encoded(
                dataset, store, base, contract, config, embedder, progress, held_out or {}
            )
            objective = _objective(train, validation, base, config)
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
    train, validation = _encoded(
        dataset, store, base, contract, config, embedder, progress, held_out or {}
    )
    with trainable(base, config) as model:
        estimate = require_fit(model, _objective(train, validation, base, config), config)
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


def _encoded(
    dataset: DatasetVersion,
    store: Store,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    embedder: Embedder | None,
    progress: Progress,
    held_out: Mapping[str, frozenset[str]],
) -> tuple[Encoded, Encoded]:
    encoder = PromptEncoder(base.tokenizer)

    def read(split: Split, most: int | None) -> Encoded:
        rows = list(store.datasets.examples(dataset.ref, split))
        if split == "train":
            require_held_out(rows, dataset, held_out)
        if most is not None and len(rows) > most:
            drawn = sorted(rows, key=lambda r: sha256_hex(f"{config.seed}\n{r.id}"))[:most]
            chosen = {row.id for row in drawn}
            rows = [row for row in rows if row.id in chosen]
        pairs = [row for row in rows if isinstance(row, PreferenceExample)]
        if dataset.kind == "preference":
            return encode_pairs(
                pairs, contract=contract, encoder=encoder, embedder=embedder, progress=progress
            )
        return encode_rows(
            [row for row in rows if isinstance(row, InstructionExample)],
            contract=contract, encoder=encoder, embedder=embedder, progress=progress,
        )  # fmt: skip

    train = read("train", config.max_rows)
    if not train.examples:
        reasons = ", ".join(f"{reason} {count}" for reason, count in train.dropped.items())
        raise TrainingError(
            f"The dataset {dataset.ref} leaves no row to train on"
            + (f" (dropped: {reasons})." if reasons else ": its training split is empty."),
            hint="Set prompt.evidence_sentences=0, so that whole passages are shown."
            if REJECTED_HIDDEN in train.dropped
            else "Raise prompt.max_prompt_tokens or prompt.max_new_tokens."
            if reasons
            else f"Ingest more documents and build it again: fti dataset build {dataset.name}",
        )
    return train, read("validation", config.max_validation_rows)


def _objective(
    train: Encoded, validation: Encoded, base: LoadedModel, config: TrainingConfig
) -> Responses | Preferences:
    if isinstance(train, EncodedPairs):
        assert isinstance(validation, EncodedPairs)
        return Preferences(
            train.examples,
            ids=train.ids,
            validation=validation.examples,
            config=config,
            pad=_pad_id(base),
        )
    assert isinstance(validation, EncodedRows)
    return Responses(
        train.examples,
        ids=train.ids,
        validation=validation.examples,
        config=config,
        pad=_pad_id(base),
    )


def _pad_id(base: LoadedModel) -> int:
    """Any id does: padding is masked."""
    pad = base.tokenizer.pad_token_id
    return int(pad) if pad is not None else next(iter(sorted(base.stop_ids)))


def _metrics(log: TrainingLog, train: Encoded, validation: Encoded, model: Any) -> dict[str, Any]:
    losses = [entry["loss"] for entry in log.curve if "loss" in entry]
    tail = losses[-max(1, len(losses) // 10) :]
    found: dict[str, Any] = {
        "train_rows": len(train.examples),
        "validation_rows": len(validation.examples),
        "dropped_rows": train.dropped,
        "steps": log.steps,
        "processes": world(),
        "planned_steps": log.planned_steps,
        "stopped": log.stopped,
        "resumed_from_step": log.resumed_from_step,
        "train_loss": sum(tail) / len(tail) if tail else None,
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
            card=_card(name, dataset, base, contract, config, metrics, run_id),
        )


def _card(
    name: str,
    dataset: DatasetVersion,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    metrics: Mapping[str, Any],
    run_id: str,
) -> str:
    identity = base.identity
    at = f" at revision `{identity.revision}`" if identity.revision else ""
    measured = "\n".join(
        f"| {key} | {value:.4g} |" if isinstance(value, float) else f"| {key} | {value} |"
        for key, value in metrics.items()
        if isinstance(value, int | float | str) and key not in ("training_digest", "attempt")
    )
    if config.method == "full":
        what, library = "A whole model", "transformers"
        trained = f"All weights, from `{identity.id}`'s"
    else:
        what, library = "A LoRA adapter", "peft"
        scale = "alpha / sqrt(rank)" if config.method == "rslora" else "alpha / rank"
        trained = (
            f"Adapter: {config.method}, rank {config.rank}, alpha {config.alpha:g} "
            f"(scale {scale}), dropout {config.dropout:g}"
        )
    return f"""---
base_model: {json.dumps(identity.id)}
library_name: {library}
tags: [{config.method}, rag]
---

# {name}

{what} that answers questions from numbered passages, cites the one it used, and says so
when they hold no answer.

- Base: `{identity.id}`{at}, weights sha256 `{identity.weights_sha256}`
- Dataset: `{dataset.ref}`, digest `{dataset.digest}`
- Contract: digest `{contract.digest}`; it says how questions and passages become the prompt, and
  serving reads it from this version's manifest
- Embedder behind its passages: `{contract.embedder.id}`
- Run: `{run_id}`
- {trained}

| metric | value |
|---|---|
{measured}

The validation rows come from documents that were not trained on; `validation_exact` is the share
of their responses that greedy decoding gives word for word, `validation_preferred` that of the
pairs whose better response has become likelier by comparison. Answers over a case file are measured
by `fti evaluate CASES.jsonl --model NAME/N`.

## Use

    fti ask "..." --model NAME/N
    fti models promote NAME/N --alias champion
    fti serve

With NAME/N the version this folder is. Another program must compose the prompt as the contract
says, or the model sees what it was not trained on.
"""
