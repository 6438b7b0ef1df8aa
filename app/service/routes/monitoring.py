"""How the system was doing, run by run: what the page /monitoring shows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fti.app.operations.observing.monitor_run import history, newest
from fti.app.service.routes.parts import NamesPart, StorePart

router = APIRouter(prefix="/v1/monitoring", tags=["monitoring"])
_SHOWN = ("run", "at", "alerts", "promises", "quality")


@router.get("")
def look_back(
    store: StorePart,
    names: NamesPart,
    limit: Annotated[int, Query(ge=1, le=365)] = 60,
) -> dict[str, Any]:
    """Earlier runs of ``fti monitor``, oldest first, with their figures by name.

    ``newest`` is the last of them: its alerts, each promise of the profile as measured, and how far
    a sample of answers follows from the passages that they cite; null before the first.
    ``validations`` are runs of ``fti validate``, newest first, each with what was broken.
    """
    report = newest(store)
    shown = {
        "object": "list",
        "data": [one.model_dump(mode="json") for one in history(store, limit)],
        "newest": None if report is None else {name: report[name] for name in _SHOWN},
        "validations": _validations(store, min(limit, 20)),
    }
    told: dict[str, Any] = names.told_all(shown)
    return told


def _validations(store: StorePart, limit: int) -> list[dict[str, Any]]:
    runs, _ = store.runs.survey("validate", limit)
    found = []
    for place, run in enumerate(runs):
        line = run.model_dump(mode="json", include={"id", "status", "finished_at", "metrics"})
        has_findings = not place and "findings" in store.runs.attachments(run.id)
        line["findings"] = list(store.runs.attached(run.id, "findings")) if has_findings else []
        found.append(line)
    return found
