"""The registry, datasets and runs, to read: what the page /registry shows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fti.app.service.routes.parts import StorePart
from fti.store.errors import IntegrityError
from fti.store.types import RunKind
from fti.store.versioned.model_version import ModelVersion

router = APIRouter(prefix="/v1/registry", tags=["registry"])


@router.get("/models")
def list_versions(store: StorePart) -> dict[str, Any]:
    """Every model version, newest first, with its aliases; and how each alias came to where it is.

    A version that is not as published has an ``error`` in place of its facts.
    """
    registry = store.models
    versions = []
    for ref in registry.refs():
        try:
            versions.append(_version(registry.get(ref)))
        except IntegrityError as error:
            versions.append({"ref": ref, "error": error.message})
    aliases = {name: registry.aliases(name) for name in registry.names()}
    retired = {name: registry.retired(name) for name in registry.names()}
    for body in versions:
        name, _, number = body["ref"].partition("/")
        body["aliases"] = sorted(a for a, n in aliases[name].items() if n == int(number))
        body["retired"] = int(number) in retired[name]
    moves = [
        {"model": name, **change.model_dump(mode="json", exclude={"evidence"})}
        for name in registry.names()
        for change in registry.history(name)
    ]
    return {
        "object": "list",
        "data": sorted(versions, key=lambda v: v.get("created_at", ""), reverse=True),
        "history": sorted(moves, key=lambda m: m["at"], reverse=True),
    }


@router.get("/datasets")
def list_datasets(store: StorePart) -> dict[str, Any]:
    """Every dataset version, newest first."""
    found = sorted(store.datasets.list(), key=lambda d: d.created_at, reverse=True)
    return {
        "object": "list",
        "data": [
            {
                "ref": dataset.ref,
                "created_at": dataset.created_at.isoformat(),
                "rows": dict(dataset.rows),
                "kinds": dict(dataset.kinds),
                "documents": {split: len(ids) for split, ids in dataset.documents.items()},
                "digest": dataset.digest,
                "features_version": dataset.features_version,
                "run": dataset.run_id,
            }
            for dataset in found
        ],
    }


@router.get("/runs")
def list_runs(
    store: StorePart,
    kind: RunKind | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """What ran, newest first, with its inputs, outputs and figures; settings are left out."""
    found = store.runs.list(kind, limit)
    return {
        "object": "list",
        "data": [run.model_dump(mode="json", exclude={"settings"}) for run in found],
    }


def _version(version: ModelVersion) -> dict[str, Any]:
    return {
        "ref": version.ref,
        "created_at": version.created_at.isoformat(),
        "base": version.contract.base.id,
        "contract": version.contract.digest,
        "dataset": version.dataset,
        "parent": version.parent,
        "run": version.run_id,
        "bytes": sum(file.bytes for file in version.files),
        "metrics": dict(version.metrics),
    }
