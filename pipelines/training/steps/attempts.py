"""One training from its first start to its end, over kills and reruns."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from fti.store.files.atomic import write_json
from fti.store.store import Store
from fti.store.versioned.model_version import ModelVersion

_FILE = "attempt.json"


def attempt_of(folder: Path) -> str:
    """The name of the training that keeps checkpoints in ``folder``; a new one where none does."""
    path = folder / _FILE
    if path.is_file():
        return str(json.loads(path.read_text("utf-8"))["attempt"])
    attempt = secrets.token_hex(8)
    write_json(path, {"attempt": attempt})
    return attempt


def published(store: Store, name: str, attempt: str) -> ModelVersion | None:
    """The version that a run published just before it was killed, so that it is not doubled."""
    mine = (v for v in store.models.survey()[0] if v.name == name)
    return next((v for v in mine if v.metrics.get("attempt") == attempt), None)
