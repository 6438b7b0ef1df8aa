"""``fti finetune``: a dataset version becomes a model version."""

from __future__ import annotations

from typing import Annotated

import typer

from app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(finetune)


def finetune(
    dataset: Annotated[str, typer.Argument(help="NAME or NAME/N of a dataset.")],
    name: Annotated[str, typer.Option("--name", help="Name of the model to register.")],
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train a LoRA adapter on a dataset and register it; run again to resume after a crash.

    Example: fti finetune handbook --name reader --set training.epochs=3
    """
    from app.build import train

    session = open_session(store, config, set_, json)
    with session.report.progress() as progress:
        version = train(
            session.settings, session.store, dataset=dataset, name=name, progress=progress
        )
    session.report.result(
        {
            "model": version.name,
            "version": version.version,
            "ref": version.ref,
            "metrics": dict(version.metrics),
            "run": version.run_id,
            "dataset": version.dataset,
            "contract": version.contract.digest,
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
    session.report.note(
        f"evaluate it with: fti evaluate CASES.jsonl --model {version.ref} --compare"
    )
