"""Every kind of step, by the key that YAML names it with."""

from __future__ import annotations

from collections.abc import Mapping

from fti.app.orchestration.feature_steps import (
    DatasetStep,
    FreezeStep,
    IngestStep,
    MonitorStep,
    PairsStep,
    ValidateStep,
    VerifyStep,
)
from fti.app.orchestration.model_steps import (
    BatchStep,
    CalibrateStep,
    EvaluateStep,
    FinetuneEmbedderStep,
    FinetuneStep,
    PromoteEmbedderStep,
    PromoteStep,
)
from fti.app.orchestration.step import Step

STEPS: Mapping[str, type[Step]] = {
    step.kind: step
    for step in (
        IngestStep, ValidateStep, VerifyStep, FreezeStep, FinetuneEmbedderStep,
        PromoteEmbedderStep, DatasetStep, PairsStep, FinetuneStep, CalibrateStep, EvaluateStep,
        PromoteStep, BatchStep, MonitorStep,
    )
}  # fmt: skip
