"""``fti monitor``: how the system is doing."""

from __future__ import annotations

from typing import Annotated

import typer

from app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("monitor")(monitor)


def monitor(
    days: Annotated[int, typer.Option("--days", min=1, help="How far back answers count.")] = 7,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Report documents, index, answers and drift. Example: fti monitor --days 30"""
    from app.commands.trace import show_tree
    from pipelines.feature.monitoring import monitor as run

    session = open_session(store, config, set_, json)
    result = run(session.store, days=days).model_dump(mode="json")
    session.report.result(result)
    show_tree(session.report, result)
