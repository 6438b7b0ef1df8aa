"""``fti ingest``: documents into the feature store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fti.app.options import REDIS, CommonOptions, ConsumerOptions, IntoCollectionOption
from fti.store.errors import InputError

if TYPE_CHECKING:
    from fti.app.reporting import Reporter
    from fti.pipelines.feature.ingesting.ingest_report import IngestReport


def ingest(
    redis: ConsumerOptions,
    common: CommonOptions,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, pages or sitemaps (https://…), or objects (s3://, gs://). With "
            "--follow: nothing or - for standard input, or the address of a Redis.",
            show_default=False,
        ),
    ] = None,
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
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Take records as they come, one JSON object a line, until the stream ends: "
            '{"source", "text", "title", "format", "metadata", "at"} or {"source", "deleted"}.',
        ),
    ] = False,
    stream: Annotated[
        str,
        typer.Option("--stream", help="Key of the Redis stream.", rich_help_panel=REDIS),
    ] = "fti:documents",
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Try again what failed, although it has not changed."),
    ] = False,
    executor: Annotated[
        Literal["local", "process", "ray"],
        typer.Option(
            "--executor",
            help="Where files are read and texts embedded: local (here), process (processes of "
            "this machine, each with the embedder) or ray (the cluster of RAY_ADDRESS, else one on "
            "this machine; needs the extra scale).",
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="How many processes or actors.",
            show_default="one for each core",
        ),
    ] = None,
    collection: IntoCollectionOption = None,
) -> None:
    """Read, chunk, embed and store documents; unchanged ones are skipped.

    With --follow it takes records of a stream instead and prints a line per commit; Ctrl-C and
    SIGTERM finish what was read.

    Examples: fti ingest handbook/ notes.pdf --delete-missing    tail -f new.jsonl | fti ingest
    --follow    fti ingest --follow redis://localhost:6379/0 --stream tickets
    """
    if workers is not None and executor == "local":
        raise InputError(
            f"--workers {workers} is for other processes, and this one reads and embeds itself.",
            hint="Add --executor process, or --executor ray.",
        )
    if follow:
        from fti.app.operations.following import follow_stream

        if executor != "local":
            raise InputError(
                "A stream is taken record by record, in this process.",
                hint="Leave --executor out, or start several with --group.",
            )
        if delete_missing or re_embed:
            raise InputError(
                "--delete-missing and --re-embed are about files; a stream has none.",
                hint='Delete a document of a stream with a record {"source": ..., "deleted": true}',
            )
        session = common.open()
        given = sources or []
        code = follow_stream(session, given, stream, redis.group, redis.consumer, collection)
        if code:
            raise typer.Exit(code)
        return
    if not sources:
        raise InputError(
            "There is nothing to ingest.", hint="Name files or folders: fti ingest handbook/"
        )
    from fti.app.operations.ingestion import ingest_documents

    session = common.open()
    report = session.report
    with report.progress() as progress:
        result = ingest_documents(
            session.settings,
            session.store,
            sources,
            delete_missing=delete_missing,
            re_embed=re_embed,
            collection=collection,
            retry_failed=retry_failed,
            executor=executor,
            workers=workers,
            progress=progress,
        )
    report.result(result.model_dump(mode="json"))
    show_ingest(report, result)
    if result.failed:
        raise typer.Exit(3 if result.succeeded else 1)


def show_ingest(report: Reporter, result: IngestReport) -> None:
    """What an ingest did, for people."""
    report.say(
        f"{result.added} added, {result.updated} updated, {result.unchanged} unchanged, "
        f"{result.deleted} deleted, {len(result.failed)} failed; "
        f"{result.chunks} chunks in the store, {result.embedded_chunks} embedded now, "
        f"{result.seconds:.1f} s"
    )
    for failure in result.failed:
        report.say(f"  failed: {failure.source}: {failure.reason}", style="red")
    if result.waiting:
        report.say(
            f"  {result.waiting} of them had failed before and have not changed; try them again "
            "with --retry-failed",
            style="yellow",
        )
    if result.near_duplicates:
        report.say(
            f"  {result.near_duplicates} documents say nearly the same as others: fti doctor "
            "names them",
            style="yellow",
        )
    if result.removed_versions:
        report.say(
            f"  {result.removed_versions} old versions of the features were let go of, as "
            "features.retention says"
        )
    if result.skipped:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in result.skipped.items())
        report.say(f"  {sum(result.skipped.values())} skipped on purpose ({kinds})")
    for nothing in result.empty:
        report.say(f"  nothing to index: {nothing.source}: {nothing.reason}", style="yellow")
    for warning in result.warnings:
        report.say(f"  warning: {warning.source}: {warning.reason}", style="yellow")
    if result.missing:
        report.say(
            f"  {result.missing} documents are gone from their folders; remove them with "
            "--delete-missing",
            style="yellow",
        )
