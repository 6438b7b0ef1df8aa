"""What became of each step of a pipeline, so that the next run knows what it may skip.

``pipelines/<name>.json`` holds the last attempt of every step: the digests of what it read, of what
it had written when it was done, and its run. It is written before and after each step, so that a
step whose process died says "running", and is run again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, TypeAdapter

from fti.store.errors import IntegrityError
from fti.store.files.atomic import open_sealed, sealed_json
from fti.store.files.layout import Layout
from fti.store.types import Value
from fti.store.versioned.versions import check_name

StepStatus = Literal["running", "done", "partial", "refused", "failed"]


class StepState(Value):
    """The last attempt of a step. ``inputs`` and ``outputs`` are digests by what they are of."""

    status: StepStatus
    inputs: Mapping[str, str] = Field(default_factory=dict)
    outputs: Mapping[str, str] = Field(default_factory=dict)
    started_at: datetime
    finished_at: datetime | None = None
    run: str = ""
    summary: str = ""
    error: str = ""


_STATES = TypeAdapter(dict[str, StepState])


class PipelineStates:
    """States of pipelines under the store's root."""

    def __init__(self, layout: Layout) -> None:
        self._storage = layout.storage

    def read(self, name: str) -> dict[str, StepState]:
        """The states of a pipeline's steps by id; none before its first run.

        Raises:
            InvalidName: ``name`` is not a plain name.
            IntegrityError: the file cannot be read.
        """
        key = _key(name)
        try:
            return _STATES.validate_python(open_sealed(self._storage.read(key)))
        except FileNotFoundError:
            return {}
        except ValueError as error:  # broken JSON, and pydantic's ValidationError
            raise IntegrityError(
                f"The state of the pipeline {name!r} cannot be read.",
                hint=f"Delete {self._storage.at(key)!r}: the next run then runs every step.",
            ) from error

    def write(self, name: str, states: Mapping[str, StepState]) -> None:
        """Replace the states."""
        body = {step: state.model_dump(mode="json") for step, state in states.items()}
        self._storage.write(_key(name), sealed_json(body))

    def names(self) -> Sequence[str]:
        """The pipelines that ran."""
        return [PurePosixPath(key).stem for key in self._storage.find("pipelines/*.json")]

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Be the one process that runs a pipeline.

        Raises:
            InvalidName: ``name`` is not a plain name.
            StoreLocked: another process runs it.
        """
        key = f"locks/pipeline-{check_name(name, 'pipeline')}.lock"
        with self._storage.locked(key, timeout_s=0, what=f"pipeline {name}"):
            yield


def _key(name: str) -> str:
    return f"pipelines/{check_name(name, 'pipeline')}.json"
