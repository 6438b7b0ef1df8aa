"""A training in TensorBoard or MLflow, through the Trainer's own integrations."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fti.pipelines.training.choices import Tracker
from fti.store.errors import ConfigError


def require_trackers(names: Sequence[Tracker]) -> None:
    """Refuse a tracker whose package is missing, before anything is loaded.

    Raises:
        ConfigError: says what to install.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"Logging to {name!r} needs the package {name!r}, which is not installed.",
                hint=f"Run `pip install 'fti-llm[{name}]'`, or leave it out of training.log_to.",
            )


def callbacks(names: Sequence[Tracker], folder: Path) -> list[Any]:
    """The integrations. TensorBoard writes into ``folder``; MLflow where its own settings say."""
    found: list[Any] = []
    if "tensorboard" in names:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        found.append(TensorBoardCallback(SummaryWriter(log_dir=str(folder))))
    if "mlflow" in names:
        from transformers.integrations import MLflowCallback

        found.append(MLflowCallback())
    return found
