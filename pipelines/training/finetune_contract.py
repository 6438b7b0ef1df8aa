"""What must hold before, during and after a fine-tuning."""

from __future__ import annotations

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.training.steps.methods import require_trainable
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.prompt_contract import Contract
from fti.store.contracts.requirements import memory, worst
from fti.store.contracts.retrieval_contract import passage_differences
from fti.store.errors import ContractError, IntegrityError, PostconditionFailed, TrainingError
from fti.store.store import Store
from fti.store.types import DatasetVersion
from fti.store.versioned.model_version import ModelVersion

FINETUNE = PipelineContract("finetune")


@FINETUNE.precondition("The base can be trained by this method here", raises=TrainingError)
def can_be_trained(base: LoadedModel, config: TrainingConfig) -> None:
    """Method, quantization, precision and device go together."""
    require_trainable(base, config)


@FINETUNE.invariant("The dataset's files are as published", raises=IntegrityError)
def as_published(store: Store, dataset: DatasetVersion) -> None:
    """To the byte: before hours are spent on them, and after."""
    store.datasets.require_as_published(dataset)


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


@FINETUNE.precondition("The rows' passages were found as the contract says", raises=ContractError)
def same_retrieval(dataset: DatasetVersion, contract: Contract) -> None:
    """What training sees is what serving retrieves."""
    faults = passage_differences(
        contract.retrieval, dataset.retrieval, shown=contract.max_passages, there="the rows have"
    )
    if faults:
        raise ContractError(
            f"The passages in the rows of {dataset.ref} were found otherwise than the contract "
            f"says: {'; '.join(faults)}.",
            hint="Build the dataset again with the contract's profile: "
            f"fti dataset build {dataset.name}",
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


FINETUNE.requires(
    "tokens_per_s", "at least", "per s", worst("finetune", "tokens_per_second", least=True)
)
FINETUNE.requires("memory_mb", "at most", "MB", memory("finetune"))
