"""What a language model learns from a dataset: rows as tokens, and the loss over them."""

from __future__ import annotations

from collections.abc import Mapping

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.engines.embedders.embedding import Embedder
from fti.pipelines.engines.encoding import PromptEncoder
from fti.pipelines.training.examples import (
    REJECTED_HIDDEN,
    EncodedPairs,
    EncodedRows,
    drawn,
    encode_pairs,
    encode_rows,
)
from fti.pipelines.training.preferences import Preferences
from fti.pipelines.training.preflight import require_held_out
from fti.pipelines.training.steps.loss import Responses
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.contracts.prompt_contract import Contract
from fti.store.errors import TrainingError
from fti.store.progress import Progress
from fti.store.store import Store
from fti.store.types import (
    DatasetVersion,
    InstructionExample,
    PreferenceExample,
    Split,
)

Encoded = EncodedRows | EncodedPairs


def encoded(
    dataset: DatasetVersion,
    store: Store,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    embedder: Embedder | None,
    progress: Progress,
    held_out: Mapping[str, frozenset[str]],
) -> tuple[Encoded, Encoded]:
    """The training and the validation rows of a dataset as tokens.

    Raises:
        TrainingError: rows hold text that is evaluated on, or no row is left to train on.
    """
    encoder = PromptEncoder(base.tokenizer)

    def read(split: Split, most: int | None) -> Encoded:
        rows = list(store.datasets.examples(dataset.ref, split))
        if split == "train":
            require_held_out(rows, dataset, held_out)
        rows = drawn(rows, most, config.seed)
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


def objective_of(
    train: Encoded, validation: Encoded, base: LoadedModel, config: TrainingConfig
) -> Responses | Preferences:
    """The loss over these rows, with what it is measured on."""
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
