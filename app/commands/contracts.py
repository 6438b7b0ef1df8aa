"""``fti contracts``: what each pipeline needs and promises, and how far the promises are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fti.app.options import CommonOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fti.app.reporting import Reporter
    from fti.store.contracts.requirements import Judged


def contracts(
    common: CommonOptions,
    pipeline: Annotated[
        str | None, typer.Argument(help="One pipeline, such as finetune.", show_default="all")
    ] = None,
    measured: Annotated[
        bool,
        typer.Option(
            "--measured",
            help="Print what is promised of freshness, speed, memory, refusals and cost against "
            "what the store shows; exits with 3 when a promise is broken.",
        ),
    ] = False,
    days: Annotated[
        int | None,
        typer.Option(
            "--days", min=1, help="How far back is measured.", show_default="promises.days"
        ),
    ] = None,
) -> None:
    """Print the inputs, outputs, conditions and promises of the pipelines.

    What is printed is what runs: each condition is checked at its pipeline's boundary by the very
    declaration shown. What is promised is a setting, and is measured from runs, answers and the
    index. Example: fti contracts --measured
    """
    from fti.app.operations.pipeline_contracts import contract_json
    from fti.app.operations.pipeline_contracts import contracts as declared
    from fti.store.errors import InputError

    report = common.reporter()
    every = declared()
    found = [contract for contract in every if pipeline in (None, contract.pipeline)]
    if not found:
        raise InputError(
            f"There is no pipeline {pipeline!r}.",
            hint=f"The pipelines are: {', '.join(c.pipeline for c in every)}.",
        )
    if measured:
        from fti.app.operations.observing.promise_measuring import measured as measure

        session = common.open()
        names = [contract.pipeline for contract in found]
        judged = measure(session.settings, session.store, days=days, pipelines=names)
        _show(session.report, judged)
        if any(one.verdict == "broken" for one in judged):
            raise typer.Exit(3)
        return
    report.result({"contracts": [contract_json(contract) for contract in found]})
    for contract in found:
        rows = [["input", f"{port.name}: {port.type}", "TypeError"] for port in contract.inputs()]
        rows.append(["output", contract.output().type, "TypeError"])
        rows += [[c.kind, c.says, c.raises.__name__] for c in contract.conditions]
        rows += [["promise", r.says, r.setting] for r in contract.requirements]
        title = f"{contract.pipeline} ({contract_json(contract)['function']})"
        report.table(["what", "declared", "otherwise, or set by"], rows, title=title)


def _show(report: Reporter, judged: Sequence[Judged]) -> None:
    report.result({"promises": [one.model_dump(mode="json") for one in judged]})
    rows = [
        [
            one.key,
            "" if one.promised is None else f"{one.bound} {one.promised:g} {one.unit}".strip(),
            "" if one.measured is None else f"{one.measured:g}",
            one.n or "",
            one.verdict,
        ]
        for one in judged
    ]
    report.table(["promise", "promised", "measured", "of", "verdict"], rows)
