"""``fti pipeline``: several commands as one, each skipped when nothing it depends on changed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fti.app.options import Commands, CommonOptions

if TYPE_CHECKING:
    from fti.app.orchestration.runner import PipelineReport, Planned
    from fti.app.reporting import Reporter

group = Commands(
    "pipeline", "Run commands from ingest to monitor as one, as far as something changed."
)


@group.command("run")
def run(
    common: CommonOptions,
    pipeline: Annotated[
        str, typer.Argument(help="A YAML file, or the name of one that ships (nightly).")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the steps and what would run; change nothing.")
    ] = False,
    force: Annotated[
        list[str] | None,
        typer.Option("--force", metavar="STEP", help="Run this step in any case. Repeatable."),
    ] = None,
) -> None:
    """Run the steps of a pipeline whose inputs changed; run again to go on where one failed.

    Example: fti pipeline run nightly.yaml --dry-run
    """
    from fti.app.orchestration.plan import load_pipeline
    from fti.app.orchestration.resources import Context
    from fti.app.orchestration.runner import plan, run_pipeline

    loaded = load_pipeline(pipeline)
    session = common.open()
    with session.report.progress() as progress:
        context = Context(session.settings, session.store, progress)
        if dry_run:
            planned = plan(loaded, context, force=force or ())
            session.report.result(
                {"pipeline": loaded.name, "steps": [asdict(step) for step in planned]}
            )
            show_plan(session.report, loaded.name, planned)
            return
        done = run_pipeline(loaded, context, force=force or ())
    session.report.result(done.model_dump(mode="json"))
    show_run(session.report, done)
    if done.status != "done":
        raise typer.Exit(1 if done.status == "failed" else 3)


def show_plan(report: Reporter, name: str, planned: list[Planned]) -> None:
    """The graph of a pipeline, and what would become of each step."""
    report.table(
        ["step", "after", "reads", "writes", "would", "because"],
        [
            [
                step.step,
                ", ".join(step.needs) or "-",
                ", ".join(step.reads),
                ", ".join(step.writes),
                step.verdict,
                step.why,
            ]
            for step in planned
        ],
        title=name,
    )


def show_run(report: Reporter, done: PipelineReport) -> None:
    """What became of each step."""
    report.table(
        ["step", "after", "became", "because", "seconds", "what"],
        [
            [
                step.step,
                ", ".join(step.needs) or "-",
                step.status,
                step.why,
                f"{step.seconds:.1f}",
                step.summary or (step.error or {}).get("message", ""),
            ]
            for step in done.steps
        ],
        title=f"{done.pipeline}: {done.status}, {done.seconds:.1f} s (run {done.run})",
    )
    for step in done.steps:
        if step.error is not None:
            report.note(f"{step.step} failed: {step.error['message']}", style="bold red")
            if step.error["hint"]:
                report.note(f"     {step.error['hint']}")
            report.note("Run the same command again: it goes on at this step.")
