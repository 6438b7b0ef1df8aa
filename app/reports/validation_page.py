"""The report of ``fti validate`` as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fti.app.reports.markup import el, table
from fti.app.reports.page import card, page, section
from fti.store.files.atomic import write_bytes

if TYPE_CHECKING:
    from fti.pipelines.feature.validating.validation_report import ValidationReport


def write_report(report: ValidationReport, path: Path, *, store: str) -> None:
    """Write the report as one HTML file, with the folders that lead there.

    Args:
        report: what was found.
        path: of the file, which is replaced.
        store: whose features, for the title.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, as_html(report, store=store).encode("utf-8"))


def as_html(report: ValidationReport, *, store: str) -> str:
    """The whole report as one file."""
    title = f"Whether {store} is as expected"
    told = (
        f"{report.broken} of {report.expectations} expectations are broken."
        if report.broken
        else f"All {report.expectations} expectations are kept."
    )
    rows: list[list[object]] = [
        [one.collection, one.frame, one.column, one.check, f"{one.rows} of {one.of}",
         el("b", "broken") if one.broken else "tolerated",
         "; ".join(f"{e.source}: {e.value}" for e in one.examples)]
        for one in report.findings
    ]  # fmt: skip
    columns = ["collection", "of", "what", "expected", "rows", "verdict", "such as"]
    return page(
        title,
        el("h1", title),
        el("p", f"{report.at:%Y-%m-%d %H:%M} UTC, features version {report.features_version}, run "
           f"{report.run}.", class_="lead"),
        el("div", told, class_="alert" if report.broken else "alert fine"),
        el("div", card(f"{report.documents}", "documents"), card(f"{report.chunks}", "chunks"),
           card(f"{report.expectations}", "expectations"), card(f"{report.broken}", "broken"),
           class_="cards"),
        section("What is otherwise than expected",
                el("div", table(columns, rows, text_columns=4), class_="wide")
                if rows else el("p", "Nothing.")),
        section("Warnings", *(el("p", warning) for warning in report.warnings))
        if report.warnings else None,
    )  # fmt: skip
