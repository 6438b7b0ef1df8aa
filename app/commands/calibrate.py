"""``fti calibrate``: when a model should refuse, found on cases with and without an answer."""

from __future__ import annotations

from typing import Annotated

import typer

from fti.app.options import CommonOptions, ModelOption


def calibrate(
    common: CommonOptions,
    cases: Annotated[
        str,
        typer.Argument(
            help="CASES.jsonl, or NAME[/N] of a frozen set; with answerable and unanswerable cases."
        ),
    ],
    model: ModelOption = None,
    false_refusals: Annotated[
        float | None,
        typer.Option(
            "--false-refusals",
            min=0.0,
            max=1.0,
            help="Refuse as much as leaves at most this share of answerable cases refused.",
            show_default="the best F1 of refusing",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Ask a seeded sample of so many cases.")
    ] = None,
) -> None:
    """Find how far a question may be from every passage before it is refused.

    A model version becomes its name's next version, with the threshold in its contract; for base
    and extractive the setting to put into the profile is printed. Use cases about the training
    documents, and evaluate on others. Example: fti calibrate train.jsonl --model reader/1
    """
    from fti.app.operations.measuring.calibrating import calibrate_model
    from fti.app.operations.measuring.evaluating import find_cases, sample

    session = common.open()
    asked = sample(find_cases(session.store, cases), limit)
    with session.report.progress() as progress:
        done = calibrate_model(
            session.settings,
            session.store,
            asked,
            model=model,
            max_false_refusals=false_refusals,
            progress=progress,
        )
    found = done.found
    session.report.result(
        {
            "model": done.model,
            "abstain_below": found.chosen.threshold,
            **found.model_dump(mode="json"),
            "version": done.version.ref if done.version else None,
            "run": done.run,
        }
    )
    session.report.table(
        ["", "now", "before"],
        [
            [name, f"{getattr(found.chosen, field):.3f}", f"{getattr(found.before, field):.3f}"]
            for name, field in (
                ("refused below a similarity of", "threshold"),
                ("F1 of refusing", "f1"),
                ("refusals that were right", "precision"),
                ("unanswerable cases refused", "recall"),
                ("answerable cases refused", "false_refusals"),
            )
        ],
        title=f"{found.cases} cases, {found.answerable} of them answerable",
    )
    if done.version:
        session.report.say(f"registered {done.version.ref}", style="bold")
    else:
        session.report.say(
            f"put into the profile: prompt: {{abstain_below: {found.chosen.threshold:.4f}}}"
        )
