"""``fti cases``: frozen case sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fti.app.options import Commands, CommonOptions
from fti.app.reporting import damaged_json

if TYPE_CHECKING:
    from fti.store.versioned.casesets import CaseSetVersion

group = Commands("cases", "Freeze, list and show the case sets that models are measured on.")


def case_set_json(version: CaseSetVersion) -> dict[str, Any]:
    """A case set version as commands print it."""
    fields = {"name", "version", "cases", "answerable", "digest", "source", "tags"}
    body = version.model_dump(mode="json", include=fields)
    return body | {"ref": version.ref, "created_at": version.created_at.isoformat()}


@group.command("freeze")
def freeze(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="Name of the set; gets the next version number.")],
    cases: Annotated[
        Path | None,
        typer.Argument(help="CASES.jsonl, a .csv or .tsv, or a BEIR folder; or use --dataset."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="NAME/N: make the cases of this dataset's test split."),
    ] = None,
) -> None:
    """Keep a case set in the store, immutable, under a name and a digest.

    Freezing the same cases again gives the version that holds them. Example: fti cases freeze
    handbook questions.jsonl, then: fti evaluate handbook --model reader/1
    """
    from fti.app.operations.measuring.freezing import freeze_cases

    session = common.open()
    frozen = freeze_cases(session.store, name, file=cases, dataset=dataset)
    session.report.result(case_set_json(frozen))
    session.report.say(
        f"{frozen.ref}: {frozen.cases} cases, {frozen.answerable} of them answerable; "
        f"digest {frozen.digest[:12]}"
    )
    session.report.note(f"measure on it with: fti evaluate {frozen.ref} --model NAME/N")


@group.command("list")
def list_(common: CommonOptions) -> None:
    """List the frozen case sets."""
    session = common.open()
    found, damaged = session.store.cases.survey()
    listed = [case_set_json(version) for version in found]
    session.report.result({"case_sets": listed, "damaged": damaged_json(damaged)})
    if not found and not damaged:
        session.report.say(
            "No case set is frozen yet. Freeze one with: fti cases freeze NAME CASES.jsonl"
        )
        return
    session.report.table(
        ["case set", "frozen", "cases", "answerable", "tags", "digest", "from"],
        [
            [
                v.ref,
                f"{v.created_at:%Y-%m-%d %H:%M}",
                v.cases,
                v.answerable,
                " ".join(v.tags),
                v.digest[:12],
                v.source,
            ]
            for v in found
        ],
    )
    if session.report.tell_damaged(damaged):
        raise typer.Exit(3)


@group.command("show")
def show(
    common: CommonOptions,
    case_set: Annotated[str, typer.Argument(help="NAME or NAME/N.")],
    rows: Annotated[int, typer.Option("--rows", min=0, help="Cases to show.")] = 5,
) -> None:
    """Show one frozen case set and some of its cases."""
    session = common.open()
    version = session.store.cases.get(case_set)
    shown = session.store.cases.cases(version.ref)[:rows]
    session.report.result(
        case_set_json(version) | {"examples": [c.model_dump(mode="json") for c in shown]}
    )
    session.report.table(
        ["what", "value"],
        [
            ["case set", version.ref],
            ["cases", version.cases],
            ["answerable", version.answerable],
            ["digest", version.digest],
            ["from", version.source],
        ],
    )
    for case in shown:
        session.report.say(f"\n{case.question}", style="bold")
        session.report.say(f"  → {' | '.join(case.answers) or '(not answerable)'}")
