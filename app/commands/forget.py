"""``fti forget``: a document out of everything that may change, and what was made of it named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fti.app.options import CommonOptions
from fti.store.errors import InputError

if TYPE_CHECKING:
    from fti.app.options import Session


def forget(
    common: CommonOptions,
    source: Annotated[
        str | None, typer.Argument(help="Source (or its end) or id of a document.")
    ] = None,
    key: Annotated[
        str,
        typer.Option("--key", help="Instead: what this API key asked, by its id.", metavar="ID"),
    ] = "",
    user: Annotated[
        str,
        typer.Option(
            "--user", help="Instead: what clients asked for this user, as they name them."
        ),
    ] = "",
    expired: Annotated[
        bool,
        typer.Option("--expired", help="Instead: what is older than answers.retention_days."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; say what rests on the document.")
    ] = False,
) -> None:
    """Remove a document everywhere it may be removed, and list what was made from it.

    Removed are its text, chunks, vectors and ledger line, in earlier versions of the features too,
    cached scores, and an uploaded file. What is published stays, and is listed with the commands
    that make it anew: datasets, models, and the answers that quote it, in the log, in tables and
    files of batches and in evaluations. Backups and copies are not looked at.

    With --key or --user it is what they asked that goes, with what was said of the answers; with
    --expired all that was asked too long ago.

    Examples:

    \b
    fti forget handbook/hours.md
    fti forget --user anna@example.org --dry-run
    """
    given = [bool(source), bool(key or user), expired]
    if sum(given) != 1:
        raise InputError(
            "Say what is to be forgotten: one document, or what a key or a user asked, or what has "
            "expired.",
            hint="fti forget SOURCE, fti forget --key ID, fti forget --user NAME, or "
            "fti forget --expired",
        )
    if source is None:
        _forget_asked(common.open(), key, user, dry_run)
        return
    from fti.pipelines.inference.tracing.document_lineage import trace_document
    from fti.store.upkeep.forgetting import Erased, erase, remains

    session = common.open()
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


def _forget_asked(session: Session, key: str, user: str, dry_run: bool) -> None:
    from fti.store.upkeep.asked_questions import erase_asked, expire_asked

    report = session.report
    if not (key or user):
        if dry_run:
            raise InputError("--expired takes no --dry-run.", hint="Leave one of them out.")
        config = session.settings.answers
        if config.retention_days is None:
            raise InputError(
                "Nothing expires: no retention is set.",
                hint="Set it: answers: {retention_days: 90}",
            )
        gone = expire_asked(session.store, config)
        report.result(gone.model_dump(mode="json"))
        report.say(
            f"{gone.answers} answers and {gone.rejected_questions} rejected questions were older "
            f"than {config.retention_days} days, and are removed"
        )
        return
    if key:
        _known(session, key)
    erased = erase_asked(session.store, key=key, user=user, dry=dry_run)
    report.result({"key": key, "user": user, "dry_run": dry_run, **erased.model_dump(mode="json")})
    whose = " and ".join(filter(None, [key and f"key {key}", user and f"user {user}"]))
    report.say(
        f"{whose}: {erased.answers} answers, and {erased.verdicts} verdicts on them, "
        + ("would go" if dry_run else "are erased")
    )
    for ref in erased.remains:
        report.say(
            f"  dataset {ref} has rows of what was corrected there: build it anew, and what was "
            "trained on it",
            style="yellow",
        )


def _known(session: Session, key: str) -> None:
    """A slip in an id would erase nothing and say so too calmly; keys of the settings have none."""
    if not key.startswith("configured-"):
        session.store.keys.get(key)
