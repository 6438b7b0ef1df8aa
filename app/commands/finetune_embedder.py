"""``fti finetune-embedder``: questions with their passages become a better embedder."""

from __future__ import annotations

from typing import Annotated

import typer

from fti.app.options import CommonOptions


def finetune_embedder(
    common: CommonOptions,
    source: Annotated[str, typer.Argument(help="NAME or NAME/N of a dataset, or CASES.jsonl.")],
    name: Annotated[str, typer.Option("--name", help="Name of the model to register.")],
) -> None:
    """Train the profile's embedder to find the right passages; run again to resume after a crash.

    Hard negatives come from the live search, and are kept as the dataset NAME-pairs. The store
    keeps its vectors until the version passes the gate: fti models promote NAME/N --alias champion
    measures both on a frozen case set, and makes all vectors anew. Example: fti finetune-embedder
    questions.jsonl --name finder
    """
    from fti.app.operations.training.embedder_training import train_embedder

    session = common.open()
    with session.report.progress() as progress:
        version = train_embedder(
            session.settings, session.store, source=source, name=name, progress=progress
        )
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
        f"switch the store to it with: fti models promote {version.ref} --alias champion"
    )
