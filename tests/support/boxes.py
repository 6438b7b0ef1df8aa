"""A tiny training task: what colour is a box? With a dataset of it, and a fine-tuning on it."""

from __future__ import annotations

from typing import Any

from fti.pipelines.engines.causal_lm.loaded_model import LoadedModel
from fti.pipelines.training.finetune import finetune
from fti.pipelines.training.training_config import TrainingConfig
from fti.store.contracts.prompt_contract import Contract, PromptForm
from fti.store.store import Store
from fti.store.types import DatasetVersion, InstructionExample, Split
from fti.store.versioned.model_version import ModelVersion
from tests.support.values import EMBEDDER, a_passage

FORM = PromptForm(system="", question_position="both")
COLOURS = ("red", "blue", "green", "white", "black", "brown", "grey", "pink")
FAST = TrainingConfig(
    max_steps=6,
    batch_size=4,
    rank=4,
    alpha=8,
    learning_rate=0.01,
    evaluations=2,
    checkpoint_s=1e6,
    # Left to itself a CPU with AVX512_BF16 computes in bfloat16, whose sums are others.
    precision="float32",
)


def contract_for(loaded: LoadedModel, **changes: Any) -> Contract:
    fields = {
        "form": FORM,
        "base": loaded.identity,
        "embedder": EMBEDDER,
        "max_prompt_tokens": 300,
        "max_new_tokens": 40,
        "max_passages": 2,
        "max_passage_tokens": 80,
    }
    return Contract(**(fields | changes))


def rows(split: Split, count: int, shown: str = "d") -> list[InstructionExample]:
    made = []
    for n in range(count):
        colour = COLOURS[n % len(COLOURS)]
        # Of differing lengths, so that padding and the order of batches matter.
        text = f"Box {split} {n} is {colour}." + " It stands by the door." * (n % 3)
        nothing = a_passage("Nothing.", rank=2, chunk_id="z", document_id=shown)
        passages = (a_passage(text, chunk_id=f"c{n}"), nothing)
        made.append(
            InstructionExample(
                id=f"{split}{n}",
                kind="question",
                question=f"What colour is box {n}?",
                answer=colour,
                passages=passages,
                citations=(1,),
                response=FORM.response(colour, (1,)),
                split=split,
                documents=(f"d-{split}",),
                chunk_ids=(f"c{n}",),
            )
        )
    return made


def dataset(
    store: Store, *, train: int = 16, validation: int = 4, shown_in_train: str = "d"
) -> DatasetVersion:
    return store.datasets.publish(
        "boxes",
        rows={
            "train": rows("train", train, shown_in_train),
            "validation": rows("validation", validation),
        },
        features_version=3,
        embedder=EMBEDDER,
        prompt_digest=FORM.digest,
        run_id="r-20260101-000000-000000",
    )


def run(
    store: Store,
    base: LoadedModel,
    data: DatasetVersion,
    config: TrainingConfig = FAST,
    **more: Any,
) -> ModelVersion:
    return finetune(
        data,
        name="reader",
        store=store,
        base=base,
        contract=more.pop("contract", None) or contract_for(base),
        config=config,
        **more,
    )
