"""Jobs: build a dataset, fine-tune, evaluate, promote, in the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse

from fti.app.operations.job_kinds import Job
from fti.app.service.forms.public_names import PublicNames
from fti.app.service.job_starter import Jobs
from fti.app.service.routes.parts import CallerPart, NamesPart, StorePart
from fti.store.logs.jobs import JobNote, JobRecord
from fti.store.store import Store

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_MOST_POINTS = 400  # of a curve: more than a picture shows
_MOST_TEXT = 1_000_000


async def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


JobsPart = Annotated[Jobs, Depends(_jobs)]


@router.post("", status_code=202)
def start_job(
    asked: Job, jobs: JobsPart, store: StorePart, caller: CallerPart, names: NamesPart
) -> dict[str, Any]:
    """Start what the commands start, in a process of its own; one at a time.

    Ask ``/v1/jobs/ID`` until its state is no longer running. It goes on when the service ends.
    """
    return _body(jobs.start(asked, caller), store, names)


@router.get("")
def list_jobs(
    jobs: JobsPart, names: NamesPart, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> dict[str, Any]:
    """Jobs, newest first."""
    return {"object": "list", "data": [_facts(job, names) for job in jobs.list(limit)]}


@router.get("/{job_id}")
def get_job(job_id: str, jobs: JobsPart, store: StorePart, names: NamesPart) -> dict[str, Any]:
    """How a job is doing: how far it is, and the losses of a training by step."""
    return _body(jobs.get(job_id), store, names)


@router.get("/{job_id}/log", response_class=PlainTextResponse)
def job_log(
    job_id: str,
    jobs: JobsPart,
    store: StorePart,
    names: NamesPart,
    most: Annotated[
        int, Query(ge=1, le=_MOST_TEXT, description="Only so many of its last bytes.")
    ] = 64_000,
) -> str:
    """What its process printed, as text, without paths of the server."""
    return names.told(store.jobs.text(jobs.get(job_id).id, most))


@router.post("/{job_id}/stop")
def stop_job(
    job_id: str, jobs: JobsPart, store: StorePart, caller: CallerPart, names: NamesPart
) -> dict[str, Any]:
    """Let a job end; what was finished is kept, and a training can be taken up again."""
    return _body(jobs.stop(job_id, caller), store, names)


@router.post("/{job_id}/resume", status_code=202)
def resume_job(
    job_id: str, jobs: JobsPart, store: StorePart, caller: CallerPart, names: NamesPart
) -> dict[str, Any]:
    """Take a job up again that ended without being done."""
    return _body(jobs.resume(job_id, caller), store, names)


def _facts(job: JobRecord, names: PublicNames) -> dict[str, Any]:
    told: dict[str, Any] = names.told_all(job.model_dump(mode="json"))
    return {"object": "job", **told}


def _body(job: JobRecord, store: Store, names: PublicNames) -> dict[str, Any]:
    notes = list(store.jobs.notes(job.id))
    last = next((note for note in reversed(notes) if note.attempt == job.attempts), None)
    return {
        **_facts(job, names),
        "progress": names.told_all(last.model_dump(mode="json", exclude={"attempt"}))
        if last
        else None,
        "curve": _curve(notes),
    }


def _curve(notes: Sequence[JobNote]) -> list[dict[str, float]]:
    """Losses by step; where a training was taken up again, what was done last counts."""
    by_step = {
        note.done: {
            "step": note.done,
            "loss": note.values["loss"],
            **(
                {"validation_loss": note.values["validation_loss"]}
                if "validation_loss" in note.values
                else {}
            ),
        }
        for note in notes
        if "loss" in note.values
    }
    steps = sorted(by_step)
    every = -(-len(steps) // _MOST_POINTS) or 1
    kept = [step for index, step in enumerate(steps) if index % every == 0 or step == steps[-1]]
    return [by_step[step] for step in kept]
