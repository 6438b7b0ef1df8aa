"""``fti monitor``: how the system is doing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from fti.app.options import Session


def monitor(
    common: CommonOptions,
    days: Annotated[int, typer.Option("--days", min=1, help="How far back answers count.")] = 7,
    cases: Annotated[
        str,
        typer.Option(
            "--cases",
            help="Frozen case set that users' questions are compared with.",
            show_default="the profile's monitoring.cases, else the only one",
        ),
    ] = "",
    reference: Annotated[
        int | None,
        typer.Option(
            "--reference",
            min=1,
            help="Features version that documents are compared with.",
            show_default="that of the newest dataset",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="HTML file to write, or a folder for it.")
    ] = None,
    history: Annotated[
        int | None,
        typer.Option(
            "--history", min=1, help="Print the figures of so many earlier runs, and look at none."
        ),
    ] = None,
) -> None:
    """Report documents, index, answers, drift and promises; exits with 3 when there are alerts.

    Where the profile names an NLI model or a judge, a sample of the answers is judged. Questions
    that evaluations asked do not count. Each run is kept, and the report plots the figures of all.
    Example: fti monitor --days 30 --report out/
    """
    from fti.app.commands.trace import show_tree
    from fti.app.operations.observing.monitor_run import run_monitor
    from fti.app.reports.monitoring_report import write_report

    session = common.open()
    if history is not None:
        _show_history(session, history)
        return
    with session.report.progress() as progress:
        found = run_monitor(
            session.settings,
            session.store,
            days=days,
            cases=cases,
            reference=reference,
            progress=progress,
        )
    result = {**found.model_dump(mode="json"), "figures": found.figures()}
    if report is not None:
        path = report if report.suffix == ".html" else report / "monitor.html"
        write_report(found, path, store=session.store)
        result["report"] = str(path)
    session.report.result(result)
    show_tree(session.report, result)
    for alert in found.alerts:
        session.report.note(f"alert: {alert.message}", style="bold red")
    if found.alerts:
        raise typer.Exit(3)


def _show_history(session: Session, runs: int) -> None:
    from fti.app.operations.observing.monitor_run import history

    past = history(session.store, runs)
    session.report.result({"history": [one.model_dump(mode="json") for one in past]})
    names = list(dict.fromkeys(name for one in past for name in one.figures))
    session.report.table(
        ["figure", *(f"{one.at:%m-%d %H:%M}" for one in past)],
        [
            [name, *(f"{one.figures[name]:.4g}" if name in one.figures else "–" for one in past)]
            for name in names
        ],
    )
    if not past:
        session.report.say("Nothing was monitored yet: fti monitor")
