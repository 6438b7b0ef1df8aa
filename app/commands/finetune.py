"""``fti finetune``: a dataset version becomes a model version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import CommonOptions
from fti.pipelines.training.choices import Method, Tracker

if TYPE_CHECKING:
    from fti.app.options import Session
    from fti.store.versioned.model_version import ModelVersion


def finetune(
    common: CommonOptions,
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N of a dataset.")],
    name: Annotated[str, typer.Option("--name", help="Name of the model to register.")],
    method: Annotated[
        Method | None,
        typer.Option(
            "--method",
            help="What is trained: an adapter (lora, rslora, dora; qlora on a GPU), or all weights "
            "(full).",
            show_default="training.method, which is lora",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Go on from this model version, NAME@ALIAS or NAME/N."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything and estimate memory and time; no more."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Also write how it went to this HTML file."),
    ] = None,
    log_to: Annotated[
        Tracker | None,
        typer.Option("--log-to", help="Also log steps there."),
    ] = None,
) -> None:
    """Train an adapter or a whole model on a dataset and register it; run again to resume.

    A dataset of preference pairs is learned by direct preference optimisation (DPO), best --from a
    version that has learned to answer.

    Several processes train together with `accelerate launch`: see docs/fine-tuning.md.

    Example: fti finetune handbook --name reader --method dora --set training.epochs=3
    """
    from fti.app.operations.training.finetuning import foresee_training, train
    from fti.pipelines.training.steps.ranks import rank

    given = []
    if method is not None:
        given.append(f"training.method={method}")
    if log_to is not None:
        given.append(f"training.log_to=[{log_to}]")
    session = common.open(given)
    with session.report.progress() as progress:
        if dry_run:
            _show_forecast(
                session,
                foresee_training(
                    session.settings, session.store, dataset=dataset, progress=progress
                ),
            )
            return
        version = train(
            session.settings,
            session.store,
            dataset=dataset,
            name=name,
            start=start,
            progress=progress,
        )
    if rank() > 0:  # the first process tells
        return
    if report is not None:
        _write_report(session, version, report)
    written = {} if report is None else {"report": str(report)}
    then = f"evaluate it with: fti evaluate CASES.jsonl --model {version.ref} --compare"
    tell_registered(session, version, then, **written)


def tell_registered(session: Session, version: ModelVersion, then: str, **more: str) -> None:
    """A version that was trained, its metrics, and what to do with it; ``more`` is for machines."""
    session.report.result(
        {
            "model": version.name,
            "version": version.version,
            "ref": version.ref,
            "kind": version.kind,
            "metrics": dict(version.metrics),
            "run": version.run_id,
            "dataset": version.dataset,
            "contract": version.contract.digest,
            **more,
        }
    )
    session.report.say(f"registered {version.ref}", style="bold")
    session.report.table(
        ["metric", "value"],
        [
            [key, f"{value:.4g}" if isinstance(value, float) else value]
            for key, value in version.metrics.items()
            if isinstance(value, int | float | str)
        ],
    )
    session.report.note(then)


def _show_forecast(session: Session, forecast: dict[str, Any]) -> None:
    session.report.result(forecast)
    session.report.table(
        ["what", "value"],
        [
            [key, f"{value:,}" if isinstance(value, int) else value]
            for key, value in forecast.items()
        ],
    )


def _write_report(session: Session, version: ModelVersion, path: Path) -> None:
    from fti.app.reports.training_report import as_html
    from fti.store.files.atomic import write_bytes

    run = session.store.runs.get(version.run_id)
    curve = list(session.store.runs.attached(run.id, "curve"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, as_html(version, run, curve).encode("utf-8"))
    session.report.note(f"wrote {path}")
