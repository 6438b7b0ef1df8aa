"""``fti contracts``: what each pipeline needs and promises."""

from __future__ import annotations

from typing import Annotated

import typer

from fti.app.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("contracts")(contracts)


def contracts(
    pipeline: Annotated[
        str | None, typer.Argument(help="One pipeline, such as finetune.", show_default="all")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print the inputs, outputs and conditions that the pipelines enforce.

    What is printed is what runs: each condition is checked at its pipeline's boundary by the very
    declaration shown. Example: fti contracts finetune
    """
    from fti.app.operations.pipeline_contracts import contract_json
    from fti.app.operations.pipeline_contracts import contracts as declared
    from fti.app.reporting import Reporter
    from fti.store.errors import InputError

    report = Reporter(json=json)
    every = declared()
    found = [contract for contract in every if pipeline in (None, contract.pipeline)]
    if not found:
        raise InputError(
            f"There is no pipeline {pipeline!r}.",
            hint=f"The pipelines are: {', '.join(c.pipeline for c in every)}.",
        )
    report.result({"contracts": [contract_json(contract) for contract in found]})
    for contract in found:
        rows = [["input", f"{port.name}: {port.type}", "TypeError"] for port in contract.inputs()]
        rows.append(["output", contract.output().type, "TypeError"])
        rows += [[c.kind, c.says, c.raises.__name__] for c in contract.conditions]
        title = f"{contract.pipeline} ({contract_json(contract)['function']})"
        report.table(["what", "declared", "otherwise"], rows, title=title)
