"""The README.md of a trained model version: what it is, from what, how good, how to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.contracts.embedder_contract import EmbedderContract
from fti.store.contracts.prompt_contract import Contract
from fti.store.types import (
    DatasetVersion,
    ModelIdentity,
)


def embedder_readme(
    name: str,
    dataset: DatasetVersion,
    contract: EmbedderContract,
    metrics: dict[str, Any],
    run_id: str,
) -> str:
    """That of a trained embedder."""
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

- {_base(contract.base)}
- Dataset: `{dataset.ref}`, digest `{dataset.digest}`
- Contract: digest `{contract.digest}`: {contract.dimension} dimensions, {contract.pooling} pooling,
  unit length, {contract.max_tokens} tokens of a text{f"; {prefixes}" if prefixes else ""}
- Run: `{run_id}`
- Loss: multiple negatives ranking, with hard negatives from the live search

| metric | value |
|---|---|
{_table(metrics)}

The validation rows come from documents that were not trained on; their figures are of each
question's passage among the passages of these rows. Whether a store's search gets better is
decided on a frozen case set, by `fti models promote NAME/N --alias champion`.

## Use

    fti models promote NAME/N --alias champion     # the gate, then all vectors made anew
    fti ingest FOLDER --set embedder.id=registry:NAME/N

With NAME/N the version this folder is. sentence-transformers loads the folder as it is.
"""


def model_readme(
    name: str,
    dataset: DatasetVersion,
    base: LoadedModel,
    contract: Contract,
    config: TrainingConfig,
    metrics: Mapping[str, Any],
    run_id: str,
) -> str:
    """That of a fine-tuned language model, an adapter or a whole one."""
    identity = base.identity
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

- {_base(identity)}
- Dataset: `{dataset.ref}`, digest `{dataset.digest}`
- Contract: digest `{contract.digest}`; it says how questions and passages become the prompt, and
  serving reads it from this version's manifest
- Embedder behind its passages: `{contract.embedder.id}`
- Run: `{run_id}`
- {trained}

| metric | value |
|---|---|
{_table(metrics)}

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


def _base(identity: ModelIdentity) -> str:
    at = f" at revision `{identity.revision}`" if identity.revision else ""
    return f"Base: `{identity.id}`{at}, weights sha256 `{identity.weights_sha256}`"


def _table(metrics: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {key} | {value:.4g} |" if isinstance(value, float) else f"| {key} | {value} |"
        for key, value in metrics.items()
        if isinstance(value, int | float | str) and key not in ("training_digest", "attempt")
    )
