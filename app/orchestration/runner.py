"""Runs a pipeline: each step unless nothing that it depends on has changed, like make.

What decides are digests of content, not times: a dataset that was built anew from changed documents
and came out the same leaves the model as it is. A step that failed, or whose process died, is where
the next run goes on: the steps before it are as they were, and are skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fti.app.orchestration.plan import Pipeline
from fti.app.orchestration.resources import Context
from fti.app.orchestration.step import Step
from fti.store.errors import FtiError, InputError
from fti.store.logs.step_states import StepState
from fti.store.types import Value, now

#: "depends": a step before it will run, and what that makes decides.
Verdict = Literal["run", "skip", "depends"]
StepStatus = Literal["done", "partial", "refused", "failed", "skipped", "not reached"]


@dataclass(frozen=True, slots=True)
class Planned:
    """What would become of a step, and why."""

    step: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    verdict: Verdict
    why: str


class StepReport(Value):
    """What became of a step, and why it ran or did not."""

    step: str
    kind: str
    needs: tuple[str, ...]
    status: StepStatus
    why: str = ""
    summary: str = ""
    run: str = ""
    seconds: float = 0.0
    error: Mapping[str, str] | None = None


class PipelineReport(Value):
    """What a pipeline did. ``status``: "partial" when a step was done with some failures."""

    pipeline: str
    status: Literal["done", "partial", "failed"]
    steps: tuple[StepReport, ...]
    run: str
    seconds: float


def plan(pipeline: Pipeline, context: Context, *, force: Collection[str] = ()) -> list[Planned]:
    """What a run would do now; changes nothing.

    Raises:
        InputError: a step to force does not exist.
        SourceNotFound: a file or folder that a step reads is not there.
    """
    _check_force(pipeline, force)
    pipeline = pipeline.under(context.settings)
    states = context.store.pipelines.read(pipeline.name)
    planned: list[Planned] = []
    moving: set[str] = set()
    for name, step in pipeline.steps.items():
        before = [need for need in pipeline.needs[name] if need in moving]
        verdict: Verdict
        if name in force:
            verdict, why = "run", "forced"
        elif before:
            verdict, why = "depends", f"on what {' and '.join(before)} will have changed"
        else:
            why = reason_to_run(step, states.get(name), step.inputs(context), context)
            verdict = "run" if why else "skip"
        if verdict != "skip":
            moving.add(name)
        planned.append(
            Planned(
                step=name,
                needs=pipeline.needs[name],
                reads=_shown(step.reads()),
                writes=_shown(step.writes()),
                verdict=verdict,
                why=why or "nothing changed",
            )
        )
    return planned


def run_pipeline(
    pipeline: Pipeline, context: Context, *, force: Collection[str] = ()
) -> PipelineReport:
    """Run the steps that have a reason to, in order; stop at the first that fails.

    Raises:
        InputError: a step to force does not exist.
        StoreLocked: another process runs this pipeline.
    """
    _check_force(pipeline, force)
    pipeline = pipeline.under(context.settings)
    store = context.store
    began = now()
    reports: list[StepReport] = []
    with (
        store.pipelines.running(pipeline.name),
        store.runs.running("pipeline", inputs={"pipeline": pipeline.name}) as run,
    ):
        states = store.pipelines.read(pipeline.name)
        for name in pipeline.steps:
            if any(report.status == "failed" for report in reports):
                reports.append(_report(pipeline, name, status="not reached"))
                continue
            report = _run_step(pipeline, name, states, context, forced=name in force)
            reports.append(report)
            if report.run:
                run.outputs[name] = report.run
        statuses = {report.status for report in reports}
        failed = next((report for report in reports if report.status == "failed"), None)
        status: Literal["done", "partial", "failed"] = "done"
        if failed is not None:
            status = "failed"
            run.error = f"step {failed.step}: {(failed.error or {}).get('message', '')}"
        elif "partial" in statuses:
            status = "partial"
        run.status = status
        run.metrics["steps"] = {report.step: report.status for report in reports}
    return PipelineReport(
        pipeline=pipeline.name,
        status=status,
        steps=tuple(reports),
        run=run.id,
        seconds=(now() - began).total_seconds(),
    )


def reason_to_run(
    step: Step, state: StepState | None, inputs: Mapping[str, str], context: Context
) -> str:
    """Why a step has to run; empty when it may be skipped."""
    if state is None:
        return "it never ran"
    if state.status in ("failed", "running"):
        return "it failed before" if state.status == "failed" else "it was interrupted"
    if step.always:
        return step.always
    changed = [_plain(name) for name in inputs if state.inputs.get(name) != inputs[name]]
    if changed:
        return f"changed: {', '.join(changed)}"
    if state.status == "partial":
        return "a part of it failed before"
    if state.status == "refused":
        return ""  # the alias was left as it was
    for name, digest in step.outputs(context).items():
        if not digest:
            return f"gone: {_plain(name)}"
        if step.owns_output and digest != state.outputs.get(name):
            return f"changed by others: {_plain(name)}"
    return ""


def _run_step(
    pipeline: Pipeline, name: str, states: dict[str, StepState], context: Context, *, forced: bool
) -> StepReport:
    step, started = pipeline.steps[name], now()
    inputs: dict[str, str] = {}

    def note(**what: Any) -> None:
        states[name] = StepState(inputs=inputs, started_at=started, **what)
        context.store.pipelines.write(pipeline.name, states)

    why = ""
    try:
        inputs = step.inputs(context)
        why = "forced" if forced else reason_to_run(step, states.get(name), inputs, context)
        if not why:
            state = states[name]
            return _report(
                pipeline, name, status="skipped", why="nothing changed", summary=state.summary
            )
        note(status="running")
        outcome = step.run(context)
    except FtiError as error:
        note(status="failed", finished_at=now(), error=str(error))
        return _report(
            pipeline,
            name,
            status="failed",
            why=why,
            seconds=(now() - started).total_seconds(),
            error={"code": error.code, "message": error.message, "hint": error.hint},
        )
    note(
        status=outcome.status,
        outputs=step.outputs(context),
        finished_at=now(),
        run=outcome.run,
        summary=outcome.summary,
    )
    return _report(
        pipeline,
        name,
        status=outcome.status,
        why=why,
        summary=outcome.summary,
        run=outcome.run,
        seconds=(now() - started).total_seconds(),
    )


def _report(pipeline: Pipeline, name: str, **what: Any) -> StepReport:
    kind = pipeline.steps[name].kind
    return StepReport(step=name, kind=kind, needs=pipeline.needs[name], **what)


def _check_force(pipeline: Pipeline, force: Collection[str]) -> None:
    for name in force:
        if name not in pipeline.steps:
            raise InputError(
                f"The pipeline {pipeline.name!r} has no step {name!r}.",
                hint=f"Its steps are: {', '.join(pipeline.steps)}.",
            )


def _shown(resources: Collection[Any]) -> tuple[str, ...]:
    return tuple(_plain(str(resource)) for resource in resources)


def _plain(name: str) -> str:
    """A resource in one line."""
    return ", ".join(name.split("\n"))
