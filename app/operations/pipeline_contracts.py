"""Every pipeline's contract, in the order in which work flows through them."""

from __future__ import annotations

from typing import Any

from fti.store.contracts.conditions import PipelineContract, contract_of


def contracts() -> tuple[PipelineContract, ...]:
    """The contracts, as the pipelines themselves enforce them."""
    from fti.app.operations.measuring.calibrating import CALIBRATE
    from fti.app.operations.promoting.promotion import PROMOTE
    from fti.app.operations.training.dataset_rebuilding import rebuild_dataset
    from fti.app.operations.training.rebuilding import rebuild
    from fti.pipelines.feature.dataset.instructions import DATASET
    from fti.pipelines.feature.dataset.negatives import NEGATIVES
    from fti.pipelines.feature.dataset.pairs import PAIRS
    from fti.pipelines.feature.ingesting.ingest import INGEST
    from fti.pipelines.feature.ingesting.reembedding import ADOPT, RE_EMBED
    from fti.pipelines.feature.ingesting.repair import REPAIR
    from fti.pipelines.feature.monitoring.system_report import MONITOR
    from fti.pipelines.feature.streaming.follow import FOLLOW
    from fti.pipelines.feature.streaming.watch import WATCH
    from fti.pipelines.feature.validating.validate_features import VALIDATE
    from fti.pipelines.inference.answering.answer_contracts import ANSWER, ASK, SERVE
    from fti.pipelines.inference.batch.answer_table import BATCH
    from fti.pipelines.inference.batch.follow_questions import QUESTIONS
    from fti.pipelines.inference.evaluating.evaluation import EVALUATE, EVALUATE_RETRIEVAL
    from fti.pipelines.inference.live.live_answers import MONITOR_ANSWERS
    from fti.pipelines.training.embedder.train_embedder import FINETUNE_EMBEDDER
    from fti.pipelines.training.finetune import finetune
    from fti.store.features.feature_store import WRITE
    from fti.store.upkeep.forgetting import FORGET

    return (
        INGEST, WATCH, FOLLOW, WRITE, VALIDATE, RE_EMBED, ADOPT, REPAIR, FORGET, DATASET, PAIRS,
        NEGATIVES, contract_of(rebuild_dataset), contract_of(finetune), FINETUNE_EMBEDDER,
        contract_of(rebuild), CALIBRATE, EVALUATE, EVALUATE_RETRIEVAL, PROMOTE, SERVE, ASK, ANSWER,
        BATCH, QUESTIONS, MONITOR, MONITOR_ANSWERS,
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
        "requirements": [
            {
                "name": requirement.name,
                "says": requirement.says,
                "bound": requirement.bound,
                "unit": requirement.unit,
                "setting": requirement.setting,
            }
            for requirement in contract.requirements
        ],
    }
