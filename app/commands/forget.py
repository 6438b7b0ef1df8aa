"""``fti forget``: a document out of everything that may change, and what was made of it named."""

from __future__ import annotations

from typing import Annotated

import typer

from fti.app.options import ConfigOption, JsonOption, SetOption, StoreOption, open_session


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("forget")(forget)


def forget(
    source: Annotated[str, typer.Argument(help="Source (or its end) or id of a document.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; say what rests on the document.")
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Remove a document everywhere it may be removed, and list what was made from it.

    Removed are its text, chunks, vectors and ledger line, in earlier versions of the features too,
    cached scores, and an uploaded file. What is published stays, and is listed with the commands
    that make it anew: datasets, models, and the answers that quote it, in the log, in tables and
    files of batches and in evaluations. Backups and copies are not looked at.

    Example: fti forget handbook/hours.md
    """
    from fti.pipelines.inference.tracing.document_lineage import trace_document
    from fti.store.upkeep.forgetting import Erased, erase, remains

    session = open_session(store, config, set_, json)
    report = session.report
    lineage = trace_document(session.store, source)
    erased = Erased()
    if not dry_run:
        with report.progress() as progress:
            erased = erase(session.store, lineage.document_id, lineage.source, progress=progress)
    standing = remains(session.store, lineage.source, [use.run for use in lineage.answers])
    report.result(
        {
            "source": lineage.source,
            "document_id": lineage.document_id,
            "dry_run": dry_run,
            "erased": erased.model_dump(mode="json"),
            "datasets": [use.model_dump(mode="json") for use in lineage.datasets],
            "models": [use.model_dump(mode="json") for use in lineage.models],
            "answers": [use.answer for use in lineage.answers],
            "remains": [place.model_dump(mode="json") for place in standing],
            "case_sets": list(lineage.case_sets),
            "rebuild": [step.model_dump(mode="json") for step in lineage.rebuild],
        }
    )
    if dry_run:
        report.say(f"{lineage.source}: {len(lineage.chunks)} chunks; nothing was removed")
    else:
        report.say(
            f"{lineage.source} is forgotten: {erased.chunks} chunks, {erased.cached_vectors} "
            f"cached vectors, {erased.old_versions} older versions of the tables"
        )
    for step in lineage.rebuild:
        report.say(f"  {step.ref}: {step.why}; anew with: {step.command}", style="yellow")
    for place in standing:
        report.say(
            f"  {place.kind} {place.where}: {place.answers} answers that were shown passages of it "
            f"stay as they are; {place.remove}",
            style="yellow",
        )
    if erased.kept_by_tags:
        report.say(
            f"  versions tagged {', '.join(erased.kept_by_tags)} still hold it: untag them, then "
            "run this again",
            style="yellow",
        )
    if erased.file:
        report.say(
            f"  the file {erased.file} is still there: the next ingest of its folder takes it "
            "again",
            style="yellow",
        )
