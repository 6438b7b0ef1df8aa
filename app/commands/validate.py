"""``fti validate``: what landed against what is expected of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fti.app.options import CommonOptions


def validate(
    common: CommonOptions,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="YAML file of expectations by collection.",
            show_default="the profile's expectations",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="HTML file to write, or a folder for it.")
    ] = None,
) -> None:
    """Hold the documents to what is expected of them; exits with 3 when an expectation is broken.

    By collection: required metadata, types, ranges, languages, lengths, ages, copies, in the words
    of pandera's schemas. Run it after an ingest. Example: fti validate --file expectations.yaml
    """
    from fti.app.reports.validation_page import write_report
    from fti.pipelines.feature.validating.validate_features import validate_features

    session = common.open()
    expected = session.settings.expectations
    if file is not None:
        expected = expected.model_copy(update={"file": file})
    with session.report.progress() as progress:
        found = validate_features(store=session.store, config=expected, progress=progress)
    result = found.model_dump(mode="json")
    if report is not None:
        path = report if report.suffix == ".html" else report / "validation.html"
        write_report(found, path, store=str(session.store.layout.root))
        result["report"] = str(path)
    session.report.result(result)
    for warning in found.warnings:
        session.report.note(warning, style="yellow")
    if found.findings:
        session.report.table(
            ["collection", "of", "what", "expected", "broken by", "such as"],
            [
                [
                    one.collection,
                    one.frame,
                    one.column,
                    one.check,
                    f"{one.rows} of {one.of}" + ("" if one.broken else " (tolerated)"),
                    "; ".join(f"{e.source}: {e.value}" for e in one.examples[:2]),
                ]
                for one in found.findings
            ],
        )
    session.report.say(
        f"{found.documents} documents, {found.chunks} chunks: {found.broken} of "
        f"{found.expectations} expectations are broken",
        style="bold red" if found.broken else "bold",
    )
    if found.broken:
        raise typer.Exit(3)
