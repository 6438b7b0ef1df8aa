"""``fti finetune-embedder``: questions with their passages become a better embedder."""

from __future__ import annotations

from typing import Annotated

import typer

from fti.app.commands.finetune import tell_registered
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
    then = f"switch the store to it with: fti models promote {version.ref} --alias champion"
    tell_registered(session, version, then)
