"""``fti evaluate``: retrieval and answers measured on a case file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.options import (
    ConfigOption,
    JsonOption,
    ModelOption,
    SetOption,
    StoreOption,
    open_session,
)

if TYPE_CHECKING:
    from app.reporting import Reporter
    from pipelines.inference.evaluation import EvaluationReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    cases: Annotated[
        str, typer.Argument(help="CASES.jsonl, a BEIR folder, or NAME[/N] of a frozen set.")
    ],
    model: ModelOption = None,
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="Measure the search alone; no model is loaded.")
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Also evaluate what it would replace: the champion, else what is served now.",
        ),
    ] = False,
    no_retrieval: Annotated[
        bool, typer.Option("--no-retrieval", help="Answer without passages.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N cases (seeded sample).")
    ] = None,
    include_trained: Annotated[
        bool,
        typer.Option(
            "--include-trained",
            help="Also count cases about documents that the model was trained on.",
        ),
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Measure what is served: the same retrieval, prompt and model as ask and serve use.

    Example: fti evaluate questions.jsonl --model reader/1 --compare
    """
    from app.evaluating import evaluate_model, find_cases, sample

    session = open_session(store, config, set_, json)
    asked = sample(find_cases(session.store, cases), limit)
    with session.report.progress() as progress:
        result = evaluate_model(
            session.settings,
            session.store,
            asked,
            model=model,
            retrieval_only=retrieval_only,
            compare=compare,
            use_retrieval=not no_retrieval,
            include_trained=include_trained,
            progress=progress,
        )
    body: dict[str, Any] = result.report.model_dump(mode="json", by_alias=True)
    if result.baseline is not None:
        body["baseline"] = result.baseline.model_dump(mode="json", by_alias=True)
        body["difference"] = {k: v.model_dump() for k, v in result.difference.items()}
    session.report.result(body)
    show_report(session.report, result.report, baseline=result.baseline)
    against = result.baseline.model if result.baseline is not None else ""
    for metric, interval in result.difference.items():
        session.report.say(
            f"{metric}: {interval.mean:+.3f} against {against}, 95 % interval "
            f"[{interval.low:+.3f}, {interval.high:+.3f}], {interval.n} cases"
        )


def show_report(
    report: Reporter, result: EvaluationReport, *, baseline: EvaluationReport | None = None
) -> None:
    """The figures of an evaluation as a table."""
    rows = [[name, *_cells(value, None)] for name, value in result.retrieval.items()]
    for name, value in (result.answers or {}).items():
        other = (baseline.answers or {}).get(name) if baseline is not None else None
        rows.append([name, *_cells(value, other)])
    columns = ["metric", result.model or "retrieval", "95 % interval"]
    if baseline is not None:
        columns.append(baseline.model)
    else:
        rows = [row[:3] for row in rows]
    report.table(columns, rows, title=f"{result.cases} cases")


def _cells(value: Any, other: Any) -> list[str]:
    if hasattr(value, "mean"):
        cells = [f"{value.mean:.3f}", f"{value.low:.3f} – {value.high:.3f}"]
    else:
        cells = [f"{value:.3f}" if isinstance(value, float) else str(value), ""]
    return [*cells, f"{other.mean:.3f}" if hasattr(other, "mean") else ""]
