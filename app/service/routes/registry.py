"""The registry, datasets and runs, to read: what the page /registry shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from fti.app.service.routes.parts import NamesPart, StorePart
from fti.store.errors import IntegrityError
from fti.store.types import RunKind
from fti.store.versioned.aliases import AliasChange
from fti.store.versioned.model_version import ModelVersion

router = APIRouter(prefix="/v1/registry", tags=["registry"])


@router.get("/models")
def list_versions(store: StorePart, names: NamesPart) -> dict[str, Any]:
    """Every model version, newest first, with its aliases; and how each alias came to where it is.

    A version that is not as published has an ``error`` in place of its facts; ``damaged`` says of
    a model why its aliases or marks cannot be read.
    """
    registry = store.models
    found, damaged = registry.survey()
    versions = [_version(version) for version in found]
    versions += [{"ref": ref, "error": why} for ref, why in damaged.items()]
    unreadable: dict[str, str] = {}
    moves: list[dict[str, Any]] = []
    for name in registry.names():
        aliases: Mapping[str, int] = {}
        retired: Collection[int] = ()
        try:
            aliases, retired = registry.aliases(name), registry.retired(name)
            changes = registry.history(name)
            moves += [{"model": name, **_move(change)} for change in changes]
        except IntegrityError as error:
            unreadable[name] = error.message
        for body in versions:
            model, _, number = body["ref"].partition("/")
            if model == name:
                body["aliases"] = sorted(a for a, n in aliases.items() if n == int(number))
                body["retired"] = int(number) in retired
    shown = {
        "object": "list",
        "data": sorted(versions, key=lambda v: v.get("created_at", ""), reverse=True),
        "history": sorted(moves, key=lambda m: m["at"], reverse=True),
        "damaged": unreadable,
    }
    told: dict[str, Any] = names.told_all(shown)
    return told


@router.get("/datasets")
def list_datasets(store: StorePart, names: NamesPart) -> dict[str, Any]:
    """Every dataset version, newest first; ``damaged`` says why the others cannot be read."""
    readable, damaged = store.datasets.survey()
    found = sorted(readable, key=lambda d: d.created_at, reverse=True)
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
        "damaged": names.told_all(damaged),
    }


@router.get("/cases")
def list_case_sets(store: StorePart) -> dict[str, Any]:
    """Every frozen case set, by name."""
    return {
        "object": "list",
        "data": [
            {
                "ref": frozen.ref,
                "created_at": frozen.created_at.isoformat(),
                "cases": frozen.cases,
                "answerable": frozen.answerable,
                "source": frozen.source.rsplit("/", 1)[-1],
            }
            for frozen in store.cases.list()
        ],
    }


@router.get("/runs")
def list_runs(
    store: StorePart,
    names: NamesPart,
    kind: RunKind | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """What ran, newest first, with its inputs, outputs and figures; settings are left out.

    ``damaged`` says why others cannot be read.
    """
    found, damaged = store.runs.survey(kind, limit)
    runs = [run.model_dump(mode="json", exclude={"settings"}) for run in found]
    return {"object": "list", "data": names.told_all(runs), "damaged": names.told_all(damaged)}


def _move(change: AliasChange) -> dict[str, Any]:
    return change.model_dump(mode="json", exclude={"evidence"})


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
