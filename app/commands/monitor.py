"""``fti monitor``: how the system is doing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fti.app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("monitor")(monitor)


def monitor(
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
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Report documents, index, answers and drift; exits with 3 when there are alerts.

    Questions that evaluations asked do not count. Example: fti monitor --days 30 --report out/
    """
    from fti.app.build import build_embedder
    from fti.app.commands.trace import show_tree
    from fti.app.reports.monitoring_report import write_report
    from fti.pipelines.feature.monitoring.system_report import monitor as run

    session = open_session(store, config, set_, json)
    found = run(
        session.store,
        days=days,
        embedder=lambda: build_embedder(session.settings),
        cases=cases,
        reference=reference,
        config=session.settings.monitoring,
    )
    result = found.model_dump(mode="json")
    if report is not None:
        path = report if report.suffix == ".html" else report / "monitor.html"
        write_report(found, path, store=str(session.store.layout.root))
        result["report"] = str(path)
    session.report.result(result)
    show_tree(session.report, result)
    for alert in found.alerts:
        session.report.note(f"alert: {alert.message}", style="bold red")
    if found.alerts:
        raise typer.Exit(3)
