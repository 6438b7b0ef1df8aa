"""``fti ingest``: documents into the feature store."""

from __future__ import annotations

from typing import Annotated

import typer

from app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest")(ingest)


def ingest(
    sources: Annotated[
        list[str], typer.Argument(help="Files or folders: txt md html pdf docx csv jsonl.")
    ],
    delete_missing: Annotated[
        bool,
        typer.Option(
            "--delete-missing", help="Remove documents whose file is gone from the given folders."
        ),
    ] = False,
    re_embed: Annotated[
        bool,
        typer.Option("--re-embed", help="Make all vectors anew with this profile's embedder."),
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Read, chunk, embed and store documents; unchanged ones are skipped.

    Example: fti ingest handbook/ notes.pdf --delete-missing
    """
    from app.build import build_embedder
    from pipelines.feature.ingest import ingest as run

    session = open_session(store, config, set_, json)
    report = session.report
    with report.progress() as progress:
        result = run(
            sources,
            store=session.store,
            embedder=build_embedder(session.settings),
            config=session.settings.features,
            delete_missing=delete_missing,
            re_embed=re_embed,
            progress=progress,
        )
    report.result(result.model_dump(mode="json"))
    report.say(
        f"{result.added} added, {result.updated} updated, {result.unchanged} unchanged, "
        f"{result.deleted} deleted, {len(result.failed)} failed; "
        f"{result.chunks} chunks in the store, {result.embedded_chunks} embedded now, "
        f"{result.seconds:.1f} s"
    )
    for failure in result.failed:
        report.say(f"  failed: {failure.source}: {failure.reason}", style="red")
    for nothing in result.empty:
        report.say(f"  nothing to index: {nothing.source}: {nothing.reason}", style="yellow")
    if result.missing:
        report.say(
            f"  {result.missing} documents are gone from their folders; remove them with "
            "--delete-missing",
            style="yellow",
        )
    if result.failed:
        raise typer.Exit(3 if result.succeeded else 1)
