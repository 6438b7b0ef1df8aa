"""The whole loop from Python: documents in, a service out that answers from them.

``store``, ``pipelines`` and ``app`` lie at the top of the repository and are installed as
``fti.store``, ``fti.pipelines`` and ``fti.app`` (links in this folder), so that a project with an
``app`` or a ``store`` of its own can use them. The names below are loaded when they are first
used: importing ``fti`` by itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fti.app.service.api import create_app
    from fti.pipelines.feature.dataset.instructions import build_dataset
    from fti.pipelines.feature.ingesting.ingest import ingest
    from fti.pipelines.inference.answering.answer import Assistant
    from fti.pipelines.inference.evaluating.evaluation import evaluate
    from fti.pipelines.training.finetune import finetune
    from fti.store.store import Store

_HOMES = {
    "Assistant": "fti.pipelines.inference.answering.answer",
    "Store": "fti.store.store",
    "build_dataset": "fti.pipelines.feature.dataset.instructions",
    "create_app": "fti.app.service.api",
    "evaluate": "fti.pipelines.inference.evaluating.evaluation",
    "finetune": "fti.pipelines.training.finetune",
    "ingest": "fti.pipelines.feature.ingesting.ingest",
}

__all__ = [
    "Assistant",
    "Store",
    "build_dataset",
    "create_app",
    "evaluate",
    "finetune",
    "ingest",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
