"""What making a version again gives, and what must hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from fti.store.contracts.conditions import PipelineContract
from fti.store.contracts.requirements import memory, seconds
from fti.store.errors import IntegrityError, PostconditionFailed, StoreError
from fti.store.store import Store
from fti.store.types import Value


class Difference(Value):
    """One thing that is otherwise: as recorded, and as rebuilt. None: it is not there."""

    what: str
    recorded: Any = None
    rebuilt: Any = None


class Rebuild(Value):
    """What came of training a version again.

    ``equal`` means that every file that is served is the same to the byte, and so are every step's
    loss and every metric; card and log, which name run and time, are not ``files``.
    ``circumstances`` are differences that may explain others: versions of libraries, of fti, a
    training that a time limit ended.
    """

    ref: str
    equal: bool
    inputs: Mapping[str, str]
    differences: tuple[Difference, ...] = ()
    circumstances: tuple[Difference, ...] = ()
    files: Mapping[str, bool] = Field(default_factory=dict)
    seconds: float = 0.0


REBUILD = PipelineContract("rebuild")


@REBUILD.precondition("The version was trained by the run that it names", raises=StoreError)
def was_trained(store: Store, ref: str) -> None:
    """What was calibrated or put in by hand has no training to do again."""
    version = store.models.get(ref)
    run = store.runs.get(version.run_id)
    if run.kind != "finetune":
        raise StoreError(
            f"{version.ref} was not trained by its run {run.id}, which is a {run.kind!r}.",
            hint=f"Rebuild what it was made from: fti models rebuild {version.parent}"
            if version.parent
            else "",
        )


@REBUILD.precondition("Its dataset is the one that it was trained on", raises=IntegrityError)
def same_dataset(store: Store, ref: str) -> None:
    """By the digest of the rows."""
    version = store.models.get(ref)
    dataset = store.datasets.get(version.dataset)
    if dataset.digest != version.dataset_digest:
        raise IntegrityError(
            f"{version.ref} was trained on {version.dataset} with digest "
            f"{version.dataset_digest[:12]}, and that dataset has digest {dataset.digest[:12]}.",
            hint="Restore the dataset from a backup.",
        )


REBUILD_DATASET = PipelineContract("rebuild-dataset")


@REBUILD.postcondition("It is called equal where nothing differs, and only there")
@REBUILD_DATASET.postcondition("It is called equal where nothing differs, and only there")
def equal_is_equal(result: Rebuild) -> None:
    """Each file and each figure counts."""
    same = not result.differences and all(result.files.values())
    if result.equal != same:
        raise PostconditionFailed(
            f"{result.ref} is called {'equal' if result.equal else 'different'}, with "
            f"{len(result.differences)} differences."
        )


for _contract in (REBUILD, REBUILD_DATASET):
    _contract.requires("seconds_p95", "at most", "s", seconds(_contract.pipeline))
    _contract.requires("memory_mb", "at most", "MB", memory(_contract.pipeline))
