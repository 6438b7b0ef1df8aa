"""Every pipeline's contract, in the order in which work flows through them."""

from __future__ import annotations

from typing import Any

from fti.store.contracts.conditions import PipelineContract


def contracts() -> tuple[PipelineContract, ...]:
    """The contracts, as the pipelines themselves enforce them."""
    from fti.app.operations.promoting.promotion import PROMOTE
    from fti.pipelines.feature.dataset.instructions import DATASET
    from fti.pipelines.feature.ingesting.ingest import INGEST
    from fti.pipelines.feature.monitoring.system_report import MONITOR
    from fti.pipelines.feature.streaming.follow import FOLLOW
    from fti.pipelines.feature.streaming.watch import WATCH
    from fti.pipelines.inference.answering.answer import ANSWER, ASK, SERVE
    from fti.pipelines.inference.batch.answer_table import BATCH
    from fti.pipelines.inference.batch.follow_questions import QUESTIONS
    from fti.pipelines.inference.evaluating.evaluation import EVALUATE, EVALUATE_RETRIEVAL
    from fti.pipelines.training.finetune_contract import FINETUNE

    return (
        INGEST, WATCH, FOLLOW, DATASET, FINETUNE, EVALUATE, EVALUATE_RETRIEVAL, PROMOTE, SERVE, ASK,
        ANSWER, BATCH, QUESTIONS, MONITOR,
    )  # fmt: skip


def contract_json(contract: PipelineContract) -> dict[str, Any]:
    """A contract as commands print it."""
    function = contract.function
    assert function is not None
    return {
        "pipeline": contract.pipeline,
        "function": f"{function.__module__}.{function.__qualname__}",
        "inputs": {port.name: port.type for port in contract.inputs()},
        "output": contract.output().type,
        "conditions": [
            {
                "name": condition.name,
                "kind": condition.kind,
                "says": condition.says,
                "raises": condition.raises.__name__,
            }
            for condition in contract.conditions
        ],
    }
